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

// Open makes an account that holds n bytes for a memory, and so many beside it; nil if the budget has not got them.
func (b *Budget) Open(n, beside uint64) *Account {
	if !b.take(n + beside) {
		return nil
	}
	return &Account{budget: b, held: n, beside: beside}
}

// Account is one instance's part of a budget: what its memory has, which may be filled ahead of use and only
// grows until the account is closed, and what the instance has beside it, which comes and goes. The nil account
// covers everything.
type Account struct {
	budget *Budget
	held   uint64
	beside uint64
}

// Held is what the account has taken for a memory.
func (a *Account) Held() uint64 {
	if a == nil {
		return 0
	}
	return a.held
}

// Cover has the account hold size bytes for a memory, or more if it does; false if the budget has not got them.
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

// Beside has the account hold n bytes beside the memory's; false, and as before, if the budget has not got them.
func (a *Account) Beside(n uint64) bool {
	switch {
	case a == nil:
		return true
	case n <= a.beside:
		a.budget.give(a.beside - n)
	case !a.budget.take(n - a.beside):
		return false
	}
	a.beside = n
	return true
}

// shrink gives back what the memory has more than size.
func (a *Account) shrink(size uint64) {
	if a != nil && size < a.held {
		a.budget.give(a.held - size)
		a.held = size
	}
}

// Close gives everything back. The account may be used again, and closed again.
func (a *Account) Close() {
	a.shrink(0)
	a.Beside(0)
}
