package wasm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/drivertest"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == agentArg {
		agentProcess(os.Args[2], os.Args[3])
		return
	}
	goleak.VerifyTestMain(m)
}

func newDriver(t testing.TB) *Driver {
	t.Helper()
	d, err := New(Config{CacheDir: t.TempDir(), Log: zerolog.Nop(), MaxMemory: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return d
}

// moduleSpec is a spec of a module in testdata.
func moduleSpec(name string, mode api.WasmMode, args ...string) sandbox.Spec {
	return fileSpec(filepath.Join("testdata", name+".wasm"), mode, args...)
}

func fileSpec(path string, mode api.WasmMode, args ...string) sandbox.Spec {
	spec := sandbox.Spec{
		ID: api.NewID("r"), Workload: api.Ref{Namespace: "default", Name: "test"},
		Wasm: &api.WasmSpec{Mode: mode, Args: args}, Artifact: path, Memory: 8 << 20,
	}
	if code, err := os.ReadFile(path); err == nil {
		sum := sha256.Sum256(code)
		spec.Digest = "sha256:" + hex.EncodeToString(sum[:])
	}
	return spec
}

// rubbish writes bytes to a file and makes a spec of them.
func rubbish(t testing.TB, code []byte) sandbox.Spec {
	path := filepath.Join(t.TempDir(), "m.wasm")
	if err := os.WriteFile(path, code, 0o600); err != nil {
		t.Fatal(err)
	}
	return fileSpec(path, api.ModeHTTP)
}

// What a refusal quotes is a stranger's: it is short, and no command to a terminal.
func TestARefusalQuotesLittleAndPrintable(t *testing.T) {
	loud := "\x1b[2J\r" + strings.Repeat("x", 100_000)
	imports := bytes.Join([][]byte{{1}, leb(len(loud)), []byte(loud), {1, 'f', 0, 0}}, nil)
	exports := bytes.Join([][]byte{{1}, leb(len(loud)), []byte(loud), {0, 0}}, nil)
	types := section(1, []byte{1, 0x60, 0, 0})
	for name, code := range map[string][]byte{
		"import": bytes.Join([][]byte{magic, versionModule, types, section(2, imports)}, nil),
		"export": bytes.Join([][]byte{magic, versionModule, types, section(3, []byte{1, 0}), section(7, exports), section(10, []byte{1, 2, 0, opEnd})}, nil),
	} {
		_, err := newDriver(t).Start(t.Context(), rubbish(t, code))
		if api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), "[2J") || strings.ContainsAny(err.Error(), "\x1b\r") || len(err.Error()) > 2*maxReason {
			t.Errorf("%s: error is %.300q", name, err)
		}
	}
}

// logBuffer is a replica's log that tests can read while it is written.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func start(t testing.TB, d *Driver, spec sandbox.Spec) (sandbox.Handle, *logBuffer) {
	t.Helper()
	log := &logBuffer{}
	spec.Log = log
	h, err := d.Start(context.Background(), spec)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() {
		if err := h.Stop(context.Background(), 0); err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
	return h, log
}

// serve starts a replica behind a real HTTP server.
func serve(t testing.TB, d *Driver, spec sandbox.Spec) (*httptest.Server, sandbox.Handle, *logBuffer) {
	t.Helper()
	h, log := start(t, d, spec)
	server := httptest.NewUnstartedServer(h.Endpoint().Handler)
	server.Config.ErrorLog = nil
	server.Start()
	t.Cleanup(server.Close)
	return server, h, log
}

func fetch(t testing.TB, method, url, body string) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}

func get(t testing.TB, url string) (int, string) {
	t.Helper()
	resp, body, err := fetch(t, http.MethodGet, url, "")
	if err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	return resp.StatusCode, body
}

// eventually polls for what another goroutine does.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after 20s", what)
		}
	}
}

func TestConformance(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{
		New: func(t *testing.T) sandbox.Driver {
			d, err := New(Config{CacheDir: t.TempDir(), Log: zerolog.Nop()})
			if err != nil {
				t.Fatal(err)
			}
			return d
		},
		Exit:     func(code int) sandbox.Spec { return moduleSpec("exit", api.ModeJob, strconv.Itoa(code)) },
		Forever:  func() sandbox.Spec { return moduleSpec("sleep", api.ModeService) },
		PrintEnv: func(string) sandbox.Spec { return moduleSpec("env", api.ModeJob) },
		Rubbish:  func() sandbox.Spec { return moduleSpec("unknown", api.ModeHTTP) },
		Stubborn: func() sandbox.Spec { return moduleSpec("spin", api.ModeService) },
		Hog:      func() sandbox.Spec { return moduleSpec("hog", api.ModeJob) },
		HTTP:     func() sandbox.Spec { return moduleSpec("hello", api.ModeHTTP) },
	})
}

func TestABadModuleIsRefusedWithItsReason(t *testing.T) {
	hello, err := os.ReadFile("testdata/hello.wasm")
	if err != nil {
		t.Fatal(err)
	}
	with := func(spec sandbox.Spec, change func(*sandbox.Spec)) sandbox.Spec {
		change(&spec)
		return spec
	}
	tests := []struct {
		name string
		spec sandbox.Spec
		want string
	}{
		{"empty", rubbish(t, nil), "not a wasm module"},
		{"text", rubbish(t, []byte("#!/bin/sh\n")), "not a wasm module"},
		{"header only in part", rubbish(t, hello[:6]), "cut short"},
		{"truncated", rubbish(t, hello[:len(hello)/2]), "does not fit into"},
		{"component", rubbish(t, []byte("\x00asm\x0d\x00\x01\x00rest")), "component"},
		{"version", rubbish(t, []byte("\x00asm\x02\x00\x00\x00")), "unknown version"},
		{"too large", rubbish(t, append(bytes.Clone(hello), make([]byte, api.MaxModuleBytes)...)), "larger than"},
		{"unknown imports", moduleSpec("unknown", api.ModeHTTP), "cl.teleport, env.emscripten_notify_memory_growth (the first at byte 0x"},
		{"wrong type", moduleSpec("wrongtype", api.ModeHTTP), "cl.req_head with the type (i64) -> (i32); it is (i32, i32) -> (i32) here"},
		{"no entry", moduleSpec("noexport", api.ModeHTTP), "neither cl_handle (interface cl) nor _start (interface wagi); it exports add"},
		{"no start", moduleSpec("hello", api.ModeJob), "mode job needs a module that exports _start; it exports cl_handle"},
		{"not wagi", with(moduleSpec("hello", api.ModeHTTP), func(s *sandbox.Spec) { s.Wasm.Interface = "wagi" }), "interface wagi needs a module that exports _start"},
		{"not cl", with(moduleSpec("wagi", api.ModeHTTP), func(s *sandbox.Spec) { s.Wasm.Interface = "cl" }), "interface cl needs a module that exports cl_handle"},
		{"large memory", moduleSpec("large", api.ModeHTTP), "over the limit of 128 pages"},
		{"memory over the node's bound", with(moduleSpec("hello", api.ModeHTTP), func(s *sandbox.Spec) { s.Memory = 2 << 30 }), "over this node's bound"},
		{"no wasm part", sandbox.Spec{ID: "r"}, "no wasm part"},
	}
	d := newDriver(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := d.Prepare(t.Context(), test.spec)
			if api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v (%s), want one with %q", err, api.CodeOf(err), test.want)
			}
		})
	}
}

func TestAModuleMayDeclareMoreMemoryThanItsLimit(t *testing.T) {
	if err := newDriver(t).Prepare(t.Context(), moduleSpec("declares", api.ModeHTTP)); err != nil {
		t.Error(err)
	}
}

func TestAMissingFileIsNotTheModulesFault(t *testing.T) {
	spec := fileSpec(filepath.Join(t.TempDir(), "none.wasm"), api.ModeHTTP)
	if err := newDriver(t).Prepare(t.Context(), spec); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("error is %v", err)
	}
}

func TestFailureInInitializeIsAnErrorOfStart(t *testing.T) {
	d := newDriver(t)
	_, err := d.Start(t.Context(), moduleSpec("lateinit", api.ModeHTTP))
	if api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), "trap: unreachable in") {
		t.Errorf("error is %v", err)
	}
	if len(d.live) != 0 {
		t.Error("a failed start left a replica behind")
	}
}

// That a replica started well says nothing of one with less memory, also of the same environment.
func TestAReplicaWithAnotherMemoryIsTriedAnew(t *testing.T) {
	d := newDriver(t)
	spec := moduleSpec("grower", api.ModeHTTP)
	for i, step := range []struct {
		pages api.Bytes
		ok    bool
	}{{16, true}, {15, false}, {16, true}, {15, false}, {17, true}} {
		spec.ID = fmt.Sprint("r-", i)
		spec.Memory = step.pages * pageBytes
		if h, err := d.Start(t.Context(), spec); step.ok && err == nil {
			h.Stop(t.Context(), 0)
		} else if step.ok || api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), "trap: unreachable in") {
			t.Errorf("start %d with %d pages: %v", i, step.pages, err)
		}
	}
}

func TestHello(t *testing.T) {
	server, h, _ := serve(t, newDriver(t), moduleSpec("hello", api.ModeHTTP))
	resp, body, err := fetch(t, http.MethodGet, server.URL+"/", "")
	if err != nil || resp.StatusCode != 200 || body != "hello\n" || resp.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("got %v %q, error %v", resp, body, err)
	}
	if resp, body, err := fetch(t, http.MethodHead, server.URL+"/", ""); err != nil || resp.StatusCode != 200 || body != "" {
		t.Errorf("HEAD got %v %q, error %v", resp, body, err)
	}
	if u, err := h.Usage(t.Context()); err != nil || u.Memory != pageBytes || u.CPUTime <= 0 {
		t.Errorf("usage is %+v, error %v", u, err)
	}
}

func TestRequestHeadIsAsTheInterfaceHasIt(t *testing.T) {
	server, _, _ := serve(t, newDriver(t), moduleSpec("echo", api.ModeHTTP))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/a%20b?q=1&r", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "hello.localhost"
	req.Header = http.Header{
		"User-Agent": {"test"}, "X-Request-Id": {"r-1"}, "X-Cloudless-Remote-Addr": {"192.0.2.7:1234"},
		"Connection": {"X-Drop"}, "X-Drop": {"1"}, "Te": {"trailers"}, "X-Many": {"1", "2"}, "Accept-Encoding": {"none"},
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, _ := io.ReadAll(resp.Body)
	want := "POST /a%20b?q=1&r\naccept-encoding: none\ncontent-length: 4\nhost: hello.localhost\nuser-agent: test\n" +
		"x-cloudless-remote-addr: 192.0.2.7:1234\nx-many: 1\nx-many: 2\nx-request-id: r-1\n\nbody"
	if string(got) != want {
		t.Errorf("the guest saw\n%s\nwant\n%s", got, want)
	}
}

// TestBodiesStream sends a part, sees it echoed, and only then sends the next.
func TestBodiesStream(t *testing.T) {
	for _, module := range []string{"echo", "wagi"} {
		t.Run(module, func(t *testing.T) {
			server, _, _ := serve(t, newDriver(t), moduleSpec(module, api.ModeHTTP))
			r, w := io.Pipe()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, r)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			readUntil(t, resp.Body, map[string]string{"echo": "\n\n", "wagi": "hello\n"}[module])
			for i := range 5 {
				part := fmt.Sprintf("part %d;", i)
				if _, err := io.WriteString(w, part); err != nil {
					t.Fatal(err)
				}
				readUntil(t, resp.Body, part)
			}
			w.Close()
			if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 0 {
				t.Errorf("the rest is %q, error %v", rest, err)
			}
		})
	}
}

func readUntil(t *testing.T, r io.Reader, end string) {
	t.Helper()
	var got []byte
	for one := make([]byte, 1); !strings.HasSuffix(string(got), end); got = append(got, one...) {
		if _, err := io.ReadFull(r, one); err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
	}
}

func TestALargeBodyPasses(t *testing.T) {
	server, h, _ := serve(t, newDriver(t), moduleSpec("echo", api.ModeHTTP))
	const size = 16 << 20
	resp, err := http.Post(server.URL, "application/octet-stream", io.LimitReader(zeros{}, size))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	readUntil(t, resp.Body, "\n\n")
	if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
		t.Errorf("%d bytes came back, error %v", n, err)
	}
	if u, _ := h.Usage(t.Context()); u.Memory > 1<<20 {
		t.Errorf("the guest holds %d bytes", u.Memory)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestAGuestsFailureBeforeTheHeadIs502AndItsErrorIsLogged(t *testing.T) {
	server, _, log := serve(t, newDriver(t), moduleSpec("evil", api.ModeHTTP))
	for path, reason := range map[string]string{
		"/u": "trap: unreachable in .trap()",
		"/p": "trap: a pointer or length given to the host lies outside memory",
		"/q": "outside memory", "/t": "outside memory", "/v": "outside memory", "/x": "outside memory",
		"/e": "exited with code 3",
	} {
		if status, _ := get(t, server.URL+path); status != http.StatusBadGateway {
			t.Errorf("%s: status %d, want 502", path, status)
		}
		if want := "cloudless: GET " + path + ": "; !strings.Contains(log.String(), want) || !strings.Contains(log.String(), reason) {
			t.Errorf("%s: the log is %q, want %q and %q", path, log, want, reason)
		}
	}
	if status, _ := get(t, server.URL+"/z"); status != 200 {
		t.Errorf("exit with code 0: status %d", status)
	}
}

func TestAnInstanceThatTrappedIsNotUsedAgain(t *testing.T) {
	spec := moduleSpec("evil", api.ModeHTTP)
	spec.Wasm.Isolation = api.IsolationInstance
	server, _, _ := serve(t, newDriver(t), spec)
	for i, step := range []struct {
		path  string
		count uint32
	}{{"/c", 1}, {"/c", 2}, {"/u", 0}, {"/c", 1}, {"/e", 0}, {"/c", 1}} {
		_, body := get(t, server.URL+step.path)
		if step.count > 0 && number(body) != step.count {
			t.Errorf("step %d %s: count is %d, want %d", i, step.path, number(body), step.count)
		}
	}
}

func number(body string) uint32 {
	if len(body) != 4 {
		return 0
	}
	return binary.LittleEndian.Uint32([]byte(body))
}

func TestAGuestsFailureAfterTheHeadCutsTheConnection(t *testing.T) {
	server, _, log := serve(t, newDriver(t), moduleSpec("evil", api.ModeHTTP))
	resp, body, err := fetch(t, http.MethodGet, server.URL+"/w", "")
	if resp == nil || resp.StatusCode != 200 || number(body) != 7 || err == nil {
		t.Errorf("got %v %q, error %v; want the head, four bytes and a cut", resp, body, err)
	}
	if !strings.Contains(log.String(), "trap: unreachable") {
		t.Errorf("the log is %q", log)
	}
}

func TestPastItsDeadlineARequestIs504(t *testing.T) {
	for _, path := range []string{"/l", "/i", "/f", "/s"} {
		spec := moduleSpec("evil", api.ModeHTTP)
		spec.Wasm.Timeout = api.Duration(50 * time.Millisecond)
		server, _, log := serve(t, newDriver(t), spec)
		if status, _ := get(t, server.URL+path); status != http.StatusGatewayTimeout {
			t.Errorf("%s: status %d, want 504", path, status)
		}
		if !strings.Contains(log.String(), "longer than its timeout (50ms)") {
			t.Errorf("%s: the log is %q", path, log)
		}
		if status, _ := get(t, server.URL+"/c"); status != 200 {
			t.Errorf("the request after %s: status %d", path, status)
		}
	}
}

// TestARunawayRecursionIsATrap long before it has used much memory, and says what it is.
func TestARunawayRecursionIsATrap(t *testing.T) {
	server, _, log := serve(t, newDriver(t), moduleSpec("evil", api.ModeHTTP))
	if status, _ := get(t, server.URL+"/d"); status != http.StatusBadGateway {
		t.Errorf("status %d, want 502", status)
	}
	if !strings.Contains(log.String(), "call stack exhausted") {
		t.Errorf("the log is %q", log)
	}
	if status, _ := get(t, server.URL+"/c"); status != 200 {
		t.Errorf("the next request: status %d", status)
	}
}

// TestAClientThatSendsNoBodyIsNotWaitedFor: body_read is woken at the deadline.
func TestAClientThatSendsNoBodyIsNotWaitedFor(t *testing.T) {
	spec := moduleSpec("evil", api.ModeHTTP)
	spec.Wasm.Timeout = api.Duration(50 * time.Millisecond)
	server, _, _ := serve(t, newDriver(t), spec)
	r, w := io.Pipe()
	defer w.Close()
	req, err := http.NewRequestWithContext(t.Context(), "PUT", server.URL+"/r", r)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("status %d, want 504", resp.StatusCode)
	}
}

// TestAStreamToAReadingClientOutlivesTheTimeout: only a client that no longer reads is cut off.
func TestAStreamToAReadingClientOutlivesTheTimeout(t *testing.T) {
	spec := moduleSpec("evil", api.ModeHTTP)
	timeout := time.Second // long enough for a client that a busy machine lets wait
	spec.Wasm.Timeout = api.Duration(timeout)
	server, _, log := serve(t, newDriver(t), spec)
	resp, err := http.Get(server.URL + "/k")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, 64<<10)
	for began := time.Now(); time.Since(began) < 3*timeout/2; {
		if _, err := resp.Body.Read(buf); err != nil {
			t.Fatalf("cut after %s: %v", time.Since(began), err)
		}
	}
	// Reading no more, the guest's write blocks until the deadline ends it.
	eventually(t, "the end of a stream that nobody reads", func() bool { return log.String() != "" })
}

func TestAGuestLearnsThatItsClientIsGone(t *testing.T) {
	server, _, log := serve(t, newDriver(t), moduleSpec("evil", api.ModeHTTP))
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/k", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	resp.Body.Close()
	eventually(t, "the guest's line", func() bool { return log.String() == "INFO the client is gone\n" })
}

func TestResponseHeadsAreChecked(t *testing.T) {
	server, _, _ := serve(t, newDriver(t), moduleSpec("evil", api.ModeHTTP))
	resp, body, err := fetch(t, http.MethodGet, server.URL+"/h", "")
	if err != nil || resp.StatusCode != 201 || resp.Header.Get("Ab") != "c" || len(body) != 20 {
		t.Fatalf("got %v %q, error %v", resp, body, err)
	}
	for i, want := range []uint32{22, 22, 22, 0, 17} {
		if got := number(body[4*i : 4*i+4]); got != want {
			t.Errorf("resp_head %d gave %d, want %d", i, got, want)
		}
	}
}

func TestMemoryGrowStopsAtTheLimit(t *testing.T) {
	spec := moduleSpec("evil", api.ModeHTTP)
	spec.Memory, spec.Wasm.Isolation = 32*pageBytes, api.IsolationInstance
	server, h, _ := serve(t, newDriver(t), spec)
	if _, body := get(t, server.URL+"/g"); number(body) != 32 {
		t.Errorf("the guest grew to %d pages, want 32", number(body))
	}
	if u, _ := h.Usage(t.Context()); u.Memory != 32*pageBytes {
		t.Errorf("usage is %+v", u)
	}
}

func TestLogLines(t *testing.T) {
	server, _, log := serve(t, newDriver(t), moduleSpec("evil", api.ModeHTTP))
	get(t, server.URL+"/o")
	if log.String() != "WARN two lines\n" {
		t.Errorf("the log is %q", log)
	}
}

func TestAHugeRequestHeadIsRefused(t *testing.T) {
	h, _ := start(t, newDriver(t), moduleSpec("echo", api.ModeHTTP))
	for size, want := range map[int]int{1000: 200, maxRequestHead: http.StatusRequestHeaderFieldsTooLarge} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("X-Long", strings.Repeat("x", size))
		h.Endpoint().Handler.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("a field of %d bytes: status %d, want %d", size, w.Code, want)
		}
	}
}

func TestStopLetsRequestsEnd(t *testing.T) {
	server, h, _ := serve(t, newDriver(t), moduleSpec("echo", api.ModeHTTP))
	r, w := io.Pipe()
	resp, err := http.Post(server.URL, "text/plain", r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	readUntil(t, resp.Body, "\n\n")
	stopped := make(chan error)
	go func() { stopped <- h.Stop(context.Background(), time.Hour) }()
	eventually(t, "the refusal of new requests", func() bool {
		status, _ := get(t, server.URL)
		return status == http.StatusServiceUnavailable
	})
	w.Close()
	if err := <-stopped; err != nil || h.Exit().Code != 0 {
		t.Errorf("Stop: %v, exit %+v", err, h.Exit())
	}
}

func TestStopEndsRequestsByForceAfterGrace(t *testing.T) {
	web, h, _ := serve(t, newDriver(t), moduleSpec("evil", api.ModeHTTP))
	answered := make(chan int)
	go func() {
		status, _ := get(t, web.URL+"/l")
		answered <- status
	}()
	eventually(t, "the request", func() bool { return inFlight(h) == 1 })
	if err := h.Stop(context.Background(), 10*time.Millisecond); err != nil || h.Exit().Code != 137 {
		t.Errorf("Stop: %v, exit %+v", err, h.Exit())
	}
	if status := <-answered; status != http.StatusServiceUnavailable {
		t.Errorf("status %d, want 503", status)
	}
}
