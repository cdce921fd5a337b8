package s3

import (
	"encoding/xml"
	"net/http"
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

type lifecycleFilter struct {
	Prefix  *string
	And     []notBuilt
	Tag     []notBuilt
	Greater []notBuilt `xml:"ObjectSizeGreaterThan"`
	Less    []notBuilt `xml:"ObjectSizeLessThan"`
}

type lifecycleExpiration struct {
	Days   int        `xml:",omitempty"`
	Date   string     `xml:",omitempty"`
	Marker []notBuilt `xml:"ExpiredObjectDeleteMarker"`
}

type lifecycleAbort struct {
	Days int `xml:"DaysAfterInitiation"`
}

// notBuilt is an element that is looked for only to refuse it.
type notBuilt struct{}

// rule reads a rule. What would be done otherwise than asked is refused.
func (r *lifecycleRule) rule() (api.LifecycleRule, error) {
	out := api.LifecycleRule{ID: r.ID, Disabled: r.Status == "Disabled"}
	f := r.Filter
	switch {
	case r.Status != "Enabled" && r.Status != "Disabled":
		return out, refuse("MalformedXML", "the status of a rule is Enabled or Disabled")
	case len(r.Transition)+len(r.NoncurrentExpiration)+len(r.NoncurrentTransition) > 0:
		return out, refuse("NotImplemented", "rules move nothing to other storage classes, and there are no versions")
	case f != nil && len(f.And)+len(f.Tag)+len(f.Greater)+len(f.Less) > 0:
		return out, refuse("NotImplemented", "rules are for a prefix, not for tags or sizes")
	case f != nil && f.Prefix != nil:
		out.Prefix = *f.Prefix
	case r.Prefix != nil:
		out.Prefix = *r.Prefix
	}
	if r.Abort != nil {
		out.AbortDays = r.Abort.Days
	}
	e := r.Expiration
	switch {
	case e == nil:
		return out, nil
	case len(e.Marker) > 0:
		return out, refuse("NotImplemented", "there are no versions, and so no delete markers")
	case e.Date != "":
		at, err := time.Parse(time.RFC3339, e.Date)
		if out.ExpireAt = at.UTC(); err != nil {
			return out, refuse("MalformedXML", "the date %q is not of the form 2006-01-02T00:00:00Z", e.Date)
		}
	case e.Days < 1:
		return out, refuse("InvalidArgument", "'Days' for Expiration action must be a positive integer")
	}
	out.ExpireDays = e.Days
	return out, nil
}

func newLifecycleRule(r api.LifecycleRule) lifecycleRule {
	out := lifecycleRule{ID: r.ID, Status: "Enabled", Filter: &lifecycleFilter{Prefix: &r.Prefix}}
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
		rules = append(rules, r)
	}
	return c.changeBucket(http.StatusOK, func(b *api.Bucket) { b.Lifecycle = rules })
}

func (c *call) deleteLifecycle() error {
	return c.changeBucket(http.StatusNoContent, func(b *api.Bucket) { b.Lifecycle = nil })
}
