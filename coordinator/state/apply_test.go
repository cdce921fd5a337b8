package state

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cloudless/cloudless/api"
)

func snapshot(t interface{ Fatal(...any) }, s *Store) string {
	var b bytes.Buffer
	if err := s.View().Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Every sample is taken in order, so the golden commands are ones that work.
func TestSamplesApply(t *testing.T) {
	s := New()
	for i, c := range samples() {
		c.cmd.At = at
		if res := s.Apply(uint64(i+1), c.cmd); res.Err != nil {
			t.Errorf("%s: %v", c.name, res.Err)
		}
	}
}

// After every command: a snapshot restored elsewhere is the same, and goes on the same.
func TestSnapshotRoundTrip(t *testing.T) {
	s, other := New(), New()
	for i, c := range samples() {
		c.cmd.At = at
		s.Apply(uint64(i+1), c.cmd)
		want := snapshot(t, s)
		if err := other.Restore(bytes.NewBufferString(want)); err != nil {
			t.Fatalf("after %s: %v", c.name, err)
		}
		if diff := cmp.Diff(want, snapshot(t, other)); diff != "" {
			t.Fatalf("after %s:\n%s", c.name, diff)
		}
	}
}

func TestRestoreRefusesAndKeeps(t *testing.T) {
	s := New()
	s.Apply(1, Command{At: at, Found: &Found{ClusterID: "c", Epoch: 1}})
	before := snapshot(t, s)
	for _, in := range []string{"", "{", `{"format":2}`, `{"format":1,"rows":[]}`, before[:len(before)/2]} {
		if err := s.Restore(bytes.NewBufferString(in)); err == nil {
			t.Errorf("%.20q was taken", in)
		}
	}
	if diff := cmp.Diff(before, snapshot(t, s)); diff != "" {
		t.Error(diff)
	}
}

// randomCommand draws one of what a cluster does, sensible or not.
func randomCommand(t *rapid.T) Command {
	node := fmt.Sprintf("n%d", rapid.IntRange(1, 3).Draw(t, "node"))
	id := fmt.Sprintf("hello-%d", rapid.IntRange(1, 5).Draw(t, "replica"))
	n := rapid.IntRange(0, 5).Draw(t, "n")
	r := replica(id, node)
	r.Version = uint64(n)
	state := rapid.SampledFrom([]api.ReplicaState{api.ReplicaRunning, api.ReplicaStopped, api.ReplicaComplete, api.ReplicaFailed}).Draw(t, "state")
	live := rapid.SampledFrom([]api.NodeState{api.NodeReady, api.NodeSuspect, api.NodeLost, api.NodeLeft}).Draw(t, "liveness")
	full := &api.Assignment{ReplicaID: id, Workload: helloRef, UID: "u-1", Version: uint64(n), Variant: api.VariantWasm}
	return rapid.SampledFrom([]Command{
		{EnrolNode: &EnrolNode{Node: nodeRow(node), TokenID: "tok"}},
		{RegisterNode: registration(node)},
		{SetLiveness: &SetLiveness{ID: node, Liveness: live}},
		{Drain: &DrainNode{ID: node, Drain: &api.Drain{}}},
		{RemoveNode: &ByID{ID: node}},
		{PutWorkload: &PutWorkload{Workload: hello(n), UID: "u-1"}},
		{ScaleWorkload: &ScaleWorkload{Ref: helloRef, Replicas: n}},
		{RestartWorkload: &ByRef{Ref: helloRef}},
		{RollbackWork: &RollbackWork{Ref: helloRef, Version: uint64(n)}},
		{DeleteWorkload: &ByRef{Ref: helloRef}},
		{RemoveWorkload: &ByRef{Ref: helloRef}},
		{PlaceReplicas: &PlaceReplicas{Replicas: []api.Replica{r}}},
		{StopReplicas: &StopReplicas{IDs: []string{id}}},
		{OrphanReplicas: &OrphanReplicas{IDs: []string{id}, Orphan: n > 2}},
		{ReportStatuses: &ReportStatuses{NodeID: node, Report: api.StatusReport{
			Epoch: 1, Full: n > 3, Reports: []api.ReplicaReport{{ReplicaID: id, State: state, Ready: n%2 == 0, At: at, Assignment: full}}}}},
		{Batch: []Command{{StopReplicas: &StopReplicas{IDs: []string{id}}}, {RemoveNode: &ByID{ID: node}}}},
	}).Draw(t, "command")
}

// The same commands give the same bytes on every coordinator, also on one that restored a snapshot
// on the way; a refusal changes nothing; every replica's node has a set of that generation or later.
func TestApplyProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one, two := New(), New()
		both := func(i uint64, c Command) {
			c.At = at.Add(time.Duration(i) * time.Second)
			before := snapshot(t, one)
			r1, r2 := one.Apply(i, c), two.Apply(i, c)
			after := snapshot(t, one)
			if r1.Err != nil && before != after {
				t.Fatalf("refused (%v), but changed:\n%s", r1.Err, cmp.Diff(before, after))
			}
			if diff := cmp.Diff(r1, r2); diff != "" {
				t.Fatalf("results differ:\n%s", diff)
			}
			if after != snapshot(t, two) {
				t.Fatalf("tables differ:\n%s", cmp.Diff(after, snapshot(t, two)))
			}
		}
		both(1, Command{Found: &Found{ClusterID: "c", Epoch: 1}})
		both(2, Command{PutToken: &api.Token{ID: "tok", Role: api.RoleNode}})
		for i := range rapid.IntRange(1, 30).Draw(t, "commands") {
			if rapid.IntRange(0, 9).Draw(t, "restore") == 0 {
				if err := two.Restore(bytes.NewBufferString(snapshot(t, two))); err != nil {
					t.Fatal(err)
				}
			}
			both(uint64(i+3), randomCommand(t))
			checkRows(t, one.View())
		}
	})
}

func checkRows(t *rapid.T, v View) {
	for _, r := range v.Replicas() {
		if _, ok := v.Node(r.NodeID); !ok && r.State != api.ReplicaComplete && r.State != api.ReplicaFailed {
			t.Fatalf("replica %s is on node %s, which is gone", r.ID, r.NodeID)
		}
		if gen, _ := v.Set(r.NodeID); gen < r.CreateIndex {
			t.Fatalf("node %s was never told of replica %s", r.NodeID, r.ID)
		}
		w, ok := v.Workload(r.Workload)
		if r.Desired == api.DesiredRun && !ok {
			t.Fatalf("replica %s runs for a workload that is gone", r.ID)
		}
		if _, kept := v.Version(r.Workload, r.UID, r.Version); ok && w.Metadata.UID == r.UID && r.Desired == api.DesiredRun && !kept {
			t.Fatalf("the spec of replica %s (version %d) is gone", r.ID, r.Version)
		}
	}
}

// A stop that waits for a lost node survives its workload and stays in the node's set.
func TestStopOutlivesWorkload(t *testing.T) {
	s, i := New(), uint64(0)
	do := func(c Command) *api.Error {
		i++
		c.At = at
		return s.Apply(i, c).Err
	}
	for _, c := range []Command{
		{PutToken: &api.Token{ID: "tok", Role: api.RoleNode}},
		{EnrolNode: &EnrolNode{Node: nodeRow("n1"), TokenID: "tok"}},
		{RegisterNode: registration("n1")},
		{PutWorkload: &PutWorkload{Workload: hello(1), UID: "u-1"}},
		{PlaceReplicas: &PlaceReplicas{Replicas: []api.Replica{replica("hello-1", "n1")}}},
		{DeleteWorkload: &ByRef{Ref: helloRef}},
		{StopReplicas: &StopReplicas{IDs: []string{"hello-1"}}},
	} {
		if err := do(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := do(Command{RemoveWorkload: &ByRef{Ref: helloRef}}); err == nil {
		t.Fatal("removed while a node that answers still runs it")
	}
	if err := do(Command{SetLiveness: &SetLiveness{ID: "n1", Liveness: api.NodeLost}}); err != nil {
		t.Fatal(err)
	}
	if err := do(Command{RemoveWorkload: &ByRef{Ref: helloRef}}); err != nil {
		t.Fatal(err)
	}
	set := s.View().Assignments("n1")
	if len(set.Assignments) != 1 || set.Assignments[0].Desired != api.DesiredStop {
		t.Errorf("the node will be told %+v", set.Assignments)
	}
}

// The endpoint table lists a replica from its placing until it is told to end, and changes with both.
func TestTheEndpointTableListsWhatIsToRun(t *testing.T) {
	s, i := New(), uint64(0)
	listed := func(c Command) (ids []string) {
		t.Helper()
		i++
		c.At = at
		if err := s.Apply(i, c).Err; err != nil {
			t.Fatal(err)
		}
		table := s.View().Endpoints()
		if len(table.Services) == 0 {
			return nil
		}
		if table.Index != i {
			t.Errorf("the table is of index %d, not %d: no ingress hears of it", table.Index, i)
		}
		for _, e := range table.Services[0].Endpoints {
			ids = append(ids, e.ReplicaID)
		}
		return ids
	}
	listed(Command{PutToken: &api.Token{ID: "tok", Role: api.RoleNode}})
	listed(Command{EnrolNode: &EnrolNode{Node: nodeRow("n1"), TokenID: "tok"}})
	listed(Command{PutWorkload: &PutWorkload{Workload: hello(2), UID: "u-1"}})
	both := listed(Command{PlaceReplicas: &PlaceReplicas{Replicas: []api.Replica{replica("hello-1", "n1"), replica("hello-2", "n1")}}})
	if want := []string{"hello-1", "hello-2"}; !slices.Equal(both, want) {
		t.Errorf("placed, not yet ready: %q, want %q", both, want)
	}
	one := listed(Command{StopReplicas: &StopReplicas{IDs: []string{"hello-1"}}})
	if want := []string{"hello-2"}; !slices.Equal(one, want) {
		t.Errorf("one told to end: %q, want %q", one, want)
	}
}

// A write with the index of an earlier state is refused, whatever it would do; with the right one it goes through.
func TestEveryWriteOfAWorkloadHonoursIfMatch(t *testing.T) {
	for name, write := range map[string]func(match uint64) Command{
		"put": func(m uint64) Command { return Command{PutWorkload: &PutWorkload{Workload: hello(4), IfMatch: m}} },
		"scale": func(m uint64) Command {
			return Command{ScaleWorkload: &ScaleWorkload{Ref: helloRef, Replicas: 4, IfMatch: m}}
		},
		"restart":  func(m uint64) Command { return Command{RestartWorkload: &ByRef{Ref: helloRef, IfMatch: m}} },
		"rollback": func(m uint64) Command { return Command{RollbackWork: &RollbackWork{Ref: helloRef, IfMatch: m}} },
		"delete":   func(m uint64) Command { return Command{DeleteWorkload: &ByRef{Ref: helloRef, IfMatch: m}} },
	} {
		s := New()
		s.Apply(1, Command{At: at, PutWorkload: &PutWorkload{Workload: hello(1), UID: "u-1"}})
		s.Apply(2, Command{At: at, PutWorkload: &PutWorkload{Workload: hello(2)}})
		before, _ := s.View().Workload(helloRef)
		if err := s.Apply(3, write(1)).Err; err == nil || err.Code != api.CodeConflict {
			t.Errorf("%s with an old index: %v", name, err)
		}
		if now, _ := s.View().Workload(helloRef); now != before {
			t.Errorf("%s was refused, but changed the workload", name)
		}
		if err := s.Apply(4, write(2)).Err; err != nil {
			t.Errorf("%s with the right index: %v", name, err)
		}
	}
}
