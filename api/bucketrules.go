package api

import (
	"slices"
	"strings"
	"time"
)

// Limits of a bucket's rules.
const (
	MaxLifecycleRules = 100
	MaxLifecycleDays  = 36_500
	MaxLifecycleBytes = 1 << 50 // more than any object has
	MaxCORSRules      = 100
	MaxCORSBytes      = 64 << 10 // of all names in all rules
	MaxCORSAge        = 24 * 60 * 60
	MaxRuleIDLen      = 255
	MaxBucketTags     = 50
)

// LifecycleRule lets objects and unfinished uploads go by themselves. Zero values do nothing.
type LifecycleRule struct {
	ID         string            `json:"id,omitempty"`
	Prefix     string            `json:"prefix,omitempty"`     // of the keys that it is for
	Tags       map[string]string `json:"tags,omitempty"`       // that an object it is for has, all of them
	MinBytes   int64             `json:"minBytes,omitempty"`   // that an object it is for has at least
	UnderBytes int64             `json:"underBytes,omitempty"` // that it has less than; 0: any number
	Disabled   bool              `json:"disabled,omitempty"`
	ExpireDays int               `json:"expireDays,omitempty"` // after which an object goes
	ExpireAt   time.Time         `json:"expireAt,omitzero"`    // from which on every object goes
	AbortDays  int               `json:"abortDays,omitempty"`  // after which an upload that is not completed goes
}

// CORSRule lets pages of other origins use a bucket. One * in an origin or header stands for any text.
type CORSRule struct {
	ID            string   `json:"id,omitempty"`
	Origins       []string `json:"origins"`
	Methods       []string `json:"methods"`
	Headers       []string `json:"headers,omitempty"` // that requests may have
	ExposeHeaders []string `json:"exposeHeaders,omitempty"`
	MaxAgeSeconds int      `json:"maxAgeSeconds,omitempty"` // for which a browser may remember it
}

// Covers tells whether the rule is for a key.
func (r *LifecycleRule) Covers(key string) bool {
	return !r.Disabled && strings.HasPrefix(key, r.Prefix)
}

// CoversObject tells whether the rule is for an object.
func (r *LifecycleRule) CoversObject(o *Object) bool {
	if !r.Covers(o.Key) || o.Size < r.MinBytes || r.UnderBytes > 0 && o.Size >= r.UnderBytes {
		return false
	}
	for key, want := range r.Tags {
		if value, ok := o.Tags[key]; !ok || value != want {
			return false
		}
	}
	return true
}

// Filters tells whether the rule is not for all objects of its prefix.
func (r *LifecycleRule) Filters() bool {
	return len(r.Tags) > 0 || r.MinBytes != 0 || r.UnderBytes != 0
}

func (v *validator) lifecycle(rules []LifecycleRule) {
	v.check(len(rules) <= MaxLifecycleRules, "lifecycle", "has %d rules, at most %d are allowed", len(rules), MaxLifecycleRules)
	for i := range rules {
		r := &rules[i]
		v.check(len(r.ID) <= MaxRuleIDLen, "lifecycle", "the id of a rule has %d bytes, at most %d are allowed", len(r.ID), MaxRuleIDLen)
		v.check(len(r.Prefix) <= MaxObjectKeyBytes, "lifecycle", "a prefix has %d bytes, at most %d are allowed", len(r.Prefix), MaxObjectKeyBytes)
		for _, days := range []int{r.ExpireDays, r.AbortDays} {
			v.check(days >= 0 && days <= MaxLifecycleDays, "lifecycle", "%d days, allowed are 1 to %d", days, MaxLifecycleDays)
		}
		v.check(r.ExpireDays == 0 || r.ExpireAt.IsZero(), "lifecycle", "a rule has either days or a date")
		v.check(r.MinBytes >= 0 && r.MinBytes <= MaxLifecycleBytes && r.UnderBytes >= 0 && r.UnderBytes <= MaxLifecycleBytes, "lifecycle", "%d to under %d bytes, allowed are 0 to %d", r.MinBytes, r.UnderBytes, int64(MaxLifecycleBytes))
		v.check(r.UnderBytes == 0 || r.UnderBytes >= r.MinBytes, "lifecycle", "no object has at least %d and less than %d bytes", r.MinBytes, r.UnderBytes)
		if err := CheckTags(r.Tags, MaxObjectTags); err != nil {
			v.add("lifecycle", "%s", err.Message)
		}
		v.check(r.AbortDays == 0 || !r.Filters(), "lifecycle", "an upload has neither tags nor size yet: a rule that ends uploads is for a prefix")
		v.check(r.ExpireDays > 0 || !r.ExpireAt.IsZero() || r.AbortDays > 0, "lifecycle", "a rule does nothing")
	}
}

func (v *validator) cors(rules []CORSRule) {
	v.check(len(rules) <= MaxCORSRules, "cors", "has %d rules, at most %d are allowed", len(rules), MaxCORSRules)
	total := 0
	for _, r := range rules {
		v.check(len(r.Origins) > 0 && len(r.Methods) > 0, "cors", "a rule needs an origin and a method")
		v.check(r.MaxAgeSeconds >= 0 && r.MaxAgeSeconds <= MaxCORSAge, "cors", "%d seconds, at most %d are allowed", r.MaxAgeSeconds, MaxCORSAge)
		for _, m := range r.Methods {
			v.oneOf("cors", m, "GET", "PUT", "POST", "DELETE", "HEAD")
		}
		for _, text := range slices.Concat(r.Origins, r.Headers) {
			v.check(strings.Count(text, "*") <= 1, "cors", "%q has more than one *", text)
		}
		for _, text := range slices.Concat([]string{r.ID}, r.Origins, r.Methods, r.Headers, r.ExposeHeaders) {
			total += len(text)
		}
	}
	v.check(total <= MaxCORSBytes, "cors", "has %d bytes, at most %d are allowed", total, MaxCORSBytes)
}
