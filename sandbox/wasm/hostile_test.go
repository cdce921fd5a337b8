package wasm

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// The hostile suite: modules that try to harm their host or their neighbours, each with the end that it
// must come to. What is tried:
//
//	hostile_test.go         how an attack is run, and what must be as before after each
//	hostile_cpu_test.go     loops, chains of calls, recursion, bulk instructions, sleeps; Go's collector
//	hostile_size_test.go    memories, tables, data, modules that are large or slow to compile
//	hostile_shape_test.go   imports, exports, traps, exits; cut, changed and foreign binaries
//	hostile_flood_test.go   output, logs, responses, heads; listeners that are no HTTP servers
//	hostile_state_test.go   what a request leaves for the next
//	hostile_calls_test.go   arguments at every edge to every function of the host
//
// Elsewhere: files and paths in sandbox/wasi (escape_test.go, table_test.go, volume_test.go, fuzz_test.go),
// the way out in sandbox/egress, guests that are slow to make in listener_test.go, compile bombs that kill a child in compile_test.go,
// damaged and foreign files of the cache in cache_test.go (TestADamagedEntryIsMadeAnew,
// TestAForeignEntryIsMadeAnew).

// attack is one hostile module.
type attack struct {
	name string // of testdata/hostile/NAME.wasm
	code []byte // instead of a file
	end  end
}

// end runs a module, and tells a test if it did not come to the expected end.
type end func(t *testing.T, y *yard, spec sandbox.Spec)

const (
	// hogTimeout is for requests that are to run into it, patient for those that are not.
	hogTimeout = 100 * time.Millisecond
	patient    = 30 * time.Second
)

// yard is a driver under attack, with a neighbour that must not notice.
type yard struct {
	*Driver
	neighbour               http.Handler
	goroutines, descriptors int
	memory                  int64
}

func newYard(t *testing.T) *yard {
	d := newDriver(t)
	h, _ := start(t, d, moduleSpec("hello", api.ModeHTTP))
	y := &yard{Driver: d, neighbour: h.Endpoint().Handler}
	y.askNeighbour(t)
	refused("neither cl_handle")(t, y, moduleSpec("noexport", api.ModeHTTP)) // a first child has run
	t.Run("a first request by HTTP", func(t *testing.T) { answers(http.StatusOK, "")(t, y, moduleSpec("hello", api.ModeHTTP)) })
	y.memory = resident(t)
	y.goroutines, y.descriptors = runtime.NumGoroutine()+1, descriptors(t) // the test of an attack is one
	return y
}

// resident is the memory of this process, once the runtime has given back what it does not use: without the
// pages of its program, of which there are more each time that something new is run.
func resident(t *testing.T) (bytes int64) {
	t.Helper()
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if name != "RssAnon" && name != "RssShmem" {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		bytes += kib << 10
	}
	return bytes
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func (y *yard) askNeighbour(t *testing.T) {
	t.Helper()
	w := httptest.NewRecorder()
	y.neighbour.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != http.StatusOK || w.Body.String() != "hello\n" {
		t.Errorf("the neighbour answers %d %q", w.Code, w.Body)
	}
}

// run runs attacks one after the other. After each, all is as it was before the first.
func (y *yard) run(t *testing.T, attacks []attack) {
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			t.Run("attack", func(t *testing.T) { a.end(t, y, a.spec(t)) })
			y.askNeighbour(t)
			eventually(t, "the end of all goroutines and descriptors of the attack", func() bool {
				return runtime.NumGoroutine() <= y.goroutines && descriptors(t) <= y.descriptors
			})
			y.shedUnused()
			if now := resident(t); now > y.memory+leftOver {
				t.Errorf("the process holds %d bytes, %d before the first attack", now, y.memory)
			}
		})
	}
}

// shedUnused drops the code that is kept for whoever comes back.
func (y *yard) shedUnused() {
	e := y.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unused = append(e.unused, &module{entry: &entry{}, bytes: maxUnusedBytes}) // the last one is always kept
	e.shed()
	e.unused = nil
}

// spec is the attack's replica, with the memory that replicas have by default.
func (a attack) spec(t *testing.T) (spec sandbox.Spec) {
	if a.code != nil {
		spec = rubbish(t, a.code)
	} else {
		spec = fileSpec(filepath.Join("testdata", "hostile", a.name+".wasm"), api.ModeHTTP)
	}
	spec.Memory, spec.Wasm.Timeout = api.DefaultWasmMemory, api.Duration(patient)
	return spec
}

// refused: the module never runs, and why is told.
func refused(why string) end {
	return func(t *testing.T, y *yard, spec sandbox.Spec) {
		h, err := y.Start(t.Context(), spec)
		if err == nil {
			err = h.Stop(t.Context(), 0)
			t.Error("it starts")
		}
		if api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), why) {
			t.Errorf("error is %v, want one with %q", err, why)
		}
	}
}

// cut: the start does not come to an end by itself, and ends with its context.
func cut(t *testing.T, y *yard, spec sandbox.Spec) {
	if err := y.Prepare(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), hogTimeout)
	defer cancel()
	if _, err := y.Start(ctx, spec); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
}

// answers: each of two requests has the same end, and the log tells of it.
func answers(status int, told string) end {
	return func(t *testing.T, y *yard, spec sandbox.Spec) {
		server, _, log := serve(t, y.Driver, spec)
		for range 2 {
			if got, _ := get(t, server.URL); got != status {
				t.Errorf("status %d, want %d; the log is %.200q", got, status, log)
			}
		}
		if !strings.Contains(log.String(), told) {
			t.Errorf("the log is %.200q, want %q", log, told)
		}
	}
}

// trapped: each request ends by a trap, before it has answered.
func trapped(told string) end { return answers(http.StatusBadGateway, "trap: "+told) }

// overdue: each request runs until its deadline.
func overdue(t *testing.T, y *yard, spec sandbox.Spec) {
	spec.Wasm.Timeout = api.Duration(hogTimeout)
	answers(http.StatusGatewayTimeout, "longer than its timeout")(t, y, spec)
}

// tells: two requests are each answered with one of these numbers.
func tells(numbers ...uint32) end {
	return func(t *testing.T, y *yard, spec sandbox.Spec) {
		server, _, log := serve(t, y.Driver, spec)
		for range 2 {
			if status, body := get(t, server.URL); status != http.StatusOK || len(body) != 4 || !slices.Contains(numbers, number(body)) {
				t.Errorf("status %d, %d, want one of %d; the log is %.200q", status, number(body), numbers, log)
			}
		}
	}
}

// exits: a program ends with the code.
func exits(code int, told string) end {
	return func(t *testing.T, y *yard, spec sandbox.Spec) {
		spec.Wasm.Mode, spec.Wasm.Timeout = api.ModeJob, 0
		h, _ := start(t, y.Driver, spec)
		<-h.Done()
		if e := h.Exit(); e.Code != code || !strings.Contains(e.Reason, told) {
			t.Errorf("exit is %+v, want %d and %q", e, code, told)
		}
	}
}
