package wasm

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

func TestAListenerServesOnDescriptorThree(t *testing.T) {
	server, h, _ := serve(t, newDriver(t), moduleSpec("listens", api.ModeHTTP))
	for n := 1; n <= 3; n++ { // one instance for all of them
		if status, body := get(t, server.URL+"/n"); status != 200 || body != string(rune('0'+n)) {
			t.Fatalf("request %d: status %d, %q", n, status, body)
		}
	}
	if u, err := h.Usage(t.Context()); err != nil || u.Memory != pageBytes || u.CPUTime <= 0 {
		t.Errorf("usage is %+v, %v", u, err)
	}
}

func TestAListenerNeedsAModuleThatAccepts(t *testing.T) {
	spec := moduleSpec("wagi", api.ModeHTTP)
	spec.Wasm.Interface = "listener"
	if _, err := newDriver(t).Start(t.Context(), spec); api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), "sock_accept") {
		t.Errorf("error is %v", err)
	}
}

func TestAListenersRequestsShareItsInstance(t *testing.T) {
	for _, isolation := range []string{api.IsolationRequest, api.IsolationFresh} {
		spec := moduleSpec("listens", api.ModeHTTP)
		spec.Wasm.Isolation = isolation
		if _, err := newDriver(t).Start(t.Context(), spec); api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), isolation) {
			t.Errorf("isolation %s: error is %v", isolation, err)
		}
	}
}

// TestAListenerThatExitsEndsItsReplica: its request is answered with 502, and the exit is told.
func TestAListenerThatExitsEndsItsReplica(t *testing.T) {
	server, h, _ := serve(t, newDriver(t), moduleSpec("listens", api.ModeHTTP))
	if status, _ := get(t, server.URL+"/x"); status != http.StatusBadGateway {
		t.Errorf("status %d", status)
	}
	<-h.Done()
	if e := h.Exit(); e.Code != 4 {
		t.Errorf("exit is %+v", e)
	}
	if status, _ := get(t, server.URL+"/n"); status != http.StatusServiceUnavailable {
		t.Errorf("afterwards: status %d", status)
	}
}

// TestAListenerRestsEachTime: a guest that is idle is ended, and so is the one after it.
func TestAListenerRestsEachTime(t *testing.T) {
	spec := moduleSpec("listens", api.ModeHTTP)
	spec.Wasm.IdleAfter = api.Duration(time.Millisecond)
	server, h, _ := serve(t, newDriver(t), spec)
	for range 3 {
		if status, _ := get(t, server.URL+"/n"); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
		eventually(t, "the guest's end", func() bool { _, guests := h.(*listening).usage.now(); return guests == 0 })
	}
}

// TestAGuestThatIsNeverMadeHoldsUpItsReplicaAlone: others rest, and it ends with the request that it is made for.
func TestAGuestThatIsNeverMadeHoldsUpItsReplicaAlone(t *testing.T) {
	d := newDriver(t)
	late := attack{name: "listener-late"}.spec(t) // the first guest takes no connection, the second does not start
	late.Mounts = []sandbox.Mount{{Source: t.TempDir(), Target: "/data"}}
	h, _ := start(t, d, late)
	l := h.(*listening)
	l.most = 2
	guests := func() int { _, n := l.usage.now(); return n }
	ctx, cancel := context.WithCancel(t.Context())
	var asked sync.WaitGroup
	for range crowded + 1 {
		asked.Go(func() {
			l.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil))
		})
	}
	eventually(t, "the second guest", func() bool { return guests() == 2 })
	for range 3 { // whichever is asked to rest first
		other := moduleSpec("hello", api.ModeHTTP)
		other.Wasm.IdleAfter = api.Duration(time.Millisecond)
		web, o, _ := serve(t, d, other)
		if status, _ := get(t, web.URL); status != http.StatusOK {
			t.Errorf("status %d", status)
		}
		eventually(t, "another replica's rest", func() bool { return o.(*server).pool.alive() == 0 })
	}
	cancel()
	asked.Wait()
	if n := guests(); n != 1 {
		t.Errorf("%d guests are left", n)
	}
}

// TestAListenerThatIsStuckIsReplaced: a guest that computes past a request's deadline hears of nothing,
// so it is ended, and the next request gets another, however soon it comes.
func TestAListenerThatIsStuckIsReplaced(t *testing.T) {
	spec := moduleSpec("listens", api.ModeHTTP)
	spec.Wasm.Timeout = api.Duration(100 * time.Millisecond)
	server, _, log := serve(t, newDriver(t), spec)
	for range 3 {
		if status, body := get(t, server.URL+"/n"); status != 200 || body != "1" {
			t.Errorf("of a new guest: status %d, %q; the log is %s", status, body, log)
		}
		if status, _ := get(t, server.URL+"/l"); status != http.StatusGatewayTimeout {
			t.Errorf("status %d", status)
		}
	}
}

// TestAListenerThatWaitsIsNotStuck: a guest that waits while a request's deadline passes may serve others.
func TestAListenerThatWaitsIsNotStuck(t *testing.T) {
	spec := fileSpec("testdata/hostile/listener-silent.wasm", api.ModeHTTP)
	spec.Wasm.Timeout = api.Duration(100 * time.Millisecond)
	server, h, _ := serve(t, newDriver(t), spec)
	l := h.(*listening)
	first := l.guests[0]
	get(t, server.URL)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.guests) != 1 || l.guests[0] != first || first.ending || first.ctx.Err() != nil {
		t.Error("it is ended")
	}
}

// TestACrowdedListenerGetsMoreGuests: up to one for each processor, while its memory lasts.
func TestACrowdedListenerGetsMoreGuests(t *testing.T) {
	server, h, _ := serve(t, newDriver(t), moduleSpec("listens", api.ModeHTTP))
	var wg sync.WaitGroup
	for range 4 * crowded * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			if status, _ := get(t, server.URL+"/n"); status != 200 {
				t.Errorf("status %d", status)
			}
		})
	}
	wg.Wait()
	l := h.(*listening)
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.guests); n < 1 || n > runtime.GOMAXPROCS(0) {
		t.Errorf("%d guests", n)
	}
}

// TestAnIdleListenerRests: only if its manifest says so, and it comes back with the next request.
func TestAnIdleListenerRests(t *testing.T) {
	spec := moduleSpec("listens", api.ModeHTTP)
	spec.Wasm.IdleAfter = api.Duration(time.Hour)
	server, h, _ := serve(t, newDriver(t), spec)
	get(t, server.URL+"/n")
	l := h.(*listening)
	if l.rest() {
		t.Error("it rests though it was used just now")
	}
	l.mu.Lock()
	l.lastUse -= time.Hour
	l.mu.Unlock()
	eventually(t, "it rests", l.rest) // the proxy lets go of the request after its client has the answer
	if status, body := get(t, server.URL+"/n"); status != 200 || body != "1" {
		t.Errorf("the next request: status %d, %q", status, body)
	}
}
