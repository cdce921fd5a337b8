package supervise

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudless/cloudless/agent/volume"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/fake"
)

// shelf is volumes that note what is asked of them.
type shelf struct {
	mu    sync.Mutex
	asked []string
	fail  error
	on    func(what string) // at the time of a release; may be nil
}

func (s *shelf) Mount(_ context.Context, r volume.Request) ([]sandbox.Mount, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, fmt.Sprintf("mount %s %s %d", r.Replica, r.Variant, len(r.Volumes)))
	return []sandbox.Mount{{Source: "/host/" + r.Replica, Target: r.Volumes[0].Path}}, s.fail
}

func (s *shelf) Release(_ context.Context, replica string) {
	if s.on != nil {
		s.on("release " + replica)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, "release "+replica)
}

func withVolume(s *api.WorkloadSpec) {
	s.Volumes = []api.Volume{{Name: "data", Path: "/data", Size: api.MinVolumeBytes}}
}

// A replica's volumes are made before each start, and given back once: when it has ended for good, and
// before that is told.
func TestVolumesComeAndGoWithTheReplica(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var mounts []sandbox.Mount
		d := wasmDriver(fake.Script{Start: func(_ context.Context, spec sandbox.Spec) error {
			mounts = spec.Mounts
			return nil
		}})
		n := newNode(t)
		n.close(StopKill)
		s := &shelf{}
		n.volumes = s
		n.start(d)
		s.on = func(string) {
			same(t, "running at the release", []string{}, d.Running())
			same(t, "state", "stopping", string(n.last("r-1").State))
		}
		n.run("r-1", api.VariantWasm, wasm(withVolume))
		synctest.Wait()
		same(t, "mounts", []sandbox.Mount{{Source: "/host/r-1", Target: "/data"}}, mounts)
		d.End("r-1", sandbox.Exit{Code: 1})
		after(2 * time.Second) // it is started again
		same(t, "starts", 2, d.Starts("r-1"))
		n.stopOne("r-1")
		synctest.Wait()
		same(t, "asked", []string{"mount r-1 wasm 1", "mount r-1 wasm 1", "release r-1"}, s.asked)
		n.close(StopKill)
	})
}

// What a job wrote is out of its volumes before its end is told; the end of an agent ends no volume, and its
// next process takes those of adopted replicas up.
func TestVolumesOfJobsAndOfAdoptedReplicas(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t)
		n.close(StopKill)
		s := &shelf{}
		n.volumes = s
		containers := fake.New(fake.Script{Variant: api.VariantContainer, Adoptable: true})
		n.start(containers, wasmDriver(fake.Script{Main: exits(0)}))
		s.on = func(string) { same(t, "told before the release", "ready", n.states("r-job")[len(n.states("r-job"))-1]) }
		n.run("r-job", api.VariantWasm, wasm(func(s *api.WorkloadSpec) { withVolume(s); s.Restart.Policy = api.RestartNever }))
		synctest.Wait()
		same(t, "asked", []string{"mount r-job wasm 1", "release r-job"}, s.asked)
		s.asked = nil
		n.run("r-1", api.VariantContainer, container(withVolume))
		synctest.Wait()
		n.close(StopRestart)
		same(t, "asked by the first process", []string{"mount r-1 container 1"}, s.asked)
		n.start(containers)
		n.Resume(t.Context(), n.ledger.all())
		synctest.Wait()
		same(t, "starts", 1, containers.Starts("r-1"))
		same(t, "asked by the second", []string{"mount r-1 container 1", "mount r-1 container 1"}, s.asked)
		n.close(StopKill)
		same(t, "asked at its end", 2, len(s.asked))
	})
}

// A volume that cannot be made keeps its replica from starting, and the status says why.
func TestAVolumeThatCannotBeMade(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := wasmDriver(fake.Script{})
		n := newNode(t)
		n.close(StopKill)
		s := &shelf{fail: api.Errorf(api.CodeNoRoom, "bucket assets is too large")}
		n.volumes = s
		n.start(d)
		n.run("r-1", api.VariantWasm, wasm(withVolume))
		synctest.Wait()
		same(t, "starts", 0, d.Starts("r-1"))
		same(t, "reason", "bucket assets is too large", n.last("r-1").Reason)
		n.close(StopKill)

		n.volumes = nil
		n.start(d)
		n.run("r-2", api.VariantWasm, wasm(withVolume))
		synctest.Wait()
		same(t, "reason", "this node makes no volumes", n.last("r-2").Reason)
		n.close(StopKill)
	})
}
