package web

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
)

const objectsPath = "/v1/objects/"

// objectOf finds bucket and key in the path as it was sent: a key may hold slashes, dots and escapes,
// and each must mean what the client wrote.
func objectOf(c *call) (bucket, key string, err error) {
	b, k, _ := strings.Cut(strings.TrimPrefix(c.request().URL.EscapedPath(), objectsPath), "/")
	if bucket, err = url.PathUnescape(b); err == nil {
		key, err = url.PathUnescape(k)
	}
	if err != nil {
		return "", "", api.Errorf(api.CodeInvalid, "the path cannot be read: %w", err)
	}
	if bad := api.CheckObjectKey(key); bad != nil {
		return "", "", bad
	}
	return bucket, key, nil
}

// asListed is an object without what only the nodes and coordinators need.
func asListed(o *api.Object) api.Object {
	out := *o
	out.Inline, out.Manifest = nil, nil
	return out
}

func (s *server) listObjects(c *call) (answer, error) {
	limit, err := c.number("limit", api.DefaultListLimit, 1, api.MaxListLimit)
	if err != nil {
		return failed(err)
	}
	q := meta.List{Bucket: c.param("bucket"), Prefix: c.query("prefix"), Delimiter: c.query("delimiter"), After: max(c.query("after"), c.query("cursor")), Limit: limit}
	page, index, err := s.backend.Objects(c.context(), q)
	if err != nil {
		return failed(err)
	}
	l := api.ObjectList{Items: page.Objects, Prefixes: page.Prefixes, Index: index, Cursor: page.Cursor}
	if l.Items == nil {
		l.Items = []*api.Object{}
	}
	return ok(l)
}

// getObject streams an object or a part of it, or with ?metadata=true tells of it as JSON.
func (s *server) getObject(c *call) error {
	bucket, key, err := objectOf(c)
	if err != nil {
		return err
	}
	if rowOnly, err := c.flag("metadata"); err != nil || rowOnly {
		return s.statObject(c, bucket, key, err)
	}
	if c.request().Method == http.MethodHead {
		o, err := s.backend.Object(c.context(), bucket, key)
		if err != nil {
			return err
		}
		_, err = s.objectHead(c, o)
		return err
	}
	end, err := s.sessions.open(c.key())
	if err != nil {
		return err
	}
	defer end()
	r, err := s.backend.OpenObject(c.context(), bucket, key)
	if err != nil {
		return err
	}
	part, err := s.objectHead(c, r.Object())
	if err != nil || part.n == 0 {
		return err
	}
	return s.sendObject(c, r, part)
}

func (s *server) statObject(c *call, bucket, key string, err error) error {
	if err != nil {
		return err
	}
	o, err := s.backend.Object(c.context(), bucket, key)
	if err != nil {
		return err
	}
	body, err := encode(asListed(o))
	if err != nil {
		return err
	}
	return c.write(http.StatusOK, body)
}

// objectHead writes the head of the answer to a read, and tells which part of the object is to follow.
func (s *server) objectHead(c *call, o *api.Object) (span, error) {
	asked, h := c.request().Header, c.header()
	switch precondition(asked, o) {
	case http.StatusNotModified:
		describeObject(h, o)
		return span{}, c.echo.NoContent(http.StatusNotModified)
	case http.StatusPreconditionFailed:
		return span{}, unlike(api.Errorf(api.CodeConflict, "object %s of bucket %s is not the one that was asked for", o.Key, o.Bucket).WithReason(api.ReasonPrecondition))
	}
	part, status := rangeOf(asked, o)
	switch status {
	case http.StatusRequestedRangeNotSatisfiable:
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", o.Size))
		return span{}, &statusError{api.Errorf(api.CodeInvalid, "the range %q is behind the end of the object, which has %d bytes", asked.Get("Range"), o.Size), status}
	case http.StatusPartialContent:
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.offset, part.offset+part.n-1, o.Size))
	}
	describeObject(h, o)
	h.Set("Content-Length", strconv.FormatInt(part.n, 10))
	c.echo.Response().WriteHeader(status)
	return part, nil
}

func (s *server) sendObject(c *call, r ObjectReader, part span) error {
	out := steadyWriter{c.echo.Response(), c.controller()}
	body := r.Range(c.context(), part.offset, part.n)
	n, err := io.Copy(out, body)
	if err = errors.Join(err, body.Close()); err == nil && n < part.n {
		err = io.ErrUnexpectedEOF
	}
	return brokeStream(err)
}

// putObject streams the body to the backend. It can be repeated at will, so it knows no
// Idempotency-Key.
func (s *server) putObject(c *call) error {
	p, err := objectPut(c)
	if err != nil {
		return err
	}
	p.Size = c.request().ContentLength
	sums, err := promisedSums(c.request().Header)
	if err != nil {
		return err
	}
	end, err := s.sessions.open(c.key())
	if err != nil {
		return err
	}
	defer end()
	body := &checkedReader{steadyReader{c.request().Body, c.controller()}, sums}
	return s.answerObject(c, func() (*api.Object, error) { return s.backend.PutObject(c.context(), c.caller, p, body) })
}

// copyObject makes an object of another's bytes, which do not move.
func (s *server) copyObject(c *call) error {
	p, err := objectPut(c)
	if err != nil {
		return err
	}
	var req api.ObjectCopy
	if err := c.decode(&req); err != nil {
		return err
	}
	cp := meta.Copy{FromBucket: req.FromBucket, FromKey: req.FromKey, SourceIfMatch: req.SourceIfMatch, Bucket: p.Bucket, Key: p.Key,
		Head: req.Head, Condition: meta.Condition{IfAbsent: p.IfAbsent, IfMatch: p.IfMatch}}
	if req.Head != nil {
		if err := checkMetadata(req.Head.Metadata); err != nil {
			return err
		}
	}
	return s.answerObject(c, func() (*api.Object, error) { return s.backend.CopyObject(c.context(), c.caller, cp) })
}

// answerObject makes an object and answers with its row.
func (s *server) answerObject(c *call, do func() (*api.Object, error)) error {
	var o *api.Object
	err := s.audited(c, c.route, func() (err error) {
		o, err = do()
		return err
	})
	if err != nil {
		return conditional(err)
	}
	body, err := encode(asListed(o))
	if err != nil {
		return err
	}
	c.header().Set("ETag", quoted(o.ETag))
	return c.write(http.StatusCreated, body)
}

func (s *server) deleteObject(c *call) error {
	bucket, key, err := objectOf(c)
	if err != nil {
		return err
	}
	tag, err := oneTag(c.request().Header)
	if err != nil {
		return err
	}
	err = s.audited(c, c.route, func() error { return s.backend.DeleteObject(c.context(), c.caller, bucket, key, tag) })
	if err != nil {
		return conditional(err)
	}
	return c.write(http.StatusNoContent, nil)
}

// conditional gives a condition of a write that does not hold the status that HTTP has for it.
func conditional(err error) error {
	var e *api.Error
	if errors.As(err, &e) && e.Reason == api.ReasonPrecondition {
		return unlike(e)
	}
	return err
}

func unlike(e *api.Error) error { return &statusError{e, http.StatusPreconditionFailed} }
