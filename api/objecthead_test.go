package api

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Each limit is tested below, at and above it: most gives what has that many.
func atLimits(t *testing.T, limit int, check func(n int) error) {
	t.Helper()
	for _, n := range []int{limit - 1, limit, limit + 1} {
		if err := check(n); (err == nil) != (n <= limit) {
			t.Errorf("%d of %d: %v", n, limit, err)
		}
	}
}

func headErr(h ObjectHead) error {
	if err := h.Check(); err != nil {
		return err
	}
	return nil
}

func tagsOf(n int) map[string]string {
	tags := map[string]string{}
	for i := range n {
		tags[fmt.Sprint("k", i)] = ""
	}
	return tags
}

func TestLimitsOfHeads(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	atLimits(t, MaxContentTypeLen, func(n int) error { return headErr(ObjectHead{ContentType: x(n)}) })
	atLimits(t, MaxObjectMetadataBytes, func(n int) error { return headErr(ObjectHead{Metadata: map[string]string{"n": x(n - 1)}}) })
	atLimits(t, MaxObjectTags, func(n int) error { return headErr(ObjectHead{Tags: tagsOf(n)}) })
	atLimits(t, MaxTagKeyLen, func(n int) error { return headErr(ObjectHead{Tags: map[string]string{strings.Repeat("ü", n): ""}}) })
	atLimits(t, MaxTagValueLen, func(n int) error { return headErr(ObjectHead{Tags: map[string]string{"k": strings.Repeat("ü", n)}}) })
	if headErr(ObjectHead{Tags: map[string]string{"": ""}}) == nil {
		t.Error("a tag without a key was taken")
	}
	for _, set := range []func(h *ObjectHead, v string){
		func(h *ObjectHead, v string) { h.CacheControl = v }, func(h *ObjectHead, v string) { h.ContentDisposition = v },
		func(h *ObjectHead, v string) { h.ContentEncoding = v }, func(h *ObjectHead, v string) { h.ContentLanguage = v }, func(h *ObjectHead, v string) { h.Expires = v },
	} {
		atLimits(t, MaxContentHeaderLen, func(n int) error {
			var h ObjectHead
			set(&h, x(n))
			return headErr(h)
		})
	}
}

func bucketErr(b Bucket) error {
	b.Name = "assets"
	b.Default()
	return b.Validate().Err()
}

func TestLimitsOfBucketRules(t *testing.T) {
	life := func(r LifecycleRule) error { return bucketErr(Bucket{Lifecycle: []LifecycleRule{r}}) }
	rule := func(r CORSRule) error { return bucketErr(Bucket{CORS: []CORSRule{r}}) }
	any := CORSRule{Origins: []string{"*"}, Methods: []string{"GET"}}
	atLimits(t, MaxBucketTags, func(n int) error { return bucketErr(Bucket{Tags: tagsOf(n)}) })
	atLimits(t, MaxLifecycleRules, func(n int) error {
		rules := make([]LifecycleRule, n)
		for i := range rules {
			rules[i].AbortDays = 1
		}
		return bucketErr(Bucket{Lifecycle: rules})
	})
	atLimits(t, MaxLifecycleDays, func(n int) error { return life(LifecycleRule{ExpireDays: n}) })
	atLimits(t, MaxLifecycleDays, func(n int) error { return life(LifecycleRule{AbortDays: n}) })
	atLimits(t, MaxLifecycleBytes, func(n int) error { return life(LifecycleRule{MinBytes: int64(n), ExpireDays: 1}) })
	atLimits(t, MaxLifecycleBytes, func(n int) error { return life(LifecycleRule{UnderBytes: int64(n), ExpireDays: 1}) })
	atLimits(t, MaxObjectTags, func(n int) error { return life(LifecycleRule{Tags: tagsOf(n), ExpireDays: 1}) })
	atLimits(t, MaxRuleIDLen, func(n int) error { return life(LifecycleRule{ID: strings.Repeat("x", n), ExpireDays: 1}) })
	atLimits(t, MaxObjectKeyBytes, func(n int) error { return life(LifecycleRule{Prefix: strings.Repeat("x", n), ExpireDays: 1}) })
	atLimits(t, MaxCORSRules, func(n int) error {
		rules := make([]CORSRule, n)
		for i := range rules {
			rules[i] = any
		}
		return bucketErr(Bucket{CORS: rules})
	})
	atLimits(t, MaxCORSAge, func(n int) error {
		r := any
		r.MaxAgeSeconds = n
		return rule(r)
	})
	atLimits(t, MaxCORSBytes, func(n int) error {
		r := any
		r.ID = strings.Repeat("x", n-len("*GET"))
		return rule(r)
	})
	for name, err := range map[string]error{
		"no origin": rule(CORSRule{Methods: []string{"GET"}}), "no method": rule(CORSRule{Origins: []string{"*"}}),
		"another method": rule(CORSRule{Origins: []string{"*"}, Methods: []string{"PATCH"}}), "two stars": rule(CORSRule{Origins: []string{"*.*"}, Methods: []string{"GET"}}),
		"nothing to do": life(LifecycleRule{Prefix: "a"}), "days and date": life(LifecycleRule{ExpireDays: 1, ExpireAt: time.Unix(1, 0)}), "no days": life(LifecycleRule{ExpireDays: -1}),
		"no such size": life(LifecycleRule{MinBytes: 2, UnderBytes: 1, ExpireDays: 1}), "negative": life(LifecycleRule{MinBytes: -1, ExpireDays: 1}), "uploads by size": life(LifecycleRule{MinBytes: 1, AbortDays: 1}),
	} {
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestARuleCoversItsPrefixUnlessDisabled(t *testing.T) {
	r := LifecycleRule{Prefix: "a/"}
	if !r.Covers("a/b") || r.Covers("a") {
		t.Error("a/ covers a/b and not a")
	}
	if r.Disabled = true; r.Covers("a/b") {
		t.Error("a disabled rule covers nothing")
	}
	r = LifecycleRule{Tags: map[string]string{"k": "v"}, MinBytes: 2, UnderBytes: 4}
	tags := map[string]string{"k": "v", "l": "w"}
	for name, test := range map[string]struct {
		o    Object
		want bool
	}{
		"least": {Object{Size: 2, ObjectHead: ObjectHead{Tags: tags}}, true}, "most": {Object{Size: 3, ObjectHead: ObjectHead{Tags: tags}}, true}, "too small": {Object{Size: 1, ObjectHead: ObjectHead{Tags: tags}}, false},
		"too large": {Object{Size: 4, ObjectHead: ObjectHead{Tags: tags}}, false}, "no tag": {Object{Size: 2}, false}, "another tag": {Object{Size: 2, ObjectHead: ObjectHead{Tags: map[string]string{"k": "w"}}}, false},
	} {
		if got := r.CoversObject(&test.o); got != test.want {
			t.Errorf("%s: covered %v", name, got)
		}
	}
}
