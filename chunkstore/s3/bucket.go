package s3

import (
	"encoding/xml"
	"net/http"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
)

// isoTime is a time as S3's documents have it.
func isoTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

type owner struct {
	ID          string
	DisplayName string
}

var self = owner{ownerID, ownerID}

type bucketList struct {
	XMLName xml.Name      `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListAllMyBucketsResult"`
	Owner   owner         `xml:"Owner"`
	Buckets []bucketEntry `xml:"Buckets>Bucket"`
	Prefix  string        `xml:",omitempty"`
	Token   string        `xml:"ContinuationToken,omitempty"`
}

type bucketEntry struct {
	Name         string
	CreationDate string
}

// listBuckets shows a key of one bucket that one alone. A token is the name behind which the page before ended.
func (c *call) listBuckets() error {
	most, err := number(c.q.get("max-buckets"), "max-buckets", api.MaxBuckets, api.MaxBuckets)
	if err == nil && most == 0 {
		err = refuse("InvalidArgument", "max-buckets must be at least 1")
	}
	if err != nil {
		return err
	}
	after, err := c.token()
	if err != nil {
		return err
	}
	a, err := c.read(meta.Query{Buckets: true})
	if err != nil {
		return err
	}
	out, last := bucketList{Owner: self, Prefix: c.q.get("prefix")}, ""
	for _, b := range a.Buckets {
		if b.Name <= after || !strings.HasPrefix(b.Name, out.Prefix) || c.opens(b.Name) != nil {
			continue
		}
		if len(out.Buckets) == most {
			out.Token = newToken(last)
			break
		}
		out.Buckets, last = append(out.Buckets, bucketEntry{b.Name, isoTime(b.CreatedAt)}), b.Name
	}
	return c.ok(out)
}

func (c *call) createBucket() error {
	if err := c.refuseGrants(); err != nil {
		return err
	}
	if c.r.Header.Get("X-Amz-Bucket-Object-Lock-Enabled") == "true" {
		return refuse("NotImplemented", "object lock is not implemented")
	}
	var in struct { // any LocationConstraint will do: there is one region
		Tags []tag      `xml:"Tags>Tag"`
		Kind []notBuilt `xml:"Bucket"`
	}
	if c.r.ContentLength != 0 {
		if err := c.document(&in); err != nil {
			return err
		}
	}
	if len(in.Kind) > 0 {
		return refuse("NotImplemented", "there are no buckets of other kinds")
	}
	tags, err := tagsOf(in.Tags)
	if err != nil {
		return err
	}
	if _, err := c.apply(meta.Command{CreateBucket: &api.Bucket{Name: c.bucket, Tags: tags}}); err != nil {
		return err
	}
	c.w.Header().Set("Location", "/"+c.bucket)
	return c.respond(http.StatusOK)
}

func (c *call) headBucket() error {
	if _, err := c.readBucket(); err != nil {
		return err
	}
	c.w.Header().Set("X-Amz-Bucket-Region", c.sig.region)
	return c.respond(http.StatusOK)
}

func (c *call) deleteBucket() error {
	if _, err := c.apply(meta.Command{DeleteBucket: &meta.DeleteBucket{Name: c.bucket}}); err != nil {
		return err
	}
	return c.respond(http.StatusNoContent)
}

// changeTries is how often a bucket's settings are read and written again when somebody else changed them
// in between.
const changeTries = 5

// changeBucket changes a bucket's settings, and answers with status.
func (c *call) changeBucket(status int, change func(*api.Bucket)) error {
	for try := 1; ; try++ {
		b, err := c.readBucket()
		if err != nil {
			return err
		}
		next := *b
		change(&next)
		_, err = c.apply(meta.Command{UpdateBucket: &meta.UpdateBucket{Bucket: next, IfMatch: b.ModifyIndex}})
		switch {
		case api.ReasonOf(err) == api.ReasonPrecondition && try < changeTries:
		case err != nil:
			return err
		default:
			return c.respond(status)
		}
	}
}
