package wasm

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// TestAGuestEndsWithItsClient: one that computes and never writes, too.
func TestAGuestEndsWithItsClient(t *testing.T) {
	spec := moduleSpec("evil", api.ModeHTTP)
	spec.Wasm.Timeout = api.Duration(time.Hour)
	web, h, log := serve(t, newDriver(t), spec)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, web.URL+"/l", nil)
	if err != nil {
		t.Fatal(err)
	}
	s := h.(*server)
	go func() {
		for s.cost().Fuel < 10*fuelSlice { // it runs
			runtime.Gosched()
		}
		cancel()
	}()
	if res, err := http.DefaultClient.Do(req); err == nil {
		res.Body.Close()
		t.Error("a guest that loops has answered")
	}
	eventually(t, "the guest is ended", func() bool { return strings.Contains(log.String(), "/l: the client is gone") })
	if status, _ := get(t, web.URL+"/c"); status != 200 {
		t.Errorf("the next request: status %d", status)
	}
}

// TestAGuestThatOthersLeaveNoMemoryIsBusy: it has not failed by itself, and may succeed when they have ended.
func TestAGuestThatOthersLeaveNoMemoryIsBusy(t *testing.T) {
	crowds := moduleSpec("crowds", api.ModeHTTP)
	crowds.Memory = 16 * pageBytes
	stack := attack{name: "stack-deep"}.spec(t)
	for name, c := range map[string]struct {
		spec sandbox.Spec
		one  uint64 // bytes that a guest takes, at least
		next uint64 // that are reserved for the next one from then on: a stack is none's until it grows
	}{"memory": {crowds, 9 * pageBytes, 2 * pageBytes}, "stack": {stack, 32 << 20, pageBytes}} {
		t.Run(name, func(t *testing.T) {
			web, h, log := serve(t, newDriver(t), c.spec)
			budget := h.(*server).budget
			body, end := io.Pipe()
			first := make(chan int)
			go func() {
				status := 0
				if res, err := http.Post(web.URL, "text/plain", body); err == nil {
					status = res.StatusCode
					res.Body.Close()
				}
				first <- status
			}()
			eventually(t, "the first has its memory", func() bool { return budget.Used() >= c.one })
			res, err := http.Get(web.URL)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
				t.Errorf("the second: status %d, header %v", res.StatusCode, res.Header)
			}
			if used, limit := budget.Used(), budget.Limit(); used > limit {
				t.Errorf("%d bytes of %d are held", used, limit)
			}
			end.Close()
			if status := <-first; status != http.StatusOK {
				t.Errorf("the first: status %d", status)
			}
			if status, _ := get(t, web.URL); status != http.StatusOK {
				t.Errorf("after it: status %d", status)
			}
			if !strings.Contains(log.String(), errCrowded.Error()) {
				t.Errorf("the log does not say why: %s", log)
			}
			if next := h.(*server).pool.reserve.Load(); next != c.next {
				t.Errorf("%d bytes are reserved for the next, want %d", next, c.next)
			}
		})
	}
}

// TestWhatInitializeOpensIsOpenInEveryInstance: an image has memory, and no descriptors.
func TestWhatInitializeOpensIsOpenInEveryInstance(t *testing.T) {
	spec := moduleSpec("keeps", api.ModeHTTP)
	spec.Mounts = []sandbox.Mount{{Source: t.TempDir(), Target: "/data"}}
	if err := os.WriteFile(filepath.Join(spec.Mounts[0].Source, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	web, h, _ := serve(t, newDriver(t), spec)
	pool := h.(*server).pool
	first, err := pool.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // by a second, then perhaps by the same
		if status, body := get(t, web.URL); status != http.StatusOK || body != "x" {
			t.Errorf("status %d, %q", status, body)
		}
	}
	pool.put(first)
	if status, body := get(t, web.URL); status != http.StatusOK || body != "x" {
		t.Errorf("by the first: status %d, %q", status, body)
	}
}

// TestPuttingBackIsTheGuestsTime: what it touches takes as long again to restore.
func TestPuttingBackIsTheGuestsTime(t *testing.T) {
	h, _ := start(t, newDriver(t), moduleSpec("hello", api.ModeHTTP))
	s := h.(*server)
	i, err := s.pool.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := i.cost().CPU
	i.clock.since -= time.Hour // as if it took that long
	if !s.ready(i, nil) || i.cost().CPU-before < time.Hour {
		t.Errorf("it counts %s", i.cost().CPU-before)
	}
	s.pool.put(i)
}

// TestAnIdleInstanceHasASmallStack: what its last call took is given back.
func TestAnIdleInstanceHasASmallStack(t *testing.T) {
	spec := attack{name: "stack-deep"}.spec(t)
	web, h, _ := serve(t, newDriver(t), spec)
	for range 2 {
		if status, _ := get(t, web.URL); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
		i := h.(*server).pool.takeIdle()
		if i == nil {
			t.Fatal("the instance was not used again")
		}
		if stack := i.entry.stack.bytes(); stack == 0 || stack > freeBeside || i.budget.Used() != pageBytes {
			t.Errorf("it has a stack of %d bytes, and the replica holds %d", stack, i.budget.Used())
		}
		h.(*server).pool.put(i)
	}
}

// TestASlowClientHoldsUpNobody: it holds an instance, and others have theirs.
func TestASlowClientHoldsUpNobody(t *testing.T) {
	server, _, _ := serve(t, newDriver(t), moduleSpec("evil", api.ModeHTTP))
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /k HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(conn, first); err != nil { // the guest writes now, and we read no more
		t.Fatal(err)
	}
	for range 3 {
		if status, _ := get(t, server.URL+"/c"); status != 200 {
			t.Errorf("status %d while a client is slow", status)
		}
	}
}

// TestTooManyRequestsAreToldToComeBack: with one instance busy and the queue full.
func TestTooManyRequestsAreToldToComeBack(t *testing.T) {
	spec := moduleSpec("evil", api.ModeHTTP)
	spec.Wasm.MaxConcurrency, spec.Wasm.Timeout = 1, api.Duration(time.Hour)
	h, _ := start(t, newDriver(t), spec)
	s := h.(*server)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	ask := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/l", nil))
		return w
	}
	for range 1 + maxQueued {
		wg.Go(func() { ask() })
	}
	eventually(t, "the queue is full", func() bool { return s.pool.queued.Load() == maxQueued })
	if w := ask(); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("status %d, header %v", w.Code, w.Header())
	}
	cancel()
	wg.Wait()
}

// TestRequestsSeeNothingOfEachOther: under the default isolation a counter stays at one, whichever
// instance answers; with isolation instance it counts.
func TestRequestsSeeNothingOfEachOther(t *testing.T) {
	for isolation, want := range map[string]uint32{"": 1, api.IsolationRequest: 1, api.IsolationFresh: 1, api.IsolationInstance: 5} {
		spec := moduleSpec("evil", api.ModeHTTP)
		spec.Wasm.Isolation = isolation
		server, _, _ := serve(t, newDriver(t), spec)
		last := uint32(0)
		for range 5 {
			_, body := get(t, server.URL+"/c")
			last = number(body)
		}
		if last != want {
			t.Errorf("isolation %q: the fifth request counts %d, not %d", isolation, last, want)
		}
	}
}

// TestAnIdleServerHoldsNothing: neither instances nor code nor an image, and it answers again.
func TestAnIdleServerHoldsNothing(t *testing.T) {
	d := newDriver(t)
	web, h, _ := serve(t, d, moduleSpec("hello", api.ModeHTTP))
	get(t, web.URL+"/")
	s := h.(*server)
	s.idleAfter = 0
	eventually(t, "it rests", s.rest) // the instance comes back after the client has the answer
	if u := d.arena.Usage(); s.loaded.code != nil || s.loaded.image != nil || u.Regions != 0 || s.budget.Used() != 0 {
		t.Errorf("it holds %+v, %d regions, %d bytes", &s.loaded, u.Regions, s.budget.Used())
	}
	if status, _ := get(t, web.URL+"/"); status != 200 {
		t.Errorf("afterwards: status %d", status)
	}
}

// TestEveryInstanceHasTheMemoryOfTheImage: also what the first one has gained in _initialize.
func TestEveryInstanceHasTheMemoryOfTheImage(t *testing.T) {
	h, _ := start(t, newDriver(t), moduleSpec("grows-first", api.ModeHTTP))
	s := h.(*server)
	held, err := s.pool.get(t.Context()) // so that the requests get another one
	if err != nil {
		t.Fatal(err)
	}
	defer s.pool.put(held)
	for range 3 {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		if w.Code != 200 || w.Body.String() != "ok" {
			t.Fatalf("status %d, %q", w.Code, w.Body)
		}
	}
}

// TestABodyThatIsLeftIsNotTheNextRequest: a guest that reads nothing of a body leaves the connection fit
// for the next request, or ended, and then the client is told.
func TestABodyThatIsLeftIsNotTheNextRequest(t *testing.T) {
	server, _, _ := serve(t, newDriver(t), moduleSpec("evil", api.ModeHTTP))
	for _, c := range []struct {
		length  string
		body    string
		further bool // another request is answered
	}{
		{"Content-Length: 1000", strings.Repeat("\x00", 1000), true},
		{fmt.Sprintf("Content-Length: %d", maxLeft), strings.Repeat("\x00", maxLeft), true},
		{fmt.Sprintf("Content-Length: %d", maxLeft+1), strings.Repeat("\x00", maxLeft+1), false},
		{"Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n", false},
		{"Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", maxLeft+1, strings.Repeat("\x00", maxLeft+1)), false},
	} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		answers := bufio.NewReader(conn)
		for i := range 3 {
			_, wrote := io.WriteString(conn, "PUT /c HTTP/1.1\r\nHost: x\r\n"+c.length+"\r\n\r\n"+c.body)
			res, err := http.ReadResponse(answers, nil)
			switch {
			case i > 0 && !c.further && err != nil:
			case err != nil || i > 0 && !c.further:
				t.Errorf("%s, %d bytes, request %d: %v, %v, %v", c.length, len(c.body), i, wrote, res, err)
			case res.StatusCode != http.StatusOK:
				t.Errorf("%s, %d bytes, request %d: %s", c.length, len(c.body), i, res.Status)
			}
			if err != nil {
				break
			}
			if res.Close == c.further {
				t.Errorf("%s, %d bytes, request %d: the end of the connection is told: %v", c.length, len(c.body), i, res.Close)
			}
			if _, err := io.Copy(io.Discard, res.Body); err != nil && c.further {
				t.Error(err)
			}
		}
		conn.Close()
	}
}
