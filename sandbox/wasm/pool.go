package wasm

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudless/cloudless/sandbox/linear"
)

const (
	// maxInstances bounds the requests that a replica handles at the same time, unless its manifest does.
	maxInstances = 64
	// maxQueued bounds those that wait for an instance; the next is told to come back later.
	maxQueued = 256
	// memoryShares is the number of instances that one large one must leave room for: growth up to a
	// share of the replica's memory is reserved ahead for the next instance, more is not.
	memoryShares = 8
)

var (
	errBusy    = errors.New("too many requests wait for this replica")
	errCrowded = errors.New("other requests hold the replica's memory")
	errStopped = errors.New("the replica has been stopped")
)

// pool hands out a replica's instances. There are at most max, and only as many as the replica's
// memory has room for, each counted at the size that others have reached (see memoryShares).
//
// Idle instances lie in shards, about one for each processor, so that cores do not wait for each other
// and an instance stays where its memory is cached. Only when there is none is the pool's own lock
// taken, to make one or to queue. Who queues looks into the shards once more after it has said so, and
// who puts one back looks for a queue after that: one of the two finds the other.
type pool struct {
	memory *linear.Budget
	beside uint64 // what each instance holds beside its memory before it is called
	max    int
	create func(ctx context.Context, mem *linear.Account) (*instance, error)

	shards  []shard
	hints   sync.Pool     // of *shard: what the library keeps for each processor
	next    atomic.Uint32 // shard to hint at
	reserve atomic.Uint64 // bytes for the next instance
	queued  atomic.Int32  // len(waiting), to be read without the lock

	mu      sync.Mutex
	closed  bool
	live    int // idle or handed out
	waiting []chan *instance
}

// shard is a stack of idle instances, so that few stay warm.
type shard struct {
	mu     sync.Mutex
	closed bool
	idle   []*instance // least recently used first
	_      [24]byte    // keeps shards on cache lines of their own
}

func newPool(memory *linear.Budget, max int, initial, beside uint64, create func(context.Context, *linear.Account) (*instance, error)) *pool {
	p := &pool{memory: memory, beside: beside, max: max, create: create, shards: make([]shard, runtime.GOMAXPROCS(0))}
	p.reserve.Store(initial)
	p.hints.New = func() any { return &p.shards[int(p.next.Add(1))%len(p.shards)] }
	return p
}

// near is the shard of the processor that asks. A hint may be wrong, which costs only time.
func (p *pool) near() *shard {
	s := p.hints.Get().(*shard)
	p.hints.Put(s)
	return s
}

// learn reserves more for the next instance when one has grown, or would have.
func (p *pool) learn(i *instance) {
	wanted := min(max(i.memory.Held(), i.refused), p.memory.Limit()/memoryShares)
	for old := p.reserve.Load(); wanted > old && !p.reserve.CompareAndSwap(old, wanted); old = p.reserve.Load() {
	}
}

// get hands out an instance, waiting for one if it must.
func (p *pool) get(ctx context.Context) (*instance, error) {
	if i := p.takeIdle(); i != nil {
		return i, nil
	}
	for {
		mem, queue, err := p.roomOrQueue()
		switch {
		case err != nil:
			return nil, err
		case mem != nil:
			return p.grow(ctx, mem)
		}
		if i := p.takeIdle(); i != nil {
			p.abandon(queue)
			return i, nil
		}
		select {
		case i := <-queue:
			if i != nil {
				return i, nil
			} // else there is room for one more
		case <-ctx.Done():
			p.abandon(queue)
			return nil, context.Cause(ctx)
		}
	}
}

// takeIdle looks for an idle instance, in the nearest shard first.
func (p *pool) takeIdle() *instance {
	near := p.near()
	if i := near.pop(); i != nil {
		return i
	}
	for n := range p.shards {
		if s := &p.shards[n]; s != near {
			if i := s.pop(); i != nil {
				return i
			}
		}
	}
	return nil
}

func (s *shard) pop() *instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.idle)
	if n == 0 {
		return nil
	}
	i := s.idle[n-1]
	s.idle = s.idle[:n-1]
	return i
}

// push keeps an instance; false once the pool is closed.
func (s *shard) push(i *instance) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.idle = append(s.idle, i)
	return true
}

// roomOrQueue finds room for another instance, or a place in the queue.
func (p *pool) roomOrQueue() (*linear.Account, chan *instance, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, errStopped
	}
	if p.live < p.max {
		if mem := p.memory.Open(p.reserve.Load(), p.beside); mem != nil {
			p.live++
			return mem, nil, nil
		}
	}
	if len(p.waiting) >= maxQueued {
		return nil, nil, errBusy
	}
	queue := make(chan *instance, 1)
	p.setWaiting(append(p.waiting, queue))
	return nil, queue, nil
}

// setWaiting replaces the queue; p.mu is held.
func (p *pool) setWaiting(queue []chan *instance) {
	p.waiting = queue
	p.queued.Store(int32(len(queue)))
}

func (p *pool) grow(ctx context.Context, mem *linear.Account) (*instance, error) {
	i, err := p.create(ctx, mem)
	if err != nil {
		mem.Close()
		p.vacate()
	}
	return i, err
}

// abandon leaves the queue; what was handed over meanwhile goes to the next.
func (p *pool) abandon(queue chan *instance) {
	p.mu.Lock()
	n := len(p.waiting)
	p.setWaiting(slices.DeleteFunc(p.waiting, func(q chan *instance) bool { return q == queue }))
	left := len(p.waiting) < n
	p.mu.Unlock()
	if left {
		return
	}
	if i := <-queue; i != nil {
		p.put(i)
	} else {
		p.wake(nil)
	}
}

// wake hands i, or room for a new one, to who has waited longest; false if nobody waits.
func (p *pool) wake(i *instance) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		return false
	}
	p.waiting[0] <- i // buffered
	p.setWaiting(p.waiting[1:])
	return true
}

// put takes an instance back.
func (p *pool) put(i *instance) {
	p.learn(i)
	if p.queued.Load() > 0 && p.wake(i) {
		return
	}
	i.idle, i.settled = i.clock.since, false
	if !p.near().push(i) {
		i.close()
		p.vacate()
		return
	}
	if p.queued.Load() > 0 { // who queued may have looked before the push
		if i := p.takeIdle(); i != nil && !p.wake(i) {
			p.put(i)
		}
	}
}

// drop ends an instance that failed or is for one request only.
func (p *pool) drop(i *instance) {
	p.learn(i)
	i.close()
	p.vacate()
}

func (p *pool) vacate() {
	p.mu.Lock()
	p.live--
	p.mu.Unlock()
	p.wake(nil)
}

// trim ends the instances that have been idle for long: those over warm after spare, all after last. It
// tells whether none is left.
func (p *pool) trim(warm int, spare, last time.Duration) (empty bool) {
	now := sinceEpoch()
	old := func(i *instance) bool {
		idle := now - i.idle
		return idle >= last || idle >= spare && p.alive() > warm
	}
	for n := range p.shards {
		for i := p.shards[n].stale(old); i != nil; i = p.shards[n].stale(old) {
			p.drop(i)
		}
	}
	return p.alive() == 0
}

func (p *pool) alive() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live
}

// settle has instances that were idle for a while give back what they hold of memory beyond the image
// that they share.
func (p *pool) settle(after time.Duration) {
	now := sinceEpoch()
	for n := range p.shards {
		s := &p.shards[n]
		s.mu.Lock()
		for _, i := range s.idle {
			if !i.settled && now-i.idle >= after {
				_ = i.region.Trim() // it keeps its pages then, and is as good as before
				i.settled = true
			}
		}
		s.mu.Unlock()
	}
}

// stale takes out the longest unused instance if it is old.
func (s *shard) stale(old func(*instance) bool) *instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle) == 0 || !old(s.idle[0]) {
		return nil
	}
	i := s.idle[0]
	s.idle = s.idle[1:]
	return i
}

// close ends the idle instances and sends away who waits; those handed out end when they come back.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	for n := range p.shards {
		s := &p.shards[n]
		s.mu.Lock()
		s.closed = true
		idle := s.idle
		s.idle = nil
		s.mu.Unlock()
		for _, i := range idle {
			p.drop(i)
		}
	}
	for p.wake(nil) {
	}
}
