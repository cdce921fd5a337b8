package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
)

// withContainers gives agents a containerd of their own: these, or all when none is named.
func withContainers(agents ...int) func(int) []string {
	return func(i int) []string {
		if len(agents) == 0 || slices.Contains(agents, i) {
			return []string{"--containerd", "private"}
		}
		return nil
	}
}

func TestBothKindsAreDeployed(t *testing.T) {
	t.Parallel()
	k := newCluster(t, 3, 3, withContainers())
	k.cli.must("workload", "run", helloModule, "--name", "module", "--http", "--replicas", "3", "--wait", "--timeout", "60s")
	k.cli.must("workload", "run", helloImage, "--name", "image", "--replicas", "2", "--wait", "--timeout", "60s")
	k.settled("module", 3)
	k.settled("image", 2)
	for _, a := range k.agents {
		k.served(a, "module")
		k.served(a, "image") // two of three have it, the third sends on
	}
}

func TestContainersOutliveTheirAgentAndAreAdopted(t *testing.T) {
	t.Parallel()
	k := newCluster(t, 1, 2, withContainers(0))
	k.apply("image", fmt.Sprintf("container: {image: %s}\n  ports: [{name: http, port: 8080, protocol: http}]", absolute(t, helloImage)))
	k.served(k.agents[1], "image")
	home := k.agents[0]
	before, task := k.replicas("image"), onlyTask(t, home)
	for _, stop := range []struct {
		name string
		sig  syscall.Signal
		slow bool // long enough to be lost, had it not said goodbye
	}{
		{"killed", syscall.SIGKILL, false},
		{"stopped to restart", syscall.SIGTERM, false},
		{"stopped to restart, and slow to", syscall.SIGTERM, true},
	} {
		ok := t.Run(stop.name, func(t *testing.T) {
			k := k.in(t)
			if err := home.End(stop.sig); err != nil {
				t.Fatal(err)
			}
			if stop.slow {
				eventually(t, "it is missed", func() bool {
					st := k.node(home).Status
					return st.Gossip == "failed" && st.LastHeartbeat != nil && time.Since(*st.LastHeartbeat) > 5*time.Second
				})
			}
			if err := home.launch("--on-stop", "restart"); err != nil {
				t.Fatal(err)
			}
			k.whole()
			k.settled("image", 1)
			k.served(k.agents[1], "image")
			if after := k.replicas("image"); after != before {
				t.Errorf("the replica was touched: %s, before %s", after, before)
			}
			if now := onlyTask(t, home); now != task {
				t.Errorf("its process is %d, before %d", now, task)
			}
		})
		if !ok {
			return
		}
	}
	if lost := k.cli.must("event", "list", "--type", api.EventNodeLost, "--resource", "node/"+home.name, "--since", "5m", "--no-headers"); strings.Count(lost, "\n") > 1 {
		t.Errorf("it was given up more often than it was killed:\n%s", lost)
	}
	home.kill()
	k.cli.must("workload", "delete", "image")
	if now := onlyTask(t, home); now != task {
		t.Errorf("the container did not run on while its agent was away: process %d, before %d", now, task)
	}
	home.start()
	eventually(t, "what was deleted meanwhile is stopped", func() bool { return len(home.tasks()) == 0 })
}

func TestFailoverChangesTheVariant(t *testing.T) {
	t.Parallel()
	k := newCluster(t, 1, 2, withContainers(0))
	with, without := k.agents[0], k.agents[1]
	k.cli.must("node", "cordon", without.name)
	k.apply("both", fmt.Sprintf("preferred: container\n  wasm: {module: %s}\n  container: {image: %s}\n  ports: [{name: http, port: 8080, protocol: http}]",
		absolute(t, helloModule), absolute(t, helloImage)))
	k.cli.must("node", "uncordon", without.name)
	if v := k.variant("both"); v != api.VariantContainer {
		t.Fatalf("the node with containerd runs %q, though container is preferred", v)
	}
	with.cut()
	eventually(t, "the replica is replaced", func() bool { return k.home("both") == without })
	if v := k.variant("both"); v != api.VariantWasm {
		t.Errorf("the node without containerd runs %q", v)
	}
	k.served(without, "both")
	with.plug()
	k.whole()
	k.settled("both", 1)
	eventually(t, "the container that was replaced is gone", func() bool { return len(with.tasks()) == 0 })
	k.served(with, "both")
}

// start2 ends a member and starts it again, with more arguments for that time; t owns what follows.
func (m *member) start2(t *testing.T, sig syscall.Signal, more ...string) {
	t.Helper()
	if err := m.End(sig); err != nil {
		t.Fatal(err)
	}
	if err := m.launch(more...); err != nil {
		t.Fatal(err)
	}
}

// apply writes a manifest of one replica and applies it.
func (k *cluster) apply(name, spec string) {
	k.t.Helper()
	path := filepath.Join(k.dir, name+".yaml")
	text := fmt.Sprintf("apiVersion: cloudless/v1\nkind: Workload\nmetadata: {name: %s}\nspec:\n  %s\n", name, spec)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		k.t.Fatal(err)
	}
	k.cli.must("apply", "-f", path, "--wait", "--timeout", "60s")
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

// variant is what the workload's only replica runs as.
func (k *cluster) variant(name string) api.Variant {
	k.t.Helper()
	st := k.workload(name)
	if st == nil {
		k.t.Fatalf("workload %s cannot be read", name)
	}
	for _, r := range st.Replicas {
		if !r.Orphan {
			return r.Variant
		}
	}
	return ""
}

// tasks are the processes of an agent's containers, found by their cgroup, which names the node.
func (m *member) tasks() []int {
	groups, _ := filepath.Glob("/proc/[0-9]*/cgroup") // the pattern is well-formed
	var pids []int
	for _, path := range groups {
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(text), "/cloudless/"+m.Get("id")+"/") {
			continue // it has ended, or is another's
		}
		if pid, err := strconv.Atoi(strings.Split(path, "/")[2]); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func onlyTask(t *testing.T, m *member) int {
	t.Helper()
	tasks := m.tasks()
	if len(tasks) != 1 {
		t.Fatalf("%s runs %d container processes, not 1", m.name, len(tasks))
	}
	return tasks[0]
}
