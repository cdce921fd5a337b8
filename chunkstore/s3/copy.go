package s3

import (
	"encoding/xml"
	"net/url"
	"strings"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
)

const copySource = "X-Amz-Copy-Source"

// source finds the object that is copied, and that it is as the request wants it.
func (c *call) source() (*api.Object, error) {
	path, version, _ := strings.Cut(c.r.Header.Get(copySource), "?versionId=")
	path, err := url.PathUnescape(strings.TrimPrefix(path, "/"))
	bucket, key, _ := strings.Cut(path, "/")
	switch {
	case err != nil || bucket == "" || key == "":
		return nil, refuse("InvalidArgument", "x-amz-copy-source must be BUCKET/KEY, URL-encoded")
	case version != "" && version != "null":
		return nil, refuse("NoSuchVersion", "buckets have no versions")
	}
	if err := c.opens(bucket); err != nil {
		return nil, err
	}
	o, err := c.d.backend.Stat(c.ctx(), bucket, key)
	if err != nil {
		return nil, err
	}
	if unmet, unchanged := conditionsOf(c.r.Header, copySource+"-").on(o); unmet || unchanged {
		return nil, refuse("PreconditionFailed", "at least one of the pre-conditions you specified did not hold")
	}
	return o, nil
}

type copyResult struct {
	XMLName      xml.Name
	LastModified string
	ETag         string
	checksums
}

// copyObject makes another row for the same bytes: it takes as long for one byte as for many.
func (c *call) copyObject() error {
	condition, err := writeCondition(c.r.Header)
	if err != nil {
		return err
	}
	given, err := c.head()
	if err != nil {
		return err
	}
	from, err := c.source()
	if err != nil {
		return err
	}
	head, err := c.copiedHead(given, from)
	if err != nil {
		return err
	}
	cmd := meta.Copy{FromBucket: from.Bucket, FromKey: from.Key, SourceIfMatch: from.ETag, Bucket: c.bucket, Key: c.key, Head: head, Condition: condition}
	res, err := c.apply(meta.Command{Copy: &cmd})
	if err != nil {
		return err
	}
	o := res.Object
	return c.ok(copyResult{xml.Name{Space: namespace, Local: "CopyObjectResult"}, isoTime(o.Modified), quoted(o.ETag), newChecksums(o.Checksum)})
}

// copiedHead is what is said of the copy; nil is what is said of the source.
func (c *call) copiedHead(given api.ObjectHead, from *api.Object) (*api.ObjectHead, error) {
	h := c.r.Header
	replace, err := directive(h.Get("X-Amz-Metadata-Directive"))
	if err != nil {
		return nil, err
	}
	replaceTags, err := directive(h.Get("X-Amz-Tagging-Directive"))
	if err != nil {
		return nil, err
	}
	if want := h.Get("X-Amz-Checksum-Algorithm"); want != "" && (from.Checksum == nil || !strings.EqualFold(want, from.Checksum.Algorithm)) {
		return nil, refuse("NotImplemented", "a copy keeps the checksum of its source; it cannot be given another one")
	}
	head := from.ObjectHead
	if replace {
		head = given
		head.Tags = from.Tags
	}
	if replaceTags {
		head.Tags = given.Tags
	}
	if !replace && !replaceTags {
		if from.Bucket == c.bucket && from.Key == c.key && h.Get("X-Amz-Storage-Class") == "" {
			return nil, refuse("InvalidRequest", "this copy request is illegal because it is trying to copy an object to itself without changing the object's metadata")
		}
		return nil, nil
	}
	return &head, nil
}

func directive(text string) (replace bool, err error) {
	switch text {
	case "", "COPY":
		return false, nil
	case "REPLACE":
		return true, nil
	}
	return false, refuse("InvalidArgument", "unknown directive %.32q: use COPY or REPLACE", text)
}

// checksums are the elements of a document that tell a checksum.
type checksums struct {
	CRC32     string `xml:"ChecksumCRC32,omitempty"`
	CRC32C    string `xml:"ChecksumCRC32C,omitempty"`
	CRC64NVME string `xml:"ChecksumCRC64NVME,omitempty"`
	SHA1      string `xml:"ChecksumSHA1,omitempty"`
	SHA256    string `xml:"ChecksumSHA256,omitempty"`
	Type      string `xml:"ChecksumType,omitempty"`
}

func newChecksums(sum *api.Checksum) (out checksums) {
	if sum == nil {
		return out
	}
	out = newPartChecksums(sum)
	out.Type = checksumType(sum)
	return out
}

// newPartChecksums is the same for a part, whose checksum is of its bytes always.
func newPartChecksums(sum *api.Checksum) (out checksums) {
	if sum != nil {
		*out.field(sum.Algorithm) = sum.Value
	}
	return out
}

// field is the element of an algorithm.
func (s *checksums) field(algorithm string) *string {
	return map[string]*string{"CRC32": &s.CRC32, "CRC32C": &s.CRC32C, "CRC64NVME": &s.CRC64NVME, "SHA1": &s.SHA1, "SHA256": &s.SHA256}[algorithm]
}

// any is the one that is there, "" for none.
func (s *checksums) any() string {
	return s.CRC32 + s.CRC32C + s.CRC64NVME + s.SHA1 + s.SHA256
}
