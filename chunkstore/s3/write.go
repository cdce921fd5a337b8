package s3

import (
	"encoding/xml"
	"net/http"
	"strings"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore/gateway"
)

// refused are headers that ask for what the store does not do; what would be lost if they were ignored is
// more than a request.
var refused = []string{
	"X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Customer-Algorithm", "X-Amz-Copy-Source-Server-Side-Encryption-Customer-Algorithm",
	"X-Amz-Object-Lock-Mode", "X-Amz-Object-Lock-Retain-Until-Date", "X-Amz-Object-Lock-Legal-Hold", "X-Amz-Website-Redirect-Location", "X-Amz-Write-Offset-Bytes",
}

// head reads what the request says of the object beside its bytes.
func (c *call) head() (api.ObjectHead, error) {
	h := c.r.Header
	for _, name := range refused {
		if h.Get(name) != "" {
			return api.ObjectHead{}, refuse("NotImplemented", "a header you provided implies functionality that is not implemented: %s", name)
		}
	}
	if class := h.Get("X-Amz-Storage-Class"); class != "" && class != "STANDARD" {
		return api.ObjectHead{}, refuse("InvalidStorageClass", "the storage class %.32q is not supported: a bucket has a class, its objects have not", class)
	}
	if err := c.refuseGrants(); err != nil {
		return api.ObjectHead{}, err
	}
	tags, err := tagsOfHeader(h.Get("X-Amz-Tagging"))
	if err != nil {
		return api.ObjectHead{}, err
	}
	out := api.ObjectHead{
		ContentType: h.Get("Content-Type"), CacheControl: h.Get("Cache-Control"), ContentDisposition: h.Get("Content-Disposition"),
		ContentEncoding: ownEncoding(h.Values("Content-Encoding")), ContentLanguage: h.Get("Content-Language"), Expires: h.Get("Expires"), Tags: tags,
	}
	for name, values := range h {
		if name, ok := strings.CutPrefix(name, metadataPrefix); ok {
			if out.Metadata == nil {
				out.Metadata = map[string]string{}
			}
			out.Metadata[strings.ToLower(name)] = strings.Join(values, ",")
		}
	}
	return out, nil
}

// ownEncoding is the encoding of the object: aws-chunked is that of the request alone.
func ownEncoding(values []string) string {
	var own []string
	for e := range strings.SplitSeq(strings.Join(values, ","), ",") {
		if e = strings.TrimSpace(e); e != "" && e != "aws-chunked" {
			own = append(own, e)
		}
	}
	return strings.Join(own, ",")
}

func (c *call) putObject() error {
	if c.r.Header.Get(copySource) != "" {
		return c.copyObject()
	}
	if c.q.has("partNumber") {
		return refuse("InvalidArgument", "a part needs the uploadId of the upload that it is of")
	}
	p := gateway.PutObject{Bucket: c.bucket, Key: c.key}
	var err error
	if p.Head, err = c.head(); err != nil {
		return err
	}
	if p.Condition, err = writeCondition(c.r.Header); err != nil {
		return err
	}
	b, err := c.body()
	if err != nil {
		return err
	}
	p.Size = b.size
	o, err := c.d.backend.Put(c.ctx(), p, b)
	if err != nil {
		return err
	}
	c.w.Header().Set("Etag", quoted(o.ETag))
	c.tellChecksum(o.Checksum)
	return c.respond(http.StatusOK)
}

func (c *call) deleteObject() error {
	for _, name := range []string{"X-Amz-If-Match-Last-Modified-Time", "X-Amz-If-Match-Size"} {
		if c.r.Header.Get(name) != "" {
			return refuse("NotImplemented", "a header you provided implies functionality that is not implemented: %s", name)
		}
	}
	if _, err := c.apply(meta.Command{Delete: &meta.Delete{Bucket: c.bucket, Key: c.key, IfMatch: unquoted(c.r.Header.Get("If-Match"))}}); err != nil {
		return err
	}
	return c.respond(http.StatusNoContent)
}

type deleteRequest struct {
	XMLName xml.Name `xml:"Delete"`
	Quiet   bool
	Objects []struct {
		Key       string
		VersionID string `xml:"VersionId"`
		ETag      string
		Modified  []notBuilt `xml:"LastModifiedTime"`
		Size      []notBuilt
	} `xml:"Object"`
}

type deleteResult struct {
	XMLName xml.Name        `xml:"http://s3.amazonaws.com/doc/2006-03-01/ DeleteResult"`
	Deleted []deletedObject `xml:"Deleted"`
	Errors  []deleteError   `xml:"Error"`
}

type deletedObject struct{ Key text }

type deleteError struct {
	Key           text
	Code, Message string
}

// deleteObjects removes many objects; each is answered for by itself.
func (c *call) deleteObjects() error {
	var in deleteRequest
	if err := c.document(&in); err != nil {
		return err
	}
	if n := len(in.Objects); n < 1 || n > MaxDeleteKeys {
		return refuse("MalformedXML", "a request deletes 1 to %d objects, not %d", MaxDeleteKeys, n)
	}
	if _, err := c.readBucket(); err != nil {
		return err
	}
	var out deleteResult
	var cmds []meta.Command
	for _, o := range in.Objects {
		if o.VersionID != "" && o.VersionID != "null" {
			out.Errors = append(out.Errors, deleteError{newText(o.Key), "NoSuchVersion", "buckets have no versions"})
			continue
		}
		if len(o.Modified)+len(o.Size) > 0 {
			out.Errors = append(out.Errors, deleteError{newText(o.Key), "NotImplemented", "a delete can be conditional on the ETag, not on time or size"})
			continue
		}
		cmds = append(cmds, meta.Command{Delete: &meta.Delete{Bucket: c.bucket, Key: o.Key, IfMatch: unquoted(o.ETag)}})
	}
	if len(cmds) == 0 {
		return c.ok(out)
	}
	results, err := c.d.backend.Meta().Apply(c.ctx(), cmds...)
	if err != nil {
		return err
	}
	for i, r := range results.Results {
		key := newText(cmds[i].Delete.Key)
		if r.Err != nil {
			e := inWords(r.Err)
			out.Errors = append(out.Errors, deleteError{key, e.Code, e.Message})
		} else if !in.Quiet {
			out.Deleted = append(out.Deleted, deletedObject{key})
		}
	}
	return c.ok(out)
}
