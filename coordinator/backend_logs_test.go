package coordinator

import (
	"strings"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

// A log that cannot be had is an error that names its node, says why, and what to do instead; not an
// empty log, and not a line in it.
func TestALogThatCannotBeHadIsToldWithItsNode(t *testing.T) {
	t.Parallel()
	s := openServer(t)
	id, _ := enrolled(t, s, "attic")
	one, ref := 1, api.Ref{Namespace: "default", Name: "web"}
	w := api.Workload{Metadata: api.Metadata{Name: "web", Namespace: "default"}, Spec: api.WorkloadSpec{Replicas: &one, Wasm: &api.WasmSpec{Module: "m.wasm"}}}
	w.Spec.Placement.NodeSelector = map[string]string{"only": "by hand"} // the leader places none
	do(t, s, state.Command{PutWorkload: &state.PutWorkload{Workload: w, UID: "u-1"}})
	place := func(name string, st api.ReplicaState) {
		do(t, s, state.Command{PlaceReplicas: &state.PlaceReplicas{Replicas: []api.Replica{{
			ID: name, Workload: ref, UID: "u-1", Version: 1, NodeID: id, Variant: api.VariantWasm, Desired: api.DesiredRun, State: st,
		}}}})
	}
	logs := func(replica string) error {
		t.Helper()
		_, err := s.Logs(t.Context(), "default", "web", api.LogOptions{Replica: replica, Tail: -1})
		return err
	}
	told := func(what string, err error, code api.Code, parts ...string) {
		t.Helper()
		for _, part := range parts {
			if err == nil || !strings.Contains(err.Error(), part) || api.CodeOf(err) != code {
				t.Errorf("%s: %v (%s), want %s with %q", what, err, api.CodeOf(err), code, part)
			}
		}
	}
	place("web-a", api.ReplicaRunning)
	told("node without it", s.noLog(&api.Replica{ID: "web-a", NodeID: id}, api.Errorf(api.CodeNotFound, "replica web-a has no previous log")), api.CodeNotFound,
		"node attic does not give this log: replica web-a has no previous log")
	told("removed node", s.noLog(&api.Replica{ID: "web-z", NodeID: "n-gone", Workload: ref}, api.Errorf(api.CodeUnavailable, "no address")), api.CodeNotFound,
		"was on node n-gone, which was removed", "workload logs web")
	told("silent node", logs("web-a"), api.CodeUnavailable, "on node attic, which cannot be reached now", "node describe attic")
	told("its only replica, not named", logs(""), api.CodeUnavailable, "on node attic, which cannot be reached now")
	do(t, s, state.Command{SetLiveness: &state.SetLiveness{ID: id, Liveness: api.NodeLost, Reason: "silent for 5 s"}, At: time.Unix(1e9, 0).UTC()})
	told("lost node", logs("web-a"), api.CodeUnavailable, "on node attic, which is lost since 2001-09-09T01:46:40Z: silent for 5 s", "start the agent of attic", "workload logs web")
	do(t, s, state.Command{StopReplicas: &state.StopReplicas{IDs: []string{"web-a"}, Reason: "replaced by a newer version"}})
	do(t, s, state.Command{ReportStatuses: &state.ReportStatuses{NodeID: id, Report: api.StatusReport{Reports: []api.ReplicaReport{{ReplicaID: "web-a", State: api.ReplicaStopped}}}}})
	told("replaced replica", logs("web-a"), api.CodeNotFound, "replica web-a is gone", "stopped on node attic", "event list --resource replica/web-a")
	told("one that never was", logs("web-never"), api.CodeNotFound, "workload default/web has no replica web-never")
}
