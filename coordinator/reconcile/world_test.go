package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

// fataler is what *testing.T and *rapid.T have in common.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// world is a cluster in which every node does what it is told.
type world struct {
	t      fataler
	store  *state.Store
	index  uint64
	now    time.Time
	start  time.Time
	alive  map[string]bool // nodes that run and are connected
	closed map[string]time.Time
	beat   map[string]time.Time
	unseen bool              // the leader has just started and seen nobody
	broken map[string]uint64 // versions after this one never get ready
	cold   map[string]bool   // nodes that cannot prepare anything
	heard  map[string]uint64 // generation of the assignments that each node looked at last
	warm   map[string]bool   // node and version that it has prepared
	trace  *strings.Builder
	rules  func() // checked after every step
}

var epoch0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newWorld(t fataler) *world {
	w := &world{
		t: t, store: state.New(), now: epoch0, start: epoch0, alive: map[string]bool{}, closed: map[string]time.Time{},
		beat: map[string]time.Time{}, broken: map[string]uint64{}, cold: map[string]bool{}, heard: map[string]uint64{}, warm: map[string]bool{}, trace: &strings.Builder{}, rules: func() {},
	}
	w.must(state.Command{Found: &state.Found{ClusterID: "c", Epoch: 1}})
	w.must(state.Command{PutToken: &api.Token{ID: "t", Role: api.RoleNode}})
	return w
}

func (w *world) apply(c state.Command) state.Result {
	w.index++
	if c.At.IsZero() {
		c.At = w.now
	}
	return w.store.Apply(w.index, c)
}

func (w *world) must(c state.Command) state.Result {
	w.t.Helper()
	res := w.apply(c)
	if res.Err != nil {
		w.t.Fatalf("apply: %v", res.Err)
	}
	return res
}

func (w *world) register(n api.Node) {
	w.must(state.Command{RegisterNode: &state.RegisterNode{ID: n.ID, Info: api.RegisterRequest{
		Addr: n.Addr, Region: n.Region, Zone: n.Zone, Labels: n.Labels, Taints: n.Taints, Capacity: n.Capacity, Runtimes: n.Runtimes, Arch: "amd64", OS: "linux",
	}}})
	w.alive[n.ID] = true
	w.beat[n.ID] = w.now
}

func (w *world) addNode(n api.Node) {
	n.Name = n.ID
	if !n.Runtimes.Containers && n.Runtimes.WasmEngine == "" {
		n.Runtimes.WasmEngine = "compiler"
	}
	w.must(state.Command{EnrolNode: &state.EnrolNode{Node: n, TokenID: "t"}})
	w.register(n)
}

func (w *world) put(name string, replicas int, edit func(s *api.WorkloadSpec)) {
	s := api.WorkloadSpec{Replicas: &replicas, Wasm: &api.WasmSpec{Module: "m.wasm", Mode: api.ModeHTTP}, Resources: api.Resources{CPU: 100, Memory: 64 << 20}}
	if edit != nil {
		edit(&s)
	}
	wl := api.Workload{Metadata: api.Metadata{Name: name, Namespace: "default"}, Spec: s}
	w.apply(state.Command{PutWorkload: &state.PutWorkload{Workload: wl, UID: fmt.Sprintf("uid-%s-%d", name, w.index)}})
}

func ref(name string) api.Ref { return api.Ref{Namespace: "default", Name: name} }

// signals is what a leader would know of the nodes.
func (w *world) signals() Signals {
	s := Signals{Nodes: map[string]NodeSignal{}, ProcessStart: w.start}
	s.Prepared = func(node, uid string, version uint64) bool { return w.warm[node+" "+api.VersionKey(uid, version)] }
	if w.unseen {
		return s
	}
	for _, n := range w.store.View().Nodes() {
		if w.alive[n.ID] {
			w.beat[n.ID] = w.now
			s.Nodes[n.ID] = NodeSignal{Session: true, Seen: true, LastHeartbeat: w.now, Reached: true, Gossip: "alive"}
			continue
		}
		s.Nodes[n.ID] = NodeSignal{
			ClosedAt: w.closed[n.ID], Seen: true, LastHeartbeat: w.beat[n.ID], Reached: true, Refused: 2,
			Unanswered: w.now.Sub(w.closed[n.ID]), Gossip: "failed",
		}
	}
	return s
}

func (w *world) kill(id string) {
	if w.alive[id] {
		delete(w.alive, id)
		w.closed[id], w.beat[id] = w.now, w.now
	}
}

// revive lets a node register again; what it is to run is still in its ledger.
func (w *world) revive(id string) {
	if n, ok := w.store.View().Node(id); ok && !w.alive[id] && n.Liveness != api.NodeLeft {
		w.register(*n)
	}
}

// remove takes a node out for good.
func (w *world) remove(id string) {
	w.kill(id)
	w.apply(state.Command{RemoveNode: &state.ByID{ID: id}})
}

// finish lets what runs on a connected node end by itself.
func (w *world) finish(id string, how api.ReplicaState) {
	var reports []api.ReplicaReport
	for _, r := range w.store.View().ReplicasOn(id) {
		wl, ok := w.store.View().Workload(r.Workload)
		if ok && wl.Spec.IsJob() && r.State == api.ReplicaRunning && w.alive[id] {
			reports = append(reports, api.ReplicaReport{ReplicaID: r.ID, State: how, At: w.now})
		}
	}
	if len(reports) > 0 {
		w.must(state.Command{ReportStatuses: &state.ReportStatuses{NodeID: id, Report: api.StatusReport{Epoch: 1, Reports: reports}}})
	}
}

// works tells whether a replica gets ready.
func (w *world) works(r *api.Replica) bool {
	last, broken := w.broken[r.Workload.Name]
	return !broken || r.Version <= last
}

// agents lets every connected node obey, and tells whether anything changed.
func (w *world) agents() bool {
	changed := false
	v := w.store.View()
	for _, id := range slices.Sorted(maps.Keys(w.alive)) {
		changed = w.prepare(v, id) || changed
		var reports []api.ReplicaReport
		for _, r := range v.ReplicasOn(id) {
			rep := api.ReplicaReport{ReplicaID: r.ID, State: api.ReplicaRunning, Ready: w.works(r), At: w.now}
			switch {
			case r.Desired == api.DesiredStop:
				rep.State, rep.Ready = api.ReplicaStopped, false
			case r.State.Terminal():
				continue
			}
			if r.State != rep.State || r.Ready != rep.Ready {
				reports = append(reports, rep)
			}
		}
		if len(reports) > 0 {
			changed = true
			w.must(state.Command{ReportStatuses: &state.ReportStatuses{NodeID: id, Report: api.StatusReport{Epoch: 1, Reports: reports}}})
		}
	}
	w.rules()
	return changed
}

// prepare lets a node prepare what its assignments name, if they are of another generation than those
// it looked at last: it is told of no other.
func (w *world) prepare(v state.View, id string) (changed bool) {
	gen, _ := v.Set(id)
	if w.cold[id] || w.heard[id] == gen {
		return false
	}
	w.heard[id] = gen
	for _, next := range v.Assignments(id).Prepare {
		key := id + " " + api.VersionKey(next.UID, next.Version)
		changed = changed || !w.warm[key]
		w.warm[key] = true
	}
	return changed
}

// plan runs Plan once, applies what it says, and returns the number of commands.
func (w *world) plan() int {
	res := Plan(w.store.View(), w.signals(), w.now)
	for _, c := range res.Commands {
		w.tell(c)
		if r := w.apply(c); r.Err != nil {
			w.t.Fatalf("plan gave a command that is refused: %v", r.Err)
		}
	}
	w.rules()
	return len(res.Commands)
}

// settle runs Plan and the agents until nothing happens for longer than any grace but a stranger's.
func (w *world) settle() {
	w.t.Helper()
	quiet := 0
	for round := 0; quiet < 5; round++ {
		if round > 2000 {
			w.t.Fatalf("does not settle:\n%s", w.trace)
		}
		n := w.plan()
		if w.agents() || n > 0 {
			quiet = 0
			w.now = w.now.Add(100 * time.Millisecond)
			continue
		}
		quiet++
		w.now = w.now.Add(5 * time.Second)
	}
}

func (w *world) tell(c state.Command) {
	say := func(format string, args ...any) { fmt.Fprintf(w.trace, format+"\n", args...) }
	switch {
	case c.SetLiveness != nil:
		say("node %s is %s: %s", c.SetLiveness.ID, c.SetLiveness.Liveness, c.SetLiveness.Reason)
	case c.PlaceReplicas != nil:
		for _, r := range c.PlaceReplicas.Replicas {
			say("place %s of %s v%d on %s", r.ID, r.Workload.Name, r.Version, r.NodeID)
		}
	case c.StopReplicas != nil:
		say("stop %s: %s", strings.Join(c.StopReplicas.IDs, " "), c.StopReplicas.Reason)
	case c.ForgetReplicas != nil:
		say("forget %s", strings.Join(c.ForgetReplicas.IDs, " "))
	case c.OrphanReplicas != nil && c.OrphanReplicas.Orphan:
		say("give up %s: %s", strings.Join(c.OrphanReplicas.IDs, " "), c.OrphanReplicas.Reason)
	case c.OrphanReplicas != nil:
		say("take back %s", strings.Join(c.OrphanReplicas.IDs, " "))
	case c.NoteUnplaced != nil:
		say("note %s misses %d: %s", c.NoteUnplaced.Ref.Name, c.NoteUnplaced.Missing, c.NoteUnplaced.Message)
	case c.RemoveWorkload != nil:
		say("remove %s", c.RemoveWorkload.Ref.Name)
	case c.RecordEvent != nil:
		say("event %s: %s", c.RecordEvent.Type, c.RecordEvent.Message)
	}
}

// serving counts the copies of a workload that run on connected nodes and are ready.
func (w *world) serving(name string) int {
	n := 0
	for _, r := range w.store.View().ReplicasOf(ref(name)) {
		if r.Ready && r.Desired == api.DesiredRun && w.alive[r.NodeID] {
			n++
		}
	}
	return n
}

func nodes(w *world, n int) {
	for i := range n {
		w.addNode(api.Node{ID: fmt.Sprintf("n%d", i), Region: "eu", Zone: fmt.Sprintf("z%d", i%3), Capacity: api.Reserved{CPU: 1000, Memory: 1 << 30}})
	}
}
