package web

import (
	"net/http"

	"github.com/cloudless/cloudless/api"
)

func digestOf(c *call) (string, error) {
	d := c.param("digest")
	return d, checkDigest(d)
}

func checkDigest(d string) error {
	if !api.IsDigest(d) {
		return api.Errorf(api.CodeInvalid, "%q is not a digest: write sha256: and 64 hex digits", d)
	}
	return nil
}

func (s *server) getArtifact(c *call) (answer, error) {
	d, err := digestOf(c)
	if err != nil {
		return failed(err)
	}
	return okOr(s.backend.Artifact(c.context(), d))
}

// putArtifact streams the body to the backend, which keeps it under its digest; with a session it is the
// manifest of the chunks that were put there. It can be repeated at will, so it knows no Idempotency-Key.
func (s *server) putArtifact(c *call) error {
	digest, err := digestOf(c)
	if err != nil {
		return err
	}
	kind := c.query("kind")
	if kind != api.ArtifactWasm && kind != api.ArtifactOCI {
		return badQuery("kind", kind, "wasm or oci")
	}
	limit := api.ArtifactLimit(kind)
	if c.request().ContentLength > limit {
		return overLimit(kind+" artifact", limit)
	}
	end, err := s.sessions.open(c.key())
	if err != nil {
		return err
	}
	defer end()
	body := newUpload(c, kind+" artifact", limit)
	var a api.Artifact
	err = s.audited(c, c.route, func() (err error) {
		a, err = s.backend.PutArtifact(c.context(), c.caller, digest, kind, c.query("session"), body)
		return err
	})
	if err != nil {
		return err
	}
	out, err := encode(a)
	if err != nil {
		return err
	}
	return c.write(http.StatusCreated, out)
}

func overLimit(kind string, limit int64) error {
	return api.Errorf(api.CodeTooLarge, "the %s is over %s", kind, api.Bytes(limit))
}

// upload reads a body that may be as large as its limit.
type upload struct {
	steadyReader
	kind  string
	limit int64
	left  int64
}

func newUpload(c *call, kind string, limit int64) *upload {
	return &upload{steadyReader{c.request().Body, c.controller()}, kind, limit, limit}
}

func (u *upload) Read(p []byte) (int, error) {
	if int64(len(p)) > u.left+1 {
		p = p[:u.left+1] // one more than allowed, to see whether there is more
	}
	n, err := u.steadyReader.Read(p)
	if u.left -= int64(n); u.left < 0 {
		return 0, overLimit(u.kind, u.limit)
	}
	return n, err
}
