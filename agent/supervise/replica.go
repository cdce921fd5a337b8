package supervise

import (
	"context"
	"sync"
	"time"

	"github.com/cloudless/cloudless/agent/ledger"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
)

// stopOrder and leaveOrder are the two reasons for a replica to be told to end: it is not wanted any
// more, or the agent ends while the replica is still wanted.
type stopOrder struct{ reason string }

type leaveOrder struct {
	ctx    context.Context // bounds the end
	detach bool            // let it run on
}

// replica is one replica and its owner's state. Its owner is a goroutine while there is something to do
// for it, to start it or to end it (see own), and nobody while it just runs: what ends that, in watch,
// makes the next owner. So a node can have thousands that do nothing, for the price of this struct.
type replica struct {
	s          *Supervisor
	id         string
	assignment api.Assignment
	spec       *api.WorkloadSpec
	logs       *logs
	done       chan struct{} // closed when its life is over

	owner  sync.Mutex // held by the owner, whose the next three are
	pause  backoff
	stuck  bool       // it could not be stopped before the agent ended
	carers *run.Group // what looks after it while it runs; nil where nothing does

	tell sync.Mutex // held over a change and its OnStatus, so that they come in order

	mu     sync.Mutex
	rep    api.ReplicaReport
	handle sandbox.Handle // while it runs
	order  any            // to end: nil, or the first stopOrder or leaveOrder
	obey   func()         // called when there is one
}

func newReplica(s *Supervisor, rec ledger.Record) *replica {
	spec, restart := rec.Spec, rec.Spec.Restart // a copy: the rest of the record is not kept
	return &replica{
		s: s, id: rec.ReplicaID, assignment: rec.Assignment, spec: &spec,
		done: make(chan struct{}), logs: openLogs(s.cfg.LogDir, rec.ReplicaID),
		pause: backoff{min: restart.Backoff.D(), max: restart.MaxBackoff.D()},
		rep: api.ReplicaReport{
			ReplicaID: rec.ReplicaID, State: rec.State, Restarts: rec.Restarts, Reason: rec.Reason, ExitCode: rec.ExitCode, At: time.Now().UTC(),
		},
	}
}

// endBy tells the replica to end. Only the first order counts.
func (r *replica) endBy(order any) {
	r.mu.Lock()
	obey := r.obey
	if r.order != nil {
		obey = nil
	} else {
		r.order = order
	}
	r.mu.Unlock()
	if obey != nil {
		obey()
	}
}

// onOrder has f called, in place of what was to be called before, when the replica is told to end: at
// once if it has been.
func (r *replica) onOrder(f func()) {
	r.mu.Lock()
	r.obey = f
	ordered := r.order != nil
	r.mu.Unlock()
	if ordered {
		f()
	}
}

// ordered is why the replica is to end; nil while it is not.
func (r *replica) ordered() any {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.order
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

func (r *replica) setHandle(h sandbox.Handle) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handle = h
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

// countRestart is told with the start that follows.
func (r *replica) countRestart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rep.Restarts++
	r.s.cfg.OnRestart(r.assignment.Workload)
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
		ReplicaID: r.id, Assignment: r.assignment, Spec: *r.spec,
		Restarts: rep.Restarts, State: rep.State, ExitCode: rep.ExitCode, Reason: rep.Reason,
	})
	if err != nil {
		r.s.trouble("replica "+r.id+" is not in the ledger", err)
	}
}
