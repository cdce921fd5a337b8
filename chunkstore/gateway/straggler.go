package gateway

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	stragglerBytes      = 16 << 20
	smallStragglerBytes = 4 << 20
	// stragglerTime is how long copies may take after their write was acknowledged.
	stragglerTime = 30 * time.Second
	// stragglerPatience is how long a write waits for room among the stragglers. Nodes that are well
	// make it sooner; the copies of one that hangs are given up for those that come after.
	stragglerPatience = 3 * time.Second
)

// stragglers are the chunks that were acknowledged and are still on their way to a node. They hold
// memory, so they are bounded.
type stragglers struct {
	limit int64

	mu   sync.Mutex
	held int64
	all  []*straggler  // the oldest first
	gone chan struct{} // closed when one of them goes, then another
}

type straggler struct {
	bytes  int64
	since  time.Time
	giveUp func()
}

func newStragglers(limit int64) *stragglers {
	return &stragglers{limit: limit, gone: make(chan struct{})}
}

// add takes one in, when there is room or the oldest has been given up; nil when ctx ends before.
func (s *stragglers) add(ctx context.Context, bytes int64, giveUp func()) *straggler {
	for {
		x, wait, gone := s.tryAdd(bytes, giveUp)
		if x != nil {
			return x
		}
		timer := time.NewTimer(wait)
		select {
		case <-gone:
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
		timer.Stop()
	}
}

// tryAdd gives, if there is no room, until when it is to be waited for.
func (s *stragglers) tryAdd(bytes int64, giveUp func()) (x *straggler, wait time.Duration, gone <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.all) > 0 && s.held+bytes > s.limit {
		oldest := s.all[0]
		if wait = stragglerPatience - time.Since(oldest.since); wait > 0 {
			return nil, wait, s.gone
		}
		s.drop(oldest)
		oldest.giveUp()
	}
	x = &straggler{bytes, time.Now(), giveUp}
	s.all = append(s.all, x)
	s.held += bytes
	return x, 0, nil
}

// remove takes one out that has come to its end.
func (s *stragglers) remove(x *straggler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(x)
}

// drop needs the lock. One that was given up is out already.
func (s *stragglers) drop(x *straggler) {
	i := slices.Index(s.all, x)
	if i < 0 {
		return
	}
	s.all = slices.Delete(s.all, i, i+1)
	s.held -= x.bytes
	close(s.gone)
	s.gone = make(chan struct{})
}
