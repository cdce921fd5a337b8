package wasm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/wasi"
)

// crowded is how many requests each guest of a listening replica has in flight before another guest is
// started. One guest uses one processor.
const crowded = 8

var (
	errGuestEnded = errors.New("the guest has ended")
	errIdle       = errors.New("the replica was idle")
)

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

// guest is one instance of a listening replica, with the host's end of its listener.
type guest struct {
	*instance
	listener  *wasi.Listener
	transport *http.Transport
	inFlight  atomic.Int64
	cancel    context.CancelCauseFunc
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
	l.proxy = &httputil.ReverseProxy{Rewrite: rewriteForGuest, Transport: l, FlushInterval: -1, ErrorHandler: l.fail}
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

// newGuest links an instance with a listener of its own.
func (l *listening) newGuest(ctx context.Context) (*guest, error) {
	g := &guest{listener: wasi.NewListener()}
	g.transport = &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return g.listener.Dial(ctx) },
		MaxIdleConnsPerHost: maxInstances, MaxConnsPerHost: maxQueued, IdleConnTimeout: time.Minute,
		DisableCompression: true, MaxResponseHeaderBytes: api.MaxHeaderBytes,
	}
	mem := l.budget.Open(0)
	var err error
	if g.instance, err = l.newInstance(ctx, origin{code: l.code, listener: g.listener}, mem); err != nil {
		mem.Close()
		return nil, errors.Join(err, g.listener.Close())
	}
	return g, nil
}

// begin implements replica.
func (l *listening) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastUse = sinceEpoch()
	for _, g := range l.guests {
		l.run(g)
	}
	l.driver.awake.add(l)
}

// run has a guest serve until it ends or is ended; l.mu is held.
func (l *listening) run(g *guest) {
	ctx, cancel := context.WithCancelCause(l.ctx)
	g.cancel = cancel
	l.group.Go("wasm guest of replica "+l.ID(), func(context.Context) error {
		g.world.Bind(ctx, nil, g.out, g.err)
		err := g.call(ctx, g.ExportedFunction(exportStart))
		asked := ctx.Err() != nil
		cancel(errGuestEnded)
		if exit := l.retire(g, asked, err); exit != nil {
			l.end(*exit)
		}
		return nil
	})
}

// retire forgets a guest that has ended. No server should end by itself: when one does, the replica
// ends with its exit, which is told once the last guest is gone.
func (l *listening) retire(g *guest, asked bool, err error) *sandbox.Exit {
	_ = g.listener.Close() // what waits on it is told
	g.transport.CloseIdleConnections()
	g.instance.close()
	l.mu.Lock()
	defer l.mu.Unlock()
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

// pick finds the guest with the fewest requests, or starts another.
func (l *listening) pick(ctx context.Context) (*guest, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return nil, errStopped
	}
	l.lastUse = sinceEpoch()
	var best *guest
	for _, g := range l.guests {
		if best == nil || g.inFlight.Load() < best.inFlight.Load() {
			best = g
		}
	}
	if best == nil || best.inFlight.Load() >= crowded && len(l.guests) < l.most {
		g, err := l.newGuest(ctx)
		switch {
		case err == nil:
			l.guests = append(l.guests, g)
			l.run(g)
			best = g
		case best == nil:
			return nil, err
		} // else there is no memory for one more
	}
	best.inFlight.Add(1)
	return best, nil
}

// ServeHTTP implements http.Handler.
func (l *listening) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !l.enter() {
		unavailable(w, errStopped)
		return
	}
	defer l.leave()
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(l.ctx, func() { cancel(errStopped) })()
	l.proxy.ServeHTTP(w, r.WithContext(ctx))
}

// RoundTrip implements http.RoundTripper: it sends a request to a guest. The deadline runs until the
// response's head is there.
func (l *listening) RoundTrip(r *http.Request) (*http.Response, error) {
	began := sinceEpoch()
	ctx, cancel := context.WithCancelCause(r.Context())
	g, err := l.pick(ctx)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	timer := time.AfterFunc(l.timeout, func() {
		cancel(errDeadline)
		g.endIfStuck(began + l.timeout/2)
	})
	res, err := g.transport.RoundTrip(r.WithContext(ctx))
	timer.Stop()
	if err != nil {
		g.inFlight.Add(-1)
		err = errors.Join(context.Cause(ctx), err)
		cancel(nil)
		return nil, err
	}
	res.Body = &served{res.Body, sync.OnceFunc(func() { g.inFlight.Add(-1); cancel(nil) })}
	return res, nil
}

// endIfStuck ends a guest that has not waited for anything since a moment long ago, half a request's time:
// it computes, does nothing else for anybody, and will not hear that the request is over.
func (g *guest) endIfStuck(since time.Duration) {
	if time.Duration(g.clock.waited.Load()) < since {
		g.cancel(errDeadline)
	}
}

// served is a response's body that tells when it is over.
type served struct {
	io.ReadCloser
	over func()
}

// Close implements io.Closer.
func (s *served) Close() error {
	defer s.over()
	return s.ReadCloser.Close()
}

// Write implements io.Writer: after an upgrade the body is the connection.
func (s *served) Write(p []byte) (int, error) {
	if w, ok := s.ReadCloser.(io.Writer); ok {
		return w.Write(p)
	}
	return 0, http.ErrNotSupported
}

// rewriteForGuest passes a request on as the ingress has made it: what that says of the client stands.
func rewriteForGuest(p *httputil.ProxyRequest) {
	p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "http", "guest", p.In.Host
	for name, values := range p.In.Header {
		if name == "Forwarded" || strings.HasPrefix(name, "X-Forwarded-") {
			p.Out.Header[name] = values
		}
	}
	p.Out.Header.Set(headerRemoteAddr, remoteAddr(p.In))
}

// fail answers a request that its guest did not.
func (l *listening) fail(w http.ResponseWriter, r *http.Request, err error) {
	cause := context.Cause(r.Context())
	switch {
	case errors.Is(cause, errStopped) && !l.hasFailed():
		unavailable(w, errStopped)
		return
	case errors.Is(err, errDeadline):
		err = fmt.Errorf("%w (%s)", errDeadline, l.timeout)
		http.Error(w, http.StatusText(http.StatusGatewayTimeout)+": the workload's log says why", http.StatusGatewayTimeout)
	case cause != nil && !errors.Is(cause, errStopped):
		err = errClientGone
	default:
		http.Error(w, http.StatusText(http.StatusBadGateway)+": the workload's log says why", http.StatusBadGateway)
	}
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

// rest ends the guests of a replica that has been idle for long, if it may be.
func (l *listening) rest() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.idle == 0 || sinceEpoch()-l.lastUse < l.idle {
		return false
	}
	for _, g := range l.guests {
		if g.inFlight.Load() > 0 {
			return false
		}
	}
	for _, g := range l.guests {
		g.cancel(errIdle)
	}
	return true
}

// Endpoint implements sandbox.Handle.
func (l *listening) Endpoint() sandbox.Endpoint { return sandbox.Endpoint{Handler: l} }
