package state

import (
	"testing"

	"github.com/cloudless/cloudless/api"
)

// What a job has finished stays when its node is taken out, or it would be run again; everything else
// on that node goes.
func TestAFinishedRunOutlivesItsNode(t *testing.T) {
	takeOut := map[string]Command{
		"removed": {RemoveNode: &ByID{ID: "n1"}},
		"revoked": {RevokeNode: &RevokeNode{ID: "n1", Reason: "stolen"}},
	}
	for name, c := range map[string]struct {
		policy string
		state  api.ReplicaState
		edit   func(r *api.Replica)
		kept   bool
	}{
		"complete":                     {policy: api.RestartOnFailure, state: api.ReplicaComplete, kept: true},
		"failed for good":              {policy: api.RestartNever, state: api.ReplicaFailed, kept: true},
		"still running":                {policy: api.RestartNever, state: api.ReplicaRunning},
		"waiting to be tried again":    {policy: api.RestartOnFailure, state: api.ReplicaBackoff},
		"failed, but no job":           {policy: api.RestartAlways, state: api.ReplicaFailed},
		"complete, and replaced":       {policy: api.RestartNever, state: api.ReplicaComplete, edit: func(r *api.Replica) { r.Orphan = true }},
		"complete, and told to stop":   {policy: api.RestartNever, state: api.ReplicaComplete, edit: func(r *api.Replica) { r.Desired = api.DesiredStop }},
		"stopped by whoever was there": {policy: api.RestartNever, state: api.ReplicaStopped},
	} {
		for how, out := range takeOut {
			t.Run(name+", "+how, func(t *testing.T) {
				job, row := hello(1), replica("hello-1", "n1")
				job.Spec.Restart.Policy, row.State = c.policy, c.state
				if c.edit != nil {
					c.edit(&row)
				}
				s := New()
				for i, cmd := range []Command{
					{PutToken: &api.Token{ID: "tok", Role: api.RoleNode}},
					{EnrolNode: &EnrolNode{Node: nodeRow("n1"), TokenID: "tok"}},
					{RegisterNode: registration("n1")},
					{PutWorkload: &PutWorkload{Workload: job, UID: "u-1"}},
					{PlaceReplicas: &PlaceReplicas{Replicas: []api.Replica{row}}},
					out,
				} {
					cmd.At = at
					if err := s.Apply(uint64(i+1), cmd).Err; err != nil {
						t.Fatal(err)
					}
				}
				if _, kept := s.View().Replica("hello-1"); kept != c.kept {
					t.Errorf("kept: %t", kept)
				}
			})
		}
	}
}
