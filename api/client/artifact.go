package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/cloudless/cloudless/api"
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

// PutArtifact uploads size bytes. open is called for each attempt. The answer comes when a majority
// of coordinators hold the bytes durably.
func (c *Client) PutArtifact(ctx context.Context, digest, kind string, size int64, open func() (io.ReadCloser, error)) (out api.Artifact, err error) {
	resp, err := c.do(ctx, &request{
		method:  http.MethodPut,
		path:    artifactPath(digest),
		query:   url.Values{"kind": {kind}},
		header:  http.Header{"Content-Type": {"application/octet-stream"}},
		body:    open,
		size:    size,
		timeout: c.cfg.RequestTimeout + time.Duration(size/slowestUpload)*time.Second,
	})
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	return out, decodeAnswer(resp, &out)
}

// GetArtifact opens the bytes of a digest.
func (c *Client) GetArtifact(ctx context.Context, digest string) (io.ReadCloser, error) {
	resp, err := c.do(ctx, &request{method: http.MethodGet, path: artifactPath(digest), stream: true})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

func artifactPath(digest string) string { return "/v1/artifacts/" + url.PathEscape(digest) }
