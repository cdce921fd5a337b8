// Package drivertest is the behaviour that every sandbox.Driver shares, as one suite of tests. A
// driver's own tests call Run with specs that make its replicas behave in the ways the suite needs.
package drivertest

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// Harness adapts the suite to a driver. The functions return the part of a Spec that makes a replica
// behave as named; the suite fills in ids, environment and log. Optional ones may be nil.
type Harness struct {
	// New makes a driver; the suite closes it.
	New func(t *testing.T) sandbox.Driver
	// Restart plays the end of the agent's process and the start of the next: it closes the driver and
	// returns a new one on the same machine. Nil means New after Close.
	Restart func(t *testing.T, d sandbox.Driver) sandbox.Driver
	// Survives tells whether replicas outlive the driver and can be adopted by the next.
	Survives bool

	Exit     func(code int) sandbox.Spec    // ends at once with the code
	Forever  func() sandbox.Spec            // runs until it is stopped
	PrintEnv func(name string) sandbox.Spec // prints "NAME=value" of one variable, then ends
	Rubbish  func() sandbox.Spec            // an artifact that can never work

	Stubborn func() sandbox.Spec // optional: does not end when asked politely
	Hog      func() sandbox.Spec // optional: takes memory without end, under a limit
	HogOOM   bool                // the driver tells the end of Hog as OOM
	HTTP     func() sandbox.Spec // optional: answers every request with 200 and "hello"
	Exec     []string            // optional: a command that prints "hello" and ends with code 3

	// Patience bounds each wait; default 20 s.
	Patience time.Duration
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	h.Patience = cmp.Or(h.Patience, 20*time.Second)
	tests := []struct {
		name string
		skip bool // the driver has no such behaviour
		f    func(*testing.T, *bench)
	}{
		{"Describes", false, describes},
		{"StopTwice", false, stopTwice},
		{"ExitCode", false, exitCode},
		{"StopAfterExit", false, stopAfterExit},
		{"EndIsToldOnce", false, endIsToldOnce},
		{"EnvAndLog", false, envAndLog},
		{"EnvIsOnlyTheSpecs", false, envIsOnlyTheSpecs},
		{"StopByForce", h.Stubborn == nil, stopByForce},
		{"StopEndsWithContext", h.Stubborn == nil, stopEndsWithContext},
		{"MemoryLimit", h.Hog == nil, memoryLimit},
		{"PrepareTwice", false, prepareTwice},
		{"PrepareRubbish", false, prepareRubbish},
		{"StartCancelled", false, startCancelled},
		{"StartTwice", false, startTwice},
		{"HTTP", h.HTTP == nil, serves},
		{"Exec", false, exec},
		{"Usage", false, usage},
		{"AdoptUnknown", false, adoptUnknown},
		{"AdoptAfterRestart", false, adoptAfterRestart},
		{"Clean", false, clean},
		{"ManyAtOnce", false, manyAtOnce},
	}
	for _, test := range tests {
		if !test.skip {
			t.Run(test.name, func(t *testing.T) { test.f(t, newBench(t, h)) })
		}
	}
}

func describes(t *testing.T, b *bench) {
	info := b.driver.Info(b.context())
	if !info.Available || info.Engine == "" {
		t.Errorf("Info is %+v, want an available driver with an engine", info)
	}
	if v, spec := b.driver.Variant(), b.Forever(); v == api.VariantWasm && spec.Wasm == nil || v == api.VariantContainer && spec.Container == nil {
		t.Errorf("the driver's variant is %q, its specs are not", v)
	}
}

func stopTwice(_ *testing.T, b *bench) {
	h, _ := b.start(b.Forever())
	if !running(h) {
		b.t.Fatal("the replica ended by itself")
	}
	b.stop(h, 0)
	b.ended(h)
	b.stop(h, time.Hour)
}

func exitCode(t *testing.T, b *bench) {
	for _, code := range []int{0, 1, 3, 42} {
		h, _ := b.start(b.Harness.Exit(code))
		if exit := b.ended(h); exit.Code != code || exit.OOM {
			t.Errorf("exit is %+v, want code %d", exit, code)
		}
	}
}

func stopAfterExit(t *testing.T, b *bench) {
	h, _ := b.start(b.Harness.Exit(3))
	before := b.ended(h)
	b.stop(h, time.Hour)
	if after := h.Exit(); after != before {
		t.Errorf("Stop changed the exit from %+v to %+v", before, after)
	}
}

func endIsToldOnce(t *testing.T, b *bench) {
	h, _ := b.start(b.Forever())
	var early, late atomic.Int32
	told := make(chan sandbox.Exit, 2)
	h.OnEnd(func() {
		early.Add(1)
		told <- h.Exit()
	})
	if early.Load() > 0 {
		t.Error("an end was told of a replica that runs")
	}
	b.stop(h, 0)
	exit := b.ended(h)
	select {
	case got := <-told:
		if got != exit {
			t.Errorf("told was %+v, the exit is %+v", got, exit)
		}
	case <-time.After(b.Patience):
		t.Fatalf("the end was not told within %s", b.Patience)
	}
	h.OnEnd(func() { late.Add(1) })
	b.stop(h, 0)
	if early.Load() != 1 || late.Load() != 1 {
		t.Errorf("the end was told %d times, and %d to who asked after it", early.Load(), late.Load())
	}
}

func envAndLog(t *testing.T, b *bench) {
	spec := b.PrintEnv("GREETING")
	spec.Env = map[string]string{"GREETING": "good morning"}
	h, out := b.start(spec)
	if exit := b.ended(h); exit.Code != 0 {
		t.Errorf("exit is %+v", exit)
	}
	b.eventually("the line in the log", func() bool { return strings.Contains(out.String(), "GREETING=good morning\n") })
}

func envIsOnlyTheSpecs(t *testing.T, b *bench) {
	t.Setenv("CLOUDLESS_HOST_SECRET", "leaked")
	h, out := b.start(b.PrintEnv("CLOUDLESS_HOST_SECRET"))
	b.ended(h)
	if strings.Contains(out.String(), "leaked") {
		t.Errorf("a replica sees the environment of its host: %q", out)
	}
}

func stopByForce(t *testing.T, b *bench) {
	h, _ := b.start(b.Stubborn())
	started := time.Now()
	b.stop(h, 50*time.Millisecond)
	if exit := b.ended(h); exit.Code != 137 {
		t.Errorf("exit is %+v, want code 137", exit)
	}
	if took := time.Since(started); took > b.Patience/2 {
		t.Errorf("the stop took %s after a grace of 50ms", took)
	}
}

func stopEndsWithContext(t *testing.T, b *bench) {
	h, _ := b.start(b.Stubborn())
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_ = h.Stop(ctx, time.Hour) // it may tell that ctx ended while it cleaned up
	if exit := b.ended(h); exit.Code != 137 {
		t.Errorf("exit is %+v, want code 137", exit)
	}
}

func memoryLimit(t *testing.T, b *bench) {
	h, _ := b.start(b.Hog())
	exit := b.ended(h)
	if exit.Code == 0 || exit.OOM != b.HogOOM {
		t.Errorf("exit is %+v, want a failure with OOM %v", exit, b.HogOOM)
	}
}

func prepareTwice(t *testing.T, b *bench) {
	spec, _ := b.fill(b.Forever())
	for range 2 {
		if err := b.driver.Prepare(b.context(), spec); err != nil {
			t.Fatalf("Prepare: %v", err)
		}
	}
}

func prepareRubbish(_ *testing.T, b *bench) {
	spec, _ := b.fill(b.Rubbish())
	b.wantCode(b.driver.Prepare(b.context(), spec), api.CodeInvalid)
	_, err := b.driver.Start(b.context(), spec)
	b.wantCode(err, api.CodeInvalid)
}

func startCancelled(t *testing.T, b *bench) {
	spec, _ := b.fill(b.Forever())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if h, err := b.driver.Start(ctx, spec); err == nil {
		b.stop(h, 0)
		t.Fatal("Start with a context that has ended succeeded")
	}
	h, err := b.driver.Start(b.context(), spec)
	if err != nil {
		t.Fatalf("the same replica cannot start after a cancelled start: %v", err)
	}
	b.stop(h, 0)
}

// startTwice: an id is one replica; it is free again once the replica has gone.
func startTwice(t *testing.T, b *bench) {
	spec, _ := b.fill(b.Forever())
	h, err := b.driver.Start(b.context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.driver.Start(b.context(), spec)
	b.wantCode(err, api.CodeConflict)
	if !running(h) {
		t.Error("the second start ended the first replica")
	}
	b.stop(h, 0)
	spec.Attempt++
	h, err = b.driver.Start(b.context(), spec)
	if err != nil {
		t.Fatalf("a second attempt: %v", err)
	}
	b.stop(h, 0)
}

func serves(_ *testing.T, b *bench) {
	spec := b.HTTP()
	h, _ := b.start(spec)
	b.eventually("an answer that says hello", func() bool {
		status, body := get(b.context(), h.Endpoint(), spec)
		return status == http.StatusOK && strings.Contains(body, "hello")
	})
	b.stop(h, time.Second)
	if status, _ := get(b.context(), h.Endpoint(), spec); status == http.StatusOK {
		b.t.Error("a stopped replica still answers")
	}
}

// get asks a replica for "/"; status 0 is no answer.
func get(ctx context.Context, e sandbox.Endpoint, spec sandbox.Spec) (status int, body string) {
	if e.Handler != nil {
		w := httptest.NewRecorder()
		e.Handler.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "http://hello.localhost/", nil))
		return w.Code, w.Body.String()
	}
	if e.Host == "" || len(spec.Ports) == 0 {
		return 0, ""
	}
	url := "http://" + net.JoinHostPort(e.Host, strconv.Itoa(spec.Ports[0].Port)) + "/"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, ""
	}
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(text)
}

func exec(t *testing.T, b *bench) {
	h, _ := b.start(b.Forever())
	var out bytes.Buffer
	req := sandbox.ExecRequest{Command: b.Harness.Exec, Stdout: &out, Stderr: io.Discard}
	if b.Harness.Exec == nil {
		req.Command = []string{"true"}
		_, err := h.Exec(b.context(), req)
		b.wantCode(err, api.CodeInvalid)
		return
	}
	code, err := h.Exec(b.context(), req)
	if err != nil || code != 3 || !strings.Contains(out.String(), "hello") {
		t.Errorf("Exec gave code %d, output %q, error %v; want 3, hello, none", code, &out, err)
	}
	req.Command = []string{"/no/such/command"}
	if code, err := h.Exec(b.context(), req); err == nil && code == 0 {
		t.Error("a command that does not exist succeeded")
	}
}

func usage(t *testing.T, b *bench) {
	h, _ := b.start(b.Forever())
	u, err := h.Usage(b.context())
	if err != nil || u.CPUTime < 0 || u.Memory < 0 {
		t.Errorf("Usage is %+v, error %v", u, err)
	}
}

func adoptUnknown(_ *testing.T, b *bench) {
	spec, _ := b.fill(b.Forever())
	_, err := b.driver.Adopt(b.context(), spec)
	b.wantCode(err, api.CodeNotFound)
}

func adoptAfterRestart(t *testing.T, b *bench) {
	spec, _ := b.fill(b.Forever())
	if _, err := b.driver.Start(b.context(), spec); err != nil {
		t.Fatal(err)
	}
	b.restart()
	h, err := b.driver.Adopt(b.context(), spec)
	if !b.Survives {
		b.wantCode(err, api.CodeNotFound)
		return
	}
	if err != nil {
		t.Fatalf("Adopt: %v", err)
	}
	if !running(h) || h.ID() != spec.ID {
		t.Errorf("the adopted replica %q does not run", h.ID())
	}
	b.stop(h, 0)
	b.ended(h)
}

func (b *bench) restart() {
	b.t.Helper()
	if b.Restart != nil {
		b.driver = b.Restart(b.t, b.driver)
		return
	}
	if err := b.driver.Close(); err != nil {
		b.t.Errorf("Close: %v", err)
	}
	b.driver = b.New(b.t)
}

// clean: leftovers that are not to be kept go, the others stay.
func clean(t *testing.T, b *bench) {
	kept, _ := b.fill(b.Forever())
	gone, _ := b.fill(b.Forever())
	for _, spec := range []sandbox.Spec{kept, gone} {
		if _, err := b.driver.Start(b.context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	b.restart()
	if err := b.driver.Clean(b.context(), map[string]bool{kept.ID: true}); err != nil {
		t.Fatalf("Clean: %v", err)
	}
	_, err := b.driver.Adopt(b.context(), gone)
	b.wantCode(err, api.CodeNotFound)
	if _, err := b.driver.Adopt(b.context(), kept); b.Survives != (err == nil) {
		t.Errorf("adopting the kept replica: %v", err)
	}
}

func manyAtOnce(_ *testing.T, b *bench) {
	const replicas = 4
	specs := make([]sandbox.Spec, replicas)
	for i := range specs {
		specs[i], _ = b.fill(b.Forever())
	}
	ctx := b.context()
	var wg sync.WaitGroup
	for _, spec := range specs {
		wg.Go(func() {
			h, err := b.driver.Start(ctx, spec)
			if err == nil {
				err = h.Stop(ctx, 0)
			}
			if err != nil {
				b.t.Errorf("%s: %v", spec.ID, err)
			}
		})
	}
	wg.Wait()
}
