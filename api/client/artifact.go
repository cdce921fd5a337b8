package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/split"
)

// slowestUpload is how slow a link may be before an upload is given up.
const slowestUpload = 128 << 10 // bytes a second

// HasArtifact tells whether the cluster holds the bytes of a digest.
func (c *Client) HasArtifact(ctx context.Context, digest string) (bool, error) {
	resp, err := c.do(ctx, &request{method: http.MethodHead, path: artifactPath(digest)})
	if IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, resp.Body.Close()
}

// What of an artifact is sent: a small one whole, of a larger one the chunks that the cluster lacks. They
// are cut finely, as a module that was built again differs from the last in a few places.
const wholeArtifact = split.Small

// PutArtifact uploads size bytes. open is called for each attempt. The answer comes when enough nodes
// hold the bytes durably.
func (c *Client) PutArtifact(ctx context.Context, digest, kind string, size int64, open func() (io.ReadCloser, error)) (out api.Artifact, err error) {
	if size <= wholeArtifact {
		return c.sendArtifact(ctx, digest, size, url.Values{"kind": {kind}}, size, open)
	}
	r, err := open()
	if err != nil {
		return out, err
	}
	u := newUpload(c, api.ObjectPut{Bucket: api.ArtifactBucket, Key: api.ArtifactKey(digest), Size: size}, r, split.Cutter{Size: split.Small, ByContent: true})
	err = u.store(ctx)
	if err = errors.Join(err, r.Close()); err != nil {
		return out, err
	}
	manifest := u.manifest.Encode()
	return c.sendArtifact(ctx, digest, size, url.Values{"kind": {kind}, "session": {u.session}}, int64(len(manifest)), reopen(manifest))
}

// sendArtifact sends an artifact, or the manifest of one: its size bounds how long that may take.
func (c *Client) sendArtifact(ctx context.Context, digest string, size int64, query url.Values, length int64, open func() (io.ReadCloser, error)) (out api.Artifact, err error) {
	resp, err := c.do(ctx, &request{
		method:  http.MethodPut,
		path:    artifactPath(digest),
		query:   query,
		header:  http.Header{"Content-Type": {"application/octet-stream"}},
		body:    open,
		size:    length,
		timeout: c.cfg.RequestTimeout + time.Duration(size/slowestUpload)*time.Second,
	})
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	return out, decodeAnswer(resp, &out)
}

func artifactPath(digest string) string { return "/v1/artifacts/" + url.PathEscape(digest) }
