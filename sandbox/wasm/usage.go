package wasm

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/linear"
)

// usage is what a replica's guests have used. Each counts for itself: a number that the guests of all
// processors add to would cost each request about as much as a call of the host.
type usage struct {
	mu   sync.Mutex
	past sandbox.Cost // of the instances that are gone
	live []*meter
}

// meter is what one instance has used. It belongs to the goroutine that calls the guest; others read it.
type meter struct {
	fuel atomic.Int64
	cpu  atomic.Int64 // nanoseconds
}

func (m *meter) cost() sandbox.Cost {
	return sandbox.Cost{Fuel: m.fuel.Load(), CPU: time.Duration(m.cpu.Load())}
}

// add counts an instance among those that there are.
func (u *usage) add(m *meter) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.live = append(u.live, m)
}

// remove keeps what an instance has used that is gone. Only the first time counts.
func (u *usage) remove(m *meter) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if i := slices.Index(u.live, m); i >= 0 {
		u.live = slices.Delete(u.live, i, i+1)
		u.past = u.past.Plus(m.cost())
	}
}

// now is what all instances have used, and how many there are.
func (u *usage) now() (sum sandbox.Cost, instances int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	sum = u.past
	for _, m := range u.live {
		sum = sum.Plus(m.cost())
	}
	return sum, len(u.live)
}

// epoch makes times of a monotonic clock small numbers.
var epoch = time.Now()

func sinceEpoch() time.Duration { return time.Since(epoch) }

// stopwatch adds up the time that one instance runs. What it waits for outside of the guest (a body, a
// client, a sleep) does not count. It belongs to the goroutine that calls the guest.
type stopwatch struct {
	meter  *meter
	region *linear.Region // of the guest, whose goroutine may change its thread in a wait; nil before it has one
	since  time.Duration  // of the last lap, since epoch
	waited atomic.Int64   // when it last waited, since epoch; while it does: waiting
}

func (s *stopwatch) start() { s.since = sinceEpoch() }

// lap counts the time since start or the last lap and returns it.
func (s *stopwatch) lap() time.Duration {
	now := sinceEpoch()
	d := now - s.since
	s.since = now
	s.meter.cpu.Add(int64(d))
	return d
}

// waiting is later than all times.
const waiting = math.MaxInt64

// wait runs f, which waits for something outside of the guest.
func (s *stopwatch) wait(f func()) {
	if s.region != nil {
		s.region.Unwatch()
	}
	s.lap()
	s.waited.Store(waiting)
	f()
	s.start()
	s.waited.Store(int64(s.since))
}

// quotaPeriod is how much of its share a replica may use at once, as the kernel's quotas have it.
const quotaPeriod = 100 * time.Millisecond

// quota bounds a replica's share of the processors: a bucket of CPU time that fills at a rate. Nil
// bounds nothing.
type quota struct {
	mu    sync.Mutex
	milli int64         // of one processor
	level time.Duration // CPU time left; negative: used ahead
	at    time.Duration // when level was true, since epoch
}

func newQuota(milli int64) *quota {
	if milli <= 0 {
		return nil
	}
	q := &quota{milli: milli, at: sinceEpoch()}
	q.level = q.burst()
	return q
}

func (q *quota) burst() time.Duration { return quotaPeriod * time.Duration(q.milli) / 1000 }

// take uses up d and tells how long to wait until the share allows for it.
func (q *quota) take(d, now time.Duration) time.Duration {
	if q == nil {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	earned := min(now-q.at, time.Hour) * time.Duration(q.milli) / 1000
	// What is owed is at most what a period earns. A guest ticks long before it could owe more; what counts
	// beyond that is a thread that had to wait for a busy machine, and nobody's use.
	q.level, q.at = max(min(q.level+earned, q.burst())-d, -q.burst()), now
	if q.level >= 0 {
		return 0
	}
	return -q.level * 1000 / time.Duration(q.milli)
}
