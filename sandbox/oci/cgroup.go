package oci

import (
	"bufio"
	"bytes"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	tasks "github.com/containerd/containerd/api/types"
	"github.com/containerd/typeurl/v2"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// cgroupRoot is where cgroups are mounted: below it are the controllers (v1) or the groups (v2). What
// reads it takes it as an argument, so that both layouts are tested on any machine.
const cgroupRoot = "/sys/fs/cgroup"

func cgroupPath(node, id string) string { return path.Join("/cloudless", node, id) }

// oomKills is how many processes of a cgroup the kernel has killed for memory. The cgroup lasts until
// the task is deleted, so it can be read after the exit: unlike an event it cannot be missed.
func oomKills(root, cgroup string) (int, bool) {
	for _, file := range []string{
		filepath.Join(root, cgroup, "memory.events"),                // v2
		filepath.Join(root, "memory", cgroup, "memory.oom_control"), // v1
	} {
		if text, err := os.ReadFile(file); err == nil {
			return oomKillCount(text)
		}
	}
	return 0, false
}

func oomKillCount(text []byte) (int, bool) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if n, ok := strings.CutPrefix(lines.Text(), "oom_kill "); ok {
			count, err := strconv.Atoi(n)
			return count, err == nil
		}
	}
	return 0, false
}

// swapAccounted tells whether a limit on swap can be set; Raspberry Pi kernels turn it off.
func swapAccounted(root string) bool {
	if _, err := os.Stat(filepath.Join(root, "memory", "memory.memsw.limit_in_bytes")); err == nil {
		return true
	}
	found, _ := filepath.Glob(filepath.Join(root, "*", "memory.swap.max")) // the pattern is well-formed
	return len(found) > 0
}

// removeCgroups removes the node's own parent cgroups; one that still holds a container stays.
func removeCgroups(root, node string) {
	parent := cgroupPath(node, "")
	hierarchies, _ := filepath.Glob(filepath.Join(root, "*", parent)) // the pattern is well-formed
	for _, dir := range append(hierarchies, filepath.Join(root, parent)) {
		os.Remove(dir) // fails while it is in use, or absent
	}
}

// usage reads what containerd tells of a cgroup. Memory leaves out the page cache that the kernel
// would give back, as "docker stats" does.
func usage(m *tasks.Metric) (sandbox.Usage, error) {
	data, err := typeurl.UnmarshalAny(m.Data)
	if err != nil {
		return sandbox.Usage{}, api.Errorf(api.CodeInternal, "metrics of the container: %w", err)
	}
	switch s := data.(type) {
	case *v1.Metrics:
		mem := s.GetMemory()
		return sandbox.Usage{CPUTime: time.Duration(s.GetCPU().GetUsage().GetTotal()),
			Memory: less(mem.GetUsage().GetUsage(), mem.GetTotalInactiveFile())}, nil
	case *v2.Metrics:
		mem := s.GetMemory()
		return sandbox.Usage{CPUTime: time.Duration(s.GetCPU().GetUsageUsec()) * time.Microsecond,
			Memory: less(mem.GetUsage(), mem.GetInactiveFile())}, nil
	}
	return sandbox.Usage{}, api.Errorf(api.CodeInternal, "metrics of the container are of unknown type %T", data)
}

func less(a, b uint64) int64 {
	if b > a {
		return 0
	}
	return int64(a - b)
}
