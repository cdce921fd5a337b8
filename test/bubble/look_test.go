package bubble

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/test/simnet"
)

// up lists the coordinators that run.
func (w *world) up() []*coord {
	return slices.DeleteFunc(slices.Clone(w.coords), func(c *coord) bool { return c.Server == nil })
}

// leader is the coordinator that most of those that run take for the leader, itself among them.
func (w *world) leader() *coord {
	for _, c := range w.up() {
		votes := 0
		for _, o := range w.up() {
			if o.leads(c.ID()) {
				votes++
			}
		}
		if c.leads(c.ID()) && 2*votes > len(w.coords) {
			return c
		}
	}
	return nil
}

// leads tells whether this coordinator takes the one with that id for the leader.
func (c *coord) leads(id string) bool {
	members, err := c.Members(context.Background())
	return err == nil && slices.ContainsFunc(members, func(m api.Member) bool { return m.ID == id && m.Leader })
}

func (w *world) voters() int {
	l := w.leader()
	if l == nil {
		return 0
	}
	members, err := l.Members(context.Background())
	w.check(err)
	return len(slices.DeleteFunc(members, func(m api.Member) bool { return !m.Voter }))
}

// mustLead waits for a leader.
func (w *world) mustLead() *coord {
	w.t.Helper()
	w.eventually("a leader", 20*time.Second, func() bool { return w.leader() != nil })
	return w.leader()
}

// view is a coordinator that runs, the leader if there is one.
func (w *world) view() *coord {
	if l := w.leader(); l != nil {
		return l
	}
	if up := w.up(); len(up) > 0 {
		return up[0]
	}
	return nil
}

// inState names the nodes in a state, as the leader sees it.
func (w *world) inState(state api.NodeState) []string {
	var out []string
	v := w.view()
	if v == nil {
		return nil
	}
	list, err := v.Nodes(context.Background(), api.ListQuery{Limit: 1000})
	w.check(err)
	for _, n := range list.Items {
		if n.State == state {
			out = append(out, n.Name)
		}
	}
	return out
}

// connected counts the sessions between coordinators that run and nodes.
func (w *world) connected() int {
	sum := 0
	for _, c := range w.up() {
		list, err := c.Nodes(context.Background(), api.ListQuery{Limit: 1000})
		w.check(err)
		for _, n := range list.Items {
			if n.Status.Connected {
				sum++
			}
		}
	}
	return sum
}

func (w *world) stateOf(n *node) api.NodeState {
	v := w.view()
	if v == nil {
		return ""
	}
	got, err := v.Node(context.Background(), n.id)
	w.check(err)
	return got.State
}

// workload is one as the leader sees it; false when there is none.
func (w *world) workload(name string) (api.Workload, bool) {
	v := w.view()
	if v == nil {
		return api.Workload{}, false
	}
	got, err := v.Workload(context.Background(), api.DefaultNamespace, name)
	return got, err == nil
}

// settled tells whether exactly n replicas of a workload are wanted, ready and running, on nodes
// that are up, and none else.
func (w *world) settled(name string, n int) bool {
	got, ok := w.workload(name)
	if !ok || got.Status == nil || len(got.Status.Replicas) != n {
		return false
	}
	for _, r := range got.Status.Replicas {
		if !r.Ready || r.State != api.ReplicaRunning || r.Orphan {
			return false
		}
	}
	return len(w.running(name)) == n
}

// running lists the copies of a workload that truly run, as NODE/REPLICA, whatever anyone believes.
func (w *world) running(name string) []string {
	var out []string
	for _, n := range w.nodes {
		if n.driver == nil {
			continue
		}
		for _, id := range n.driver.Running() {
			if spec, ok := n.driver.Spec(id); ok && spec.Workload.Name == name {
				out = append(out, n.name+"/"+id)
			}
		}
	}
	slices.Sort(out)
	return out
}

// on lists the copies of a workload that truly run on one node.
func (w *world) on(n *node, name string) []string {
	return slices.DeleteFunc(w.running(name), func(s string) bool { return !strings.HasPrefix(s, n.name+"/") })
}

// starts counts all starts there ever were on the machines as they are.
func (w *world) starts() int {
	total := 0
	for _, n := range w.nodes {
		if n.driver != nil {
			total += n.driver.TotalStarts()
		}
	}
	return total
}

// put applies a workload through a coordinator.
func (w *world) put(c *coord, name string, replicas int) error {
	_, err := c.PutWorkload(w.t.Context(), admin, container(name, replicas), false, 0)
	w.tell("apply %s with %d replicas through %s: %v", name, replicas, c.name, err)
	return err
}

func container(name string, replicas int) api.Workload {
	return api.Workload{
		APIVersion: api.APIVersion, Kind: api.KindWorkload, Metadata: api.Metadata{Name: name},
		Spec: api.WorkloadSpec{
			Replicas: &replicas, Container: &api.ContainerSpec{Image: "registry.example/" + name + ":1"}, Ports: []api.Port{{Port: 8080}},
		},
	}
}

// events lists those of a type that the leader keeps.
func (w *world) events(kind string) []api.Event {
	list, err := w.view().Events(context.Background(), api.EventQuery{Type: kind, Limit: 1000})
	w.check(err)
	return list.Items
}

// account is what the cluster says has happened.
func (w *world) account() string {
	v := w.view()
	if v == nil {
		return "no coordinator runs"
	}
	list, err := v.Events(context.Background(), api.EventQuery{Limit: 1000})
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, e := range list.Items {
		fmt.Fprintf(&b, "%8.3fs %s %s: %s\n", e.Time.Sub(w.began).Seconds(), e.Type, e.Resource, e.Message)
	}
	return b.String() + w.picture()
}

// get asks a node's ingress for a workload.
func (w *world) get(n *node, name string) (string, error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: n.host.Dial, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, "http://"+n.host.Addr(portIngress)+"/", nil)
	if err != nil {
		return "", err
	}
	req.Host = name + ".localhost"
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	return string(body), err
}

// sameState waits until all coordinators hold the same state, byte for byte.
func (w *world) sameState() {
	w.t.Helper()
	w.eventually("the same state on all coordinators", 30*time.Second, func() bool {
		var first []byte
		for i, c := range w.up() {
			var b bytes.Buffer
			w.check(c.WriteState(&b))
			if i == 0 {
				first = b.Bytes()
			} else if !bytes.Equal(first, b.Bytes()) {
				return false
			}
		}
		return true
	})
}

// homes is where the copies of a workload are meant to be, as REPLICA@NODE.
func (w *world) homes(name string) []string {
	got, _ := w.workload(name)
	var out []string
	if got.Status != nil {
		for _, r := range got.Status.Replicas {
			out = append(out, r.ID+"@"+r.Node)
		}
	}
	slices.Sort(out)
	return out
}

// homeOf is a node that runs a copy of a workload.
func (w *world) homeOf(name string) *node {
	w.t.Helper()
	for _, n := range w.nodes {
		if len(w.on(n, name)) > 0 {
			return n
		}
	}
	w.t.Fatalf("no node runs %s", name)
	return nil
}

func coordHosts(list ...*coord) []*simnet.Host {
	var out []*simnet.Host
	for _, c := range list {
		out = append(out, c.host)
	}
	return out
}

func nodeHosts(list ...*node) []*simnet.Host {
	var out []*simnet.Host
	for _, n := range list {
		out = append(out, n.host)
	}
	return out
}

// hosts lists them all.
func (w *world) hosts() []*simnet.Host {
	return append(coordHosts(w.coords...), nodeHosts(w.nodes...)...)
}

// isolate cuts hosts off from all others.
func (w *world) isolate(hosts ...*simnet.Host) {
	rest := slices.DeleteFunc(w.hosts(), func(h *simnet.Host) bool { return slices.Contains(hosts, h) })
	w.part(simnet.Drop, hosts, rest)
}

func (w *world) part(way simnet.Way, one, other []*simnet.Host) {
	w.tell("%s between %v and %v", way, names(one), names(other))
	w.net.Part(way, one, other)
}

func (w *world) heal() {
	w.tell("heal")
	w.net.Heal()
}

func names(hosts []*simnet.Host) []string {
	var out []string
	for _, h := range hosts {
		out = append(out, h.Name)
	}
	return out
}

// between checks a time of the bubble.
func (w *world) between(what string, got, least, most time.Duration) {
	w.t.Helper()
	if got < least || got > most {
		w.t.Errorf("%s took %s, want %s to %s", what, got, least, most)
	}
}

// picture is what the cluster looks like, for people.
func (w *world) picture() string {
	var b strings.Builder
	for _, c := range w.up() {
		st, err := c.Status(context.Background())
		fmt.Fprintf(&b, "%s: leader %q index %d nodes %v workloads %v replicas %v %v\n", c.name, st.Leader, st.Index, st.Nodes, st.Workloads, st.Replicas, err)
	}
	v := w.view()
	if v == nil {
		return b.String()
	}
	nodes, err := v.Nodes(context.Background(), api.ListQuery{Limit: 1000})
	w.check(err)
	for _, n := range nodes.Items {
		fmt.Fprintf(&b, "  %s %s (%s)\n", n.Name, n.State, n.Reason)
	}
	works, err := v.Workloads(context.Background(), api.ListQuery{Limit: 1000})
	w.check(err)
	for _, wl := range works.Items {
		fmt.Fprintf(&b, "  %s %s %d of %d ready; truly running: %v\n", wl.Metadata.Name, wl.Status.Phase, wl.Status.Ready, wl.Status.Desired, w.running(wl.Metadata.Name))
		for _, r := range wl.Status.Replicas {
			fmt.Fprintf(&b, "    %s on %s %s ready=%v orphan=%v %s\n", r.ID, r.Node, r.State, r.Ready, r.Orphan, r.Reason)
		}
	}
	return b.String()
}
