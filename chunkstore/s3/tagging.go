package s3

import (
	"encoding/xml"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
)

type tagging struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ Tagging"`
	Tags    []tag    `xml:"TagSet>Tag"`
}

type tag struct{ Key, Value string }

func newTagging(tags map[string]string) tagging {
	var out tagging
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		out.Tags = append(out.Tags, tag{key, tags[key]})
	}
	return out
}

type taggingRequest struct {
	XMLName xml.Name `xml:"Tagging"`
	Tags    []tag    `xml:"TagSet>Tag"`
}

// readTags reads tags from the body.
func (c *call) readTags() (map[string]string, error) {
	var in taggingRequest
	if err := c.document(&in); err != nil {
		return nil, err
	}
	return tagsOf(in.Tags)
}

// tagsOfDocument reads them from a field of a form.
func tagsOfDocument(data []byte) (map[string]string, error) {
	var in taggingRequest
	if err := xml.Unmarshal(data, &in); err != nil {
		return nil, badXML()
	}
	return tagsOf(in.Tags)
}

func tagsOf(list []tag) (map[string]string, error) {
	tags := map[string]string{}
	for _, t := range list {
		if _, twice := tags[t.Key]; twice {
			return nil, refuse("InvalidTag", "cannot provide multiple tags with the same key")
		}
		tags[t.Key] = t.Value
	}
	return tags, nil
}

// tagsOfHeader reads the tags that come with an object.
func tagsOfHeader(text string) (map[string]string, error) {
	if text == "" {
		return nil, nil
	}
	values, err := url.ParseQuery(text)
	if err != nil {
		return nil, refuse("InvalidArgument", "the header x-amz-tagging must be encoded as a query")
	}
	tags := map[string]string{}
	for key, v := range values {
		if len(v) > 1 {
			return nil, refuse("InvalidTag", "cannot provide multiple tags with the same key")
		}
		tags[key] = v[0]
	}
	return tags, nil
}

func (c *call) getTagging() error {
	o, err := c.d.backend.Stat(c.ctx(), c.bucket, c.key)
	if err != nil {
		return err
	}
	return c.ok(newTagging(o.Tags))
}

func (c *call) putTagging() error {
	tags, err := c.readTags()
	if err != nil {
		return err
	}
	return c.setTags(tags, http.StatusOK)
}

func (c *call) deleteTagging() error { return c.setTags(nil, http.StatusNoContent) }

func (c *call) setTags(tags map[string]string, status int) error {
	if _, err := c.apply(meta.Command{SetTags: &meta.SetTags{Bucket: c.bucket, Key: c.key, Tags: tags}}); err != nil {
		return err
	}
	return c.respond(status)
}

func (c *call) getBucketTagging() error {
	b, err := c.readBucket()
	if err != nil {
		return err
	}
	if len(b.Tags) == 0 {
		return refuse("NoSuchTagSet", "the TagSet does not exist")
	}
	return c.ok(newTagging(b.Tags))
}

func (c *call) putBucketTagging() error {
	tags, err := c.readTags()
	if err != nil {
		return err
	}
	if err := api.CheckTags(tags, api.MaxBucketTags); err != nil {
		return err
	}
	return c.changeBucket(http.StatusOK, func(b *api.Bucket) { b.Tags = tags })
}

func (c *call) deleteBucketTagging() error {
	return c.changeBucket(http.StatusNoContent, func(b *api.Bucket) { b.Tags = nil })
}
