package s3

import (
	"encoding/xml"
	"net/http"
	"slices"
	"time"

	"github.com/cloudless/cloudless/api"
)

type lifecycle struct {
	XMLName xml.Name        `xml:"http://s3.amazonaws.com/doc/2006-03-01/ LifecycleConfiguration"`
	Rules   []lifecycleRule `xml:"Rule"`
}

type lifecycleRule struct {
	ID         string `xml:",omitempty"`
	Status     string
	Prefix     *string // of old clients: now it is in Filter
	Filter     *lifecycleFilter
	Expiration *lifecycleExpiration
	Abort      *lifecycleAbort `xml:"AbortIncompleteMultipartUpload"`
	// What is here is refused.
	Transition           []notBuilt
	NoncurrentExpiration []notBuilt `xml:"NoncurrentVersionExpiration"`
	NoncurrentTransition []notBuilt `xml:"NoncurrentVersionTransition"`
}

// lifecycleFilter is one condition, or several in And.
type lifecycleFilter struct {
	lifecycleConditions
	And *lifecycleConditions
}

type lifecycleConditions struct {
	Prefix  *string
	Tags    []tag  `xml:"Tag"`
	Greater *int64 `xml:"ObjectSizeGreaterThan"`
	Less    *int64 `xml:"ObjectSizeLessThan"`
}

func (c *lifecycleConditions) number() int {
	n := len(c.Tags)
	for _, there := range []bool{c.Prefix != nil, c.Greater != nil, c.Less != nil} {
		if there {
			n++
		}
	}
	return n
}

type lifecycleExpiration struct {
	Days   int    `xml:",omitempty"`
	Date   string `xml:",omitempty"`
	Marker bool   `xml:"ExpiredObjectDeleteMarker,omitempty"`
}

type lifecycleAbort struct {
	Days int `xml:"DaysAfterInitiation"`
}

// notBuilt is an element that is looked for only to refuse it.
type notBuilt struct{}

// rule reads a rule. What would be done otherwise than asked is refused.
func (r *lifecycleRule) rule() (api.LifecycleRule, error) {
	out := api.LifecycleRule{ID: r.ID, Disabled: r.Status == "Disabled"}
	switch {
	case r.Status != "Enabled" && r.Status != "Disabled":
		return out, refuse("MalformedXML", "the status of a rule is Enabled or Disabled")
	case len(r.Transition)+len(r.NoncurrentExpiration)+len(r.NoncurrentTransition) > 0:
		return out, refuse("NotImplemented", "rules move nothing to other storage classes, and there are no versions")
	}
	if err := r.filter(&out); err != nil {
		return out, err
	}
	if out.ID == "" {
		out.ID = api.NewID("rule") // as S3 does, so that the rule can be told from others
	}
	return out, r.actions(&out)
}

// filter reads which objects a rule is for.
func (r *lifecycleRule) filter(out *api.LifecycleRule) error {
	f := r.Filter
	if f == nil {
		f = &lifecycleFilter{lifecycleConditions: lifecycleConditions{Prefix: r.Prefix}}
	} else if r.Prefix != nil {
		return refuse("MalformedXML", "a rule has a filter or, of old, a prefix, not both")
	}
	all := &f.lifecycleConditions
	switch n := all.number(); {
	case n > 1, n > 0 && f.And != nil:
		return refuse("MalformedXML", "a filter has one condition; several go into And")
	case f.And != nil:
		all = f.And
	}
	if all.Prefix != nil {
		out.Prefix = *all.Prefix
	}
	var err error
	if out.Tags, err = tagsOf(all.Tags); err != nil {
		return err
	}
	if all.Greater != nil {
		if *all.Greater < 0 || *all.Greater >= api.MaxLifecycleBytes {
			return refuse("InvalidArgument", "ObjectSizeGreaterThan must be 0 to %d", int64(api.MaxLifecycleBytes)-1)
		}
		out.MinBytes = *all.Greater + 1
	}
	if all.Less != nil {
		if out.UnderBytes = *all.Less; out.UnderBytes < 1 {
			return refuse("InvalidArgument", "ObjectSizeLessThan must be at least 1")
		}
	}
	return nil
}

// actions reads what a rule does.
func (r *lifecycleRule) actions(out *api.LifecycleRule) error {
	if r.Abort != nil {
		if out.AbortDays = r.Abort.Days; out.AbortDays < 1 {
			return refuse("InvalidArgument", "'DaysAfterInitiation' for AbortIncompleteMultipartUpload action must be a positive integer")
		}
		if out.Filters() {
			return refuse("InvalidRequest", "AbortIncompleteMultipartUpload cannot be specified with tags or sizes: an upload has none yet")
		}
	}
	e := r.Expiration
	switch {
	case e == nil:
		return nil
	case e.Marker:
		return refuse("NotImplemented", "there are no versions, and so no delete markers")
	case e.Date != "":
		at, err := time.Parse(time.RFC3339, e.Date)
		if err != nil {
			at, err = time.Parse(time.DateOnly, e.Date)
		}
		if out.ExpireAt = at.UTC(); err != nil {
			return refuse("MalformedXML", "the date %q is not of the form 2006-01-02T00:00:00Z", e.Date)
		}
	case e.Days < 1:
		return refuse("InvalidArgument", "'Days' for Expiration action must be a positive integer")
	}
	out.ExpireDays = e.Days
	return nil
}

func newLifecycleRule(r api.LifecycleRule) lifecycleRule {
	out := lifecycleRule{ID: r.ID, Status: "Enabled", Filter: newLifecycleFilter(r)}
	if r.Disabled {
		out.Status = "Disabled"
	}
	if r.AbortDays > 0 {
		out.Abort = &lifecycleAbort{r.AbortDays}
	}
	if r.ExpireDays > 0 {
		out.Expiration = &lifecycleExpiration{Days: r.ExpireDays}
	} else if !r.ExpireAt.IsZero() {
		out.Expiration = &lifecycleExpiration{Date: isoTime(r.ExpireAt)}
	}
	return out
}

func newLifecycleFilter(r api.LifecycleRule) *lifecycleFilter {
	all := lifecycleConditions{Tags: newTagging(r.Tags).Tags}
	if r.Prefix != "" || !r.Filters() {
		all.Prefix = &r.Prefix
	}
	if r.MinBytes > 0 {
		all.Greater = ptr(r.MinBytes - 1)
	}
	if r.UnderBytes > 0 {
		all.Less = &r.UnderBytes
	}
	if all.number() > 1 {
		return &lifecycleFilter{And: &all}
	}
	return &lifecycleFilter{lifecycleConditions: all}
}

func (c *call) getLifecycle() error {
	b, err := c.readBucket()
	if err != nil {
		return err
	}
	if len(b.Lifecycle) == 0 {
		return refuse("NoSuchLifecycleConfiguration", "the lifecycle configuration does not exist")
	}
	var out lifecycle
	for _, r := range b.Lifecycle {
		out.Rules = append(out.Rules, newLifecycleRule(r))
	}
	return c.ok(out)
}

func (c *call) putLifecycle() error {
	var in struct {
		XMLName xml.Name        `xml:"LifecycleConfiguration"`
		Rules   []lifecycleRule `xml:"Rule"`
	}
	if err := c.document(&in); err != nil {
		return err
	}
	if len(in.Rules) == 0 {
		return refuse("MalformedXML", "a lifecycle configuration has at least one rule")
	}
	var rules []api.LifecycleRule
	for i := range in.Rules {
		r, err := in.Rules[i].rule()
		if err != nil {
			return err
		}
		if slices.ContainsFunc(rules, func(other api.LifecycleRule) bool { return other.ID == r.ID }) {
			return refuse("InvalidArgument", "rule ID must be unique. Found same ID for more than one rule")
		}
		rules = append(rules, r)
	}
	return c.changeBucket(http.StatusOK, func(b *api.Bucket) { b.Lifecycle = rules })
}

func (c *call) deleteLifecycle() error {
	return c.changeBucket(http.StatusNoContent, func(b *api.Bucket) { b.Lifecycle = nil })
}
