package s3

import (
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/gateway"
)

// partOf is the part of an object that the query names by its number, which is its place among those that it
// was made of. An object that was put at once is its own first part.
func (c *call) partOf(o *api.Object, parts []int64) (span, error) {
	number, err := c.partNumber()
	switch {
	case err != nil:
		return span{}, err
	case c.r.Header.Get("Range") != "":
		return span{}, refuse("InvalidRequest", "cannot specify both Range header and partNumber query parameter")
	case parts == nil && strings.Contains(o.ETag, "-"):
		return span{}, refuse("NotImplemented", "where the parts of this object ended was not kept when it was uploaded: read it by Range")
	case parts == nil:
		parts = []int64{o.Size}
	case number <= len(parts):
		c.w.Header().Set("X-Amz-Mp-Parts-Count", strconv.Itoa(len(parts)))
	}
	if number > len(parts) {
		return span{}, refuse("InvalidPartNumber", "the requested partnumber is not satisfiable: there are %d parts", len(parts))
	}
	part := span{n: parts[number-1]}
	for _, n := range parts[:number-1] {
		part.from += n
	}
	part.partial = part.n > 0
	return part, nil
}

type attributes struct {
	XMLName      xml.Name        `xml:"http://s3.amazonaws.com/doc/2006-03-01/ GetObjectAttributesResponse"`
	ETag         string          `xml:",omitempty"`
	Checksum     *checksums      `xml:",omitempty"`
	Parts        *attributeParts `xml:"ObjectParts,omitempty"`
	StorageClass string          `xml:",omitempty"`
	Size         *int64          `xml:"ObjectSize,omitempty"`
}

type attributeParts struct {
	Total       string `xml:"PartsCount"`
	Marker      int    `xml:"PartNumberMarker"`
	Next        int    `xml:"NextPartNumberMarker"`
	Max         int    `xml:"MaxParts"`
	IsTruncated bool
	Parts       []attributePart `xml:"Part"`
}

type attributePart struct {
	PartNumber int
	Size       int64
}

// getAttributes tells those of an object's attributes that the request names.
func (c *call) getAttributes() error {
	r, err := c.d.backend.Open(c.ctx(), c.bucket, c.key)
	if err != nil {
		return err
	}
	o := r.Object()
	var out attributes
	for name := range strings.SplitSeq(strings.Join(c.r.Header.Values("X-Amz-Object-Attributes"), ","), ",") {
		switch strings.TrimSpace(name) {
		case "ETag":
			out.ETag = o.ETag
		case "Checksum":
			if o.Checksum != nil {
				sums := newChecksums(o.Checksum)
				out.Checksum = &sums
			}
		case "ObjectParts":
			if out.Parts, err = c.partsOf(r); err != nil {
				return err
			}
		case "StorageClass":
			out.StorageClass = "STANDARD"
		case "ObjectSize":
			out.Size = &o.Size
		default:
			return refuse("InvalidArgument", "invalid attribute name specified: %.32q", name)
		}
	}
	c.w.Header().Set("Last-Modified", o.Modified.UTC().Format(http.TimeFormat))
	return c.ok(out)
}

// partsOf lists the parts of an object; nil if it was put at once.
func (c *call) partsOf(r *gateway.Reader) (*attributeParts, error) {
	most, err := number(c.r.Header.Get("X-Amz-Max-Parts"), "x-amz-max-parts", MaxListKeys, MaxListKeys)
	if err != nil {
		return nil, err
	}
	after, err := number(c.r.Header.Get("X-Amz-Part-Number-Marker"), "x-amz-part-number-marker", 0, api.MaxParts)
	if err != nil {
		return nil, err
	}
	_, total, ok := strings.Cut(r.Object().ETag, "-")
	if !ok {
		return nil, nil
	}
	out := &attributeParts{Total: total, Marker: after, Max: most}
	for i, size := range r.Parts() {
		switch {
		case i < after:
		case len(out.Parts) == most:
			out.IsTruncated = most > 0
			return out, nil
		default:
			out.Parts, out.Next = append(out.Parts, attributePart{i + 1, size}), i+1
		}
	}
	return out, nil
}
