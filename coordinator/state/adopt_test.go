package state

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cloudless/cloudless/api"
)

// What a node runs and the tables do not know is decided on once, when an epoch has begun: what belongs to a
// workload is taken in, the rest is to stop. At any other time, and of a node that is new, a replica that it
// claims is not believed, so that no node gives itself the workloads of others.
func TestOnlyTheFirstReportOfAnEpochBringsReplicas(t *testing.T) {
	s, index := New(), uint64(0)
	do := func(cmds ...Command) {
		t.Helper()
		for _, c := range cmds {
			index++
			if res := s.Apply(index, c); res.Err != nil {
				t.Fatal(res.Err)
			}
		}
	}
	claim := func(epoch uint64, node string, ids ...string) {
		t.Helper()
		rep := api.StatusReport{Epoch: epoch, Full: true}
		for _, id := range ids {
			a := api.Assignment{ReplicaID: id, Workload: helloRef, UID: "u-1", Version: 1, Variant: api.VariantWasm}
			if id == "stray" {
				a.UID = "u-0"
			}
			rep.Reports = append(rep.Reports, api.ReplicaReport{ReplicaID: id, State: api.ReplicaRunning, Assignment: &a})
		}
		do(Command{ReportStatuses: &ReportStatuses{NodeID: node, Report: rep}})
	}
	want := func(node string, replicas ...string) {
		t.Helper()
		var got []string
		for _, r := range s.View().ReplicasOn(node) {
			got = append(got, fmt.Sprint(r.ID, " ", r.Desired))
		}
		if !slices.Equal(got, replicas) || !s.View().Assignments(node).Reported {
			t.Errorf("node %s has %q, want %q; it has reported: %v", node, got, replicas, s.View().Assignments(node).Reported)
		}
	}
	do(Command{Found: &Found{ClusterID: "c", Epoch: 1}}, Command{PutToken: &api.Token{ID: "t", Role: api.RoleNode}},
		Command{PutWorkload: &PutWorkload{Workload: hello(1), UID: "u-1"}}, Command{EnrolNode: &EnrolNode{Node: nodeRow("n1"), TokenID: "t"}})
	claim(1, "n1", "forged")
	want("n1")

	do(Command{Found: &Found{ClusterID: "c", Epoch: 2}})
	if s.View().Assignments("n1").Reported {
		t.Error("in a new epoch a node counts as one that has reported")
	}
	claim(2, "n1", "a", "stray")
	want("n1", "a run", "stray stop")
	claim(2, "n1", "a", "forged")
	want("n1", "a run", "stray stop")

	do(Command{EnrolNode: &EnrolNode{Node: nodeRow("n2"), TokenID: "t"}})
	claim(2, "n2", "b")
	want("n2")
}
