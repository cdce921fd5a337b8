package api

import (
	"strings"
	"testing"
)

// A volume is a bucket or a new folder with a size, at a place of its own; everything else is refused, and
// the field named.
func TestVolumesAreChecked(t *testing.T) {
	data := func(change func(*Volume)) []Volume {
		v := Volume{Name: "data", Path: "/data", Size: MinVolumeBytes}
		change(&v)
		return []Volume{v}
	}
	for name, tt := range map[string]struct {
		volumes []Volume
		path    string // of the one error; "" for none
	}{
		"new":                 {data(func(*Volume) {}), ""},
		"the largest":         {data(func(v *Volume) { v.Size = MaxVolumeBytes }), ""},
		"too large":           {data(func(v *Volume) { v.Size = MaxVolumeBytes + 1 }), "spec.volumes[0].size"},
		"too small":           {data(func(v *Volume) { v.Size = MinVolumeBytes - 1 }), "spec.volumes[0].size"},
		"without a size":      {data(func(v *Volume) { v.Size = 0 }), "spec.volumes[0].size"},
		"without a name":      {data(func(v *Volume) { v.Name = "" }), "spec.volumes[0]"},
		"with a wrong name":   {data(func(v *Volume) { v.Name = "No" }), "spec.volumes[0].name"},
		"new and read-only":   {data(func(v *Volume) { v.ReadOnly = true }), "spec.volumes[0].readOnly"},
		"a bucket":            {[]Volume{{Bucket: "assets", Path: "/a"}}, ""},
		"a bucket to read":    {[]Volume{{Bucket: "assets", Path: "/a/b", ReadOnly: true}}, ""},
		"no bucket's name":    {[]Volume{{Bucket: "As", Path: "/a"}}, "spec.volumes[0].bucket"},
		"two":                 {append(data(func(*Volume) {}), Volume{Bucket: "assets", Path: "/dat"}), ""},
		"two of one name":     {append(data(func(*Volume) {}), Volume{Name: "data", Bucket: "assets", Path: "/b"}), "spec.volumes[1].name"},
		"two at one path":     {append(data(func(*Volume) {}), Volume{Bucket: "assets", Path: "/data"}), "spec.volumes[1].path"},
		"one in another":      {append(data(func(*Volume) {}), Volume{Bucket: "assets", Path: "/data/x"}), "spec.volumes[1].path"},
		"over everything":     {data(func(v *Volume) { v.Path = "/" }), "spec.volumes[0].path"},
		"relative":            {data(func(v *Volume) { v.Path = "data" }), "spec.volumes[0].path"},
		"not clean":           {data(func(v *Volume) { v.Path = "/a/../b" }), "spec.volumes[0].path"},
		"with a line in it":   {data(func(v *Volume) { v.Path = "/a\nb" }), "spec.volumes[0].path"},
		"the longest path":    {data(func(v *Volume) { v.Path = "/" + strings.Repeat("x", MaxVolumePathLen-1) }), ""},
		"a longer path":       {data(func(v *Volume) { v.Path = "/" + strings.Repeat("x", MaxVolumePathLen) }), "spec.volumes[0].path"},
		"over what is /proc":  {data(func(v *Volume) { v.Path = "/proc" }), "spec.volumes[0].path"},
		"in what is /dev":     {data(func(v *Volume) { v.Path = "/dev/shm" }), "spec.volumes[0].path"},
		"beside what is /sys": {data(func(v *Volume) { v.Path = "/system" }), ""},
	} {
		errs := wasmWorkload(func(w *Workload) { w.Spec.Volumes = tt.volumes }).Validate()
		if tt.path == "" && len(errs) > 0 || tt.path != "" && (len(errs) != 1 || errs[0].Path != tt.path) {
			t.Errorf("%s: %v", name, errs)
		}
	}
	many := make([]Volume, MaxVolumes+1)
	for i := range many {
		many[i] = Volume{Bucket: "assets", Path: "/v" + strings.Repeat("x", i)}
	}
	if errs := wasmWorkload(func(w *Workload) { w.Spec.Volumes = many[:MaxVolumes] }).Validate(); len(errs) > 0 {
		t.Error(errs)
	}
	if errs := wasmWorkload(func(w *Workload) { w.Spec.Volumes = many }).Validate(); len(errs) != 1 || errs[0].Path != "spec.volumes" {
		t.Error(errs)
	}
}

// Each bucket of a guest is named once, with what may be done there; a container has no functions to
// reach it by.
func TestBucketGrantsAreChecked(t *testing.T) {
	for name, tt := range map[string]struct {
		grants []BucketGrant
		path   string
	}{
		"to read":         {[]BucketGrant{{Bucket: "sessions"}}, ""},
		"to write":        {[]BucketGrant{{"sessions", AccessReadWrite}, {"assets", AccessReadOnly}}, ""},
		"a wrong name":    {[]BucketGrant{{Bucket: "S"}}, "spec.buckets[0].bucket"},
		"a wrong access":  {[]BucketGrant{{"sessions", "all"}}, "spec.buckets[0].access"},
		"twice":           {[]BucketGrant{{"sessions", AccessReadOnly}, {"sessions", AccessReadWrite}}, "spec.buckets[1].bucket"},
		"more than there": {manyGrants(MaxBucketGrants + 1), "spec.buckets"},
		"the most":        {manyGrants(MaxBucketGrants), ""},
	} {
		w := wasmWorkload(func(w *Workload) { w.Spec.Buckets = tt.grants })
		w.Default()
		errs := w.Validate()
		if tt.path == "" && len(errs) > 0 || tt.path != "" && (len(errs) != 1 || errs[0].Path != tt.path) {
			t.Errorf("%s: %v", name, errs)
		}
	}
	w := containerWorkload(func(w *Workload) { w.Spec.Buckets = manyGrants(1) })
	w.Default()
	if errs := w.Validate(); len(errs) != 1 || errs[0].Path != "spec.buckets" {
		t.Errorf("of a container: %v", errs)
	}
}

func manyGrants(n int) []BucketGrant {
	grants := make([]BucketGrant, n)
	for i := range grants {
		grants[i].Bucket = "bucket" + strings.Repeat("x", i)
	}
	return grants
}

// What a replica's volumes may fill is reserved, but for a folder that the replicas of a node share.
func TestVolumesAreReserved(t *testing.T) {
	s := wasmWorkload(func(w *Workload) {
		w.Spec.Resources.Storage = 1
		w.Spec.Volumes = []Volume{{Name: "a", Path: "/a", Size: 2 << 20}, {Bucket: "bbb", Path: "/b"}, {Bucket: "ccc", Path: "/c", ReadOnly: true}}
	}).Spec
	if got := s.Reserve(VariantWasm).Storage; got != 1+(2<<20)+DefaultBucketVolume {
		t.Error(got)
	}
}
