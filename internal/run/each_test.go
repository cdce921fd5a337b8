package run

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func numbers(n int) func(context.Context, func(int) error) error {
	return func(_ context.Context, put func(int) error) error {
		for i := range n {
			if err := put(i); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestEachDoesAllOfThemAFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sum, now, most atomic.Int64
		err := Each(t.Context(), "add", 3, numbers(100), func(ctx context.Context, i int) error {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			sum.Add(int64(i))
			return Sleep(ctx, 1)
		})
		if err != nil || sum.Load() != 4950 || most.Load() != 3 {
			t.Errorf("sum %d, %d at a time: %v", sum.Load(), most.Load(), err)
		}
	})
}

func TestEachStopsAtTheFirstError(t *testing.T) {
	bad := errors.New("bad")
	if err := Each(t.Context(), "fail", 2, numbers(1<<30), func(_ context.Context, i int) error {
		if i == 5 {
			return bad
		}
		return nil
	}); !errors.Is(err, bad) {
		t.Error(err)
	}
	find := func(_ context.Context, put func(int) error) error { return errors.Join(put(1), bad) }
	if err := Each(t.Context(), "find", 2, find, func(context.Context, int) error { return nil }); !errors.Is(err, bad) {
		t.Errorf("what find gave: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	if err := Each(ctx, "end", 2, numbers(1<<30), func(context.Context, int) error { cancel(bad); return nil }); !errors.Is(err, bad) {
		t.Errorf("why the caller gave up: %v", err)
	}
}

// A worker that ends because something else was given up, and not Each, is an error like every other: with
// no worker left nobody would take what find puts.
func TestEachStopsWhenDoIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := Each(t.Context(), "give up", 2, numbers(100), func(context.Context, int) error { return context.Canceled })
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
