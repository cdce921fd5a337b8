package s3

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/gateway"
)

const (
	metadataPrefix     = "X-Amz-Meta-"
	defaultContentType = "binary/octet-stream"
)

// overrides are the headers of an answer that a signed request may choose.
var overrides = map[string]string{
	"response-content-type": "Content-Type", "response-content-language": "Content-Language", "response-expires": "Expires",
	"response-cache-control": "Cache-Control", "response-content-disposition": "Content-Disposition", "response-content-encoding": "Content-Encoding",
}

func (c *call) headObject() error {
	o, parts, err := c.stat()
	if err != nil {
		return err
	}
	_, err = c.headOf(o, parts)
	if err != nil || c.status != 0 {
		return err
	}
	return c.respond(c.statusOf())
}

// stat finds an object, with its parts if the request asks for one of them.
func (c *call) stat() (*api.Object, []int64, error) {
	if !c.q.has("partNumber") {
		o, err := c.d.backend.Stat(c.ctx(), c.bucket, c.key)
		return o, nil, err
	}
	r, err := c.d.backend.Open(c.ctx(), c.bucket, c.key)
	if err != nil {
		return nil, nil, err
	}
	return r.Object(), r.Parts(), nil
}

func (c *call) getObject() error {
	r, err := c.d.backend.Open(c.ctx(), c.bucket, c.key)
	if err != nil {
		return err
	}
	var parts []int64
	if c.q.has("partNumber") {
		parts = r.Parts()
	}
	part, err := c.headOf(r.Object(), parts)
	if err != nil || c.status != 0 {
		return err
	}
	return c.send(r, part)
}

// headOf writes the head of an answer with the object, or all of it when the client has what it asks for.
func (c *call) headOf(o *api.Object, parts []int64) (span, error) {
	unmet, unchanged := conditionsOf(c.r.Header, "").on(o)
	if unmet {
		return span{}, refuse("PreconditionFailed", "at least one of the pre-conditions you specified did not hold")
	}
	h := c.w.Header()
	if unchanged {
		c.describe(o)
		return span{}, c.respond(http.StatusNotModified)
	}
	part, err := c.span(o, parts)
	if err != nil {
		return span{}, err
	}
	c.describe(o)
	if part.n == o.Size && c.r.Header.Get("Range") == "" && strings.EqualFold(c.r.Header.Get("X-Amz-Checksum-Mode"), "ENABLED") {
		c.tellChecksum(o.Checksum)
	}
	for name, header := range overrides {
		if c.q.has(name) {
			h.Set(header, c.q.get(name))
		}
	}
	h.Set("Content-Length", strconv.FormatInt(part.n, 10))
	if part.partial {
		h.Set("Content-Range", "bytes "+strconv.FormatInt(part.from, 10)+"-"+strconv.FormatInt(part.from+part.n-1, 10)+"/"+strconv.FormatInt(o.Size, 10))
	}
	return part, nil
}

func (c *call) statusOf() int {
	if c.w.Header().Get("Content-Range") != "" {
		return http.StatusPartialContent
	}
	return http.StatusOK
}

// describe sets the headers that say what an object is.
func (c *call) describe(o *api.Object) {
	h := c.w.Header()
	for _, f := range [...]struct{ name, value string }{
		{"Content-Type", cmp.Or(o.ContentType, defaultContentType)}, {"Cache-Control", o.CacheControl}, {"Content-Disposition", o.ContentDisposition},
		{"Content-Encoding", o.ContentEncoding}, {"Content-Language", o.ContentLanguage}, {"Expires", o.Expires},
	} {
		if f.value != "" {
			h.Set(f.name, f.value)
		}
	}
	for name, value := range o.Metadata {
		h.Set(metadataPrefix+name, value)
	}
	h.Set("Etag", quoted(o.ETag))
	h.Set("Last-Modified", o.Modified.UTC().Format(http.TimeFormat))
	h.Set("Accept-Ranges", "bytes")
	if len(o.Tags) > 0 {
		h.Set("X-Amz-Tagging-Count", strconv.Itoa(len(o.Tags)))
	}
}

// tellChecksum puts a checksum into the answer's head.
func (c *call) tellChecksum(sum *api.Checksum) {
	if sum != nil {
		c.w.Header().Set(checksumPrefix+sum.Algorithm, sum.Value)
		c.w.Header().Set(checksumPrefix+"Type", checksumType(sum))
	}
}

func checksumType(sum *api.Checksum) string {
	if sum.Composite {
		return "COMPOSITE"
	}
	return "FULL_OBJECT"
}

// span is the part of an object that is asked for.
type span struct {
	from, n int64
	partial bool
}

// span reads the Range header, or the number of a part.
func (c *call) span(o *api.Object, parts []int64) (span, error) {
	whole := span{n: o.Size}
	if c.q.has("partNumber") {
		return c.partOf(o, parts)
	}
	if tag := c.r.Header.Get("If-Range"); tag != "" && !rangeHolds(tag, o) {
		return whole, nil
	}
	part, ok := parseRange(c.r.Header.Get("Range"), o.Size)
	if !ok {
		c.w.Header().Set("Content-Range", "bytes */"+strconv.FormatInt(o.Size, 10))
		e := refuse("InvalidRange", "the requested range is not satisfiable")
		e.RangeRequested, e.ActualObjectSize = c.r.Header.Get("Range"), strconv.FormatInt(o.Size, 10)
		return whole, e
	}
	return part, nil
}

// rangeHolds tells whether a range is of the object that If-Range means.
func rangeHolds(tag string, o *api.Object) bool {
	if at, err := http.ParseTime(tag); err == nil {
		return o.Modified.Truncate(time.Second).Equal(at)
	}
	return unquoted(tag) == o.ETag
}

// parseRange reads a Range header: bytes=A-B, bytes=A- or bytes=-N. What is not of these forms, several
// ranges too, is as if it were not there. ok is false for a range outside of the object.
func parseRange(text string, size int64) (s span, ok bool) {
	whole := span{n: size}
	unit, spec, _ := strings.Cut(text, "=")
	from, to, isRange := strings.Cut(strings.TrimSpace(spec), "-")
	if !strings.EqualFold(unit, "bytes") || !isRange {
		return whole, true
	}
	a, aOK := position(from)
	b, bOK := position(to)
	first, last := a, min(b, size-1)
	switch {
	case from == "" && bOK: // the last b bytes
		first, last = max(size-b, 0), size-1
		if b == 0 {
			return whole, false
		}
	case aOK && to == "":
		last = size - 1
	case !aOK || !bOK || b < a:
		return whole, true
	}
	if first >= size {
		return whole, false
	}
	return span{first, last - first + 1, true}, true
}

// position reads a number of bytes. One that is too large to be counted is behind every object's end.
func position(text string) (n int64, ok bool) {
	u, err := strconv.ParseUint(text, 10, 63)
	return int64(u), err == nil || errors.Is(err, strconv.ErrRange)
}

// send writes the bytes of an answer. An error before the first of them can still be told.
func (c *call) send(r *gateway.Reader, part span) error {
	in := r.Range(c.ctx(), part.from, part.n)
	defer in.Close()
	out := &lateHead{c, c.statusOf(), c.began.Add(recentFor)}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	if c.status == 0 { // there was not one byte
		return c.respond(out.status)
	}
	return nil
}

// A client must take writeStep in stepTimeout, or it is given up: 4 KB a second. Smaller steps wake both ends more
// often: with 256 KiB a client on the same machine got a fifth less.
const (
	writeStep   = 1 << 20
	stepTimeout = 4 * idleTimeout
)

// lateHead begins the answer with the first byte, and ends it when its key opens nothing any more.
type lateHead struct {
	c      *call
	status int
	askAt  time.Time // whether the key is still good
}

func (w *lateHead) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		if err := w.stillGood(); err != nil {
			return n, err
		}
		if w.c.status == 0 {
			_ = w.c.respond(w.status)
		}
		w.c.mayWrite(stepTimeout)
		var got int
		got, err = w.c.w.Write(p[n:min(len(p), n+writeStep)])
		n += got
	}
	return n, err
}

// stillGood asks every few seconds. That nobody can be asked ends no answer, and is not waited for often.
func (w *lateHead) stillGood() error {
	if time.Now().Before(w.askAt) {
		return nil
	}
	pause := recentFor
	if _, err := w.c.signer(w.c.sig); err != nil {
		if refused := new(Error); errors.As(err, &refused) {
			return err
		}
		pause = idleTimeout
	}
	w.askAt = time.Now().Add(pause)
	return nil
}
