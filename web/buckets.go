package web

import (
	"net/http"
	"time"

	"github.com/cloudless/cloudless/api"
)

func (s *server) listBuckets(c *call) (answer, error) {
	limit, err := c.number("limit", api.DefaultListLimit, 1, api.MaxListLimit)
	if err != nil {
		return failed(err)
	}
	return listOr(s.backend.Buckets(c.context(), api.ListQuery{Limit: limit, Cursor: c.query("cursor")}))
}

func (s *server) getBucket(c *call) (answer, error) {
	return okOr(s.backend.Bucket(c.context(), c.param("bucket")))
}

func (s *server) createBucket(c *call) (answer, error) {
	b, err := decodeBucket(c, api.Bucket{})
	if err != nil {
		return failed(err)
	}
	c.object = "buckets/" + b.Name
	v, err := s.backend.PutBucket(c.context(), c.caller, b, PutCreate, 0)
	return answer{status: http.StatusCreated, body: v}, err
}

// putBucket creates a bucket, or changes those of its settings that the body names; the others stay.
func (s *server) putBucket(c *call) (answer, error) {
	name := c.param("bucket")
	match, err := ifMatch(c.request())
	if err != nil {
		return failed(err)
	}
	old, err := s.backend.Bucket(c.context(), name)
	if err != nil && api.CodeOf(err) != api.CodeNotFound {
		return failed(err)
	}
	if match == 0 {
		match = old.ModifyIndex // so that nobody else's change is undone
	}
	b, err := decodeBucket(c, old.Bucket)
	if err != nil {
		return failed(err)
	}
	if !agrees(&b.Name, name) {
		return failed(api.Errorf(api.CodeInvalid, "the body is bucket %s, the path %s", b.Name, name))
	}
	v, err := s.backend.PutBucket(c.context(), c.caller, b, PutApply, match)
	a, err := okOr(v, err)
	if err == nil && v.CreateIndex == v.ModifyIndex {
		a.status = http.StatusCreated
	}
	return a, err
}

// decodeBucket reads settings over those of old. A bucket as it was read may be sent back: what only the
// cluster says of it is passed over.
func decodeBucket(c *call, old api.Bucket) (api.Bucket, error) {
	v := api.BucketView{Bucket: old}
	err := c.decode(&v)
	v.CreatedAt, v.CreateIndex, v.ModifyIndex = time.Time{}, 0, 0
	return v.Bucket, err
}

func (s *server) deleteBucket(c *call) (answer, error) {
	match, err := ifMatch(c.request())
	if err != nil {
		return failed(err)
	}
	return noContentOr(s.backend.DeleteBucket(c.context(), c.caller, c.param("bucket"), match))
}
