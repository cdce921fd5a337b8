package client

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
)

// silentBody is how long a stream of bytes may give none before it is taken for dead.
const silentBody = 30 * time.Second

const metaHeader = "X-Cloudless-Meta-"

// objectPath escapes a key by its parts. One that is a dot or two would be folded away on the way.
func objectPath(bucket, key string) string {
	parts := strings.Split(key, "/")
	for i, p := range parts {
		if p == "." || p == ".." {
			parts[i] = strings.ReplaceAll(p, ".", "%2E")
			continue
		}
		parts[i] = url.PathEscape(p)
	}
	return "/v1/objects/" + url.PathEscape(bucket) + "/" + strings.Join(parts, "/")
}

// Object reads what there is about an object, beside its bytes.
func (c *Client) Object(ctx context.Context, bucket, key string) (out api.Object, err error) {
	return out, c.call(ctx, http.MethodGet, objectPath(bucket, key), url.Values{"metadata": {"true"}}, nil, &out, nil)
}

// CopyObject makes an object of another's bytes; unlessThere, only if there is none of that key.
func (c *Client) CopyObject(ctx context.Context, bucket, key string, from api.ObjectCopy, unlessThere bool) (out api.Object, err error) {
	h := http.Header{}
	if unlessThere {
		h.Set("If-None-Match", "*")
	}
	return out, c.call(ctx, http.MethodPost, objectPath(bucket, key), nil, from, &out, h)
}

// DeleteObject removes an object; match, if not "", is the ETag that it must have.
func (c *Client) DeleteObject(ctx context.Context, bucket, key, match string) error {
	return c.call(ctx, http.MethodDelete, objectPath(bucket, key), nil, nil, nil, tagged(match))
}

func tagged(etag string) http.Header {
	switch etag {
	case "":
		return nil
	case "*":
		return http.Header{"If-Match": {"*"}}
	}
	return http.Header{"If-Match": {`"` + etag + `"`}}
}

// PutObject sends an object as one body of p.Size bytes. open is called for each attempt.
func (c *Client) PutObject(ctx context.Context, p api.ObjectPut, open func() (io.ReadCloser, error)) (out api.Object, err error) {
	r := c.sending(http.MethodPut, objectPath(p.Bucket, p.Key), p.Size, open)
	describe(r.header, &p)
	resp, err := c.do(ctx, r)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	return out, decodeAnswer(resp, &out)
}

// describe writes into headers what is said of an object.
func describe(h http.Header, p *api.ObjectPut) {
	for name, value := range map[string]string{
		"Content-Type": p.ContentType, "Cache-Control": p.CacheControl, "Content-Disposition": p.ContentDisposition,
		"Content-Encoding": p.ContentEncoding, "Content-Language": p.ContentLanguage, "Expires": p.Expires,
	} {
		if value != "" {
			h.Set(name, value)
		}
	}
	for name, value := range p.Metadata {
		h.Set(metaHeader+name, value)
	}
	if p.IfAbsent {
		h.Set("If-None-Match", "*")
	}
	for name, value := range tagged(p.IfMatch) {
		h[name] = value
	}
}

// stream sends a request for bytes, whose answer may take as long as it comes.
func (c *Client) stream(ctx context.Context, r *request) (*http.Response, error) {
	r.stream = true
	ctx, cancel := context.WithCancelCause(ctx)
	resp, err := c.do(ctx, r)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	resp.Body = live(resp.Body, cancel)
	return resp, nil
}

// liveBody ends a stream that has gone silent while it is read: whoever reads may take their time.
type liveBody struct {
	io.ReadCloser
	silence *time.Timer
	done    func()
}

func live(body io.ReadCloser, cancel context.CancelCauseFunc) *liveBody {
	silence := time.AfterFunc(silentBody, func() { cancel(errSilent) })
	silence.Stop() // until somebody reads
	return &liveBody{body, silence, func() { silence.Stop(); cancel(nil) }}
}

func (b *liveBody) Read(p []byte) (int, error) {
	b.silence.Reset(silentBody)
	defer b.silence.Stop()
	return b.ReadCloser.Read(p)
}

func (b *liveBody) Close() error {
	err := b.ReadCloser.Close()
	b.done()
	return err
}

// ObjectReader reads an object of one version. When the stream breaks it goes on where it was, at
// whichever address answers.
type ObjectReader struct {
	Object api.Object // without its Index
	ctx    context.Context
	c      *Client
	body   io.ReadCloser
	at     int64 // of the next byte
	since  int64 // where the present stream began
}

// GetObject opens an object from a byte on. match, if not "", is the ETag that it must have.
func (c *Client) GetObject(ctx context.Context, bucket, key string, from int64, match string) (*ObjectReader, error) {
	r := &ObjectReader{Object: api.Object{Bucket: bucket, Key: key, ETag: match}, ctx: ctx, c: c, at: from}
	return r, r.open()
}

func (r *ObjectReader) open() error {
	h := tagged(r.Object.ETag)
	if h == nil {
		h = http.Header{}
	}
	h.Set("Accept-Encoding", "identity") // or the transport would unpack what is to come as it was put
	if r.at > 0 {
		h.Set("Range", fmt.Sprintf("bytes=%d-", r.at))
	}
	resp, err := r.c.stream(r.ctx, &request{method: http.MethodGet, path: objectPath(r.Object.Bucket, r.Object.Key), header: h})
	if err != nil {
		return err
	}
	size, from := extent(resp)
	if from != r.at {
		discard(resp)
		return api.Errorf(api.CodeUnavailable, "%s does not give a part of the object", resp.Request.URL.Host).WithHint("is there a proxy in between that drops Range?")
	}
	r.body, r.since, r.Object.Size = resp.Body, r.at, size
	read(resp.Header, &r.Object)
	return nil
}

// extent is the size of the whole object, and where in it the answer begins.
func extent(resp *http.Response) (size, from int64) {
	var to int64
	if resp.StatusCode != http.StatusPartialContent {
		return resp.ContentLength, 0
	}
	if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &size); err != nil {
		return 0, -1
	}
	return size, from
}

// read takes from headers what they tell of an object.
func read(h http.Header, o *api.Object) {
	o.ETag = strings.Trim(h.Get("ETag"), `"`)
	o.ContentType = h.Get("Content-Type")
	if t, err := http.ParseTime(h.Get("Last-Modified")); err == nil {
		o.Modified = t
	}
	if text, ok := strings.CutPrefix(h.Get("Repr-Digest"), "sha-256=:"); ok {
		sum, _ := base64.StdEncoding.DecodeString(strings.TrimSuffix(text, ":")) // none, if it is not one
		o.SHA256 = hex.EncodeToString(sum)
	}
}

// Read gives the next bytes. A stream that gave something before it broke is opened again; one that gave
// nothing is given up.
func (r *ObjectReader) Read(p []byte) (int, error) {
	for {
		n, err := r.body.Read(p)
		r.at += int64(n)
		switch {
		case n > 0:
			return n, nil
		case err == nil || errors.Is(err, io.EOF) && r.at >= r.Object.Size:
			return 0, err
		case r.ctx.Err() != nil:
			return 0, ended(r.ctx, r.ctx.Err())
		case r.at == r.since:
			return 0, api.Errorf(api.CodeUnavailable, "the bytes of object %s stopped at %d of %d: %w", r.Object.Key, r.at, r.Object.Size, err)
		}
		_ = r.body.Close() // it is broken
		if err := r.open(); err != nil {
			return 0, err
		}
	}
}

// Close ends the stream.
func (r *ObjectReader) Close() error { return r.body.Close() }
