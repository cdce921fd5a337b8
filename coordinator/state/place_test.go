package state

import (
	"strings"
	"testing"

	"github.com/cloudless/cloudless/api"
)

// A placement was planned on an earlier state: what has changed since, a cordon among it, counts. The event
// tells what was placed, and a plan of which nothing holds is refused.
func TestAPlacementCountsOnlyWhereItStillHolds(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile []Command
		placed    int // of two, the first of which is on n1
	}{
		"nothing":          {nil, 2},
		"a cordon":         {[]Command{{Cordon: &Cordon{ID: "n1", Cordoned: true}}}, 1},
		"a drain":          {[]Command{{Drain: &DrainNode{ID: "n1", Drain: &api.Drain{}}}}, 1},
		"a silent node":    {[]Command{{SetLiveness: &SetLiveness{ID: "n1", Liveness: api.NodeSuspect}}}, 2},
		"a lost node":      {[]Command{{SetLiveness: &SetLiveness{ID: "n1", Liveness: api.NodeLost}}}, 1},
		"a removed node":   {[]Command{{RemoveNode: &ByID{ID: "n1"}}}, 1},
		"a deletion":       {[]Command{{DeleteWorkload: &ByRef{Ref: api.Ref{Namespace: "default", Name: "hello"}}}}, 0},
		"the same before":  {[]Command{{PlaceReplicas: &PlaceReplicas{Replicas: []api.Replica{replica("r1", "n1")}}}}, 1},
		"no node any more": {[]Command{{RemoveNode: &ByID{ID: "n1"}}, {RemoveNode: &ByID{ID: "n2"}}}, 0},
	} {
		s, index := New(), uint64(0)
		do := func(cmd Command) Result {
			index++
			return s.Apply(index, cmd)
		}
		prepare := []Command{{PutToken: &api.Token{ID: "t", Role: api.RoleNode}}, {PutWorkload: &PutWorkload{Workload: hello(2), UID: "u-1"}}}
		for _, id := range []string{"n1", "n2"} {
			prepare = append(prepare, Command{EnrolNode: &EnrolNode{Node: nodeRow(id), TokenID: "t"}}, Command{RegisterNode: registration(id)})
		}
		for _, cmd := range append(prepare, c.meanwhile...) {
			if res := do(cmd); res.Err != nil {
				t.Fatalf("%s: %v", name, res.Err)
			}
		}
		before := len(s.View().Replicas())
		res := do(Command{PlaceReplicas: &PlaceReplicas{Replicas: []api.Replica{replica("r1", "n1"), replica("r2", "n2")}}})
		if got := len(s.View().Replicas()) - before; got != c.placed || (res.Err == nil) != (c.placed > 0) {
			t.Errorf("%s: %d are placed, %v", name, got, res.Err)
		}
		told := s.View().Events(api.EventQuery{Type: api.EventReplicaPlaced, After: index - 1})
		if len(told) != min(c.placed, 1) {
			t.Fatalf("%s: %d events", name, len(told))
		}
		if want := map[int]string{1: "placed 1 replicas, the first (r2) on node n2", 2: "placed 2 replicas, the first (r1) on node n1"}[c.placed]; len(told) > 0 && !strings.Contains(told[0].Message, want) {
			t.Errorf("%s: %s", name, told[0].Message)
		}
	}
}
