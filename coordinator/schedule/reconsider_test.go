package schedule

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

// run places one replica of w and puts it into the state.
func (f *fill) run(w *api.Workload) (*api.Replica, bool) {
	f.t.Helper()
	p, ok := New(f.store.View(), Signals{}).Place(w)
	if !ok {
		return nil, false
	}
	id := fmt.Sprintf("%s-%d", w.Metadata.Name, f.index)
	f.do(state.Command{PlaceReplicas: &state.PlaceReplicas{Replicas: []api.Replica{{
		ID: id, Workload: w.Ref(), UID: w.Metadata.UID, Version: 1, NodeID: p.NodeID, Variant: p.Variant, Desired: api.DesiredRun,
		Reserved: w.Spec.Reserve(p.Variant), Decision: p.Decision,
	}}}})
	r, _ := f.store.View().Replica(id)
	return r, true
}

// A replica that fills its node and keeps away from its like is no reason against itself.
func TestAReplicaIsNotInItsOwnWay(t *testing.T) {
	f := newFill(t)
	f.node("n1", nil)
	w := workload("a", func(s *api.WorkloadSpec) {
		s.Resources.CPU = 1000
		s.Placement.AntiAffinity = []api.AntiAffinity{{Workload: "a"}}
	})
	f.put(w)
	r, ok := f.run(w)
	if !ok {
		t.Fatal("not placed")
	}
	c := New(f.store.View(), Signals{})
	before := c.Explain(w)
	if before[0].Filter != "antiAffinity" {
		t.Errorf("a second one would be refused by %q", before[0].Filter)
	}
	own, now := c.Reconsider(w, r)
	if own.Filter != "" || now.Chosen != "n1" {
		t.Errorf("its own node: %+v, chosen %q", own, now.Chosen)
	}
	if diff := cmp.Diff(before, c.Explain(w)); diff != "" {
		t.Errorf("the replica was not put back:\n%s", diff)
	}
}

// Looked at again on the state that it made, the newest placement is decided on in the same way,
// mark by mark, whatever stands beside it.
func TestTheNewestPlacementIsDecidedOnInTheSameWay(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := newFill(t)
		for i := range rapid.IntRange(1, 6).Draw(rt, "nodes") {
			cpu, zone := rapid.IntRange(100, 1000).Draw(rt, "cpu"), rapid.IntRange(0, 2).Draw(rt, "zone")
			f.node(fmt.Sprintf("n%d", i), func(n *api.Node) { n.Capacity.CPU, n.Zone = api.MilliCPU(cpu), fmt.Sprint(zone) })
		}
		ws := []*api.Workload{
			workload("a", func(s *api.WorkloadSpec) { s.Placement.Spread = &api.Spread{By: "zone"} }),
			workload("b", func(s *api.WorkloadSpec) { s.Placement.Affinity = []api.Affinity{{Workload: "a"}, {Workload: "b"}} }),
			workload("c", func(s *api.WorkloadSpec) {
				s.Placement.AntiAffinity = []api.AntiAffinity{{Workload: "a"}, {Workload: "c"}}
			}),
		}
		for _, w := range ws {
			f.put(w)
		}
		for range rapid.IntRange(1, 20).Draw(rt, "placements") {
			w := ws[rapid.IntRange(0, 2).Draw(rt, "workload")]
			r, ok := f.run(w)
			if !ok {
				continue
			}
			own, now := New(f.store.View(), Signals{}).Reconsider(w, r)
			if own.NodeID != r.NodeID || own.Filter != "" {
				rt.Fatalf("its own node: %+v", own)
			}
			then := r.Decision
			then.Index, now.Index = 0, 0
			if diff := cmp.Diff(then, now); diff != "" {
				rt.Fatalf("decided otherwise:\n%s", diff)
			}
		}
	})
}

// A replica of an old version that is taken out leaves the one of the new version, on the same node, counted.
func TestWhatIsRemovedIsNotCountedForAnother(t *testing.T) {
	f := newFill(t)
	for _, id := range []string{"n1", "n2"} {
		f.node(id, nil)
	}
	w := workload("a", nil)
	f.put(w)
	old, ok := f.run(w)
	if !ok {
		t.Fatal("not placed")
	}
	f.do(state.Command{RestartWorkload: &state.ByRef{Ref: w.Ref()}})
	fresh := *old
	fresh.ID, fresh.Version = "a-new", 2
	f.do(state.Command{PlaceReplicas: &state.PlaceReplicas{Replicas: []api.Replica{fresh}}})
	c := New(f.store.View(), Signals{})
	restore := c.Remove(old)
	if p, ok := c.Place(w); !ok || p.NodeID == old.NodeID {
		t.Errorf("the next is placed beside the new one, on %s", p.NodeID)
	}
	restore()
	if d := cmp.Diff(New(f.store.View(), Signals{}).Explain(w), c.Explain(w)); d != "" {
		t.Errorf("put back, it is another state:\n%s", d)
	}
}
