package coordinator

import (
	"context"
	"sync"

	"github.com/cloudless/cloudless/api"
)

// progress is the index of the last command of the log that was applied here, with a way to wait for one.
// The zero value is the beginning of the log.
type progress struct {
	mu    sync.Mutex
	index uint64
	moved chan struct{} // closed at the next move; nil when nobody waits
}

func (p *progress) set(index uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.index = index
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

func (p *progress) get() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.index
}

// look gives the index, and a channel that is closed when it moves.
func (p *progress) look() (uint64, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.moved == nil {
		p.moved = make(chan struct{})
	}
	return p.index, p.moved
}

// wait blocks until the command at index has been applied.
func (p *progress) wait(ctx context.Context, index uint64) error {
	for {
		have, moved := p.look()
		if have >= index {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return api.Errorf(api.CodeTimeout, "this coordinator has not caught up with index %d, which the others have; it is at %d", index, have).
				WithHint("ask another coordinator, or try again")
		}
	}
}
