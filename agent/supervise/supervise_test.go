package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/agent/converge"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/fake"
)

func same[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s:\n%s", what, diff)
	}
}

func TestLifeOfAReplica(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var n *node
		saved := false
		d := wasmDriver(fake.Script{Start: func(_ context.Context, spec sandbox.Spec) error {
			saved = len(n.ledger.all()) == 1 // else a crash now would leave a replica that nobody knows
			if spec.Artifact != "/store/"+digest || spec.Memory != api.DefaultWasmMemory || spec.NodeID != "n-1" {
				t.Errorf("spec %+v", spec)
			}
			return nil
		}})
		n = newNode(t, d)
		n.run("r-1", api.VariantWasm, wasm(nil))
		n.run("r-1", api.VariantWasm, wasm(nil)) // the same again changes nothing
		synctest.Wait()
		same(t, "states", []string{"starting", "ready"}, n.states("r-1"))
		same(t, "in the ledger before its start", true, saved)
		same(t, "serving", []string{"r-1"}, n.Serving("default", "hello"))
		if _, _, ok := n.Endpoint("r-1"); !ok {
			t.Error("a ready replica has no endpoint")
		}
		n.stopOne("r-1")
		synctest.Wait()
		same(t, "states", []string{"starting", "ready", "stopping", "stopped"}, n.states("r-1"))
		same(t, "serving after its end", 0, len(n.Serving("default", "hello")))
		same(t, "running", []string{}, d.Running())
		same(t, "records", 0, len(n.ledger.all()))
		n.Apply([]converge.Action{{Kind: converge.Forget, ReplicaID: "r-1"}})
		synctest.Wait()
		same(t, "local", map[string]converge.Replica{}, n.Local())
		same(t, "starts", 1, d.Starts("r-1"))
		n.close(StopRestart)
	})
}

func TestPolicies(t *testing.T) {
	for _, c := range []struct {
		policy string
		code   int
		state  api.ReplicaState
		starts int // within 2 seconds
	}{
		{api.RestartAlways, 0, api.ReplicaBackoff, 2},
		{api.RestartAlways, 3, api.ReplicaBackoff, 2},
		{api.RestartOnFailure, 0, api.ReplicaComplete, 1},
		{api.RestartOnFailure, 3, api.ReplicaBackoff, 2},
		{api.RestartNever, 0, api.ReplicaComplete, 1},
		{api.RestartNever, 3, api.ReplicaFailed, 1},
	} {
		t.Run(fmt.Sprintf("%s after code %d", c.policy, c.code), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				d := wasmDriver(fake.Script{Main: exits(c.code)})
				n := newNode(t, d)
				n.run("r-1", api.VariantWasm, wasm(policy(c.policy)))
				after(2 * time.Second)
				rep := n.last("r-1")
				same(t, "state", c.state, rep.State)
				same(t, "ready", false, rep.Ready)
				same(t, "exit code", &c.code, rep.ExitCode)
				same(t, "reason", fmt.Sprintf("exited with code %d", c.code), rep.Reason)
				same(t, "starts", c.starts, d.Starts("r-1"))
				same(t, "restarts", c.starts-1, rep.Restarts)
				same(t, "records", 1, len(n.ledger.all()))
				n.close(StopRestart)
			})
		})
	}
}

// The pause doubles up to maxBackoff, each up to a fifth shorter, and starts anew after a long run.
func TestBackoff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var starts []time.Time
		d := wasmDriver(fake.Script{Main: func(g fake.Guest) sandbox.Exit {
			starts = append(starts, time.Now())
			if len(starts) == 6 { // this one runs for ten times maxBackoff
				time.Sleep(80 * time.Second)
			}
			return sandbox.Exit{Code: 1}
		}})
		n := newNode(t, d)
		n.run("r-1", api.VariantWasm, wasm(func(s *api.WorkloadSpec) {
			s.Restart = api.Restart{Policy: api.RestartAlways, Backoff: api.Duration(time.Second), MaxBackoff: api.Duration(8 * time.Second)}
		}))
		after(115 * time.Second)
		n.close(StopRestart)
		for i, want := range []time.Duration{1, 2, 4, 8, 8, 80 + 1, 2, 4} {
			got, want := starts[i+1].Sub(starts[i]), want*time.Second
			ran := 80 * time.Second
			if i != 5 {
				ran = 0
			}
			if got > want || got < ran+time.Duration(float64(want-ran)*(1-jitter)) {
				t.Errorf("pause %d is %v, want up to a fifth less than %v", i, got, want)
			}
		}
	})
}

// What can never work is told at once with its reason, and tried again only at the longest pause.
func TestInvalidArtifact(t *testing.T) {
	for _, c := range []struct {
		policy string
		state  api.ReplicaState
	}{{api.RestartNever, api.ReplicaFailed}, {api.RestartAlways, api.ReplicaBackoff}} {
		t.Run(c.policy, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var tries atomic.Int32
				d := wasmDriver(fake.Script{Prepare: func(context.Context, sandbox.Spec) error {
					tries.Add(1)
					return api.Errorf(api.CodeInvalid, "this is no WebAssembly module")
				}})
				n := newNode(t, d)
				n.run("r-1", api.VariantWasm, wasm(policy(c.policy)))
				synctest.Wait()
				same(t, "state", c.state, n.last("r-1").State)
				same(t, "whether a next try is told", c.state == api.ReplicaBackoff, n.last("r-1").NextTry.After(time.Now()))
				same(t, "reason", "this is no WebAssembly module", n.last("r-1").Reason)
				after(40 * time.Second)
				same(t, "tries", 1, tries.Load())
				n.close(StopRestart)
			})
		})
	}
}

func TestMissingDriverIsToldAndTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, wasmDriver(fake.Script{}))
		n.run("r-1", api.VariantContainer, container(nil))
		synctest.Wait()
		same(t, "state", api.ReplicaBackoff, n.last("r-1").State)
		if !strings.Contains(n.last("r-1").Reason, "runs no container") {
			t.Errorf("reason %q", n.last("r-1").Reason)
		}
		n.close(StopRestart)
	})
}

// A replica can be stopped at any point of its life, and is then gone.
func TestStopAtAnyPoint(t *testing.T) {
	block := func(ctx context.Context, _ sandbox.Spec) error { <-ctx.Done(); return ctx.Err() }
	for name, script := range map[string]fake.Script{
		"preparing": {Prepare: block},
		"starting":  {Start: block},
		"running":   {},
		"backoff":   {Main: exits(1)},
		"deaf":      {Main: func(g fake.Guest) sandbox.Exit { <-g.Killed; return sandbox.Exit{} }},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				d := wasmDriver(script)
				n := newNode(t, d)
				n.run("r-1", api.VariantWasm, wasm(nil))
				synctest.Wait()
				n.stopOne("r-1")
				n.stopOne("r-1")
				after(stopGrace + time.Second)
				same(t, "state", api.ReplicaStopped, n.last("r-1").State)
				same(t, "running", []string{}, d.Running())
				same(t, "records", 0, len(n.ledger.all()))
				n.close(StopRestart)
			})
		})
	}
}

// A coordinator that waits for the end of a replica that this node does not have gets its answer.
func TestStopOfTheUnknownIsAnswered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, wasmDriver(fake.Script{}))
		n.stopOne("r-9")
		same(t, "state", api.ReplicaStopped, n.last("r-9").State)
		n.close(StopRestart)
	})
}

func TestRefusedAssignmentIsReportedAsFailed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, wasmDriver(fake.Script{}))
		n.Apply([]converge.Action{{Kind: converge.Refuse, ReplicaID: "r-1", Reason: "the spec has no wasm part"}})
		same(t, "state", api.ReplicaFailed, n.last("r-1").State)
		same(t, "reason", "the spec has no wasm part", n.last("r-1").Reason)
		n.close(StopRestart)
	})
}

// An agent that restarts adopts its containers, starts its wasm replicas anew, keeps the counts, and
// never tells that a replica which is still wanted has ended.
func TestRestartOfTheAgent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		containers, guests := fake.New(fake.Script{Adoptable: true}), wasmDriver(fake.Script{})
		n := newNode(t, containers, guests)
		n.run("r-c", api.VariantContainer, container(nil))
		n.run("r-w", api.VariantWasm, wasm(nil))
		synctest.Wait()
		containers.Kill("r-c")
		after(2 * time.Second) // it has restarted once
		n.close(StopRestart)
		same(t, "left running", []string{"r-c"}, containers.Running())
		same(t, "wasm running", []string{}, guests.Running())
		same(t, "state told last", []api.ReplicaState{api.ReplicaRunning, api.ReplicaRunning}, []api.ReplicaState{n.last("r-c").State, n.last("r-w").State})

		n.start(containers, guests)
		n.Resume(t.Context(), n.ledger.all())
		synctest.Wait()
		same(t, "container starts", 2, containers.Starts("r-c"))
		same(t, "wasm starts", 2, guests.Starts("r-w"))
		same(t, "container", []any{true, 1}, []any{n.last("r-c").Ready, n.last("r-c").Restarts})
		same(t, "wasm", []any{true, 0}, []any{n.last("r-w").Ready, n.last("r-w").Restarts})
		same(t, "event", api.EventReplicaAdopted, n.events[0].Type)
		n.close(StopKill)
		same(t, "left running after kill", []string{}, containers.Running())
		same(t, "records", 2, len(n.ledger.all()))
	})
}

func TestWhatHasEndedStaysEnded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := wasmDriver(fake.Script{Main: exits(0)})
		n := newNode(t, d)
		n.run("job", api.VariantWasm, wasm(policy(api.RestartOnFailure)))
		synctest.Wait()
		n.close(StopRestart)
		n.start(d)
		n.Resume(t.Context(), n.ledger.all())
		after(time.Hour)
		same(t, "starts", 1, d.Starts("job"))
		same(t, "states", []string{"complete"}, n.states("job"))
		n.stopOne("job") // not wanted any more: this must be answered, too
		same(t, "states", []string{"complete", "stopped"}, n.states("job"))
		n.close(StopRestart)
	})
}

// A crash after an end was told must not run a finished job again, so the ledger has it before.
func TestAnEndIsInTheLedgerBeforeItIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		main func(fake.Guest) sandbox.Exit
		want api.ReplicaState
	}{
		"complete": {exits(0), api.ReplicaComplete},
		"failed":   {exits(3), api.ReplicaFailed},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				n := newNode(t, wasmDriver(fake.Script{Main: c.main}))
				n.run("job", api.VariantWasm, wasm(policy(api.RestartNever)))
				synctest.Wait()
				same(t, "state", c.want, n.last("job").State)
				same(t, "told before the ledger had it", []api.ReplicaReport(nil), n.early)
				n.close(StopRestart)
			})
		})
	}
	t.Run("fault of ours", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			n := newNode(t, wasmDriver(fake.Script{Start: func(context.Context, sandbox.Spec) error { panic("boom") }}))
			n.run("job", api.VariantWasm, wasm(nil))
			synctest.Wait()
			same(t, "state", api.ReplicaFailed, n.last("job").State)
			same(t, "told before the ledger had it", []api.ReplicaReport(nil), n.early)
			n.close(StopRestart)
		})
	})
}

// unsure is a driver that cannot tell at first whether a replica still runs.
type unsure struct {
	*fake.Driver
	failures int
}

func (d *unsure) Adopt(ctx context.Context, spec sandbox.Spec) (sandbox.Handle, error) {
	if d.failures--; d.failures >= 0 {
		return nil, api.Errorf(api.CodeUnavailable, "containerd does not answer")
	}
	return d.Driver.Adopt(ctx, spec)
}

// While the driver cannot tell, no second copy is started beside the first.
func TestAdoptionIsTriedUntilItIsKnown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := &unsure{Driver: fake.New(fake.Script{Adoptable: true}), failures: 2}
		n := newNode(t, d)
		n.run("r-1", api.VariantContainer, container(policy(api.RestartNever)))
		synctest.Wait()
		n.close(StopRestart)
		n.start(d)
		n.Resume(t.Context(), n.ledger.all())
		after(10 * time.Second)
		same(t, "starts", 1, d.Starts("r-1"))
		same(t, "states", []string{"backoff", "ready"}, n.states("r-1"))
		same(t, "restarts", 0, n.last("r-1").Restarts)
		n.close(StopKill)
	})
}

// slow takes a second to take a container up.
type slow struct{ *fake.Driver }

func (d slow) Adopt(ctx context.Context, spec sandbox.Spec) (sandbox.Handle, error) {
	select {
	case <-time.After(time.Second):
		return d.Driver.Adopt(ctx, spec)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestAStopDuringAdoptionStopsWhatRuns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := slow{fake.New(fake.Script{Adoptable: true})}
		n := newNode(t, d)
		n.run("r-1", api.VariantContainer, container(nil))
		synctest.Wait()
		n.close(StopRestart)
		n.start(d)
		n.Resume(t.Context(), n.ledger.all())
		synctest.Wait()
		n.stopOne("r-1")
		after(5 * time.Second)
		same(t, "running", 0, len(d.Running()))
		same(t, "state", api.ReplicaStopped, n.last("r-1").State)
		n.close(StopKill)
	})
}

// A stop that comes while the driver cannot tell is kept for the next start.
func TestAStopWhileAdoptionFailsForgetsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := &unsure{Driver: fake.New(fake.Script{Adoptable: true}), failures: 1 << 20}
		n := newNode(t, d)
		n.run("r-1", api.VariantContainer, container(nil))
		synctest.Wait()
		n.close(StopRestart)
		n.start(d)
		n.Resume(t.Context(), n.ledger.all())
		synctest.Wait()
		n.stopOne("r-1")
		after(5 * time.Second)
		same(t, "records", 1, len(n.ledger.all()))
		if s := n.last("r-1").State; s == api.ReplicaStopped {
			t.Error("it is told as stopped, and may run")
		}
		n.close(StopRestart)
		d.End("r-1", sandbox.Exit{})
	})
}

// stubborn replicas cannot be stopped at first.
type stubborn struct {
	sandbox.Handle
	failures *atomic.Int32
}

func (h stubborn) Stop(ctx context.Context, grace time.Duration) error {
	if h.failures.Add(-1) >= 0 {
		return errors.New("containerd does not answer")
	}
	return h.Handle.Stop(ctx, grace)
}

type stubbornDriver struct {
	*fake.Driver
	failures atomic.Int32
}

func (d *stubbornDriver) Start(ctx context.Context, spec sandbox.Spec) (sandbox.Handle, error) {
	h, err := d.Driver.Start(ctx, spec)
	return stubborn{h, &d.failures}, err
}

// A replica is told as stopped only when it is gone.
func TestStoppingIsTriedUntilItIsDone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := &stubbornDriver{Driver: wasmDriver(fake.Script{})}
		d.failures.Store(2)
		n := newNode(t, d)
		n.run("r-1", api.VariantWasm, wasm(nil))
		synctest.Wait()
		n.stopOne("r-1")
		after(time.Second / 2)
		same(t, "state", api.ReplicaStopping, n.last("r-1").State)
		after(time.Minute)
		same(t, "state", api.ReplicaStopped, n.last("r-1").State)

		n.run("r-2", api.VariantWasm, wasm(nil))
		synctest.Wait()
		d.failures.Store(1 << 20)
		n.stopOne("r-2")
		synctest.Wait()
		n.close(StopRestart) // the agent does not wait for ever
		same(t, "state", api.ReplicaStopping, n.last("r-2").State)
		same(t, "records", 1, len(n.ledger.all()))
		d.End("r-2", sandbox.Exit{})
	})
}

// A fault of ours in one replica is told and leaves the others alone.
func TestPanicEndsOneReplicaOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := wasmDriver(fake.Script{Start: func(_ context.Context, spec sandbox.Spec) error {
			if spec.ID == "r-bad" {
				panic("boom")
			}
			return nil
		}})
		n := newNode(t, d)
		n.run("r-good", api.VariantWasm, wasm(nil))
		n.run("r-bad", api.VariantWasm, wasm(nil))
		synctest.Wait()
		same(t, "bad", api.ReplicaFailed, n.last("r-bad").State)
		n.run("r-later", api.VariantWasm, wasm(nil))
		synctest.Wait()
		same(t, "running", []string{"r-good", "r-later"}, d.Running())
		n.close(StopRestart)
	})
}

// A full disk under the ledger is told; it does not keep a replica from running.
func TestBrokenLedgerIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, wasmDriver(fake.Script{}))
		n.ledger.fail = api.Errorf(api.CodeNoRoom, "the disk is full")
		n.run("r-1", api.VariantWasm, wasm(nil))
		synctest.Wait()
		same(t, "ready", true, n.last("r-1").Ready)
		if len(n.events) == 0 || n.events[0].Severity != api.SeverityError || !strings.Contains(n.events[0].Message, "disk is full") {
			t.Errorf("events %+v", n.events)
		}
		n.close(StopRestart)
	})
}

func TestAVersionIsPreparedOnceAndTriedUntilItIs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var calls atomic.Int32
		d := wasmDriver(fake.Script{Prepare: func(context.Context, sandbox.Spec) error {
			if calls.Add(1) == 1 {
				return errors.New("line cut")
			}
			return nil
		}})
		n := newNode(t, d)
		prepare := []converge.Action{{Kind: converge.Prepare, Assignment: assignment("", ""), Spec: wasm(nil)}}
		n.Apply(prepare)
		n.Apply(prepare)
		synctest.Wait()
		same(t, "calls", 1, calls.Load())
		same(t, "asked for", map[string]bool{"w-1/1": true}, n.Prepared())
		same(t, "warm after a failure", nil, n.Warm())
		same(t, "told", api.EventNodeTrouble, n.events[0].Type)
		after(retryPrepare + time.Second)
		same(t, "warm", []string{"w-1/1"}, n.Warm())
		n.Apply(prepare)
		after(time.Hour)
		same(t, "calls", 2, calls.Load())
		n.KeepPrepared([]api.AssignedSpec{{UID: "w-1", Version: 1}})
		same(t, "kept", []string{"w-1/1"}, n.Warm())
		n.KeepPrepared(nil)
		same(t, "no longer to come", nil, n.Warm())
		n.close(StopRestart)
	})
}

// Thousands start with few at a time in the driver.
func TestStartsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var now, peak atomic.Int32
		d := wasmDriver(fake.Script{Start: func(context.Context, sandbox.Spec) error {
			peak.Store(max(peak.Load(), now.Add(1)))
			time.Sleep(time.Millisecond)
			now.Add(-1)
			return nil
		}})
		n := newNode(t, d)
		for i := range 500 {
			n.run(fmt.Sprintf("r-%d", i), api.VariantWasm, wasm(nil))
		}
		after(time.Minute)
		same(t, "running", 500, len(d.Running()))
		same(t, "ready", 500, len(n.Serving("default", "hello")))
		if limit := int32(cap(n.starting[api.VariantWasm])); peak.Load() > limit {
			t.Errorf("%d started at a time, limit %d", peak.Load(), limit)
		}
		n.close(StopKill)
	})
}

// A reporter may hold its lock while it asks for a full report, and take the same lock in OnStatus.
func TestStatusAndReportsDoNotWaitForEachOther(t *testing.T) {
	n := newNode(t, wasmDriver(fake.Script{Main: exits(1)}))
	var mu sync.Mutex
	n.cfg.OnStatus = func(api.ReplicaReport) {
		mu.Lock()
		defer mu.Unlock()
	}
	quick := wasm(func(s *api.WorkloadSpec) { s.Restart.Backoff = api.Duration(time.Millisecond) })
	for i := range 20 {
		n.run(fmt.Sprintf("r-%d", i), api.VariantWasm, quick)
	}
	for range 200 {
		mu.Lock()
		reports := n.Reports()
		mu.Unlock()
		if len(reports) != 20 || reports[0].Assignment == nil {
			t.Fatalf("%d reports", len(reports))
		}
	}
	n.close(StopKill)
}

// What converge decided, done, leaves it nothing to decide.
func TestConvergeSettles(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, wasmDriver(fake.Script{}))
		set := &api.AssignmentSet{
			Epoch: 1, Generation: 5, Reported: true,
			Assignments: []api.Assignment{assignment("r-1", api.VariantWasm), assignment("r-2", api.VariantWasm)},
			Specs:       []api.AssignedSpec{{UID: "w-1", Version: 1, Spec: wasm(nil)}},
			Prepare:     []api.AssignedSpec{{UID: "w-2", Version: 1, Spec: wasm(nil)}},
		}
		step := func() []converge.Action {
			local := converge.Local{Epoch: 1, Replicas: n.Local(), Prepared: n.Prepared()}
			actions, _ := converge.Step(local, converge.Input{Set: set}, time.Now())
			n.Apply(actions)
			synctest.Wait()
			return actions
		}
		same(t, "first", 3, len(step()))
		same(t, "then", 0, len(step()))
		set.Generation, set.Assignments = 6, set.Assignments[:1]
		same(t, "one less: stop", 1, len(step()))
		same(t, "forget", 1, len(step()))
		same(t, "then", 0, len(step()))
		n.close(StopKill)
	})
}

func TestExecAndUsage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := fake.New(fake.Script{
			Usage: sandbox.Usage{Memory: 42},
			Exec: func(_ context.Context, _ sandbox.Spec, r sandbox.ExecRequest) (int, error) {
				return len(r.Command), nil
			},
		})
		n := newNode(t, d)
		if _, err := n.Exec(t.Context(), "r-1", sandbox.ExecRequest{}); api.CodeOf(err) != api.CodeNotFound {
			t.Errorf("exec in the unknown: %v", err)
		}
		n.run("r-1", api.VariantContainer, container(func(s *api.WorkloadSpec) { s.Ports = []api.Port{{Port: 8080}} }))
		synctest.Wait()
		code, err := n.Exec(t.Context(), "r-1", sandbox.ExecRequest{Command: []string{"a", "b"}})
		same(t, "exec", []any{2, nil}, []any{code, err})
		u, err := n.Usage(t.Context(), "r-1")
		same(t, "usage", []any{int64(42), nil}, []any{u.Memory, err})
		spec, _ := d.Spec("r-1")
		same(t, "PORT", "8080", spec.Env["PORT"])
		n.stopOne("r-1")
		synctest.Wait()
		if _, err := n.Exec(t.Context(), "r-1", sandbox.ExecRequest{}); api.CodeOf(err) != api.CodeUnavailable {
			t.Errorf("exec in the stopped: %v", err)
		}
		n.close(StopRestart)
	})
}

func TestForgetRemovesTheLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := wasmDriver(fake.Script{Main: func(g fake.Guest) sandbox.Exit {
			fmt.Fprintln(g.Spec.Log, "hello")
			return sandbox.Exit{}
		}})
		n := newNode(t, d)
		n.run("r-1", api.VariantWasm, wasm(policy(api.RestartNever)))
		synctest.Wait()
		if _, err := os.Stat(filepath.Join(n.dir, "r-1", "0.log")); err != nil {
			t.Fatal(err)
		}
		n.Apply([]converge.Action{{Kind: converge.Forget, ReplicaID: "r-1"}})
		synctest.Wait()
		if _, err := os.Stat(filepath.Join(n.dir, "r-1")); !os.IsNotExist(err) {
			t.Errorf("log folder: %v", err)
		}
		same(t, "records", 0, len(n.ledger.all()))
		n.close(StopRestart)
	})
}

// A replica that was stopped has no record, and one that was forgotten while the agent was killed may
// have lost it: neither keeps its log over a restart. Those that have a record do.
func TestLogsOfNobodyGoWithTheRestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		says := func(g fake.Guest) sandbox.Exit {
			fmt.Fprintln(g.Spec.Log, "hello")
			<-g.Term
			return sandbox.Exit{}
		}
		n := newNode(t, wasmDriver(fake.Script{Main: says}))
		for _, id := range []string{"r-stopped", "r-runs"} {
			n.run(id, api.VariantWasm, wasm(nil))
		}
		synctest.Wait()
		n.stopOne("r-stopped")
		after(stopGrace)
		if err := os.MkdirAll(filepath.Join(n.dir, "r-forgotten"), 0o700); err != nil {
			t.Fatal(err)
		}
		n.close(StopRestart)
		n.start(wasmDriver(fake.Script{Main: says}))
		n.Resume(t.Context(), n.ledger.all())
		synctest.Wait()
		var left []string
		folders, _ := os.ReadDir(n.dir)
		for _, f := range folders {
			left = append(left, f.Name())
		}
		same(t, "logs left", []string{"r-runs"}, left)
		n.close(StopKill)
	})
}

// A node may have thousands of replicas that do nothing: none has a goroutine while it just runs, and
// whatever ends that finds it again.
func TestWhatJustRunsHasNoOwner(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := wasmDriver(fake.Script{})
		n := newNode(t, d)
		n.run("r-1", api.VariantWasm, wasm(nil))
		for starts := 1; starts <= 3; starts++ {
			after(time.Minute)
			r := n.replica("r-1")
			if !r.owner.TryLock() {
				t.Fatal("a goroutine owns a replica that just runs")
			}
			r.owner.Unlock()
			same(t, "starts", starts, d.Starts("r-1"))
			d.Kill("r-1")
			synctest.Wait()
			same(t, "states", "backoff", string(n.last("r-1").State))
		}
		n.close(StopRestart)
	})
}

// An end and an order to end that come together are one end.
func TestAnEndAndAnOrderAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := wasmDriver(fake.Script{})
		n := newNode(t, d)
		ids := make([]string, 200)
		for i := range ids {
			ids[i] = fmt.Sprintf("r-%d", i)
			n.run(ids[i], api.VariantWasm, wasm(nil))
		}
		synctest.Wait()
		for _, id := range ids {
			go d.Kill(id)
			go n.stopOne(id)
		}
		after(stopGrace)
		for _, id := range ids {
			same(t, "state of "+id, api.ReplicaStopped, n.last(id).State)
			same(t, "starts of "+id, 1, d.Starts(id))
		}
		same(t, "running", []string{}, d.Running())
		same(t, "records", 0, len(n.ledger.all()))
		n.close(StopRestart)
	})
}
