package web

import (
	"strings"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
)

// listUploads lists the multipart uploads of a bucket that are neither completed nor aborted. They begin
// and end at the S3 door; here they are seen and given up. A cursor is the last upload's id, a slash and
// its key.
func (s *server) listUploads(c *call) (answer, error) {
	limit, err := c.number("limit", api.DefaultListLimit, 1, api.MaxListLimit)
	if err != nil {
		return failed(err)
	}
	q := meta.Uploads{Bucket: c.param("bucket"), Prefix: c.query("prefix"), Limit: limit}
	q.After.ID, q.After.Key, _ = strings.Cut(c.query("cursor"), "/")
	uploads, index, err := s.backend.Uploads(c.context(), q)
	l := api.List[*api.Upload]{Items: uploads, Index: index}
	if n := len(uploads); n == limit {
		l.Cursor = uploads[n-1].ID + "/" + uploads[n-1].Key
	}
	return listOr(l, err)
}

func (s *server) abortUpload(c *call) (answer, error) {
	u := meta.UploadRef{Bucket: c.param("bucket"), Key: c.query("key"), ID: c.param("id")}
	if bad := api.CheckObjectKey(u.Key); bad != nil {
		return failed(bad)
	}
	return noContentOr(s.backend.AbortUpload(c.context(), c.caller, u))
}
