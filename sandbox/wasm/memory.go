package wasm

import (
	"sync"
	"time"

	"github.com/tetratelabs/wazero/experimental"
)

// budget bounds the linear memory of all instances of a replica together: the node has reserved that
// much for it.
type budget struct {
	mu    sync.Mutex
	limit uint64
	used  uint64
}

func (b *budget) take(n uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.limit-b.used {
		return false
	}
	b.used += n
	return true
}

func (b *budget) give(n uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
}

func (b *budget) inUse() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// account is one instance's part of a budget, and wazero's allocator for it. It may be reserved ahead
// of use; memory.grow beyond the budget fails in the guest as the specification of wasm has it.
type account struct {
	budget *budget
	held   uint64
	memory []byte
}

var (
	_ experimental.MemoryAllocator = (*account)(nil)
	_ experimental.LinearMemory    = (*account)(nil)
)

// open reserves n bytes; nil if the budget has not got them.
func (b *budget) open(n uint64) *account {
	if !b.take(n) {
		return nil
	}
	return &account{budget: b, held: n}
}

// Allocate implements experimental.MemoryAllocator. A module has at most one memory.
func (a *account) Allocate(_, _ uint64) experimental.LinearMemory { return a }

// Reallocate implements experimental.LinearMemory. New memory is zero: memory never shrinks, so what
// lies behind len was not used before.
func (a *account) Reallocate(size uint64) []byte {
	if size > a.held {
		if !a.budget.take(size - a.held) {
			return nil
		}
		a.held = size
	}
	if size <= uint64(cap(a.memory)) {
		a.memory = a.memory[:size]
		return a.memory
	}
	room := min(max(size, uint64(cap(a.memory))*5/4), a.budget.limit) // or each new page would copy all others
	grown := make([]byte, size, room)
	copy(grown, a.memory)
	a.memory = grown
	return grown
}

// Free implements experimental.LinearMemory. It may be called more than once.
func (a *account) Free() {
	a.budget.give(a.held)
	a.held, a.memory = 0, nil
}

// meter adds up the time that guests run. Waiting (for a body, a client, a sleep) does not count.
type meter struct {
	mu     sync.Mutex
	epoch  time.Time
	sum    time.Duration
	active int
}

func (m *meter) enter() { m.add(1) }
func (m *meter) leave() { m.add(-1) }

// add counts a guest in or out: entering subtracts the present, leaving adds it.
func (m *meter) add(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.epoch.IsZero() {
		m.epoch = time.Now()
	}
	m.active += n
	m.sum -= time.Duration(n) * time.Since(m.epoch)
}

func (m *meter) total() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.active == 0 {
		return m.sum
	}
	return m.sum + time.Duration(m.active)*time.Since(m.epoch)
}

// wait runs f, which waits for something outside the guest.
func (m *meter) wait(f func()) {
	m.leave()
	defer m.enter()
	f()
}
