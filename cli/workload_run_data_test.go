package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
)

// What run gives a workload to keep its data in is what a manifest would say.
func TestRunNamesVolumesAndBuckets(t *testing.T) {
	got, err := volumes([]string{"assets:/assets:ro", "uploads:/up", "in:/in:rw", "/scratch:100Mi"})
	want := []api.Volume{{Bucket: "assets", Path: "/assets", ReadOnly: true}, {Bucket: "uploads", Path: "/up"}, {Bucket: "in", Path: "/in"}, {Name: "volume-4", Path: "/scratch", Size: 100 << 20}}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(d, err)
	}
	grants, err := bucketGrants([]string{"sessions", "carts:rw", "prices:ro"})
	if d := cmp.Diff([]api.BucketGrant{{Bucket: "sessions", Access: api.AccessReadOnly}, {Bucket: "carts", Access: api.AccessReadWrite}, {Bucket: "prices", Access: api.AccessReadOnly}}, grants); d != "" || err != nil {
		t.Error(d, err)
	}
}

func TestRunRefusesVolumesThatCannotBe(t *testing.T) {
	s := newSession(t)
	file := s.file("hello.wasm", module)
	for words, why := range map[[2]string]string{
		{"--volume", "assets"}:          `is not BUCKET:/PATH[:ro]`,
		{"--volume", ":/data"}:          `is not BUCKET:/PATH[:ro]`,
		{"--volume", "a:/b:ro:x"}:       `is not BUCKET:/PATH[:ro]`,
		{"--volume", "assets:/a:write"}: `"write" is neither ro nor rw`,
		{"--volume", "/data"}:           `needs a size`,
		{"--volume", "/data:much"}:      `"much"`,
		{"--volume", "assets:data"}:     `"data" is not an absolute path`,
		{"--volume", "A:/data"}:         `spec.volumes[0].bucket`,
		{"--volume", "/data:1"}:         `spec.volumes[0].size`,
		{"--bucket", "assets:all"}:      `"all" is neither ro nor rw`,
		{"--bucket", ""}:                `spec.buckets[0].bucket`,
	} {
		s.want(2, "", why, "run", file, words[0], words[1])
	}
	s.want(2, "", "spec.buckets", "run", "registry.example/app:1", "--bucket", "assets")
}
