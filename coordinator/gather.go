package coordinator

import (
	"context"

	"github.com/cloudless/cloudless/api"
)

// gatherQueue is how many callers may wait; those beyond it wait in front of it.
const gatherQueue = 1024

// gather brings what many callers want to one worker. While the worker is busy with some, the others
// gather: it takes all of them at once, and what is dear is paid once for all.
type gather[T any] struct {
	queue chan T
	held  []T // taken, but for the next round; the worker's alone
}

func newGather[T any]() gather[T] { return gather[T]{queue: make(chan T, gatherQueue)} }

// put hands something to the worker.
func (g *gather[T]) put(ctx context.Context, item T) error {
	select {
	case g.queue <- item:
		return nil
	case <-ctx.Done():
		return api.Errorf(api.CodeTimeout, "too many requests wait before this one: %w", ctx.Err()).WithHint("nothing was done; try again")
	}
}

// take waits for something, and takes with it what is there, until fits refuses; false when ctx ends.
func (g *gather[T]) take(ctx context.Context, fits func(T) bool) ([]T, bool) {
	batch := g.held
	g.held = nil
	if len(batch) == 0 {
		select {
		case item := <-g.queue:
			batch = append(batch, item)
		case <-ctx.Done():
			return nil, false
		}
	}
	fits(batch[0])
	for {
		select {
		case item := <-g.queue:
			if !fits(item) {
				g.held = append(g.held, item)
				return batch, true
			}
			batch = append(batch, item)
		default:
			return batch, true
		}
	}
}
