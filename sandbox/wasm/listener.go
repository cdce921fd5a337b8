package wasm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
)

// crowded is how many requests each guest of a listening replica has in flight before another guest is
// started. One guest uses one processor.
const crowded = 8

var (
	errGuestEnded = errors.New("the guest has ended")
	errIdle       = errors.New("the replica was idle")
	errStuck      = errors.New("the guest was ended, as it computed past the timeout of another request")
)

// copyBuffers are for the bodies of all replicas' responses.
var copyBuffers sandbox.Buffers

// listening is a replica of mode http whose guests accept connections themselves, on a listener that
// exists in this process alone (interface listener).
type listening struct {
	*base
	*traffic
	group   *run.Group
	code    *module
	timeout time.Duration
	idle    time.Duration // after which the guests are ended; 0: never
	most    int           // guests
	proxy   *httputil.ReverseProxy

	mu      sync.Mutex
	guests  []*guest
	failed  *sandbox.Exit // of the first guest that ended by itself
	lastUse time.Duration // since epoch
}

// newListening makes the replica with its first guest, which begin runs.
func newListening(ctx context.Context, b *base) (*listening, error) {
	w := b.spec.Wasm
	if w.Isolation != "" && w.Isolation != api.IsolationInstance {
		return nil, invalid("wasm.isolation %s cannot be had with the interface listener: its guest serves all requests itself", w.Isolation).
			WithHint("leave it out, or export cl_handle")
	}
	l := &listening{
		base: b, traffic: newTraffic(), group: run.New(context.Background()),
		timeout: cmp.Or(w.Timeout.D(), api.DefaultHTTPTimeout), idle: w.IdleAfter.D(),
		most: min(runtime.GOMAXPROCS(0), cmp.Or(w.MaxConcurrency, maxInstances)),
	}
	l.proxy = &httputil.ReverseProxy{
		Rewrite: rewriteForGuest, Transport: l, FlushInterval: -1, BufferPool: &copyBuffers, ErrorHandler: l.fail,
	}
	var err error
	if l.code, err = b.driver.engine.acquire(ctx, b.spec); err != nil {
		return nil, err
	}
	ctx, cancel := initContext(ctx)
	defer cancel()
	g, err := l.newGuest(ctx)
	if err != nil {
		b.driver.engine.release(l.code)
		return nil, startError(ctx, err)
	}
	l.guests = []*guest{g}
	return l, nil
}

// begin implements replica.
func (l *listening) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastUse = sinceEpoch()
	for _, g := range l.guests {
		l.run(g)
	}
}

// run has a guest serve until it ends or is ended; l.mu is held.
func (l *listening) run(g *guest) {
	g.ctx, g.cancel = context.WithCancelCause(l.ctx)
	l.group.Go("wasm guest of replica "+l.ID(), func(context.Context) error {
		g.world.Bind(g.ctx, nil, g.out, g.err)
		err := g.call(g.ctx, g.export(exportStart))
		asked := g.ctx.Err() != nil
		g.cancel(errGuestEnded)
		if exit := l.retire(g, asked, err); exit != nil {
			l.end(*exit)
		}
		return nil
	})
	l.driver.awake.add(l)
}

// retire forgets a guest that has ended. No server should end by itself: when one does, the replica
// ends with its exit, which is told once the last guest is gone.
func (l *listening) retire(g *guest, asked bool, err error) *sandbox.Exit {
	_ = g.listener.Close() // what waits on it is told
	g.links.close()
	g.instance.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	defer close(g.gone)
	l.guests = slices.DeleteFunc(l.guests, func(other *guest) bool { return other == g })
	if !asked && l.failed == nil {
		exit := l.exitOf(err)
		l.failed = &exit
		l.cancel()
	}
	if len(l.guests) > 0 {
		return nil
	}
	return l.failed
}

// pick finds the guest with the fewest requests, or starts another. Where there is no memory for that
// before one has ended that is about to, it waits for its end.
func (l *listening) pick(ctx context.Context) (*guest, error) {
	for {
		g, leaving, err := l.choose(ctx)
		if leaving == nil {
			return g, err
		}
		if err := leaving.await(ctx, l.timeout); err != nil {
			return nil, err
		}
	}
}

// choose is pick without the waiting.
func (l *listening) choose(ctx context.Context) (best, leaving *guest, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return nil, nil, errStopped
	}
	l.lastUse = sinceEpoch()
	for _, g := range l.guests {
		switch {
		case g.ending:
			leaving = g
		case best == nil, g.inFlight.Load() < best.inFlight.Load():
			best = g
		}
	}
	if best == nil || best.inFlight.Load() >= crowded && len(l.guests) < l.most {
		ctx, cancel := initContext(ctx)
		g, err := l.newGuest(ctx)
		cancel()
		switch {
		case err == nil:
			l.guests = append(l.guests, g)
			l.run(g)
			best = g
		case best == nil:
			return nil, leaving, err
		} // else there is no memory for one more
	}
	best.inFlight.Add(1)
	return best, nil, nil
}

// ServeHTTP implements http.Handler.
func (l *listening) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !l.enter() {
		unavailable(w, errStopped)
		return
	}
	defer l.leave()
	l.proxy.ServeHTTP(w, r)
}

// fail answers a request that its guest did not.
func (l *listening) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusBadGateway
	switch {
	case errors.Is(err, errDeadline):
		status, err = http.StatusGatewayTimeout, fmt.Errorf("%w (%s)", errDeadline, l.timeout)
	case l.ctx.Err() != nil && !l.hasFailed():
		unavailable(w, errStopped)
		return
	case r.Context().Err() != nil && l.ctx.Err() == nil:
		err = errClientGone
	}
	http.Error(w, http.StatusText(status)+": the workload's log says why", status)
	l.log.printf("cloudless: %s %s: %v", r.Method, r.URL.Path, err)
}

func (l *listening) hasFailed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed != nil
}

// Stop implements sandbox.Handle: requests in flight may end within grace. WASI has no signals, so then
// the guests are ended at once.
func (l *listening) Stop(ctx context.Context, grace time.Duration) error {
	l.refuse()
	forced := !l.drain(ctx, grace)
	l.cancel()
	exit := sandbox.Exit{Reason: "stopped"}
	if forced {
		exit = sandbox.Exit{Code: codeForced, Reason: "stopped by force while it handled requests"}
	}
	return l.join(exit)
}

// join waits for the guests, which have been told to end, and ends the replica.
func (l *listening) join(exit sandbox.Exit) error {
	ended := make(chan struct{})
	go func() { // ends with the guests
		defer close(ended)
		_ = l.group.Wait()
	}()
	timer := time.NewTimer(killWait)
	defer timer.Stop()
	select {
	case <-ended:
		l.end(exit)
		return nil
	case <-timer.C:
		return api.Errorf(api.CodeTimeout, "replica %s still runs %s after it was to end", l.ID(), killWait)
	}
}

// end tells how the replica ended. Guests that were never run are closed here; those that run end with
// the replica's context.
func (l *listening) end(exit sandbox.Exit) {
	l.refuse()
	l.finish(exit, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, g := range l.guests {
			if g.cancel == nil {
				g.instance.close()
			}
		}
		l.driver.engine.release(l.code)
	})
}

// gone implements replica.
func (l *listening) gone() error {
	return l.join(sandbox.Exit{Code: codeForced, Reason: "stopped by force"})
}

// abort implements replica.
func (l *listening) abort() {
	l.refuse()
	l.cancel()
}

// drop implements replica.
func (l *listening) drop() { l.end(sandbox.Exit{Reason: "stopped"}) }

// rest ends the guests of a replica that has been idle for long, if it may be. It waits for nobody, as other
// replicas rest after it: while a guest is made, which takes as long as its start function, it is not idle.
func (l *listening) rest() bool {
	if !l.mu.TryLock() {
		return false
	}
	defer l.mu.Unlock()
	for _, g := range l.guests {
		g.links.trim(linkIdle)
	}
	if l.idle == 0 || sinceEpoch()-l.lastUse < l.idle {
		return false
	}
	for _, g := range l.guests {
		if g.inFlight.Load() > 0 {
			return false
		}
	}
	for _, g := range l.guests {
		g.ending = true
		g.cancel(errIdle)
	}
	return true
}

// Endpoint implements sandbox.Handle.
func (l *listening) Endpoint() sandbox.Endpoint { return sandbox.Endpoint{Handler: l} }
