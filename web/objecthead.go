package web

import (
	"encoding/base64"
	"encoding/hex"
	"mime"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cloudless/cloudless/api"
)

const (
	metaPrefix         = "X-Cloudless-Meta-"
	defaultContentType = "application/octet-stream"
)

// objectPut reads from path and headers what a client says of an object that it writes.
func objectPut(c *call) (p api.ObjectPut, err error) {
	if p.Bucket, p.Key, err = objectOf(c); err != nil {
		return p, err
	}
	h := c.request().Header
	if c.request().Method == http.MethodPut {
		for name, field := range kept(&p.ObjectHead) {
			*field = h.Get(name)
		}
		p.Metadata = metadataOf(h)
	}
	if err := checkMetadata(p.Metadata); err != nil {
		return p, err
	}
	return p, putCondition(h, &p)
}

// kept are the headers of an object that are given back as they came.
func kept(o *api.ObjectHead) map[string]*string {
	return map[string]*string{
		"Content-Type": &o.ContentType, "Cache-Control": &o.CacheControl, "Content-Disposition": &o.ContentDisposition,
		"Content-Encoding": &o.ContentEncoding, "Content-Language": &o.ContentLanguage, "Expires": &o.Expires,
	}
}

func metadataOf(h http.Header) map[string]string {
	out := map[string]string{}
	for name, values := range h {
		if after, ok := strings.CutPrefix(name, metaPrefix); ok {
			out[strings.ToLower(after)] = strings.Join(values, ",")
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// metadataName is what can be the end of a header's name. Headers know no upper case, so neither do we.
var metadataName = regexp.MustCompile("^[a-z0-9!#$%&'*+.^_`|~-]+$")

// checkMetadata refuses what could not be told in headers again.
func checkMetadata(metadata map[string]string) error {
	for name, value := range metadata {
		if !metadataName.MatchString(name) {
			return api.Errorf(api.CodeInvalid, "metadata name %q is not lower-case letters, digits and hyphens", name)
		}
		control := func(r rune) bool { return r < ' ' || r == 0x7f }
		if !utf8.ValidString(value) || strings.ContainsFunc(value, control) || strings.TrimSpace(value) != value {
			return api.Errorf(api.CodeInvalid, "the metadata value of %s has control characters or blanks at an end, or is not UTF-8", name)
		}
	}
	return nil
}

// describeObject tells of an object in headers.
func describeObject(h http.Header, o *api.Object) {
	h.Set("ETag", quoted(o.ETag))
	h.Set("Last-Modified", o.Modified.UTC().Format(http.TimeFormat))
	h.Set("Accept-Ranges", "bytes")
	h.Set("Cache-Control", "private, no-cache") // may be kept, but is asked for each time
	h.Set("Content-Disposition", disposition(o.Key))
	h.Set("Content-Type", defaultContentType)
	h.Set("X-Cloudless-Index", strconv.FormatUint(o.Index, 10))
	if sum, err := hex.DecodeString(o.SHA256); err == nil && len(sum) > 0 {
		h.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum)+":")
	}
	for name, value := range o.Metadata {
		h[http.CanonicalHeaderKey(metaPrefix+name)] = []string{value}
	}
	for name, field := range kept(&o.ObjectHead) {
		if *field != "" {
			h.Set(name, *field)
		}
	}
}

// disposition has browsers save an object: as a page, it would be one of this site.
func disposition(key string) string {
	return mime.FormatMediaType("attachment", map[string]string{"filename": path.Base(key)})
}
