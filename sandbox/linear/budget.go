package linear

import "sync"

// Budget bounds what all instances of an owner hold together: the node has reserved that much for it.
type Budget struct {
	mu    sync.Mutex
	limit uint64
	used  uint64
}

// NewBudget makes a budget of limit bytes.
func NewBudget(limit uint64) *Budget { return &Budget{limit: limit} }

// Limit is what all accounts may hold together.
func (b *Budget) Limit() uint64 { return b.limit }

// Used is what they hold.
func (b *Budget) Used() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

func (b *Budget) take(n uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.limit-b.used {
		return false
	}
	b.used += n
	return true
}

func (b *Budget) give(n uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
}

// Open makes an account that holds n bytes; nil if the budget has not got them.
func (b *Budget) Open(n uint64) *Account {
	if !b.take(n) {
		return nil
	}
	return &Account{budget: b, held: n}
}

// Account is one instance's part of a budget. It may be filled ahead of use, and only grows until it
// is closed. The nil account covers everything.
type Account struct {
	budget *Budget
	held   uint64
}

// Held is what the account has taken.
func (a *Account) Held() uint64 {
	if a == nil {
		return 0
	}
	return a.held
}

// Cover has the account hold size bytes, or more if it does; false if the budget has not got them.
func (a *Account) Cover(size uint64) bool {
	switch {
	case a == nil || size <= a.held:
		return true
	case !a.budget.take(size - a.held):
		return false
	}
	a.held = size
	return true
}

// shrink gives back what is more than size.
func (a *Account) shrink(size uint64) {
	if a != nil && size < a.held {
		a.budget.give(a.held - size)
		a.held = size
	}
}

// Close gives everything back. The account may be used again, and closed again.
func (a *Account) Close() { a.shrink(0) }
