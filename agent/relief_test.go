package agent

import (
	"testing"

	"github.com/cloudless/cloudless/api"
)

// Memory is given back once for many replicas that have come or gone, when it has been calm for a while.
func TestMemoryIsGivenBackAfterMany(t *testing.T) {
	given := 0
	r := newRelief()
	r.give = func() { given++ }
	for i, step := range []struct {
		looks                       int
		starting, running, stopping int
		given                       int
	}{
		{100, 0, manyReplicas - 1, 0, 0},
		{100, 1, manyReplicas, 0, 0},
		{calmLooks - 1, 0, manyReplicas, 0, 0},
		{1, 0, manyReplicas, 0, 1},
		{100, 0, manyReplicas, 0, 1},
		{100, 0, 2*manyReplicas - 1, 0, 1},
		{calmLooks, 0, 2 * manyReplicas, 0, 1}, // the first of these is the change
		{1, 0, 2 * manyReplicas, 0, 2},
		{100, 0, 0, 1, 2},
		{calmLooks, 0, 0, 0, 3},
	} {
		for range step.looks {
			r.look(map[api.ReplicaState]int{api.ReplicaStarting: step.starting, api.ReplicaRunning: step.running, api.ReplicaStopping: step.stopping})
		}
		if given != step.given {
			t.Errorf("after step %d it was given back %d times, want %d", i, given, step.given)
		}
	}
}
