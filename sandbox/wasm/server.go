package wasm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/linear"
)

const (
	// spareAfter is how long an instance beyond the first lies idle before it is dropped.
	spareAfter = 10 * time.Second
	// settleAfter is how long one keeps pages of its own that it might not need again.
	settleAfter = 2 * time.Second
	// defaultIdleAfter is how long a replica keeps its last instance, and the module's code.
	defaultIdleAfter = 5 * time.Minute
	// warmInstances stay until then.
	warmInstances = 1
	// longCall is what a request costs after which others that are under way are let run before it is answered. The
	// answers then leave together, and who reads them is woken less often.
	longCall = 8 * time.Microsecond
)

// server is a replica of mode http whose guest is called for each request: by the cl interface or by
// WAGI.
type server struct {
	*base
	*traffic
	how       drive
	isolation string
	timeout   time.Duration
	idleAfter time.Duration
	pool      *pool
	loaded    loaded
}

// newServer makes the replica and shows, once for each environment, that an instance can be made.
func newServer(ctx context.Context, b *base, how drive) (*server, error) {
	w := b.spec.Wasm
	s := &server{
		base: b, traffic: newTraffic(), how: how,
		isolation: cmp.Or(w.Isolation, api.IsolationRequest),
		timeout:   cmp.Or(w.Timeout.D(), api.DefaultHTTPTimeout),
		idleAfter: cmp.Or(w.IdleAfter.D(), defaultIdleAfter),
	}
	if how == driveWAGI && s.isolation == api.IsolationInstance {
		return nil, invalid("wasm.isolation instance cannot be had with the interface wagi: _start runs once in an instance").
			WithHint("leave it out, or export cl_handle")
	}
	s.pool = newPool(b.budget, cmp.Or(w.MaxConcurrency, maxInstances), uint64(b.known.MemoryPages)*pageBytes, counted(b.known.Beside), s.newInstance)
	ctx, cancel := initContext(ctx)
	defer cancel()
	if err := b.known.tried.once(b.spec, how, func() error { return s.try(ctx) }); err != nil {
		s.release()
		return nil, startError(ctx, err)
	}
	return s, nil
}

// try makes a first instance. It stays in the pool, unless many replicas hold one: then the first request makes
// another, as it does where the module was tried before.
func (s *server) try(ctx context.Context) error {
	i, err := s.pool.get(ctx)
	switch {
	case err != nil:
		return err
	case s.driver.awake.many():
		s.pool.drop(i)
	default:
		s.pool.put(i)
	}
	return nil
}

// restores says whether instances are put back after each request, and not used on or made anew.
func (s *server) restores() bool {
	return s.isolation == api.IsolationRequest && s.known.Restorable
}

// newInstance makes an instance that is ready for a request: from the image, if there is one.
func (s *server) newInstance(bounds context.Context, mem *linear.Account) (*instance, error) {
	s.loaded.use.RLock()
	defer s.loaded.use.RUnlock()
	code, im, err := s.loaded.get(bounds, s.base)
	if err != nil {
		return nil, err
	}
	i, err := s.base.newInstance(bounds, origin{code: code, image: im}, mem)
	if err != nil {
		return nil, err
	}
	i.entry = i.export(s.how.entry())
	if s.how == driveCl && s.restores() {
		i.resume = i.export(exportResume)
	}
	if im == nil {
		err = s.initialize(bounds, i)
	}
	if err != nil {
		i.free()
		return nil, err
	}
	s.driver.awake.add(s)
	return i, nil
}

// initialize makes an instance what a request starts from, and keeps an image of that. An image has no descriptors:
// a guest that opens some, or closes those that it has, is initialized in each instance.
func (s *server) initialize(bounds context.Context, i *instance) error {
	opened := false
	if f := i.export(exportInit); f != nil && s.how == driveCl {
		err := i.call(bounds, f)
		if _, exited := exitCode(err); exited && err != nil {
			return errors.New("the module ended itself in _initialize")
		}
		if err != nil {
			return err
		}
		opened = i.world.Changed()
		i.world.Mark()
	}
	if opened || !s.restores() {
		return nil
	}
	return s.loaded.keep(i)
}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		unavailable(w, errStopped)
		return
	}
	defer s.leave()
	x := newExchange(s.ctx, w, r, s.timeout)
	defer func() {
		if !x.close() {
			_ = http.NewResponseController(w).Flush() // the client may be gone
			panic(http.ErrAbortHandler)
		}
	}()
	if len(x.requestHead()) > maxRequestHead {
		http.Error(w, fmt.Sprintf("the request's head is larger than %d bytes", maxRequestHead), http.StatusRequestHeaderFieldsTooLarge)
		return
	}
	i, err := s.pool.get(x)
	switch {
	case err == nil:
		err = s.serve(i, x)
	case errors.Is(err, errBusy), errors.Is(err, errStopped), errors.Is(err, errDeadline):
		unavailable(w, err)
		return
	}
	if err != nil {
		s.fail(x, err)
	}
}

// serve has an instance handle a request and then makes it ready for the next, or drops it.
func (s *server) serve(i *instance, x *exchange) error {
	i.request, x.clock = x, &i.clock
	if s.how == driveCl && s.restores() { // WAGI's output waits, each time
		i.region.Watch()
	}
	before := i.cost()
	var err, answer error
	if s.how == driveWAGI {
		err, answer = s.callWAGI(i, x)
	} else {
		err, answer = s.callCl(i, x)
	}
	i.request = nil
	ready := s.ready(i, err)
	cost := i.cost().Minus(before)
	sandbox.Count(x.r.Context(), cost)
	if answer != nil && i.crowded && x.ended() == nil && !x.sent() {
		answer = errCrowded
	}
	if ready {
		s.pool.put(i)
	} else {
		s.pool.drop(i)
	}
	if cost.CPU >= longCall && s.inFlight.Load() > 1 {
		runtime.Gosched()
	}
	return answer
}

// ready says whether an instance can handle another request, err being how its last call ended. After a
// trap nobody knows what it was in the middle of.
func (s *server) ready(i *instance, err error) bool {
	defer i.region.Unwatch()
	_, exited := exitCode(err)
	switch s.isolation {
	case api.IsolationInstance:
		return err == nil
	case api.IsolationRequest:
		defer i.spend()
		return exited && i.restore() == nil
	}
	return false
}

// callCl lets an instance handle a request by cl_handle. Returning ends the response.
func (s *server) callCl(i *instance, x *exchange) (err, answer error) {
	i.world.Bind(x, nil, i.out, i.err)
	if i.resume != nil {
		err = i.call(x, i.resume, i.entry)
	} else {
		err = i.call(x, i.entry)
	}
	return err, ending(x, err, func() error {
		x.respond(http.StatusOK, nil)
		return nil
	})
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
	case x.Err() != nil:
		return x.Err()
	}
	return silent()
}

// fail tells of a guest that failed: in the log why, to the client that. Once the head is sent, the
// only honest sign is to cut the connection.
func (s *server) fail(x *exchange, err error) {
	status, reason := http.StatusBadGateway, failure(err)
	switch cause := x.ended(); {
	case errors.Is(err, errHead), errors.Is(err, errNoCGI):
		reason = err.Error()
	case cause == errDeadline:
		status, reason = http.StatusGatewayTimeout, fmt.Sprintf("%v (%s)", errDeadline, s.timeout)
	case cause != nil:
		status, reason = http.StatusServiceUnavailable, cause.Error()
	}
	s.log.printf("cloudless: %s %s: %s", x.r.Method, x.r.URL.Path, reason)
	switch {
	case x.sent():
		panic(http.ErrAbortHandler)
	case errors.Is(err, errCrowded):
		unavailable(x.w, err)
		return
	}
	http.Error(x.w, http.StatusText(status)+": the workload's log says why", status)
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

func (s *server) end(exit sandbox.Exit) {
	s.finish(exit, s.release)
}

// release gives back all that the server holds, once no request is in flight.
func (s *server) release() {
	s.pool.close()
	s.loaded.forget(s.pool, s.driver.engine)
}

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

// rest drops what has not been used for long; true when nothing is left.
func (s *server) rest() bool {
	s.pool.settle(settleAfter)
	return s.pool.trim(warmInstances, min(spareAfter, s.idleAfter), s.idleAfter) && s.loaded.rest(s.pool, s.driver.engine)
}

// Endpoint implements sandbox.Handle.
func (s *server) Endpoint() sandbox.Endpoint { return sandbox.Endpoint{Handler: s} }
