package wasm

import (
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
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
