package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
)

// restoreTime is how long a cluster may take to put a backup in the place of what it has, beside the
// time to send it.
const restoreTime = 10 * time.Minute

func bucketPath(name, more string) string { return "/v1/buckets/" + url.PathEscape(name) + more }

// Buckets lists one page of buckets, with what they hold.
func (c *Client) Buckets(ctx context.Context, q api.ListQuery) (out api.List[api.BucketView], err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/buckets", query(q), nil, &out, nil)
}

// Bucket reads one bucket.
func (c *Client) Bucket(ctx context.Context, name string) (out api.BucketView, err error) {
	return out, c.call(ctx, http.MethodGet, bucketPath(name, ""), nil, nil, &out, nil)
}

// CreateBucket makes a new bucket; one that exists is CodeConflict.
func (c *Client) CreateBucket(ctx context.Context, b api.Bucket) (out api.BucketView, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/buckets", nil, b, &out, nil)
}

// SetBucket changes the settings that changes names, as JSON has them; the others stay. match, if not 0,
// is the ModifyIndex that the bucket must have.
func (c *Client) SetBucket(ctx context.Context, name string, changes map[string]any, match uint64) (out api.BucketView, err error) {
	return out, c.call(ctx, http.MethodPut, bucketPath(name, ""), nil, changes, &out, ifMatch(match))
}

// DeleteBucket removes a bucket that holds nothing.
func (c *Client) DeleteBucket(ctx context.Context, name string, match uint64) error {
	return c.call(ctx, http.MethodDelete, bucketPath(name, ""), nil, nil, nil, ifMatch(match))
}

// Objects lists one page of a bucket.
func (c *Client) Objects(ctx context.Context, q meta.List) (out api.ObjectList, err error) {
	v := url.Values{}
	for key, value := range map[string]string{"prefix": q.Prefix, "delimiter": q.Delimiter, "after": q.After} {
		if value != "" {
			v.Set(key, value)
		}
	}
	setUint(v, "limit", uint64(max(q.Limit, 0)))
	return out, c.call(ctx, http.MethodGet, bucketPath(q.Bucket, "/objects"), v, nil, &out, nil)
}

// Uploads lists one page of a bucket's unfinished multipart uploads.
func (c *Client) Uploads(ctx context.Context, bucket, prefix string, q api.ListQuery) (out api.List[api.Upload], err error) {
	v := query(q)
	if prefix != "" {
		v.Set("prefix", prefix)
	}
	return out, c.call(ctx, http.MethodGet, bucketPath(bucket, "/uploads"), v, nil, &out, nil)
}

// AbortUpload ends a multipart upload.
func (c *Client) AbortUpload(ctx context.Context, u api.Upload) error {
	return c.call(ctx, http.MethodDelete, bucketPath(u.Bucket, "/uploads/"+url.PathEscape(u.ID)), url.Values{"key": {u.Key}}, nil, nil, nil)
}

// StorageReport tells how the object store fares.
func (c *Client) StorageReport(ctx context.Context) (out api.StorageReport, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/storage", nil, nil, &out, nil)
}

// ScrubStorage makes a node, or every node, read and check all its chunks now.
func (c *Client) ScrubStorage(ctx context.Context, node string) error {
	return c.call(ctx, http.MethodPost, "/v1/storage:scrub", nil, api.ScrubRequest{Node: node}, nil, nil)
}

// RepairStorage makes the cluster look for missing copies now.
func (c *Client) RepairStorage(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/storage:repair", nil, nil, nil, nil)
}

// CollectStorage deletes chunks that nobody refers to; anyway, also those that are being held.
func (c *Client) CollectStorage(ctx context.Context, anyway bool) error {
	return c.call(ctx, http.MethodPost, "/v1/storage:collect", nil, api.CollectRequest{Anyway: anyway}, nil, nil)
}

// BackupStorage opens a backup of the store's metadata. One that is cut off ends with an error.
func (c *Client) BackupStorage(ctx context.Context) (io.ReadCloser, error) {
	resp, err := c.stream(ctx, &request{method: http.MethodGet, path: "/v1/storage:backup"})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// RestoreStorage replaces the store's metadata by a backup. open is called for each attempt.
func (c *Client) RestoreStorage(ctx context.Context, size int64, open func() (io.ReadCloser, error)) error {
	r := c.sending(http.MethodPost, "/v1/storage:restore", size, open)
	r.timeout += restoreTime
	resp, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// sending is a request with a body of any length. A size of -1 is one that is not known.
func (c *Client) sending(method, path string, size int64, open func() (io.ReadCloser, error)) *request {
	return &request{
		method: method, path: path, body: open, size: size, header: http.Header{"Content-Type": {"application/octet-stream"}},
		timeout: c.cfg.RequestTimeout + time.Duration(size/slowestUpload)*time.Second,
	}
}
