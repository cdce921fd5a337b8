package oci

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	tasks "github.com/containerd/containerd/api/types"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// tree makes a folder with these files.
func tree(t *testing.T, files map[string]string) string {
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		must(os.MkdirAll(filepath.Dir(path), 0o755))
		must(os.WriteFile(path, []byte(text), 0o600))
	}
	return root
}

// Both layouts of cgroups, as kernels lay them out: one folder a controller (v1), or one tree (v2).
func TestCgroupLayouts(t *testing.T) {
	group := cgroupPath("n-1", "n-1-r-1")
	for name, tt := range map[string]struct {
		files map[string]string
		kills int
		known bool
		swap  bool
	}{
		"v1": {map[string]string{
			"memory" + group + "/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", "memory/memory.memsw.limit_in_bytes": "1",
		}, 2, true, true},
		"v1 without accounting of swap": {map[string]string{"memory" + group + "/memory.oom_control": "oom_kill 0\n"}, 0, true, false},
		"v2": {map[string]string{
			group + "/memory.events": "low 0\nhigh 0\nmax 7\noom 3\noom_kill 3\n", "system.slice/memory.swap.max": "max",
		}, 3, true, true},
		"v2 without accounting of swap": {map[string]string{group + "/memory.events": "oom_kill 0\n"}, 0, true, false},
		"hybrid": {map[string]string{
			"unified" + group + "/cgroup.procs": "1", "memory" + group + "/memory.oom_control": "oom_kill 1\n", "memory/memory.memsw.limit_in_bytes": "1",
		}, 1, true, true},
		"none": {nil, 0, false, false},
	} {
		root := tree(t, tt.files)
		if kills, known := oomKills(root, group); kills != tt.kills || known != tt.known {
			t.Errorf("%s: %d kills, known %v; want %d, %v", name, kills, known, tt.kills, tt.known)
		}
		if got := swapAccounted(root); got != tt.swap {
			t.Errorf("%s: swap is accounted: %v, want %v", name, got, tt.swap)
		}
	}
}

// The node's own parent groups go from every hierarchy; those in use, and other nodes', stay.
func TestCgroupsAreRemoved(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"memory/cloudless/n-1", "cpu,cpuacct/cloudless/n-1", "cloudless/n-1", "pids/cloudless/n-1/n-1-r-1", "memory/cloudless/n-2"} {
		must(os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	removeCgroups(root, "n-1")
	for dir, want := range map[string]bool{
		"memory/cloudless/n-1": false, "cpu,cpuacct/cloudless/n-1": false, "cloudless/n-1": false, "pids/cloudless/n-1/n-1-r-1": true, "memory/cloudless/n-2": true,
	} {
		if _, err := os.Stat(filepath.Join(root, dir)); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", dir, err == nil, want)
		}
	}
}

// What containerd tells of either version is the same in our words.
func TestUsageOfBothVersions(t *testing.T) {
	want := sandbox.Usage{CPUTime: 1500 * time.Millisecond, Memory: 60}
	for name, m := range map[string]any{
		"v1": &v1.Metrics{CPU: &v1.CPUStat{Usage: &v1.CPUUsage{Total: 1_500_000_000}}, Memory: &v1.MemoryStat{Usage: &v1.MemoryEntry{Usage: 100}, TotalInactiveFile: 40}},
		"v2": &v2.Metrics{CPU: &v2.CPUStat{UsageUsec: 1_500_000}, Memory: &v2.MemoryStat{Usage: 100, InactiveFile: 40}},
	} {
		data := must1(typeurl.MarshalAnyToProto(m))
		if got, err := usage(&tasks.Metric{Data: data}); got != want || err != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	_, err := usage(&tasks.Metric{Data: &anypb.Any{TypeUrl: "some.other/Metrics"}})
	wantError(t, err, api.CodeInternal, "metrics of the container")
}
