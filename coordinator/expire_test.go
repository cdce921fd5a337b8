package coordinator

import (
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
)

// What a bucket's rules let go goes with nobody asking: objects by date, unfinished uploads by days; what
// no rule covers stays.
func TestRulesOfABucketAreCarriedOut(t *testing.T) {
	t.Parallel()
	s := openServer(t)
	eventually(t, "a leader", func() bool { return s.Ready(t.Context()) == nil })
	now := time.Now().UTC()
	ref := func(key string) meta.UploadRef { return meta.UploadRef{Bucket: "assets", Key: key, ID: "u1"} }
	results, err := s.applyMeta(t.Context(),
		meta.Command{At: now, CreateBucket: &api.Bucket{Name: "assets", Lifecycle: []api.LifecycleRule{{Prefix: "old/", ExpireAt: now.Add(-time.Hour), AbortDays: 1}}}},
		meta.Command{At: now, Put: &meta.Put{Bucket: "assets", Key: "old/a", Inline: []byte("x")}},
		meta.Command{At: now, Put: &meta.Put{Bucket: "assets", Key: "b", Inline: []byte("x")}},
		meta.Command{At: now, CreateUpload: &meta.CreateUpload{UploadRef: ref("old/c")}},
		meta.Command{At: now, CreateUpload: &meta.CreateUpload{UploadRef: ref("d")}},
	)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results.Results {
		if r.Err != nil {
			t.Fatalf("command %d: %v", i, r.Err)
		}
	}
	if err := s.expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]api.Reason{"old/a": api.ReasonNoObject, "b": ""} {
		if _, err := s.readMeta(t.Context(), meta.Query{Object: &meta.ObjectRef{Bucket: "assets", Key: key}}); api.ReasonOf(err) != want {
			t.Errorf("object %s: %v", key, err)
		}
	}
	for _, later := range []struct {
		hours time.Duration
		want  map[string]api.Reason
	}{{23, map[string]api.Reason{"old/c": "", "d": ""}}, {25, map[string]api.Reason{"old/c": api.ReasonNoUpload, "d": ""}}} {
		if err := s.expireUploads(t.Context(), "assets", now.Add(later.hours*time.Hour)); err != nil {
			t.Fatal(err)
		}
		for key, want := range later.want {
			r := ref(key)
			if _, err := s.readMeta(t.Context(), meta.Query{Upload: &r}); api.ReasonOf(err) != want {
				t.Errorf("upload %s after %d hours: %v", key, later.hours, err)
			}
		}
	}
}
