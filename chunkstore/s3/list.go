package s3

import (
	"cmp"
	"encoding/base64"
	"encoding/xml"
	"strconv"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
)

// entry is an object in a list.
type entry struct {
	Key          text
	VersionID    string `xml:"VersionId,omitempty"`
	IsLatest     bool   `xml:",omitempty"`
	LastModified string
	ETag         string
	Algorithm    string `xml:"ChecksumAlgorithm,omitempty"`
	Type         string `xml:"ChecksumType,omitempty"`
	Size         int64
	StorageClass string
	Owner        *owner
}

func newEntry(o *api.Object, e encoding) entry {
	out := entry{Key: e(o.Key), LastModified: isoTime(o.Modified), ETag: quoted(o.ETag), Size: o.Size, StorageClass: "STANDARD"}
	if o.Checksum != nil {
		out.Algorithm, out.Type = o.Checksum.Algorithm, checksumType(o.Checksum)
	}
	return out
}

// list is what the three lists of objects have in common.
type list struct {
	Name           string
	Prefix         text
	Delimiter      *text
	MaxKeys        int
	EncodingType   string `xml:",omitempty"`
	IsTruncated    bool
	CommonPrefixes commonPrefixes
}

// page asks for what a list of objects is to show, behind after.
func (c *call) page(after string) (list, *meta.Page, encoding, error) {
	e, err := c.encoding()
	if err != nil {
		return list{}, nil, nil, err
	}
	most, err := c.number("max-keys", MaxListKeys)
	if err != nil {
		return list{}, nil, nil, err
	}
	q := meta.List{Bucket: c.bucket, Prefix: c.q.get("prefix"), Delimiter: c.q.get("delimiter"), After: after, Limit: most}
	out := list{Name: c.bucket, Prefix: e(q.Prefix), Delimiter: e.optional(q.Delimiter), MaxKeys: most, EncodingType: c.q.get("encoding-type")}
	if most == 0 {
		_, err := c.readBucket()
		return out, &meta.Page{}, e, err
	}
	a, err := c.read(meta.Query{List: &q})
	if err != nil {
		return list{}, nil, nil, err
	}
	out.IsTruncated = a.Page.Cursor != ""
	for _, p := range a.Page.Prefixes {
		out.CommonPrefixes = append(out.CommonPrefixes, e(p))
	}
	return out, a.Page, e, nil
}

// number is a parameter from 0 on; more than most is most, and most is what it is when it is not given.
func (c *call) number(name string, most int) (int, error) {
	return number(c.q.get(name), name, most, most)
}

// number reads a number from 0 on; more than most is most, and none is what it is when there is none.
func number(text, name string, none, most int) (int, error) {
	if text == "" {
		return none, nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, refuse("InvalidArgument", "%s must be a number from 0 to 2147483647", name)
	}
	return min(int(n), most), nil
}

type listV1 struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	list
	Marker     text
	NextMarker *text
	Contents   []entry
}

func (c *call) listObjects() error {
	l, page, e, err := c.page(c.q.get("marker"))
	if err != nil {
		return err
	}
	out := listV1{list: l, Marker: e(c.q.get("marker")), NextMarker: e.optional(page.Cursor)}
	for _, o := range page.Objects {
		out.Contents = append(out.Contents, newEntry(o, e))
		out.Contents[len(out.Contents)-1].Owner = &self
	}
	return c.ok(out)
}

// token is the name that a page begins behind, "" for the first.
func (c *call) token() (string, error) {
	name, err := base64.RawURLEncoding.DecodeString(c.q.get("continuation-token"))
	if err != nil {
		return "", refuse("InvalidArgument", "the continuation token provided is incorrect")
	}
	return string(name), nil
}

func newToken(name string) string { return base64.RawURLEncoding.EncodeToString([]byte(name)) }

type listV2 struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	list
	StartAfter            *text
	ContinuationToken     *string
	NextContinuationToken string `xml:",omitempty"`
	KeyCount              int
	Contents              []entry
}

// listObjectsV2 takes as a token the key behind which the page before ended.
func (c *call) listObjectsV2() error {
	if c.q.get("list-type") != "2" {
		return refuse("InvalidArgument", "list-type must be 2")
	}
	after, err := c.token()
	if err != nil {
		return err
	}
	l, page, e, err := c.page(cmp.Or(after, c.q.get("start-after")))
	if err != nil {
		return err
	}
	out := listV2{list: l, StartAfter: e.optional(c.q.get("start-after")), KeyCount: len(page.Objects) + len(page.Prefixes)}
	if c.q.has("continuation-token") {
		out.ContinuationToken = ptr(c.q.get("continuation-token"))
	}
	out.NextContinuationToken = newToken(page.Cursor)
	for _, o := range page.Objects {
		out.Contents = append(out.Contents, newEntry(o, e))
		if c.q.get("fetch-owner") == "true" {
			out.Contents[len(out.Contents)-1].Owner = &self
		}
	}
	return c.ok(out)
}

type listVersions struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListVersionsResult"`
	list
	KeyMarker           text
	VersionIDMarker     string  `xml:"VersionIdMarker"`
	NextKeyMarker       *text   //
	NextVersionIDMarker string  `xml:"NextVersionIdMarker,omitempty"`
	Version             []entry //
}

// listObjectVersions shows each object as its one version, as S3 does of a bucket that has none.
func (c *call) listObjectVersions() error {
	l, page, e, err := c.page(c.q.get("key-marker"))
	if err != nil {
		return err
	}
	out := listVersions{list: l, KeyMarker: e(c.q.get("key-marker")), VersionIDMarker: c.q.get("version-id-marker"), NextKeyMarker: e.optional(page.Cursor)}
	if l.IsTruncated {
		out.NextVersionIDMarker = "null"
	}
	for _, o := range page.Objects {
		v := newEntry(o, e)
		v.VersionID, v.IsLatest, v.Owner = "null", true, &self
		out.Version = append(out.Version, v)
	}
	return c.ok(out)
}
