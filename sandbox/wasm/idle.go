package wasm

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cloudless/cloudless/internal/run"
)

const (
	// restEvery is how often replicas that hold something are asked to give back what they do not need.
	restEvery = time.Second
	// warmReplicas may keep the instance that showed, at their start, that one can be made. It takes 32 KiB and
	// more: of ten thousand modules that are deployed together that would be most of the agent's memory.
	warmReplicas = 500
)

// resting is a replica that holds instances while it is asked for, and can do without them.
type resting interface {
	// rest gives back what has not been used for long; true when nothing is left.
	rest() bool
}

// awake are the replicas that hold something.
type awake struct {
	mu  sync.Mutex
	set map[resting]bool
}

// add notes that a replica holds something again.
func (a *awake) add(r resting) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.set[r] = true
}

// many tells whether there are as many as may hold something that nobody has asked for.
func (a *awake) many() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.set) > warmReplicas
}

// all lists them.
func (a *awake) all() []resting {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Keys(a.set))
}

// rest has a replica rest, and forgets it when it has come to that. It is forgotten first, so that it is
// not lost if it wakes meanwhile.
func (a *awake) rest(r resting) {
	a.mu.Lock()
	delete(a.set, r)
	a.mu.Unlock()
	if !r.rest() {
		a.add(r)
	}
}

// tend has replicas rest, until ctx ends.
func (a *awake) tend(ctx context.Context) error {
	for run.Sleep(ctx, restEvery) == nil {
		for _, r := range a.all() {
			a.rest(r)
		}
	}
	return nil
}
