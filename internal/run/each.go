package run

import (
	"context"
	"fmt"
)

// Each runs do for every item that find puts, so many at a time, until the first error. put blocks while
// all are busy; its error is for find to return.
func Each[T any](ctx context.Context, name string, workers int, find func(ctx context.Context, put func(T) error) error, do func(context.Context, T) error) error {
	g, queue := New(ctx), make(chan T)
	for range workers {
		g.Go(name, func(ctx context.Context) error {
			for item := range queue {
				if err := do(ctx, item); err != nil {
					if ctx.Err() == nil { // even context.Canceled, of which the group would think that it was its own
						g.fail(fmt.Errorf("%s: %w", name, err))
					}
					return err
				}
			}
			return nil
		})
	}
	err := find(g.Context(), func(item T) error {
		select {
		case queue <- item:
			return nil
		case <-g.Context().Done():
			return g.Context().Err()
		}
	})
	close(queue)
	if err != nil {
		g.Stop()
	}
	if failed := g.Wait(); failed != nil {
		return failed
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
