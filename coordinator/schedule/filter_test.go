package schedule

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloudless/cloudless/api"
)

// oneByOne says for one node, in so many words, what the filters that no placement changes are to say.
func oneByOne(n *api.Node, s *api.WorkloadSpec, diskFull string) filter {
	matches := func() bool {
		for k, v := range s.Placement.NodeSelector {
			if have, ok := label(n, k); !ok || have != v {
				return false
			}
		}
		return true
	}
	p := &s.Placement
	_, runnable := variantOn(runsOf(n), s)
	switch {
	case n.Liveness != api.NodeReady:
		return byLiveness
	case n.Drain != nil:
		return byDrain
	case n.Cordoned:
		return byCordon
	case diskFull != "":
		return byDisk
	case runnable != fits:
		return runnable
	case !matches():
		return byLabels
	case len(p.Regions) > 0 && !slices.Contains(p.Regions, n.Region):
		return byRegion
	case len(p.Zones) > 0 && !slices.Contains(p.Zones, n.Zone):
		return byZone
	case !tolerated(n.Taints, p.Tolerations):
		return byTaints
	}
	return fits
}

// Asked of all nodes at once, by numbered columns that workloads share, each filter answers as it
// would for one node alone, and the first that refuses is the one told.
func TestNodesAreJudgedTogetherAsOneByOne(t *testing.T) {
	few := rapid.SampledFrom([]string{"", "a", "b", "c"})
	rapid.Check(t, func(rt *rapid.T) {
		c := &Cluster{columns: map[string]*column{}, sig: Signals{FullDisks: map[string]string{}}}
		for i := range rapid.IntRange(0, 8).Draw(rt, "nodes") {
			n := &api.Node{ID: fmt.Sprint("n", i), Name: few.Draw(rt, "name"), Region: few.Draw(rt, "region"), Zone: few.Draw(rt, "zone"), Arch: few.Draw(rt, "arch")}
			n.Labels = map[string]string{few.Draw(rt, "key"): few.Draw(rt, "value"), "x": few.Draw(rt, "x")}
			n.Liveness = rapid.SampledFrom([]api.NodeState{api.NodeReady, api.NodeReady, api.NodeReady, api.NodeSuspect}).Draw(rt, "liveness")
			n.Cordoned = rapid.IntRange(0, 5).Draw(rt, "cordoned") == 0
			if rapid.IntRange(0, 5).Draw(rt, "drain") == 0 {
				n.Drain = &api.Drain{}
			}
			if rapid.Bool().Draw(rt, "tainted") {
				n.Taints = []api.Taint{{Key: few.Draw(rt, "taint"), Effect: api.EffectNoSchedule}}
			}
			n.Runtimes.Containers = rapid.Bool().Draw(rt, "containers")
			n.Runtimes.WasmEngine = few.Draw(rt, "engine")
			if rapid.IntRange(0, 5).Draw(rt, "disk") == 0 {
				c.sig.FullDisks[n.ID] = "no space left"
			}
			c.prepare(n)
		}
		for range 3 { // workloads that may use each other's columns
			s := &api.WorkloadSpec{Preferred: rapid.SampledFrom([]api.Variant{"", api.VariantWasm, api.VariantContainer}).Draw(rt, "preferred")}
			if rapid.Bool().Draw(rt, "wasm") {
				s.Wasm = &api.WasmSpec{}
			}
			if s.Wasm == nil || rapid.Bool().Draw(rt, "container") {
				s.Container = &api.ContainerSpec{}
			}
			s.Placement.NodeSelector = rapid.MapOfN(rapid.SampledFrom([]string{"a", "x", "arch", "zone", "name"}), few, 0, 2).Draw(rt, "selector")
			s.Placement.Regions = rapid.SliceOfN(few, 0, 2).Draw(rt, "regions")
			s.Placement.Zones = rapid.SliceOfN(few, 0, 2).Draw(rt, "zones")
			if rapid.Bool().Draw(rt, "tolerant") {
				s.Placement.Tolerations = []api.Toleration{{Key: few.Draw(rt, "tolerated")}}
			}
			p := &profile{sheet: c.newSheet()}
			c.judge(p, s)
			for i, n := range c.nodes {
				if want := oneByOne(n, s, c.sig.FullDisks[n.ID]); p.verdicts[i] != want {
					rt.Fatalf("node %+v, workload %+v: %q, want %q", n, s, p.verdicts[i], want)
				}
			}
		}
	})
}

// A node whose disk is full gets nothing new, the reason is the node's own words, and all others are
// judged as ever.
func TestNothingIsPlacedOnAFullDisk(t *testing.T) {
	f := newFill(t)
	f.node("n1", nil)
	f.node("n2", nil)
	w := workload("a", nil)
	c := New(f.store.View(), Signals{FullDisks: map[string]string{"n1": "no space left: 3 MiB of 96 MiB are free"}})
	p, ok := c.Place(w)
	if !ok || p.NodeID != "n2" || p.Decision.Refused["disk"] != 1 {
		t.Errorf("placed %t on %q, refused %v", ok, p.NodeID, p.Decision.Refused)
	}
	if row := c.Explain(w)[0]; row.Filter != "disk" || row.Reason != "has a full disk: no space left: 3 MiB of 96 MiB are free" {
		t.Errorf("explained as %q: %q", row.Filter, row.Reason)
	}
	if c.FitsInstead("n1", w, api.Reserved{CPU: 100}) {
		t.Error("a successor is started on a full disk")
	}
	c = New(f.store.View(), Signals{FullDisks: map[string]string{"n1": "no space left", "n2": "no space left"}})
	if p, _ := c.Place(w); Message(p.Decision) != "2 nodes: 2 have full disks" {
		t.Errorf("message %q", Message(p.Decision))
	}
}
