package agent

import (
	"context"
	"slices"
	"sync"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/internal/run"
)

// Bounds of what gathers.
const (
	maxGathered    = 1024 // callers who wait for a request to go
	maxBatchParts  = 256  // of several callers in one request; a single one may ask for more
	maxBatchWeight = 1 << 20
)

// gather brings what many callers ask of the coordinators into few requests. One is under way at a time: what is
// asked meanwhile goes with the next, all of it at once, and what is asked when there is none waits for nobody.
// A request begins after everything in it was asked.
type gather[Q, A any] struct {
	name  string
	group *run.Group
	weigh func(Q) (parts, weight int) // weight is about its bytes on the wire
	// send makes one request. It gives an answer for each of the batch, or an error that is everybody's.
	send func(ctx context.Context, batch []Q) ([]A, error)

	mu      sync.Mutex
	waiting []*asking[Q, A]
	sending bool
}

// asking is what one caller asks.
type asking[Q, A any] struct {
	ctx    context.Context
	asks   Q
	answer A
	err    error
	done   chan struct{} // closed when one of the two above is set
}

// ask returns the answer to q, or, when ctx ends before, the cause of that.
func (g *gather[Q, A]) ask(ctx context.Context, q Q) (answer A, err error) {
	a := &asking[Q, A]{ctx: ctx, asks: q, done: make(chan struct{})}
	if err := g.add(a); err != nil {
		return answer, err
	}
	select {
	case <-a.done:
		return a.answer, a.err
	case <-ctx.Done():
		return answer, api.Errorf(api.CodeTimeout, "the coordinators have not answered in time: %w", ctx.Err()).WithHint("a change may still be made; look before you repeat it")
	}
}

func (g *gather[Q, A]) add(a *asking[Q, A]) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.group.Context().Err() != nil || len(g.waiting) >= maxGathered {
		return notSent("%d requests of this node wait for the coordinators already, or it ends", len(g.waiting))
	}
	g.waiting = append(g.waiting, a)
	if !g.sending {
		g.sending = true
		g.group.Go(g.name, g.work)
	}
	return nil
}

// work sends what waits, a batch at a time, until nothing does.
func (g *gather[Q, A]) work(ctx context.Context) error {
	for batch := g.take(); len(batch) > 0; batch = g.take() {
		asks := make([]Q, len(batch))
		for i, a := range batch {
			asks[i] = a.asks
		}
		answers, err := g.send(ctx, asks)
		for i, a := range batch {
			if a.err = err; err == nil {
				a.answer = answers[i]
			}
			close(a.done)
		}
	}
	return nil
}

// take removes the next batch from what waits, and those who have gone. When there is none, nobody sends any
// more.
func (g *gather[Q, A]) take() []*asking[Q, A] {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = slices.DeleteFunc(g.waiting, func(a *asking[Q, A]) bool { return a.ctx.Err() != nil })
	n, parts, weight := 0, 0, 0
	for _, a := range g.waiting {
		p, w := g.weigh(a.asks)
		parts, weight = parts+p, weight+w
		if n > 0 && (parts > maxBatchParts || weight > maxBatchWeight) {
			break
		}
		n++
	}
	batch := g.waiting[:n:n]
	g.waiting = slices.Clone(g.waiting[n:])
	g.sending = n > 0
	return batch
}

// notSent is an error of which it is certain that nothing has come.
func notSent(format string, args ...any) error {
	e := api.Errorf(api.CodeUnavailable, format, args...).WithHint("try again; 'cloudless status' shows the coordinators")
	e.Err = meta.ErrNotSent
	return e
}
