package coordinator

import (
	"fmt"
	"testing"

	"github.com/cloudless/cloudless/api"
)

func TestBucketsAreListedInPages(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	s := c.servers[0]
	if err := s.ensureArtifacts(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"two", "one", "three"} {
		if _, err := s.PutBucket(t.Context(), admin, api.Bucket{Name: name}, true, 0); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	cursor := ""
	for range 2 {
		page, err := s.Buckets(t.Context(), api.ListQuery{Limit: 2, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range page.Items {
			names = append(names, b.Name)
		}
		cursor = page.Cursor
	}
	if fmt.Sprint(names) != "[artifacts one three two]" || cursor != "" {
		t.Errorf("%v, then %q", names, cursor)
	}
	if _, err := s.PutBucket(t.Context(), admin, api.Bucket{Name: "one"}, true, 0); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("a bucket was made twice: %v", err)
	}
	for _, name := range []string{"one", "four"} { // settings apply to what is there, and make what is not
		b, err := s.PutBucket(t.Context(), admin, api.Bucket{Name: name, Replicas: 2}, false, 0)
		if err != nil || b.Replicas != 2 {
			t.Errorf("%s: %+v, %v", name, b, err)
		}
	}
	if _, err := s.PutBucket(t.Context(), admin, api.Bucket{Name: "five"}, false, 7); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("a bucket that is not there was changed at an index: %v", err)
	}
	if err := s.DeleteBucket(t.Context(), admin, "four", 0); err != nil {
		t.Error(err)
	}
	if _, err := s.Bucket(t.Context(), "four"); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("the bucket is still there: %v", err)
	}
}
