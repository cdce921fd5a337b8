package coordinator

import (
	"context"
	"sync"

	"github.com/cloudless/cloudless/api"
)

// turns lets one at a time do what has the same key, on this coordinator. The zero turns is ready.
type turns struct {
	mu    sync.Mutex
	taken map[string]chan struct{} // closed when the turn is over
}

// take waits until nobody has the key's turn. Whoever has got it ends it.
func (t *turns) take(ctx context.Context, key string) (end func(), err error) {
	for {
		before := t.tryTake(key)
		if before == nil {
			return func() { t.end(key) }, nil
		}
		select {
		case <-before:
		case <-ctx.Done():
			return nil, api.Errorf(api.CodeConflict, "a request with the same Idempotency-Key is still under way: %w", context.Cause(ctx)).
				WithHint("ask again: once the first is done, the answer is the same")
		}
	}
}

// tryTake returns nil, or what is closed when somebody else's turn is over.
func (t *turns) tryTake(key string) (before chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if before = t.taken[key]; before != nil {
		return before
	}
	if t.taken == nil {
		t.taken = map[string]chan struct{}{}
	}
	t.taken[key] = make(chan struct{})
	return nil
}

func (t *turns) end(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.taken[key])
	delete(t.taken, key)
}
