package wasm

import (
	"context"
	"errors"
	"slices"
	"sync"

	wapi "github.com/tetratelabs/wazero/api"
)

const (
	// maxInstances bounds the requests that a replica handles at the same time.
	maxInstances = 64
	// maxQueued bounds those that wait for an instance; the next is told to come back later.
	maxQueued = 256
	// memoryShares is the number of instances that one large one must leave room for: growth up to a
	// share of the replica's memory is reserved ahead for the next instance, more is not.
	memoryShares = 8
)

var (
	errBusy    = errors.New("too many requests wait for this replica")
	errStopped = errors.New("the replica has been stopped")
)

// instance is a place for a request in a replica: a reservation of memory, and for cl an instance of
// the module that is used again and again (last in, first out, so that few stay warm).
type instance struct {
	wapi.Module // for WAGI only while it runs
	handle      wapi.Function
	memory      *account
	out, err    *lines
	ctx         context.Context // of the running call
}

func (i *instance) current() context.Context { return i.ctx }

// endLines writes out what a call left of a line.
func (i *instance) endLines() {
	i.out.end()
	i.err.end()
}

func (i *instance) close() {
	if i.Module != nil {
		_ = i.Module.Close(context.Background()) // it only frees memory
	}
	i.endLines()
	i.memory.Free()
}

// pool hands out a replica's instances. There are at most max, and only as many as the replica's
// memory has room for, each counted at the size that others have reached (see memoryShares).
type pool struct {
	memory *budget
	max    int
	create func(ctx context.Context, mem *account) (*instance, error)

	mu      sync.Mutex
	closed  bool
	idle    []*instance
	live    int    // idle or handed out
	reserve uint64 // bytes for the next instance
	waiting []chan *instance
}

func newPool(memory *budget, max int, initial uint64, create func(context.Context, *account) (*instance, error)) *pool {
	return &pool{memory: memory, max: max, reserve: initial, create: create}
}

// learn reserves more for the next instance when one has grown; p.mu is held.
func (p *pool) learn(held uint64) {
	p.reserve = max(p.reserve, min(held, p.memory.limit/memoryShares))
}

// get hands out an instance, waiting for one if it must.
func (p *pool) get(ctx context.Context) (*instance, error) {
	for {
		i, mem, queue, err := p.next()
		switch {
		case err != nil || i != nil:
			return i, err
		case mem != nil:
			return p.grow(ctx, mem)
		}
		select {
		case i = <-queue:
			if i != nil {
				return i, nil
			} // else there is room for one more
		case <-ctx.Done():
			p.abandon(queue)
			return nil, context.Cause(ctx)
		}
	}
}

// next finds an idle instance, or room for another, or a place in the queue.
func (p *pool) next() (*instance, *account, chan *instance, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, nil, errStopped
	}
	if n := len(p.idle); n > 0 {
		i := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return i, nil, nil, nil
	}
	if p.live < p.max {
		if mem := p.memory.open(p.reserve); mem != nil {
			p.live++
			return nil, mem, nil, nil
		}
	}
	if len(p.waiting) >= maxQueued {
		return nil, nil, nil, errBusy
	}
	queue := make(chan *instance, 1)
	p.waiting = append(p.waiting, queue)
	return nil, nil, queue, nil
}

func (p *pool) grow(ctx context.Context, mem *account) (*instance, error) {
	i, err := p.create(ctx, mem)
	if err != nil {
		mem.Free()
		p.vacate()
	}
	return i, err
}

// abandon leaves the queue; what was handed over meanwhile goes to the next.
func (p *pool) abandon(queue chan *instance) {
	p.mu.Lock()
	n := len(p.waiting)
	p.waiting = slices.DeleteFunc(p.waiting, func(q chan *instance) bool { return q == queue })
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
	return p.handOver(i)
}

func (p *pool) handOver(i *instance) bool {
	if len(p.waiting) == 0 {
		return false
	}
	p.waiting[0] <- i // buffered
	p.waiting = p.waiting[1:]
	return true
}

// put takes an instance back.
func (p *pool) put(i *instance) {
	p.mu.Lock()
	p.learn(i.memory.held)
	closed := p.closed
	if !closed && !p.handOver(i) {
		p.idle = append(p.idle, i)
	}
	p.mu.Unlock()
	if closed {
		i.close()
	}
}

// drop ends an instance that failed or is for one request only.
func (p *pool) drop(i *instance) {
	p.mu.Lock()
	p.learn(i.memory.held)
	p.mu.Unlock()
	i.close()
	p.vacate()
}

func (p *pool) vacate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live--
	p.handOver(nil)
}

// close ends the idle instances and sends away who waits; those handed out end when they come back.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, i := range p.idle {
		i.close()
	}
	p.idle = nil
	for p.handOver(nil) {
	}
}
