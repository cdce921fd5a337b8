package coordinator

import (
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

// A job that fails at once was running for a moment: who waits for it is not to be told that it went well.
func TestAJobIsSettledWhenItHasCompleted(t *testing.T) {
	job := api.WorkloadSpec{Container: &api.ContainerSpec{Image: "job"}, Restart: api.Restart{Policy: api.RestartNever}}
	retried := job
	retried.Restart.Policy = api.RestartOnFailure
	server := job
	server.Ports = []api.Port{{Port: 5432, Protocol: api.ProtocolTCP}}
	service := job
	service.Restart.Policy = api.RestartAlways
	for name, tt := range map[string]struct {
		spec    api.WorkloadSpec
		running bool // is enough
	}{
		"a job": {job, false}, "a job that is tried again": {retried, false},
		"a server that is not": {server, true}, "a service": {service, true},
	} {
		w := &state.Workload{Workload: api.Workload{Spec: tt.spec}}
		for phase, want := range map[api.Phase]bool{
			api.PhaseComplete: true, api.PhaseRunning: tt.running, api.PhaseFailed: false, api.PhasePending: false, api.PhaseDegraded: false,
		} {
			if got := settledPhase(w, &api.WorkloadStatus{Phase: phase}); got != want {
				t.Errorf("%s that is %s: settled %t, want %t", name, phase, got, want)
			}
		}
	}
}
