package api

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Limits of what a workload stores.
const (
	MaxVolumes          = 16
	MinVolumeBytes      = 1 << 20
	MaxVolumeBytes      = 1 << 40
	DefaultBucketVolume = 1 << 30 // what a mounted bucket may fill of a node when its volume names no size
	MaxVolumePathLen    = 1_024
	MaxBucketGrants     = 16
)

// Volume shows a folder to a replica. One with a Bucket shows what is in it; any other is a new folder of
// each replica, which goes with the replica.
type Volume struct {
	Name     string `json:"name,omitempty"`
	Bucket   string `json:"bucket,omitempty"`
	Path     string `json:"path"`
	Size     Bytes  `json:"size,omitzero"` // what may be in it
	ReadOnly bool   `json:"readOnly,omitempty"`
}

// Limit is how many bytes may be in the volume.
func (v *Volume) Limit() Bytes {
	if v.Size == 0 && v.Bucket != "" {
		return DefaultBucketVolume
	}
	return v.Size
}

// Shared tells whether the replicas of a node see one folder: a bucket that none of them writes to.
func (v *Volume) Shared() bool { return v.Bucket != "" && v.ReadOnly }

// Access to a bucket.
const (
	AccessReadOnly  = "readOnly"
	AccessReadWrite = "readWrite"
)

// BucketGrant lets a wasm guest reach a bucket by the functions kv_* and blob_*.
type BucketGrant struct {
	Bucket string `json:"bucket"`
	Access string `json:"access,omitempty"` // readOnly (default) | readWrite
}

// hiddenFolders are the kernel's: no volume may cover them.
var hiddenFolders = []string{"/proc", "/sys", "/dev"}

func (v *validator) volumes(s *WorkloadSpec) {
	v.check(len(s.Volumes) <= MaxVolumes, "spec.volumes", "has %d entries, at most %d are allowed", len(s.Volumes), MaxVolumes)
	names := map[string]bool{}
	for i := range s.Volumes {
		vol, at := &s.Volumes[i], fmt.Sprintf("spec.volumes[%d]", i)
		if vol.Bucket == "" {
			v.ephemeral(at, vol)
		} else if err := bucketNameFault(vol.Bucket); err != "" {
			v.add(at+".bucket", "%q %s", vol.Bucket, err)
		}
		if vol.Name != "" {
			v.name(at+".name", vol.Name)
			v.check(!names[vol.Name], at+".name", "%q is used twice", vol.Name)
			names[vol.Name] = true
		}
		v.check(vol.Size == 0 || vol.Size >= MinVolumeBytes && vol.Size <= MaxVolumeBytes, at+".size", "%s is not between %s and %s", vol.Size, Bytes(MinVolumeBytes), Bytes(MaxVolumeBytes))
		v.mountPoint(at+".path", vol.Path)
		for j := range s.Volumes[:i] {
			v.check(!overlap(vol.Path, s.Volumes[j].Path), at+".path", "%q and %q of spec.volumes[%d] lie in one another", vol.Path, s.Volumes[j].Path, j)
		}
	}
}

func (v *validator) ephemeral(at string, vol *Volume) {
	v.check(vol.Name != "", at, "has neither bucket nor name: name the bucket to mount, or the volume to make")
	v.check(vol.Size != 0, at+".size", "is missing: say how much may be in the volume, such as 100Mi")
	v.check(!vol.ReadOnly, at+".readOnly", "is for buckets: a new volume that nobody may write to stays empty")
}

// mountPoint checks where a volume is shown.
func (v *validator) mountPoint(at, p string) {
	switch {
	case !strings.HasPrefix(p, "/") || path.Clean(p) != p || p == "/":
		v.add(at, "%q is not an absolute path such as /data", p)
	case len(p) > MaxVolumePathLen || strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f }):
		v.add(at, "is longer than %d bytes, or has control characters", MaxVolumePathLen)
	}
	for _, hidden := range hiddenFolders {
		v.check(!overlap(p, hidden), at, "%q would cover %s, which is the kernel's", p, hidden)
	}
}

// overlap tells whether one path is the other, or lies in it.
func overlap(a, b string) bool {
	return a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
}

func (v *validator) buckets(s *WorkloadSpec) {
	v.check(len(s.Buckets) <= MaxBucketGrants, "spec.buckets", "has %d entries, at most %d are allowed", len(s.Buckets), MaxBucketGrants)
	v.check(len(s.Buckets) == 0 || s.Wasm != nil, "spec.buckets", "is for wasm guests: mount a bucket into a container with spec.volumes, or let it use the S3 door")
	for i, g := range s.Buckets {
		at := fmt.Sprintf("spec.buckets[%d]", i)
		if why := bucketNameFault(g.Bucket); why != "" {
			v.add(at+".bucket", "%q %s", g.Bucket, why)
		}
		v.oneOf(at+".access", g.Access, AccessReadOnly, AccessReadWrite)
		v.check(slices.IndexFunc(s.Buckets, func(o BucketGrant) bool { return o.Bucket == g.Bucket }) == i, at+".bucket", "%q is there twice", g.Bucket)
	}
}
