package s3

import (
	"encoding/xml"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
)

type uploadList struct {
	XMLName            xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListMultipartUploadsResult"`
	Bucket             string
	KeyMarker          text
	UploadIDMarker     string `xml:"UploadIdMarker"`
	NextKeyMarker      *text
	NextUploadIDMarker string `xml:"NextUploadIdMarker,omitempty"`
	Delimiter          *text
	Prefix             text
	MaxUploads         int
	EncodingType       string `xml:",omitempty"`
	IsTruncated        bool
	Uploads            []uploadEntry `xml:"Upload"`
	CommonPrefixes     commonPrefixes
}

type uploadEntry struct {
	Key          text
	UploadID     string `xml:"UploadId"`
	Initiator    owner
	Owner        owner
	StorageClass string
	Initiated    string
	Algorithm    string `xml:"ChecksumAlgorithm,omitempty"`
	Type         string `xml:"ChecksumType,omitempty"`
}

func newUploadEntry(u *api.Upload, e encoding) uploadEntry {
	out := uploadEntry{Key: e(u.Key), UploadID: u.ID, Initiator: self, Owner: self, StorageClass: "STANDARD", Initiated: isoTime(u.Started)}
	if u.Checksum != nil {
		out.Algorithm, out.Type = u.Checksum.Algorithm, checksumType(u.Checksum)
	}
	return out
}

// listUploads gathers by itself what has a delimiter: a bucket has no more uploads than one answer holds.
func (c *call) listUploads() error {
	e, err := c.encoding()
	if err != nil {
		return err
	}
	most, err := c.number("max-uploads", api.MaxUploads)
	if err != nil {
		return err
	}
	prefix, delimiter := c.q.get("prefix"), c.q.get("delimiter")
	begin := meta.UploadRef{Key: c.q.get("key-marker"), ID: c.q.get("upload-id-marker")}
	if begin.Key != "" && begin.ID == "" { // all of that key are behind it
		begin.Key += "\x00"
	}
	a, err := c.read(meta.Query{Uploads: &meta.Uploads{Bucket: c.bucket, Prefix: prefix, After: begin}})
	if err != nil {
		return err
	}
	out := uploadList{
		Bucket: c.bucket, KeyMarker: e(c.q.get("key-marker")), UploadIDMarker: begin.ID, Delimiter: e.optional(delimiter), Prefix: e(prefix),
		MaxUploads: most, EncodingType: c.q.get("encoding-type"),
	}
	out.fill(a.Uploads, prefix, delimiter, most, e)
	return c.ok(out)
}

// fill takes uploads and common prefixes until there are as many as are allowed.
func (l *uploadList) fill(uploads []*api.Upload, prefix, delimiter string, most int, e encoding) {
	last := ""
	for i, u := range uploads {
		common := ""
		if head, _, ok := strings.Cut(strings.TrimPrefix(u.Key, prefix), delimiter); ok && delimiter != "" {
			common = prefix + head + delimiter
		}
		if common != "" && common == last {
			continue
		}
		if len(l.Uploads)+len(l.CommonPrefixes) == most {
			l.IsTruncated = most > 0 // else there would be no way on
			if i > 0 {
				l.NextKeyMarker, l.NextUploadIDMarker = e.optional(uploads[i-1].Key), uploads[i-1].ID
			}
			return
		}
		if last = common; common != "" {
			l.CommonPrefixes = append(l.CommonPrefixes, e(common))
			continue
		}
		l.Uploads = append(l.Uploads, newUploadEntry(u, e))
	}
}

type partList struct {
	XMLName          xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListPartsResult"`
	Bucket           string
	Key              text
	UploadID         string `xml:"UploadId"`
	Initiator        owner
	Owner            owner
	StorageClass     string
	PartNumberMarker int
	NextPartNumber   int `xml:"NextPartNumberMarker,omitempty"`
	MaxParts         int
	IsTruncated      bool
	Algorithm        string      `xml:"ChecksumAlgorithm,omitempty"`
	Type             string      `xml:"ChecksumType,omitempty"`
	Parts            []partEntry `xml:"Part"`
}

type partEntry struct {
	PartNumber   int
	LastModified string
	ETag         string
	Size         int64
	checksums
}

func (c *call) listParts() error {
	most, err := c.number("max-parts", MaxListKeys)
	if err != nil {
		return err
	}
	after, err := number(c.q.get("part-number-marker"), "part-number-marker", 0, api.MaxParts)
	if err != nil {
		return err
	}
	a, err := c.read(meta.Query{Upload: ptr(c.ref())})
	if err != nil {
		return err
	}
	u := newUploadEntry(a.Upload, newText)
	out := partList{
		Bucket: c.bucket, Key: u.Key, UploadID: u.UploadID, Initiator: self, Owner: self, StorageClass: u.StorageClass, PartNumberMarker: after,
		MaxParts: most, Algorithm: u.Algorithm, Type: u.Type,
	}
	parts, err := c.parts(after, most+1) // one more tells whether there are more
	if err != nil {
		return err
	}
	if len(parts) > most {
		parts, out.IsTruncated = parts[:most], most > 0
	}
	for _, p := range parts {
		out.Parts = append(out.Parts, partEntry{p.Number, isoTime(p.Modified), quoted(p.ETag), p.Size, newPartChecksums(p.Checksum)})
		out.NextPartNumber = p.Number
	}
	return c.ok(out)
}

func (c *call) parts(after, most int) ([]*api.Part, error) {
	a, err := c.read(meta.Query{Parts: &meta.Parts{UploadRef: c.ref(), After: after, Limit: most}})
	if err != nil {
		return nil, err
	}
	return a.Parts, nil
}

// checkSize refuses to complete an upload whose parts are not as long together as the client says.
func (c *call) checkSize(want string, named []meta.PartRef) error {
	if want == "" {
		return nil
	}
	parts, err := c.parts(0, api.MaxParts)
	if err != nil {
		return err
	}
	var size int64
	for _, p := range parts {
		if slices.ContainsFunc(named, func(n meta.PartRef) bool { return n.Number == p.Number }) {
			size += p.Size
		}
	}
	if want != strconv.FormatInt(size, 10) {
		return refuse("InvalidRequest", "the parts have %d bytes, not the %.20s of x-amz-mp-object-size", size, want)
	}
	return nil
}
