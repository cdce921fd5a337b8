package web

import (
	"net/http"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore/split"
)

// openUpload begins an upload in chunks. Until it is committed nobody sees any of it, so its steps
// leave no audit lines; an upload that is given up ends by itself.
func (s *server) openUpload(c *call) (answer, error) {
	var req api.UploadRequest
	if err := c.decode(&req); err != nil {
		return failed(err)
	}
	u, err := s.backend.OpenUpload(c.context(), c.caller, req.Bucket)
	return answer{status: http.StatusCreated, body: u}, err
}

func (s *server) missingChunks(c *call) (answer, error) {
	var req api.MissingRequest
	if err := c.decode(&req); err != nil {
		return failed(err)
	}
	if len(req.Chunks) > meta.MaxAsked {
		return failed(api.Errorf(api.CodeTooLarge, "%d chunks were named, at most %d are allowed", len(req.Chunks), meta.MaxAsked))
	}
	for _, d := range req.Chunks {
		if err := checkDigest(d); err != nil {
			return failed(err)
		}
	}
	missing, err := s.backend.MissingChunks(c.context(), c.param("id"), req.Chunks)
	if missing == nil {
		missing = []string{}
	}
	return okOr(api.MissingAnswer{Missing: missing}, err)
}

// putChunk takes the bytes of one chunk, which the backend holds against the digest.
func (s *server) putChunk(c *call) error {
	digest, err := digestOf(c)
	if err != nil {
		return err
	}
	if c.request().ContentLength > split.MaxChunkBytes {
		return overLimit("chunk", split.MaxChunkBytes)
	}
	end, err := s.sessions.open(c.key())
	if err != nil {
		return err
	}
	defer end()
	body := newUpload(c, "chunk", split.MaxChunkBytes)
	if err := s.backend.PutChunk(c.context(), c.param("id"), c.query("bucket"), digest, body); err != nil {
		return err
	}
	return c.write(http.StatusNoContent, nil)
}

func (s *server) commitUpload(c *call) (answer, error) {
	var req api.UploadCommit
	if err := c.decode(&req); err != nil {
		return failed(err)
	}
	c.object = "objects/" + req.Bucket + "/" + req.Key
	if bad := api.CheckObjectKey(req.Key); bad != nil {
		return failed(bad)
	}
	if err := checkMetadata(req.Metadata); err != nil {
		return failed(err)
	}
	if _, err := split.Decode(req.Manifest); err != nil {
		return failed(api.Errorf(api.CodeInvalid, "the manifest cannot be read: %w", err))
	}
	o, err := s.backend.CommitUpload(c.context(), c.caller, c.param("id"), req.ObjectPut, req.Manifest)
	if err != nil {
		return failed(err)
	}
	return answer{status: http.StatusCreated, body: asListed(o)}, nil
}
