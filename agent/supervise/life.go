package supervise

import (
	"context"
	"runtime/debug"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
)

// own makes a goroutine the replica's owner, once the last one is done, to do f: it tells whether the
// replica runs, as opposed to that its life is over. An order to end ends f's context.
func (r *replica) own(f func(context.Context) (runs bool)) {
	r.s.group.Go("replica "+r.id, func(context.Context) error {
		r.owner.Lock()
		defer r.owner.Unlock()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		r.onOrder(cancel)
		if !r.survive(ctx, f) {
			close(r.done)
		}
		return nil
	})
}

// survive does f, and keeps a fault of ours in one replica from ending all the others.
func (r *replica) survive(ctx context.Context, f func(context.Context) bool) (runs bool) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		r.s.cfg.Log.Error().Str("replica", r.id).Bytes("stack", debug.Stack()).Msgf("panic: %v", p)
		r.dismiss()
		if h, _ := r.running(); h != nil {
			r.stop(h)
		}
		r.release()
		r.finish(func(rep *api.ReplicaReport) {
			rep.State, rep.Ready, rep.Reason = api.ReplicaFailed, false, "internal fault; see the agent's log"
		})
	}()
	return f(ctx)
}

// rise starts the replica, again and again, until it runs or its life is over.
func (r *replica) rise(ctx context.Context, adopt bool) (runs bool) {
	for {
		h, e := r.begin(ctx, adopt)
		if h != nil {
			r.watch(h)
			return true
		}
		if !r.again(ctx, e) {
			return false
		}
		adopt = e.retryAdopt
	}
}

// watch is a replica's time between its start and its end.
type watch struct {
	r     *replica
	h     sandbox.Handle
	began time.Time
	ends  sync.Once
	sick  string // why it is ended by us: its liveness probe
}

// watch leaves the replica alone until its end, a probe or an order calls for the next owner.
func (r *replica) watch(h sandbox.Handle) {
	w := &watch{r: r, h: h, began: time.Now()}
	r.setHandle(h)
	w.probe()
	over := func() { w.over("") }
	h.OnEnd(over)
	r.onOrder(over)
}

// over ends the watch, and waits for nothing. Only the first time counts.
func (w *watch) over(sick string) {
	w.ends.Do(func() {
		w.sick = sick
		w.r.own(w.fall)
	})
}

// attend does f beside the replica, until its end is begun.
func (r *replica) attend(name string, f func(context.Context)) {
	if r.carers == nil {
		r.carers = run.New(context.Background())
	}
	r.carers.Go(name, func(ctx context.Context) error {
		f(ctx)
		return nil
	})
}

// dismiss ends what looks after the replica; wait returns when it has ended, with its fault.
func (r *replica) dismiss() (wait func() error) {
	carers := r.carers
	if carers == nil {
		return func() error { return nil }
	}
	r.carers = nil
	carers.Stop()
	return carers.Wait
}

// fall ends the replica, unless it has ended, and goes on as its policy says.
func (w *watch) fall(ctx context.Context) (runs bool) {
	return w.r.again(ctx, w.end()) && w.r.rise(ctx, false)
}

// end ends what looks after the replica, and the replica, unless it is to run on without the agent.
func (w *watch) end() *ending {
	r, e := w.r, &ending{sick: w.sick}
	dismissed := r.dismiss()
	r.down(w.sick)
	if left, _ := r.ordered().(leaveOrder); !left.detach {
		r.stop(w.h)
		e.exit = exitOf(w.h)
	}
	if err := dismissed(); err != nil {
		r.s.cfg.Log.Error().Err(err).Str("replica", r.id).Msg("probe failed")
	}
	r.logs.Close()
	e.ran = time.Since(w.began)
	return e
}

// down takes the replica out of traffic at once. What is to be told follows when it has ended, but
// for an end that may take its time. An agent that ends tells nobody: the replica is still wanted.
func (r *replica) down(sick string) {
	r.setHandle(nil)
	r.s.serve(r.assignment.Workload, r.id, false)
	if order, ok := r.ordered().(stopOrder); ok {
		r.change(func(rep *api.ReplicaReport) {
			rep.State, rep.Ready, rep.Reason = api.ReplicaStopping, false, order.reason
		})
	} else if sick != "" {
		r.change(func(rep *api.ReplicaReport) { rep.Ready, rep.Reason = false, sick })
	}
}

// stop stops h and everything of it. What will not stop is tried again: to report it as gone would
// let a second copy run beside it. Only the end of the agent ends the trying.
func (r *replica) stop(h sandbox.Handle) {
	for wait := time.Second; ; wait = min(2*wait, retryMax) {
		err := r.stopOnce(h)
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

func (r *replica) stopOnce(h sandbox.Handle) error {
	parent := context.Background()
	if left, ok := r.ordered().(leaveOrder); ok {
		parent = left.ctx
	}
	ctx, cancel := context.WithTimeout(parent, stopTimeout)
	defer cancel()
	return h.Stop(ctx, stopGrace)
}

// again tells whether the replica is to start once more after e, and when: it returns then.
func (r *replica) again(ctx context.Context, e *ending) bool {
	if r.ordered() == nil {
		if r.over(e) {
			return false
		}
		if run.Sleep(ctx, r.backOff(e)) == nil {
			if !e.retryAdopt {
				r.countRestart()
			}
			return true
		}
	}
	r.stuck = r.stuck || e.retryAdopt
	r.leave()
	return false
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

// backOff tells how long the replica waits after e, and tells so.
func (r *replica) backOff(e *ending) time.Duration {
	wait := r.pause.next(e)
	r.change(func(rep *api.ReplicaReport) {
		rep.State, rep.Ready, rep.Reason = api.ReplicaBackoff, false, e.reason()
		rep.NextTry = time.Now().Add(wait).UTC()
		if e.err == nil {
			rep.ExitCode = e.code()
		}
	})
	return wait
}

// leave ends a life that was told to end.
func (r *replica) leave() {
	order, ok := r.ordered().(stopOrder)
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
