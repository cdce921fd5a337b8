package coordinator

import (
	"slices"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
)

// A workload's creation is timed once, until its last replica was ready; what was there before this
// process, and what never becomes ready, is not.
func TestCreationIsTimedOnce(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	w := func(uid string, created, desired int, ready ...int) api.Workload {
		when := at(created)
		st := &api.WorkloadStatus{Phase: api.PhaseRunning, Desired: desired, Ready: len(ready)}
		for _, s := range ready {
			st.Replicas = append(st.Replicas, api.ReplicaStatus{Ready: true, Since: at(s)})
		}
		return api.Workload{Metadata: api.Metadata{UID: uid, CreatedAt: &when}, Status: st}
	}
	failed := w("failed", 11, 1)
	failed.Status.Phase = api.PhaseFailed
	b := births{looked: at(10)}
	for i, look := range []struct {
		all  []api.Workload
		want []time.Duration
	}{
		{[]api.Workload{w("old", 9, 1, 9), w("quick", 11, 2, 14, 12), w("slow", 12, 2, 13), w("none", 12, 0), failed}, []time.Duration{3 * time.Second}},
		{[]api.Workload{w("old", 9, 1, 9), w("quick", 11, 2, 14, 12), w("slow", 12, 2, 13), failed}, nil},
		{[]api.Workload{w("old", 9, 1, 9), w("quick", 11, 3, 14, 12, 40), w("slow", 12, 2, 13, 42)}, []time.Duration{30 * time.Second}},
		{[]api.Workload{w("slow", 12, 2, 13, 42)}, nil},
	} {
		if got := b.look(look.all, at(20+20*i)); !slices.Equal(got, look.want) {
			t.Errorf("look %d: %v, want %v", i, got, look.want)
		}
	}
}
