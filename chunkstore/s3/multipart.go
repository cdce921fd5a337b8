package s3

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore/checksum"
)

func (c *call) ref() meta.UploadRef {
	return meta.UploadRef{Bucket: c.bucket, Key: c.key, ID: c.q.get("uploadId")}
}

type createUploadResult struct {
	XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ InitiateMultipartUploadResult"`
	Bucket   string
	Key      text
	UploadID string `xml:"UploadId"`
}

func (c *call) createUpload() error {
	head, err := c.head()
	if err != nil {
		return err
	}
	if head.Checksum, err = checksumPlan(c.r.Header); err != nil {
		return err
	}
	ref := meta.UploadRef{Bucket: c.bucket, Key: c.key, ID: api.NewSecret()}
	if _, err := c.apply(meta.Command{CreateUpload: &meta.CreateUpload{UploadRef: ref, Head: head}}); err != nil {
		return err
	}
	if head.Checksum != nil {
		c.w.Header().Set("X-Amz-Checksum-Algorithm", head.Checksum.Algorithm)
		c.w.Header().Set(checksumPrefix+"Type", checksumType(head.Checksum))
	}
	return c.ok(createUploadResult{Bucket: c.bucket, Key: newText(c.key), UploadID: ref.ID})
}

// checksumPlan is which checksum an upload's parts have, and so its object; nil for none. What is not said
// of its type is as in S3.
func checksumPlan(h http.Header) (*api.Checksum, error) {
	name, kind := strings.ToUpper(h.Get("X-Amz-Checksum-Algorithm")), h.Get(checksumPrefix+"Type")
	if name == "" {
		if kind != "" {
			return nil, refuse("InvalidRequest", "the x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header")
		}
		return nil, nil
	}
	plan := &api.Checksum{Algorithm: name, Composite: kind == "COMPOSITE" || kind == "" && name != checksum.CRC64NVME}
	if kind != "" && kind != checksumType(plan) {
		return nil, refuse("InvalidRequest", "value for x-amz-checksum-type header is invalid")
	}
	if err := checksum.CheckPlan(plan); err != nil {
		return nil, err
	}
	return plan, nil
}

func (c *call) partNumber() (int, error) {
	n, err := strconv.Atoi(c.q.get("partNumber"))
	if err != nil || n < 1 || n > api.MaxParts {
		return 0, refuse("InvalidArgument", "part number must be an integer between 1 and %d, inclusive", api.MaxParts)
	}
	return n, nil
}

func (c *call) uploadPart() error {
	number, err := c.partNumber()
	if err != nil {
		return err
	}
	if c.r.Header.Get(copySource) != "" {
		return c.copyPart(number)
	}
	b, err := c.body()
	if err != nil {
		return err
	}
	part, err := c.d.backend.PutPart(c.ctx(), c.ref(), number, b.size, b)
	if err != nil {
		return err
	}
	c.w.Header().Set("Etag", quoted(part.ETag))
	if part.Checksum != nil {
		c.w.Header().Set(checksumPrefix+part.Checksum.Algorithm, part.Checksum.Value)
	}
	return c.respond(http.StatusOK)
}

// copyPart makes a part of a range of an object.
func (c *call) copyPart(number int) error {
	o, err := c.source()
	if err != nil {
		return err
	}
	part := span{n: o.Size}
	if text := c.r.Header.Get(copySource + "-Range"); text != "" {
		var ok bool
		if part, ok = parseRange(text, o.Size); !ok || !part.partial || !strings.HasSuffix(text, strconv.FormatInt(part.from+part.n-1, 10)) {
			return refuse("InvalidArgument", "the x-amz-copy-source-range value must be of the form bytes=first-last within the source, which has %d bytes", o.Size)
		}
	}
	if part.n > MaxPutBytes {
		return refuse("EntityTooLarge", "a part has at most %d bytes", int64(MaxPutBytes))
	}
	a, err := c.read(meta.Query{Upload: ptr(c.ref())})
	if err != nil {
		return err
	}
	r, err := c.d.backend.Open(c.ctx(), o.Bucket, o.Key)
	if err != nil {
		return err
	}
	if r.Object().ETag != o.ETag {
		return refuse("PreconditionFailed", "the source has changed meanwhile")
	}
	in := r.Range(c.ctx(), part.from, part.n)
	defer in.Close()
	b := summed(in, part.n, a.Upload.Checksum)
	b.last = c.stillGood
	put, err := c.d.backend.PutPart(c.ctx(), c.ref(), number, part.n, b)
	if err != nil {
		return err
	}
	return c.ok(copyResult{xml.Name{Space: namespace, Local: "CopyPartResult"}, isoTime(put.Modified), quoted(put.ETag), newPartChecksums(put.Checksum)})
}

func ptr[T any](v T) *T { return &v }

type completeRequest struct {
	XMLName xml.Name `xml:"CompleteMultipartUpload"`
	Parts   []struct {
		PartNumber int
		ETag       string
		checksums
	} `xml:"Part"`
}

type completeResult struct {
	XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CompleteMultipartUploadResult"`
	Location string
	Bucket   string
	Key      text
	ETag     string
	checksums
}

func (c *call) completeUpload() error {
	condition, err := writeCondition(c.r.Header)
	if err != nil {
		return err
	}
	var in completeRequest
	wanted := c.takeChecksum() // it is the object's, not that of the document
	if err := c.document(&in); err != nil {
		return err
	}
	if n := len(in.Parts); n < 1 || n > api.MaxParts {
		return refuse("MalformedXML", "an upload is completed with 1 to %d parts, not %d", api.MaxParts, n)
	}
	cmd := &meta.CompleteUpload{UploadRef: c.ref(), Condition: condition, Checksum: wanted}
	for _, p := range in.Parts {
		cmd.Parts = append(cmd.Parts, meta.PartRef{Number: p.PartNumber, ETag: unquoted(p.ETag), Checksum: p.any()})
	}
	if err := c.checkSize(c.r.Header.Get("X-Amz-Mp-Object-Size"), cmd.Parts); err != nil {
		return err
	}
	if wanted != "" {
		if a, err := c.read(meta.Query{Upload: &cmd.UploadRef}); err == nil && a.Upload.Checksum == nil {
			return refuse("InvalidRequest", "the upload was begun without a checksum algorithm, so the object's checksum cannot be compared")
		}
	}
	res, err := c.apply(meta.Command{CompleteUpload: cmd})
	o := res.Object
	if api.ReasonOf(err) == api.ReasonNoUpload {
		o, err = c.completed(cmd, err)
	}
	if err != nil {
		return err
	}
	return c.ok(completeResult{Location: c.location(), Bucket: c.bucket, Key: newText(c.key), ETag: quoted(o.ETag), checksums: newChecksums(o.Checksum)})
}

// location is the URL that the client has sent its request to, without the query.
func (c *call) location() string {
	scheme := "http"
	if c.r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + c.r.Host + escape(c.r.URL.Path, true)
}

// takeChecksum takes a checksum out of the request's head.
func (c *call) takeChecksum() (value string) {
	for _, name := range checksum.Names {
		value += c.r.Header.Get(checksumPrefix + name)
		c.r.Header.Del(checksumPrefix + name)
	}
	c.r.Header.Del("X-Amz-Sdk-Checksum-Algorithm")
	return value
}

// completed finds out whether an upload that is not there was completed with these parts: a client whose
// first answer was lost asks again.
func (c *call) completed(cmd *meta.CompleteUpload, gone error) (*api.Object, error) {
	sum := md5.New()
	for _, p := range cmd.Parts {
		tag, err := hex.DecodeString(p.ETag)
		if err != nil {
			return nil, gone
		}
		sum.Write(tag)
	}
	o, err := c.d.backend.Stat(c.ctx(), c.bucket, c.key)
	if err != nil || o.ETag != fmt.Sprintf("%x-%d", sum.Sum(nil), len(cmd.Parts)) {
		return nil, gone
	}
	return o, nil
}

func (c *call) abortUpload() error {
	if _, err := c.apply(meta.Command{AbortUpload: ptr(c.ref())}); err != nil {
		return err
	}
	return c.respond(http.StatusNoContent)
}
