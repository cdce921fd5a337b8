package reconcile

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

var names = []string{"a", "b", "c"}

// act does one random thing that people or nature do to a cluster.
func act(t *rapid.T, w *world) {
	node := fmt.Sprintf("n%d", rapid.IntRange(0, 4).Draw(t, "node"))
	name := rapid.SampledFrom(names).Draw(t, "workload")
	switch rapid.IntRange(0, 13).Draw(t, "act") {
	case 0, 1:
		w.put(name, rapid.IntRange(0, 6).Draw(t, "replicas"), randomSpec(t, name))
	case 2:
		w.apply(state.Command{ScaleWorkload: &state.ScaleWorkload{Ref: ref(name), Replicas: rapid.IntRange(0, 6).Draw(t, "replicas")}})
	case 3:
		w.apply(state.Command{RestartWorkload: &state.ByRef{Ref: ref(name)}})
	case 4:
		w.apply(state.Command{DeleteWorkload: &state.ByRef{Ref: ref(name)}})
	case 5:
		w.kill(node)
	case 6:
		w.revive(node)
	case 7:
		d := &api.Drain{Graceful: rapid.Bool().Draw(t, "graceful"), Started: w.now}
		if rapid.Bool().Draw(t, "limited") {
			d.Deadline = w.now.Add(3 * time.Second)
		}
		w.apply(state.Command{Drain: &state.DrainNode{ID: node, Drain: d}})
	case 8:
		w.apply(state.Command{Cordon: &state.Cordon{ID: node, Cordoned: rapid.Bool().Draw(t, "cordoned")}})
	case 9:
		w.agents()
	case 10:
		w.plan()
	case 11, 12:
		w.finish(node, rapid.SampledFrom([]api.ReplicaState{api.ReplicaComplete, api.ReplicaFailed}).Draw(t, "how"))
	case 13:
		w.remove(node)
	}
	w.now = w.now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
}

func randomSpec(t *rapid.T, name string) func(*api.WorkloadSpec) {
	anti, spread, job := rapid.Bool().Draw(t, "anti"), rapid.SampledFrom([]string{"", "zone", "node"}).Draw(t, "spread"), rapid.IntRange(0, 4).Draw(t, "job") == 0
	cpu := rapid.IntRange(50, 500).Draw(t, "cpu")
	other := rapid.SampledFrom(names).Draw(t, "other")
	return func(s *api.WorkloadSpec) {
		s.Resources.CPU = api.MilliCPU(cpu)
		if anti {
			s.Placement.AntiAffinity = []api.AntiAffinity{{Workload: name}, {Workload: other}}
		}
		if spread != "" {
			s.Placement.Spread = &api.Spread{By: spread}
		}
		if job {
			s.Restart.Policy = api.RestartOnFailure
		}
	}
}

func TestPropertiesHoldWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		nodes(w, 5)
		w.rules = func() { neverOverCapacity(w) }
		for range rapid.IntRange(1, 25).Draw(t, "acts") {
			act(t, w)
		}
		w.settle()
		settledMeansDone(w)
	})
}

// neverOverCapacity: what is reserved on a node never exceeds what it has.
func neverOverCapacity(w *world) {
	v := w.store.View()
	for _, n := range v.Nodes() {
		if sum := v.Allocated(n.ID); !sum.Fits(n.Capacity) {
			w.t.Fatalf("node %s is over capacity: %+v of %+v\n%s", n.ID, sum, n.Capacity, w.trace)
		}
	}
}

// settledMeansDone: as many replicas as asked for, or fewer and a note that says why; none on a node
// that is lost or is emptied at once; nothing of what was deleted on a node that can be reached.
func settledMeansDone(w *world) {
	v := w.store.View()
	for _, wl := range v.Workloads() {
		if wl.Deleting {
			w.t.Fatalf("workload %s is still there\n%s", wl.Ref(), w.trace)
		}
		live := v.Live(wl.Ref())
		if len(live) > wl.Spec.Count()+1 || len(live) > wl.Spec.Count() && wl.Unplaced == 0 {
			w.t.Fatalf("workload %s has %d replicas, wants %d\n%s", wl.Ref(), len(live), wl.Spec.Count(), w.trace)
		}
		if len(live) < wl.Spec.Count() && wl.Unplaced == 0 {
			w.t.Fatalf("workload %s has %d replicas, wants %d, and nothing says why\n%s", wl.Ref(), len(live), wl.Spec.Count(), w.trace)
		}
	}
	for _, r := range v.Replicas() {
		wl, ok := v.Workload(r.Workload)
		n, known := v.Node(r.NodeID)
		switch {
		case !known && (!ok || !wl.Finished(r)):
			w.t.Fatalf("replica %s is kept, and its node was removed\n%s", r.ID, w.trace)
		case !known:
		case w.alive[r.NodeID] && (r.Desired == api.DesiredStop || !ok || wl.Metadata.UID != r.UID):
			w.t.Fatalf("replica %s should be gone\n%s", r.ID, w.trace)
		case r.Orphan && n.Liveness != api.NodeLost:
			w.t.Fatalf("orphan %s on node %s, which is %s\n%s", r.ID, n.ID, n.Liveness, w.trace)
		case n.Drain != nil && !n.Drain.Graceful && w.alive[n.ID] && !r.State.Terminal():
			w.t.Fatalf("replica %s stays on the drained node %s\n%s", r.ID, n.ID, w.trace)
		}
	}
}

func TestAntiAffinityIsNeverBroken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		nodes(w, 5)
		w.rules = func() {
			for _, n := range w.store.View().Nodes() {
				count := 0
				for _, r := range w.store.View().ReplicasOn(n.ID) {
					if !r.State.Terminal() {
						count++
					}
				}
				if count > 1 {
					t.Fatalf("node %s has %d replicas that keep apart\n%s", n.ID, count, w.trace)
				}
			}
		}
		apart := func(s *api.WorkloadSpec) {
			s.Placement.AntiAffinity = []api.AntiAffinity{{Workload: "a"}, {Workload: "b"}}
		}
		for range rapid.IntRange(1, 12).Draw(t, "acts") {
			w.put(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "workload"), rapid.IntRange(0, 4).Draw(t, "replicas"), apart)
			if rapid.Bool().Draw(t, "restart") {
				w.apply(state.Command{RestartWorkload: &state.ByRef{Ref: ref("a")}})
			}
			w.plan()
			w.agents()
		}
		w.settle()
	})
}

func TestRolloutKeepsServing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		nodes(w, rapid.IntRange(1, 4).Draw(t, "nodes"))
		want := rapid.IntRange(1, 6).Draw(t, "replicas")
		cpu := rapid.IntRange(50, 400).Draw(t, "cpu")
		keep := rapid.IntRange(0, want).Draw(t, "minAvailable")
		w.put("a", want, func(s *api.WorkloadSpec) {
			s.Resources.CPU, s.Rollout.MinAvailable = api.MilliCPU(cpu), &keep
		})
		w.settle()
		least := min(keep, w.serving("a"))
		w.must(state.Command{RestartWorkload: &state.ByRef{Ref: ref("a")}})
		w.rules = func() {
			if got := w.serving("a"); got < least {
				t.Fatalf("%d replicas serve, %d must\n%s", got, least, w.trace)
			}
			if live := len(w.store.View().Live(ref("a"))); live > want+1 {
				t.Fatalf("%d replicas of %d: more than one ahead\n%s", live, want, w.trace)
			}
		}
		w.settle()
	})
}

// With room for one more, no fewer serve than asked for, however late the nodes report.
func TestRolloutWithRoomLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		nodes(w, 3)
		want := rapid.IntRange(1, 5).Draw(t, "replicas")
		w.put("a", want, nil)
		w.settle()
		w.rules = func() {
			if got := w.serving("a"); got < want {
				t.Fatalf("%d of %d replicas serve\n%s", got, want, w.trace)
			}
		}
		w.must(state.Command{RestartWorkload: &state.ByRef{Ref: ref("a")}})
		for range 20 {
			for range rapid.IntRange(1, 3).Draw(t, "plans") {
				w.plan()
			}
			w.agents()
		}
		for _, r := range w.store.View().Live(ref("a")) {
			if r.Version != 2 {
				t.Fatalf("replica %s still runs version %d\n%s", r.ID, r.Version, w.trace)
			}
		}
	})
}

func TestPlanIsAFunction(t *testing.T) {
	w := newWorld(t)
	nodes(w, 5)
	w.put("a", 6, nil)
	w.put("b", 3, nil)
	w.kill("n1")
	one, two := Plan(w.store.View(), w.signals(), w.now), Plan(w.store.View(), w.signals(), w.now)
	if fmt.Sprintf("%+v", flat(t, one)) != fmt.Sprintf("%+v", flat(t, two)) {
		t.Errorf("two plans of one state differ:\n%v\n%v", one, two)
	}
}

func flat(t *testing.T, r Result) []string {
	t.Helper()
	var out []string
	for _, c := range r.Commands {
		b, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(b))
	}
	return append(out, r.Next.String(), fmt.Sprint(r.Probe))
}
