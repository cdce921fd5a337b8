package agent

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
)

// Batching of what goes up.
const (
	statusPause    = time.Millisecond      // for each status in a report until the next report
	batchPause     = 20 * time.Millisecond // at most, so that few changes go at once and many together
	startingPause  = 20 * time.Millisecond // what is only starting waits so long: a quick start is told as ready alone
	maxBatch       = 2000                  // statuses in one report
	maxReasons     = 2 << 20               // bytes of all reasons in one report
	eventPause     = time.Second
	eventsPerType  = 50  // a second, of one type
	maxEventsAhead = 500 // waiting to be sent
)

// reporter tells the coordinators how replicas fare, the newest status of each replica: a few changes
// at once, many in batches. That a replica is starting is worth a log entry only if it takes a while.
// What cannot be sent waits; nothing is lost, since only the newest counts.
type reporter struct {
	log   zerolog.Logger
	send  func(context.Context, api.StatusReport) error
	epoch func() uint64 // of the newest accepted set
	all   func() []api.ReplicaReport

	mu      sync.Mutex
	pending map[string]api.ReplicaReport
	order   []string
	urgent  bool   // something other than a start is pending
	full    uint64 // epoch that asks for a full report; 0: none
	poke    chan struct{}
}

func newReporter(a *Agent) *reporter {
	return &reporter{
		log: a.log, pending: map[string]api.ReplicaReport{}, poke: make(chan struct{}, 1),
		send: func(ctx context.Context, rep api.StatusReport) error {
			var ack api.StatusAck
			return a.sessions.call(ctx, api.PathStatuses, rep, &ack)
		},
		epoch: func() uint64 { epoch, _ := a.intake.have(); return epoch },
		all:   func() []api.ReplicaReport { return a.sup.Reports() },
	}
}

// add notes a replica's newest status.
func (r *reporter) add(rep api.ReplicaReport) {
	r.mu.Lock()
	if _, ok := r.pending[rep.ReplicaID]; !ok {
		r.order = append(r.order, rep.ReplicaID)
	}
	r.pending[rep.ReplicaID] = rep
	r.urgent = r.urgent || rep.State != api.ReplicaStarting
	r.mu.Unlock()
	r.wake()
}

// reportAll asks for a report of everything, as a new epoch wants it.
func (r *reporter) reportAll(epoch uint64) {
	r.mu.Lock()
	r.full, r.urgent = epoch, true
	r.mu.Unlock()
	r.wake()
}

func (r *reporter) wake() {
	select {
	case r.poke <- struct{}{}:
	default:
	}
}

// take removes a batch from what waits.
func (r *reporter) take() (api.StatusReport, bool) {
	epoch := r.epoch()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full != 0 {
		rep := api.StatusReport{Epoch: r.full, Full: true, Reports: r.all()}
		return rep, true
	}
	n := min(len(r.order), maxBatch)
	if n == 0 {
		r.urgent = false
		return api.StatusReport{}, false
	}
	rep := api.StatusReport{Epoch: epoch}
	for _, id := range r.order[:n] {
		rep.Reports = append(rep.Reports, r.pending[id])
		delete(r.pending, id)
	}
	r.order = append([]string(nil), r.order[n:]...)
	if len(r.order) == 0 {
		r.pending = map[string]api.ReplicaReport{} // one that was large stays so
	}
	r.urgent = len(r.order) > 0
	return rep, true
}

// back returns what could not be sent, unless a newer status came meanwhile.
func (r *reporter) back(rep api.StatusReport) {
	if rep.Full {
		return // full is still asked for
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range rep.Reports {
		if _, newer := r.pending[one.ReplicaID]; !newer {
			r.pending[one.ReplicaID] = one
			r.order = append(r.order, one.ReplicaID)
		}
	}
	r.urgent = true
}

func (r *reporter) sent(rep api.StatusReport) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rep.Full && r.full == rep.Epoch {
		r.full = 0
	}
}

// run sends reports until the agent ends.
func (r *reporter) run(ctx context.Context) error {
	for r.await(ctx) == nil {
		rep, ok := r.take()
		if !ok {
			continue
		}
		pause := min(time.Duration(len(rep.Reports))*statusPause, batchPause)
		if !r.deliver(ctx, rep) {
			pause = redialAfter
		}
		if run.Sleep(ctx, pause) != nil {
			break
		}
	}
	return nil
}

// await blocks until there is something to tell that should not wait any longer.
func (r *reporter) await(ctx context.Context) error {
	var late <-chan time.Time
	for {
		r.mu.Lock()
		pending, urgent := len(r.order) > 0, r.urgent || r.full != 0
		r.mu.Unlock()
		if urgent {
			return nil
		}
		if pending && late == nil {
			late = time.After(startingPause)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return nil
		case <-r.poke:
		}
	}
}

// reasonBytes is how long a reason may be in a report of so many statuses: one of everything has to be taken too.
func reasonBytes(statuses int) int { return min(api.MaxReasonBytes, maxReasons/max(statuses, 1)) }

// deliver sends a report; false when that is to be tried again.
func (r *reporter) deliver(ctx context.Context, rep api.StatusReport) bool {
	most := reasonBytes(len(rep.Reports))
	for i := range rep.Reports {
		reason := &rep.Reports[i].Reason // a registry or a guest may have worded it
		*reason = (*reason)[:min(len(*reason), most)]
	}
	err := r.send(ctx, rep)
	if err == nil || api.CodeOf(err) == api.CodeConflict && rep.Full { // the epoch moved on; its set will ask anew
		r.sent(rep)
		return true
	}
	r.log.Debug().Err(err).Msg("statuses not reported yet")
	r.back(rep)
	return false
}

// eventSender sends a node's own events up in batches, limited per type; what is over the limit is
// counted, and told as a gap.
type eventSender struct {
	a       *Agent
	mu      sync.Mutex
	waiting []api.Event
	count   map[string]int // of each type in this interval
	dropped map[string]int
}

func newEventSender(a *Agent) *eventSender {
	return &eventSender{a: a, count: map[string]int{}, dropped: map[string]int{}}
}

func (s *eventSender) add(e api.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count[e.Type]++
	if s.count[e.Type] > eventsPerType || len(s.waiting) >= maxEventsAhead {
		s.dropped[e.Type]++
		return
	}
	s.waiting = append(s.waiting, e)
}

func (s *eventSender) run(ctx context.Context) error {
	for run.Sleep(ctx, eventPause) == nil {
		s.mu.Lock()
		batch := api.NodeEvents{Events: s.waiting, Dropped: s.dropped}
		s.waiting, s.dropped, s.count = nil, map[string]int{}, map[string]int{}
		s.mu.Unlock()
		if len(batch.Events) == 0 && len(batch.Dropped) == 0 {
			continue
		}
		if err := s.a.sessions.call(ctx, api.PathNodeEvents, batch, &struct{}{}); err != nil {
			s.mu.Lock()
			for _, e := range batch.Events {
				s.dropped[e.Type]++
			}
			for t, n := range batch.Dropped {
				s.dropped[t] += n
			}
			s.mu.Unlock()
		}
	}
	return nil
}
