package state

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
)

// While a version is rolled out, and only then, the nodes of old replicas are told to prepare it: every
// change of what is to be prepared is a new generation of their assignments, without which they would
// never hear of it.
func TestTheNodeOfAnOldReplicaIsToldToPrepareTheNewVersion(t *testing.T) {
	s, index := New(), uint64(0)
	do := func(c Command) {
		t.Helper()
		index++
		c.At = at
		if res := s.Apply(index, c); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	two, three := 2, 3
	web := api.Workload{Metadata: api.Metadata{Namespace: "default", Name: "web"}}
	web.Spec = api.WorkloadSpec{Replicas: &two, Wasm: &api.WasmSpec{Module: "m.wasm", Mode: api.ModeHTTP}}
	do(Command{Found: &Found{ClusterID: "c", Epoch: 1}})
	do(Command{PutToken: &api.Token{ID: "t", Role: api.RoleNode}})
	for _, id := range []string{"n-a", "n-b"} {
		do(Command{EnrolNode: &EnrolNode{Node: api.Node{ID: id, Name: id}, TokenID: "t"}})
	}
	do(Command{PutWorkload: &PutWorkload{Workload: web, UID: "w-1"}})
	do(Command{PlaceReplicas: &PlaceReplicas{Replicas: []api.Replica{
		{ID: "r-1", Workload: web.Ref(), UID: "w-1", Version: 1, NodeID: "n-a", Variant: api.VariantWasm, Desired: api.DesiredRun},
		{ID: "r-2", Workload: web.Ref(), UID: "w-1", Version: 1, NodeID: "n-a", Variant: api.VariantWasm, Desired: api.DesiredRun},
	}}})
	check := func(what string, changed bool, want ...uint64) {
		t.Helper()
		set := s.View().Assignments("n-a")
		var versions []uint64
		for _, p := range set.Prepare {
			versions = append(versions, p.Version)
		}
		if diff := cmp.Diff(want, versions); diff != "" {
			t.Errorf("%s: versions to prepare: %s", what, diff)
		}
		if got := set.Generation == index; got != changed {
			t.Errorf("%s: the generation is %d after entry %d", what, set.Generation, index)
		}
		if other := s.View().Assignments("n-b"); len(other.Prepare) > 0 || other.Generation == index {
			t.Errorf("%s: the other node was told %v", what, other)
		}
	}
	check("placed", true)
	do(Command{ScaleWorkload: &ScaleWorkload{Ref: web.Ref(), Replicas: 3}})
	check("scaled: nothing is replaced", false)
	web.Spec.Replicas, web.Spec.Env = &three, map[string]string{"A": "b"}
	do(Command{PutWorkload: &PutWorkload{Workload: web}})
	check("a new version", true, 3)
	do(Command{ScaleWorkload: &ScaleWorkload{Ref: web.Ref(), Replicas: 2}})
	check("scaled in the middle of it", true, 4)
	do(Command{StopReplicas: &StopReplicas{IDs: []string{"r-1"}}})
	check("one is replaced", true, 4)
	do(Command{StopReplicas: &StopReplicas{IDs: []string{"r-2"}}})
	check("both are", true)
}
