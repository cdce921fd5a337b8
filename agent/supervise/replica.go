package supervise

import (
	"context"
	"fmt"
	"maps"
	"runtime/debug"
	"sync"
	"time"

	"github.com/cloudless/cloudless/agent/ledger"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
)

// stopOrder and leaveOrder are the two reasons for a replica's context to end: it is not wanted any
// more, or the agent ends while the replica is still wanted.
type stopOrder struct{ reason string }

type leaveOrder struct {
	ctx    context.Context // bounds the end
	detach bool            // let it run on
}

// Error makes stopOrder a cancellation cause.
func (o stopOrder) Error() string { return o.reason }

// Error makes leaveOrder a cancellation cause.
func (o leaveOrder) Error() string { return "the agent is stopping" }

// replica is one replica and its owner's state. The owner is the goroutine in live.
type replica struct {
	s          *Supervisor
	id         string
	assignment api.Assignment
	spec       api.WorkloadSpec
	ctx        context.Context // ends by stopOrder or leaveOrder
	cancel     context.CancelCauseFunc
	done       chan struct{} // closed when the owner has ended
	logs       *logs
	stuck      bool // the owner's: it could not be stopped before the agent ended

	tell sync.Mutex // held over a change and its OnStatus, so that they come in order

	mu     sync.Mutex
	rep    api.ReplicaReport
	handle sandbox.Handle // while it runs
}

func newReplica(s *Supervisor, rec ledger.Record) *replica {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &replica{
		s: s, id: rec.ReplicaID, assignment: rec.Assignment, spec: rec.Spec, ctx: ctx, cancel: cancel,
		done: make(chan struct{}), logs: openLogs(s.cfg.LogDir, rec.ReplicaID),
		rep: api.ReplicaReport{
			ReplicaID: rec.ReplicaID, State: rec.State, Restarts: rec.Restarts, Reason: rec.Reason, ExitCode: rec.ExitCode, At: time.Now().UTC(),
		},
	}
}

func (r *replica) status() api.ReplicaReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rep
}

func (r *replica) running() (h sandbox.Handle, ready bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.handle, r.rep.Ready
}

// change alters the status and tells it. OnStatus is called without r.mu, so that it may wait for
// someone who asks for the status.
func (r *replica) change(f func(*api.ReplicaReport)) {
	r.tell.Lock()
	defer r.tell.Unlock()
	r.mu.Lock()
	was := r.rep.Ready
	r.rep.NextTry = time.Time{}
	f(&r.rep)
	r.rep.At = time.Now().UTC()
	rep := r.rep
	r.mu.Unlock()
	if rep.Ready != was {
		r.s.serve(r.assignment.Workload, r.id, rep.Ready)
	}
	if r.s.cfg.OnStatus != nil {
		r.s.cfg.OnStatus(rep)
	}
}

// finish is a replica's end for good. It is in the ledger before it is told: a crash between the two
// tells it again, where the other order would run a finished job again.
func (r *replica) finish(f func(*api.ReplicaReport)) {
	rep := r.status()
	f(&rep)
	r.save(rep)
	r.change(f)
}

// save puts the record into the ledger. A ledger that fails does not keep a replica from running.
func (r *replica) save(rep api.ReplicaReport) {
	err := r.s.cfg.Ledger.SaveReplica(ledger.Record{
		ReplicaID: r.id, Assignment: r.assignment, Spec: r.spec,
		Restarts: rep.Restarts, State: rep.State, ExitCode: rep.ExitCode, Reason: rep.Reason,
	})
	if err != nil {
		r.s.trouble("replica "+r.id+" is not in the ledger", err)
	}
}

// live runs the replica until it has ended for good, is told to stop, or the agent ends.
func (r *replica) live(adopt bool) {
	defer close(r.done)
	defer r.survive()
	pause := backoff{min: time.Duration(r.spec.Restart.Backoff), max: time.Duration(r.spec.Restart.MaxBackoff)}
	for {
		e := r.once(adopt)
		if r.ctx.Err() != nil {
			r.stuck = r.stuck || e.retryAdopt
			break
		}
		if r.over(e) {
			return
		}
		wait := pause.next(e)
		r.change(func(rep *api.ReplicaReport) {
			rep.State, rep.Ready, rep.Reason = api.ReplicaBackoff, false, e.reason()
			rep.NextTry = time.Now().Add(wait).UTC()
			if e.err == nil {
				rep.ExitCode = e.code()
			}
		})
		if run.Sleep(r.ctx, wait) != nil {
			r.stuck = r.stuck || e.retryAdopt
			break
		}
		if adopt = e.retryAdopt; !adopt {
			r.countRestart()
		}
	}
	r.leave()
}

// countRestart is told with the start that follows.
func (r *replica) countRestart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rep.Restarts++
	r.s.cfg.OnRestart(r.assignment.Workload)
}

// survive keeps a fault of ours in one replica from ending all the others.
func (r *replica) survive() {
	p := recover()
	if p == nil {
		return
	}
	r.s.cfg.Log.Error().Str("replica", r.id).Bytes("stack", debug.Stack()).Msgf("panic: %v", p)
	if h, _ := r.running(); h != nil {
		r.end(h)
	}
	r.release()
	r.finish(func(rep *api.ReplicaReport) {
		rep.State, rep.Ready, rep.Reason = api.ReplicaFailed, false, "internal fault; see the agent's log"
	})
}

// leave ends a life that was told to end.
func (r *replica) leave() {
	order, ok := context.Cause(r.ctx).(stopOrder)
	if !ok || r.stuck {
		return // the record stays as it is: the next start of the agent takes the replica up again
	}
	r.release()
	if err := r.s.cfg.Ledger.DeleteReplica(r.id); err != nil {
		r.s.trouble("stopped replica "+r.id+" is still in the ledger", err)
	}
	r.change(func(rep *api.ReplicaReport) {
		rep.State, rep.Ready, rep.Reason = api.ReplicaStopped, false, order.reason
	})
}

// over tells whether the policy lets the replica rest after e, and if so says how it ended.
func (r *replica) over(e *ending) bool {
	policy := r.spec.Restart.Policy
	state := api.ReplicaFailed
	switch {
	case e.retryAdopt:
		return false
	case e.well() && (policy == api.RestartOnFailure || policy == api.RestartNever):
		state = api.ReplicaComplete
	case policy != api.RestartNever:
		return false
	}
	r.release()
	r.finish(func(rep *api.ReplicaReport) {
		rep.State, rep.Ready, rep.Reason, rep.ExitCode = state, false, e.reason(), e.code()
	})
	return true
}

// once starts the replica and watches it to its end.
func (r *replica) once(adopt bool) *ending {
	h, e := r.begin(adopt)
	if h == nil {
		return e
	}
	began := time.Now()
	e = r.watch(h)
	e.ran = time.Since(began)
	return e
}

// begin adopts the replica or starts it.
func (r *replica) begin(adopt bool) (sandbox.Handle, *ending) {
	driver, ok := r.s.cfg.Drivers[r.assignment.Variant]
	if !ok {
		return nil, &ending{err: api.Errorf(api.CodeUnsupported, "this node runs no %s replicas", r.assignment.Variant)}
	}
	if adopt {
		h, err := r.adopt(driver)
		if err == nil {
			return h, &ending{}
		}
		if api.CodeOf(err) != api.CodeNotFound {
			return nil, &ending{err: err, retryAdopt: true}
		}
	}
	r.change(func(rep *api.ReplicaReport) { rep.State, rep.Ready = api.ReplicaStarting, false })
	r.save(r.status())
	h, err := r.start(driver)
	return h, &ending{err: err}
}

func (r *replica) adopt(driver sandbox.Driver) (sandbox.Handle, error) {
	// A stop that comes meanwhile must find what runs, or it would run on and be called stopped.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), adoptTimeout)
	defer cancel()
	spec := sandboxSpec(r.s.cfg, r.assignment, &r.spec)
	spec.Attempt, spec.LogPath = r.logs.number(), r.logs.path()
	h, err := driver.Adopt(ctx, spec)
	if err == nil {
		r.remount()
		r.s.event(api.SeverityInfo, api.EventReplicaAdopted, "replica/"+r.id, "replica "+r.id+" was running and has been taken up again")
	}
	return h, err
}

func (r *replica) start(driver sandbox.Driver) (sandbox.Handle, error) {
	spec, err := r.s.ready(r.ctx, driver, r.assignment, &r.spec)
	if err != nil {
		return nil, err
	}
	if spec.Mounts, err = r.mount(r.ctx); err != nil {
		return nil, err
	}
	if err := r.logs.next(r.assignment.Variant == api.VariantContainer); err != nil {
		return nil, err
	}
	spec.Attempt, spec.LogPath, spec.Log = r.logs.number(), r.logs.path(), r.logs
	var h sandbox.Handle
	err = gated(r.ctx, r.s.starting[r.assignment.Variant], startTimeout, func(ctx context.Context) (err error) {
		h, err = driver.Start(ctx, spec)
		return err
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// watch is a replica's time between its start and its end, which may be long: what it and its callers
// hold on the stack meanwhile, each replica of the node holds, and a stack is four times that.
func (r *replica) watch(h sandbox.Handle) *ending {
	r.mu.Lock()
	r.handle = h
	r.mu.Unlock()
	probes, e := run.New(r.ctx), new(ending)
	sick := make(chan string, 1)
	r.probe(probes, h, sick)
	select {
	case <-h.Done():
	case e.sick = <-sick:
	case <-r.ctx.Done():
	}
	r.unwatch(h, probes, e)
	return e
}

// unwatch ends what looks after a replica, and the replica, unless it is to run on without the agent.
func (r *replica) unwatch(h sandbox.Handle, probes *run.Group, e *ending) {
	probes.Stop()
	left, _ := context.Cause(r.ctx).(leaveOrder)
	r.down(e.sick)
	if !left.detach {
		r.end(h)
		e.exit = exitOf(h)
	}
	if err := probes.Wait(); err != nil {
		r.s.cfg.Log.Error().Err(err).Str("replica", r.id).Msg("probe failed")
	}
	r.logs.Close()
}

// down takes the replica out of traffic at once. What is to be told follows when it has ended, but
// for an end that may take its time. An agent that ends tells nobody: the replica is still wanted.
func (r *replica) down(sick string) {
	r.mu.Lock()
	r.handle = nil
	r.mu.Unlock()
	r.s.serve(r.assignment.Workload, r.id, false)
	if order, ok := context.Cause(r.ctx).(stopOrder); ok {
		r.change(func(rep *api.ReplicaReport) {
			rep.State, rep.Ready, rep.Reason = api.ReplicaStopping, false, order.reason
		})
	} else if sick != "" {
		r.change(func(rep *api.ReplicaReport) { rep.Ready, rep.Reason = false, sick })
	}
}

// end stops h and everything of it. What will not stop is tried again: to report it as gone would
// let a second copy run beside it. Only the end of the agent ends the trying.
func (r *replica) end(h sandbox.Handle) {
	for wait := time.Second; ; wait = min(2*wait, retryMax) {
		err := r.endOnce(h)
		if err == nil {
			return
		}
		r.s.cfg.Log.Error().Err(err).Str("replica", r.id).Msg("replica does not stop")
		if run.Sleep(r.s.group.Context(), wait) != nil {
			r.stuck = true
			return
		}
	}
}

func (r *replica) endOnce(h sandbox.Handle) error {
	parent := context.Background()
	if left, ok := context.Cause(r.ctx).(leaveOrder); ok {
		parent = left.ctx
	}
	ctx, cancel := context.WithTimeout(parent, stopTimeout)
	defer cancel()
	return h.Stop(ctx, stopGrace)
}

// sandboxSpec is what a driver is told of a replica, but for its artifact and its log.
func sandboxSpec(cfg Config, a api.Assignment, w *api.WorkloadSpec) sandbox.Spec {
	spec := sandbox.Spec{
		ID: a.ReplicaID, NodeID: cfg.NodeID, Cluster: cfg.Cluster, Workload: a.Workload, Hostname: a.ReplicaID,
		Env: maps.Clone(w.Env), CPU: w.Resources.CPU, Memory: w.Reserve(a.Variant).Memory, Ports: w.Ports,
	}
	if a.Variant == api.VariantWasm {
		spec.Wasm = w.Wasm
		if w.Egress != nil {
			spec.Egress = w.Egress.Allow
		}
		spec.Buckets, spec.Storage = w.Buckets, cfg.Storage
		return spec
	}
	spec.Container = w.Container
	if port, ok := w.HTTPPort(); ok && spec.Env["PORT"] == "" {
		if spec.Env == nil {
			spec.Env = map[string]string{}
		}
		spec.Env["PORT"] = fmt.Sprint(port)
	}
	return spec
}
