package agent

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/cloudless/cloudless/agent/converge"
	"github.com/cloudless/cloudless/agent/ledger"
	"github.com/cloudless/cloudless/api"
)

// intake takes assignment sets from all sessions, keeps the newest, and does what converge says.
type intake struct {
	a     *Agent
	mu    sync.Mutex
	set   *api.AssignmentSet // the newest accepted, but for what it assigns, which the ledger has; nil before the first
	first *api.AssignmentSet // all of it, as it was in the ledger, until it has been looked at
	since time.Time          // when a change of epoch was seen; zero for the first
	next  *api.AssignmentSet // offered, not yet looked at
	poke  chan struct{}
	moved chan struct{} // closed when set or next changes
}

// newIntake goes on from the set of the ledger, nil for none. A moment that is still to come was
// written by a clock that was wrong: the epoch counts as seen now.
func newIntake(a *Agent, kept *ledger.Set, now time.Time) *intake {
	in := &intake{a: a, poke: make(chan struct{}, 1), moved: make(chan struct{})}
	if kept != nil {
		in.set, in.first, in.since = headOf(&kept.AssignmentSet), &kept.AssignmentSet, kept.EpochSince
	}
	if in.since.After(now) {
		in.since = now
	}
	return in
}

// headOf is a set without what it assigns: a copy, since thousands of manifests are most of an idle node.
func headOf(set *api.AssignmentSet) *api.AssignmentSet {
	head := *set
	head.Assignments, head.Specs, head.Prepare = nil, nil, nil
	return &head
}

// have is the pair of the newest accepted set.
func (in *intake) have() (epoch, generation uint64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.set == nil {
		return 0, 0
	}
	return in.set.Epoch, in.set.Generation
}

// policy is what a namespace demands, by the newest accepted set: the zero policy where that says nothing.
func (in *intake) policy(ns string) api.NamespacePolicy {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.set != nil {
		for _, p := range in.set.Policies {
			if p.Namespace == ns {
				return p
			}
		}
	}
	return api.NamespacePolicy{Namespace: ns}
}

// offer hands in a set; only the newest of those that wait is kept.
func (in *intake) offer(set *api.AssignmentSet) {
	in.mu.Lock()
	if in.next == nil || api.Older(in.next.Epoch, in.next.Generation, set.Epoch, set.Generation) {
		in.next = set
	}
	in.mu.Unlock()
	in.wake()
}

func (in *intake) wake() {
	select {
	case in.poke <- struct{}{}:
	default:
	}
}

// settled waits until a set at least as new as the pair has been accepted, or everything offered has
// been looked at: the next watch then asks from the right place.
func (in *intake) settled(ctx context.Context, epoch, generation uint64) error {
	for {
		in.mu.Lock()
		done := in.next == nil || in.set != nil && !api.Older(in.set.Epoch, in.set.Generation, epoch, generation)
		moved := in.moved
		in.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-moved:
		}
	}
}

// run looks at every new set, and at the old one when its time has come. It ends with the agent.
func (in *intake) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-in.poke:
		case <-timer.C:
		}
		if next := in.step(time.Now()); !next.IsZero() {
			timer.Reset(max(time.Until(next), time.Millisecond))
		}
	}
}

// step decides once, purely, and hands the actions to the supervisor. The set is in the ledger
// before anything is done about it.
func (in *intake) step(now time.Time) (next time.Time) {
	in.mu.Lock()
	have, set, offered := in.set, in.first, in.next
	in.first = nil
	local := converge.Local{EpochSince: in.since, Replicas: in.a.sup.Local(), Prepared: in.a.sup.Prepared()}
	in.mu.Unlock()
	if have != nil {
		local.Epoch, local.Generation = have.Epoch, have.Generation
	}
	if set = cmp.Or(offered, set); set == nil {
		if have == nil {
			return time.Time{}
		}
		if set = in.kept(); set == nil {
			return now.Add(time.Second)
		}
	}
	if local.Epoch != 0 && set.Epoch != local.Epoch {
		local.EpochSince = now
	}
	actions, out := converge.Step(local, converge.Input{Set: set}, now)
	if out.Accepted && offered != nil {
		if err := in.a.ledger.SaveSet(ledger.Set{AssignmentSet: *set, EpochSince: local.EpochSince}); err != nil {
			in.a.log.Error().Err(err).Msg("assignments not kept; trying again")
			return now.Add(time.Second)
		}
	}
	in.done(offered, out.Accepted, local.EpochSince)
	if !out.Accepted {
		in.a.log.Debug().Str("reason", out.Reason).Msg("assignments refused")
		return out.NextCheck
	}
	in.a.sup.KeepPrepared(set.Prepare)
	in.a.sup.Apply(actions)
	return out.NextCheck
}

// kept is all of the set that was accepted last; nil if the ledger cannot be read now.
func (in *intake) kept() *api.AssignmentSet {
	kept, err := in.a.ledger.Set()
	if err != nil || kept == nil {
		in.a.log.Error().Err(err).Msg("assignments not read; trying again")
		return nil
	}
	return &kept.AssignmentSet
}

// done notes that an offered set was looked at, and asks for a full report in a new epoch.
func (in *intake) done(offered *api.AssignmentSet, accepted bool, since time.Time) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if offered != nil && accepted {
		in.set, in.since = headOf(offered), since
		if !offered.Reported {
			in.a.reports.reportAll(offered.Epoch)
		}
	}
	if in.next == offered {
		in.next = nil
	} else if in.next != nil {
		in.wake()
	}
	close(in.moved)
	in.moved = make(chan struct{})
}
