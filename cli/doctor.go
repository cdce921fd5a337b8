package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
)

// finding is what doctor says about one thing.
type finding struct {
	Check  string `json:"check"`
	Status string `json:"status"` // ok | warning | failed
	Detail string `json:"detail"`
}

func doctorCommand(e *Env) *cobra.Command {
	var dataDir string
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check this machine and the way to the cluster", Args: cobra.NoArgs,
		Example: "  cloudless doctor\n  cloudless doctor --data-dir /var/lib/cloudless",
		RunE: func(cmd *cobra.Command, _ []string) error {
			found := e.examine(cmd.Context(), dataDir)
			err := printList(e, api.List[finding]{Items: found}, view[finding]{
				name: func(f finding) string { return f.Check },
				columns: []column[finding]{
					{"CHECK", false, func(f finding) string { return f.Check }},
					{"STATUS", false, func(f finding) string { return f.Status }},
					{"DETAIL", false, func(f finding) string { return f.Detail }},
				},
			})
			for _, f := range found {
				if err == nil && f.Status == "failed" {
					return exitError(1)
				}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", ".", "folder whose disk and certificates are looked at")
	return cmd
}

// examine makes all checks: of this machine, then of the way to the cluster.
func (e *Env) examine(ctx context.Context, dataDir string) []finding {
	found := []finding{platform(), disk(dataDir), cgroups(), containerd(), freePorts(ctx)}
	c, err := e.connect()
	if err != nil {
		return append(found, certificates(nil, dataDir, e.Now()), finding{"cluster", "failed", err.Error()})
	}
	probes := c.Probes(ctx)
	found = append(found, clocks(probes), certificates(probes, dataDir, e.Now()))
	st, err := c.Status(ctx, 0, 0)
	if err == nil {
		found = append(found, reach(ctx, st.Coordinators))
	}
	return append(found, cluster(st, err))
}

func platform() finding {
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return finding{"platform", "warning", runtime.GOOS + "/" + runtime.GOARCH + ", kernel unknown: agents need Linux"}
	}
	return finding{"platform", "ok", runtime.GOOS + "/" + runtime.GOARCH + ", kernel " + strings.TrimSpace(string(kernel))}
}

// leastDisk is what a node wants to have free.
const leastDisk = 1 << 30

func disk(dir string) finding {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return finding{"disk", "failed", dir + ": " + err.Error()}
	}
	free := int64(st.Bavail) * int64(st.Bsize)
	f := finding{"disk", "ok", human(free) + " free"}
	if free < leastDisk {
		f.Status = "warning"
	}
	return f
}

func cgroups() finding {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return finding{"cgroups", "ok", "version 2"}
	}
	if _, err := os.Stat("/sys/fs/cgroup/memory"); err == nil {
		return finding{"cgroups", "ok", "version 1"}
	}
	return finding{"cgroups", "warning", "none found: containers cannot be limited here"}
}

func containerd() finding {
	const socket = "/run/containerd/containerd.sock"
	if _, err := os.Stat(socket); err == nil {
		return finding{"containerd", "ok", socket}
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if p := filepath.Join(dir, "containerd"); executable(p) {
			return finding{"containerd", "ok", p + ", not running: an agent started as root runs its own"}
		}
	}
	return finding{"containerd", "warning", "not installed: an agent here runs wasm only"}
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// cluster judges what the settings in force lead to.
func cluster(st api.ClusterStatus, err error) finding {
	switch {
	case err != nil:
		return finding{"cluster", "failed", err.Error()}
	case st.Leader == "":
		return finding{"cluster", "failed", "there is no leader"}
	case len(st.Warnings) > 0:
		return finding{"cluster", "warning", strings.Join(st.Warnings, "; ")}
	}
	return finding{"cluster", "ok", fmt.Sprintf("leader %s, %d nodes", st.Leader, st.Nodes["total"])}
}
