package wasm

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// traffic counts the requests in flight, so that a replica can end when the last is over.
type traffic struct {
	mu       sync.Mutex
	stopping bool
	inFlight int
	drained  chan struct{} // closed when it stops and no request is in flight
}

func newTraffic() *traffic { return &traffic{drained: make(chan struct{})} }

// enter lets a request in; false once the replica stops. Who was let in leaves.
func (t *traffic) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopping {
		return false
	}
	t.inFlight++
	return true
}

func (t *traffic) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inFlight--
	t.checkDrained()
}

func (t *traffic) checkDrained() {
	if t.stopping && t.inFlight == 0 {
		close(t.drained)
	}
}

// refuse lets no more requests in.
func (t *traffic) refuse() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.stopping {
		t.stopping = true
		t.checkDrained()
	}
}

// drain waits for the requests in flight; false if they did not end in time.
func (t *traffic) drain(ctx context.Context, grace time.Duration) bool {
	select {
	case <-t.drained: // even without any grace
		return true
	default:
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-t.drained:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// unavailable answers a request that no guest has seen.
func unavailable(w http.ResponseWriter, err error) {
	w.Header().Set("Retry-After", "1")
	http.Error(w, err.Error(), http.StatusServiceUnavailable)
}
