package wasm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// server is a replica of mode http: it calls the guest for each request.
type server struct {
	*base
	how     drive
	timeout time.Duration
	pool    *pool

	mu       sync.Mutex
	stopping bool
	inFlight int
	drained  chan struct{} // closed when it stops and no request is in flight
}

// newServer makes the replica and shows, once for each environment, that an instance can be made.
func newServer(ctx context.Context, b *base, how drive) (*server, error) {
	s := &server{
		base: b, how: how, drained: make(chan struct{}),
		timeout: cmp.Or(b.spec.Wasm.Timeout.D(), api.DefaultHTTPTimeout),
	}
	s.pool = newPool(b.memory, cmp.Or(b.spec.Wasm.MaxConcurrency, maxInstances), uint64(b.module.MemoryPages)*pageBytes, s.newInstance)
	ctx, cancel := initContext(ctx)
	defer cancel()
	if err := b.module.tried.once(b.spec, how, func() error { return s.try(ctx) }); err != nil {
		s.pool.close()
		b.cancel()
		return nil, startError(ctx, err)
	}
	return s, nil
}

// try makes a first instance. For cl it stays in the pool.
func (s *server) try(ctx context.Context) error {
	if s.how == driveWAGI {
		return s.tryWAGI(ctx)
	}
	i, err := s.pool.get(ctx)
	if err == nil {
		s.pool.put(i)
	}
	return err
}

// newInstance makes an instance; for WAGI only the place for one.
func (s *server) newInstance(ctx context.Context, mem *account) (*instance, error) {
	i := &instance{memory: mem, out: &lines{sink: s.log}, err: &lines{sink: s.log}, ctx: ctx}
	if s.how == driveWAGI {
		return i, nil
	}
	ctx = s.guestContext(ctx, nil)
	config := s.config.WithStdout(i.out).WithStderr(i.err).WithNanosleep(s.sleeper(i.current))
	module, err := s.instantiate(ctx, config, mem)
	if err != nil {
		return nil, err
	}
	i.Module, i.handle = module, module.ExportedFunction(exportHandle)
	if err := s.initialize(ctx, i); err != nil {
		i.close()
		return nil, err
	}
	return i, nil
}

func (s *server) initialize(ctx context.Context, i *instance) error {
	f := i.ExportedFunction(exportInit)
	if f == nil {
		return nil
	}
	s.meter.enter()
	_, err := f.Call(ctx)
	s.meter.leave()
	switch {
	case err != nil:
		return err
	case i.IsClosed():
		return errors.New("the module ended itself in _initialize")
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		unavailable(w, errStopped)
		return
	}
	defer s.leave()
	x := newExchange(s.base, w, r, s.timeout)
	defer x.close()
	if len(x.requestHead()) > maxRequestHead {
		http.Error(w, fmt.Sprintf("the request's head is larger than %d bytes", maxRequestHead), http.StatusRequestHeaderFieldsTooLarge)
		return
	}
	i, err := s.pool.get(x.ctx)
	if err == nil {
		err = s.serve(i, x)
	} else if errors.Is(err, errBusy) || errors.Is(err, errStopped) || errors.Is(err, errDeadline) {
		unavailable(w, err)
		return
	}
	if err != nil {
		s.fail(x, err)
	}
}

func (s *server) serve(i *instance, x *exchange) error {
	if s.how == driveWAGI {
		return s.serveWAGI(i, x)
	}
	return s.serveCl(i, x)
}

// ending judges a guest's call: well when it returned, or exited with code 0, and has answered. One
// that ended well without an answer is silent's to judge.
func ending(x *exchange, err error, silent func() error) error {
	code, exited := exitCode(err)
	switch {
	case !exited, code != 0:
		return err
	case x.sent():
		return nil
	case x.ctx.Err() != nil:
		return context.Cause(x.ctx)
	}
	return silent()
}

// unavailable answers a request that no guest has seen.
func unavailable(w http.ResponseWriter, err error) {
	w.Header().Set("Retry-After", "1")
	http.Error(w, err.Error(), http.StatusServiceUnavailable)
}

// fail tells of a guest that failed: in the log why, to the client that. Once the head is sent, the
// only honest sign is to cut the connection.
func (s *server) fail(x *exchange, err error) {
	status, reason := http.StatusBadGateway, failure(err)
	switch {
	case errors.Is(err, errHead), errors.Is(err, errNoCGI):
		reason = err.Error()
	case context.Cause(x.ctx) == errDeadline:
		status, reason = http.StatusGatewayTimeout, fmt.Sprintf("%v (%s)", errDeadline, s.timeout)
	case x.ctx.Err() != nil:
		status, reason = http.StatusServiceUnavailable, errStopped.Error()
	}
	s.log.printf("cloudless: %s %s: %s", x.r.Method, x.r.URL.Path, reason)
	if x.sent() {
		panic(http.ErrAbortHandler)
	}
	http.Error(x.w, http.StatusText(status)+": the workload's log says why", status)
}

func (s *server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return false
	}
	s.inFlight++
	return true
}

func (s *server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
	s.checkDrained()
}

func (s *server) checkDrained() {
	if s.stopping && s.inFlight == 0 {
		close(s.drained)
	}
}

// refuse lets no more requests in.
func (s *server) refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopping {
		s.stopping = true
		s.checkDrained()
	}
}

// begin implements replica: a server waits to be asked.
func (s *server) begin() {}

// Stop implements sandbox.Handle: requests in flight may end within grace.
func (s *server) Stop(ctx context.Context, grace time.Duration) error {
	s.refuse()
	if !s.drain(ctx, grace) {
		s.cancel()
		return s.gone()
	}
	s.end(sandbox.Exit{Reason: "stopped"})
	return nil
}

// drain waits for the requests in flight; false if they did not end in time.
func (s *server) drain(ctx context.Context, grace time.Duration) bool {
	select {
	case <-s.drained: // even without any grace
		return true
	default:
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-s.drained:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// gone waits for the requests in flight after the replica was ended by force.
func (s *server) gone() error {
	timer := time.NewTimer(killWait)
	defer timer.Stop()
	select {
	case <-s.drained:
		s.end(sandbox.Exit{Code: codeForced, Reason: "stopped by force while it handled requests"})
		return nil
	case <-timer.C:
		return api.Errorf(api.CodeTimeout, "replica %s still handles a request %s after it was to end", s.ID(), killWait)
	}
}

func (s *server) end(exit sandbox.Exit) { s.finish(exit, s.pool.close) }

// abort implements replica.
func (s *server) abort() {
	s.refuse()
	s.cancel()
}

// drop implements replica.
func (s *server) drop() {
	s.refuse()
	s.end(sandbox.Exit{Reason: "stopped"})
}

// Endpoint implements sandbox.Handle.
func (s *server) Endpoint() sandbox.Endpoint { return sandbox.Endpoint{Handler: s} }
