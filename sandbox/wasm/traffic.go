package wasm

import (
	"context"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// traffic counts the requests in flight, so that a replica can end when the last is over. The requests of
// all processors come by here, so it is one number and no lock.
type traffic struct {
	inFlight atomic.Int64  // less by closing, once it stops
	drained  chan struct{} // closed when it stops and no request is in flight
	stops    sync.Once
	drains   sync.Once
}

// closing is further below zero than requests can be above.
const closing = math.MinInt64 / 2

func newTraffic() *traffic { return &traffic{drained: make(chan struct{})} }

// enter lets a request in; false once the replica stops. Who was let in leaves.
func (t *traffic) enter() bool {
	if t.inFlight.Add(1) > 0 {
		return true
	}
	t.leave()
	return false
}

func (t *traffic) leave() { t.changed(t.inFlight.Add(-1)) }

// refuse lets no more requests in.
func (t *traffic) refuse() {
	t.stops.Do(func() { t.changed(t.inFlight.Add(closing)) })
}

// changed looks whether the last request is over. One that is being refused counts for a moment, and then
// leaves as well.
func (t *traffic) changed(inFlight int64) {
	if inFlight == closing {
		t.drains.Do(func() { close(t.drained) })
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
