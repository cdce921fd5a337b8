package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
)

// cluster is three coordinators and three agents, each a process of its own.
type cluster struct {
	t      *testing.T
	dir    string
	coords []*process
	agents []*process
	cli    cli
}

func coordinatorArgs(dir string, i int, more ...string) []string {
	return append([]string{"coordinator", "--data-dir", filepath.Join(dir, fmt.Sprintf("c%d", i)), "--name", fmt.Sprintf("c%d", i), "--advertise", "127.0.0.1",
		"--http-addr", "127.0.0.1:0", "--node-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0"}, more...)
}

func agentArgs(dir string, i int, more ...string) []string {
	return append([]string{"agent", "--data-dir", filepath.Join(dir, fmt.Sprintf("a%d", i)), "--name", fmt.Sprintf("a%d", i), "--zone", fmt.Sprintf("z%d", i), "--advertise", "127.0.0.1", "--containerd", "off",
		"--node-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0", "--ingress-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0"}, more...)
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	k := &cluster{t: t, dir: shortDir(t)}
	first := start(t, nil, coordinatorArgs(k.dir, 0)...)
	k.coords = []*process{first}
	k.cli = k.client(first.get("http"))
	server := k.token("server")
	for i := 1; i < 3; i++ {
		k.coords = append(k.coords, start(t, nil, coordinatorArgs(k.dir, i, "--join", first.get("node"), "--token", "@"+server)...))
	}
	var urls []string
	for _, c := range k.coords {
		urls = append(urls, c.get("http"))
	}
	k.cli = k.client(strings.Join(urls, ","))
	eventually(t, 30*time.Second, "three voters", func() bool {
		var st api.ClusterStatus
		return k.read(&st, "status") && voters(st) == 3
	})
	node := k.token("node")
	for i := 0; i < 3; i++ {
		k.agents = append(k.agents, start(t, nil, agentArgs(k.dir, i, "--join", first.get("node"), "--token", "@"+node)...))
	}
	eventually(t, 30*time.Second, "three ready nodes", func() bool {
		var st api.ClusterStatus
		return k.read(&st, "status") && st.Nodes["ready"] == 3
	})
	return k
}

func (k *cluster) client(urls string) cli {
	return cli{k.t, []string{"CLOUDLESS_CONFIG=" + filepath.Join(k.dir, "config.yaml"), "CLOUDLESS_ADDRESS=" + urls, "NO_COLOR=1",
		"CLOUDLESS_CA_CERT=" + filepath.Join(k.dir, "c0", "ca.pem"), "CLOUDLESS_TOKEN=@" + filepath.Join(k.dir, "c0", "admin.token")}}
}

// token makes a join token and keeps it in a file.
func (k *cluster) token(role string) string {
	var text string
	eventually(k.t, 20*time.Second, "a token is made", func() bool {
		out, _, code := k.cli.run("token", "create", "--role", role, "-q")
		text = strings.TrimSpace(out)
		return code == 0
	})
	path := filepath.Join(k.dir, role+".token")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		k.t.Fatal(err)
	}
	return path
}

// read runs a command with -o json and decodes what it prints.
func (k *cluster) read(into any, args ...string) bool {
	out, _, code := k.cli.run(append(args, "-o", "json")...)
	return code == 0 && json.Unmarshal([]byte(out), into) == nil
}

func voters(st api.ClusterStatus) int {
	n := 0
	for _, m := range st.Coordinators {
		if m.Voter {
			n++
		}
	}
	return n
}

func TestClusterSurvives(t *testing.T) {
	k := newCluster(t)
	k.cli.must("workload", "run", helloModule, "--name", "hi", "--http", "--wait", "--timeout", "30s")
	answers := func(i int) bool {
		code, body := fetch(k.agents[i].get("ingress"), "hi.localhost", "/")
		return code == 200 && strings.Contains(body, "hello")
	}
	for i := range k.agents {
		eventually(t, 10*time.Second, fmt.Sprintf("agent %d answers, by itself or through another", i), func() bool { return answers(i) })
	}

	t.Run("kill the agent that runs it", func(t *testing.T) {
		victim := k.runner("hi")
		other := (victim + 1) % 3
		k.agents[victim].kill()
		took := eventually(t, 20*time.Second, "another agent's ingress answers", func() bool { return answers(other) && k.runner("hi") != victim })
		t.Logf("the replacement answered after %s", took.Round(time.Millisecond))
		k.agents[victim] = start(t, nil, agentArgs(k.dir, victim)...)
		eventually(t, 30*time.Second, "the node is ready again, and one replica is left", func() bool {
			var st api.ClusterStatus
			var w api.Workload
			return k.read(&st, "status") && st.Nodes["ready"] == 3 && k.read(&w, "workload", "get", "hi") && len(w.Status.Replicas) == 1 && w.Status.Ready == 1
		})
	})

	t.Run("kill the leader", func(t *testing.T) {
		before := k.replicas("hi")
		leader := k.leader()
		k.coords[leader].kill()
		took := eventually(t, 20*time.Second, "a write is accepted", func() bool {
			_, _, code := k.cli.run("token", "create", "--role", "viewer", "-q", "--ttl", "1h")
			return code == 0
		})
		t.Logf("the first write was accepted after %s", took.Round(time.Millisecond))
		if after := k.replicas("hi"); after != before {
			t.Errorf("replicas were touched: %s, before %s", after, before)
		}
		k.coords[leader] = start(t, nil, coordinatorArgs(k.dir, leader)...)
		eventually(t, 20*time.Second, "three healthy coordinators", func() bool {
			var st api.ClusterStatus
			if !k.read(&st, "status") || st.Leader == "" {
				return false
			}
			healthy := 0
			for _, m := range st.Coordinators {
				if m.Healthy && m.Voter {
					healthy++
				}
			}
			return healthy == 3
		})
	})

	t.Run("restart everything", func(t *testing.T) {
		home := k.runner("hi")
		for _, p := range append(append([]*process{}, k.coords...), k.agents...) {
			p.kill()
		}
		// the agents come first: they serve with no coordinator in sight
		for i := range k.agents {
			k.agents[i] = start(t, nil, agentArgs(k.dir, i)...)
		}
		eventually(t, 20*time.Second, "the node that ran it serves it with no coordinator", func() bool { return answers(home) })
		for i := range k.coords {
			k.coords[i] = start(t, nil, coordinatorArgs(k.dir, i)...)
		}
		var urls []string
		for _, c := range k.coords {
			urls = append(urls, c.get("http"))
		}
		k.cli = k.client(strings.Join(urls, ","))
		t.Cleanup(func() {
			if t.Failed() {
				out, errs, _ := k.cli.run("status")
				w, _, _ := k.cli.run("workload", "describe", "hi")
				t.Logf("home %d\n%s%s%s", home, out, errs, w)
			}
		})
		eventually(t, 30*time.Second, "the cluster is whole, the replica where it was", func() bool {
			var st api.ClusterStatus
			return k.read(&st, "status") && st.Leader != "" && st.Nodes["ready"] == 3 && k.runner("hi") == home && answers((home+1)%3)
		})
	})
}

// runner is the index of the agent that runs the workload's ready replica, -1 for none.
func (k *cluster) runner(name string) int {
	var w api.Workload
	if !k.read(&w, "workload", "get", name) || w.Status == nil {
		return -1
	}
	for _, r := range w.Status.Replicas {
		if r.Ready && !r.Orphan {
			var i int
			if _, err := fmt.Sscanf(r.Node, "a%d", &i); err == nil {
				return i
			}
		}
	}
	return -1
}

// replicas names the replicas and their restarts.
func (k *cluster) replicas(name string) string {
	var w api.Workload
	if !k.read(&w, "workload", "get", name) {
		return "unreadable"
	}
	var out []string
	for _, r := range w.Status.Replicas {
		out = append(out, fmt.Sprintf("%s@%s/%d", r.ID, r.Node, r.Restarts))
	}
	return strings.Join(out, " ")
}

func (k *cluster) leader() int {
	leader := -1
	eventually(k.t, 10*time.Second, "there is a leader", func() bool {
		var st api.ClusterStatus
		if !k.read(&st, "status") || st.Leader == "" {
			return false
		}
		_, err := fmt.Sscanf(st.Leader, "c%d", &leader)
		return err == nil
	})
	return leader
}
