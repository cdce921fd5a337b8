package s3

import (
	"context"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
)

// What was asked of the coordinators counts for this long, from when it was asked: a key that is revoked
// opens nothing 5 s later, the time of an answer included. A refusal counts for less: it is kept against
// a client that goes on and on.
const (
	recentFor  = 3 * time.Second
	refusedFor = time.Second
	recentMost = 4_096
)

// recent keeps answers for a moment. Those who ask the same at the same time share one question.
type recent[K comparable, V any] struct {
	mu      sync.Mutex
	entries map[K]*answer[V]
}

type answer[V any] struct {
	done  chan struct{} // closed when what follows is there
	value V
	err   error
	until time.Time
	left  bool // who asked went away before it came
}

func newRecent[K comparable, V any]() *recent[K, V] {
	return &recent[K, V]{entries: map[K]*answer[V]{}}
}

// get gives the answer to key, asking if there is none that still counts.
func (r *recent[K, V]) get(ctx context.Context, key K, ask func(context.Context) (V, error)) (V, error) {
	for {
		a, mine := r.find(key)
		if mine {
			r.answer(ctx, a, ask)
			return a.value, a.err
		}
		select {
		case <-a.done:
		case <-ctx.Done():
			var none V
			return none, api.Errorf(api.CodeUnavailable, "the wait for the coordinators ended: %w", ctx.Err())
		}
		if !a.left {
			return a.value, a.err
		} // ask for oneself
	}
}

// find gives the answer that counts or is on its way, or a new one which the caller is to fill.
func (r *recent[K, V]) find(key K) (a *answer[V], mine bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a = r.entries[key]; a != nil && a.counts(time.Now()) {
		return a, false
	}
	if len(r.entries) >= recentMost {
		r.sweep(time.Now())
	}
	a = &answer[V]{done: make(chan struct{})}
	r.entries[key] = a
	return a, true
}

// counts is true for an answer that is on its way, too.
func (a *answer[V]) counts(now time.Time) bool {
	select {
	case <-a.done:
		return now.Before(a.until)
	default:
		return true
	}
}

// sweep makes room: what counts no more goes, or else all of it.
func (r *recent[K, V]) sweep(now time.Time) {
	for key, a := range r.entries {
		if !a.counts(now) {
			delete(r.entries, key)
		}
	}
	if len(r.entries) >= recentMost {
		clear(r.entries)
	}
}

func (r *recent[K, V]) answer(ctx context.Context, a *answer[V], ask func(context.Context) (V, error)) {
	defer close(a.done)
	asked := time.Now()
	a.value, a.err = ask(ctx)
	switch api.CodeOf(a.err) {
	case "":
		a.until = asked.Add(recentFor)
	case api.CodeUnauthorized, api.CodeNotFound, api.CodeInvalid:
		a.until = asked.Add(refusedFor)
	default:
		a.left = ctx.Err() != nil
	}
}
