package s3

import (
	"crypto/hmac"
	"encoding/xml"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cloudless/cloudless/chunkstore/gateway"
)

// maxFormBytes bounds all of a form before its file.
const maxFormBytes = 20 << 10

// isForm tells whether the request is a form that a browser sends: its signature is among its fields.
func (c *call) isForm() bool {
	kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	return err == nil && kind == "multipart/form-data" && c.r.Method == http.MethodPost && c.bucket != "" && c.key == ""
}

// postObject puts the file of a form as an object, if the policy that was signed lets the form do so.
func (c *call) postObject() error {
	c.operation = "PostObject"
	fields, file, err := c.readForm()
	if err != nil {
		return err
	}
	rules, err := c.authenticateForm(fields)
	if err != nil {
		return err
	}
	if err := c.permit(true); err != nil {
		return err
	}
	c.key = strings.ReplaceAll(fields["key"], "${filename}", file.FileName())
	c.r.Header = headersOf(fields)
	p := gateway.PutObject{Bucket: c.bucket, Key: c.key, Size: -1}
	if p.Head, err = c.head(); err != nil {
		return err
	}
	if text := fields["tagging"]; text != "" {
		if p.Head.Tags, err = tagsOfDocument([]byte(text)); err != nil {
			return err
		}
	}
	b := &body{r: &formFile{r: file, least: rules.least, most: min(rules.most, MaxPutBytes)}, size: -1, last: c.stillGood}
	if err := c.digests(b); err != nil {
		return err
	}
	o, err := c.d.backend.Put(c.ctx(), p, b)
	if err != nil {
		return err
	}
	c.w.Header().Set("Etag", quoted(o.ETag))
	c.tellChecksum(o.Checksum)
	return c.posted(fields, quoted(o.ETag))
}

// readForm reads the fields before the file, their names in lower case. What comes behind it counts for nothing.
// Nobody has signed them so far, so they have a while to come, all of them.
func (c *call) readForm() (map[string]string, *multipart.Part, error) {
	_, params, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || params["boundary"] == "" {
		return nil, nil, badForm()
	}
	raw := &patientReader{r: c.r.Body, c: http.NewResponseController(c.w), by: time.Now().Add(idleTimeout)}
	parts := multipart.NewReader(raw, params["boundary"])
	fields, left := map[string]string{"bucket": c.bucket}, int64(maxFormBytes)
	for {
		part, err := parts.NextRawPart()
		switch {
		case errors.Is(err, io.EOF):
			return nil, nil, refuse("InvalidArgument", "POST requires exactly one file upload per request")
		case err != nil:
			return nil, nil, badForm()
		}
		name := strings.ToLower(part.FormName())
		if name == "file" {
			if fields["key"] == "" {
				return nil, nil, refuse("InvalidArgument", "Bucket POST must contain a field named 'key', before the file")
			}
			raw.by = time.Time{}
			return fields, part, nil
		}
		value, err := io.ReadAll(io.LimitReader(part, left+1))
		if err != nil {
			return nil, nil, badForm()
		}
		if left -= int64(len(name) + len(value)); left < 0 {
			return nil, nil, refuse("MaxPostPreDataLengthExceededError", "the fields before the file have more than %d bytes", maxFormBytes)
		}
		if name != "bucket" {
			fields[name] = string(value)
		}
	}
}

func badForm() error {
	return refuse("MalformedPOSTRequest", "the body of your POST request is not well-formed multipart/form-data")
}

// authenticateForm finds who signed a form's policy, and that the form is as it says.
func (c *call) authenticateForm(fields map[string]string) (*policy, error) {
	switch {
	case fields["policy"] == "" && fields["x-amz-signature"] == "":
		return nil, refuse("AccessDenied", "the form is not signed")
	case fields["x-amz-algorithm"] != algorithm:
		return nil, refuse("InvalidRequest", "the authorization mechanism %.32q is not supported: use %s", fields["x-amz-algorithm"], algorithm)
	}
	sig := &signature{presigned: true, stamp: fields["x-amz-date"]}
	if err := sig.fill(fields["x-amz-credential"], "host", fields["x-amz-signature"]); err != nil {
		return nil, err
	}
	var err error
	if sig.at, err = time.Parse(timeFormat, sig.stamp); err != nil || sig.day != sig.at.Format(dayFormat) {
		return nil, sig.malformed("x-amz-date must be of the form %s and of the credential's day", timeFormat)
	}
	key, err := c.signer(sig)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(mac(key.Key, fields["policy"]), sig.sum) {
		e := refuse("SignatureDoesNotMatch", "the request signature we calculated does not match the signature you provided: check the secret key and the signing method")
		e.AccessKey, e.StringToSign = sig.accessKey, fields["policy"]
		return nil, e
	}
	rules, err := parsePolicy(fields["policy"])
	if err != nil {
		return nil, err
	}
	c.sig, c.grant, c.payload = sig, key, unsignedPayload
	return rules, rules.allows(fields, time.Now())
}

// headersOf are the fields that are headers of a put; what the request itself has for headers nobody has signed.
func headersOf(fields map[string]string) http.Header {
	h := http.Header{}
	for name, value := range fields {
		switch name {
		case "acl":
			h.Set("X-Amz-Acl", value)
		case "content-type", "cache-control", "content-disposition", "content-encoding", "content-language", "expires", "content-md5":
			h.Set(name, value)
		default:
			if strings.HasPrefix(name, hoistablePrefix) {
				h.Set(name, value)
			}
		}
	}
	return h
}

// formFile is the file of a form, with as many bytes as the policy lets it have.
type formFile struct {
	r           io.Reader
	n           int64
	least, most int64
}

func (f *formFile) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	f.n += int64(n)
	switch {
	case f.n > f.most:
		return 0, refuse("EntityTooLarge", "your proposed upload exceeds the maximum allowed size: %d bytes", f.most)
	case errors.Is(err, io.EOF) && f.n < f.least:
		return 0, refuse("EntityTooSmall", "your proposed upload is smaller than the minimum allowed size: %d bytes", f.least)
	}
	return n, err
}

type postResult struct {
	XMLName  xml.Name `xml:"PostResponse"`
	Location string
	Bucket   string
	Key      text
	ETag     string
}

// posted answers as the form asks: with a redirect, a document, or nothing.
func (c *call) posted(fields map[string]string, etag string) error {
	location := strings.TrimSuffix(c.location(), "/") + "/" + escape(c.key, true)
	c.w.Header().Set("Location", location)
	to := fields["success_action_redirect"]
	if to == "" {
		to = fields["redirect"]
	}
	if u, err := url.Parse(to); to != "" && err == nil && u.IsAbs() {
		q := u.Query()
		q.Set("bucket", c.bucket)
		q.Set("key", c.key)
		q.Set("etag", etag)
		u.RawQuery = q.Encode()
		c.w.Header().Set("Location", u.String())
		return c.respond(http.StatusSeeOther)
	}
	switch status, _ := strconv.Atoi(fields["success_action_status"]); status {
	case http.StatusOK:
		return c.respond(http.StatusOK)
	case http.StatusCreated:
		c.xml(http.StatusCreated, postResult{Location: location, Bucket: c.bucket, Key: newText(c.key), ETag: etag})
		return nil
	}
	return c.respond(http.StatusNoContent)
}
