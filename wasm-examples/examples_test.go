// Package examples_test runs the example guests in the wasm driver, as an agent does: the committed
// modules as they are, those in Go built first.
package examples_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/manifest"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/egress"
	"github.com/cloudless/cloudless/sandbox/fake"
	"github.com/cloudless/cloudless/sandbox/wasm"
)

// runTime bounds whatever a guest does in a test.
const runTime = 40 * time.Second

// TestAnOrdinaryServerServes: net/http in a guest, with keep-alive, many connections and a stream.
func TestAnOrdinaryServerServes(t *testing.T) {
	t.Parallel()
	guest := serve(t, newDriver(t), buildGo(t, "hello-listener-go"), "", &logBuffer{})
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			for _, path := range []string{"/a", "/b"} {
				if status, body := guest.fetch(t, path, nil); status != http.StatusOK || string(body) != "hello from net/http, "+path+"\n" {
					t.Errorf("%s: status %d, %q", path, status, body)
				}
			}
		})
	}
	wg.Wait()
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB, more than any buffer on the way
	if status, body := guest.fetch(t, "/echo", sent); status != http.StatusOK || !bytes.Equal(body, sent) {
		t.Errorf("echo: status %d, %d bytes of %d", status, len(body), len(sent))
	}
}

func TestHelloGreets(t *testing.T) {
	t.Parallel()
	d := newDriver(t)
	for name, module := range map[string]string{
		"C": "hello-c/hello.wasm", "Rust": "hello-rust/hello.wasm", "AssemblyScript": "hello-as/hello.wasm",
		"Go": buildGo(t, "hello-go", "-buildmode=c-shared"), "Go, by WAGI": buildGo(t, "hello-wagi-go"),
		"C, by WAGI": "hello-wagi-c/hello.wasm", "Rust, by WAGI": "hello-wagi-rust/hello.wasm", "AssemblyScript, by WAGI": "hello-wagi-as/hello.wasm",
	} {
		t.Run(name, func(t *testing.T) {
			for env, want := range map[string]string{"good day": "good day", "": ""} {
				log := &logBuffer{}
				guest := serve(t, d, module, env, log)
				want = "hello from " + name + " " + want + "\n"
				// The second request meets the state that the first left, and its head is larger than
				// the buffers that guests begin with.
				for _, url := range []string{"/greet?x=1", "/greet?" + strings.Repeat("x", 6000)} {
					status, body := guest.fetch(t, url, nil)
					if status != http.StatusOK || string(body) != want {
						t.Errorf("GREETING=%q: got %d %q, want 200 %q", env, status, body, want)
					}
				}
				if got := strings.Count(log.String(), "GET /greet"); got != 2 {
					t.Errorf("the log tells of %d requests, want 2:\n%s", got, log)
				}
			}
		})
	}
}

// TestRequestsDrawDifferentNumbers: they start from one image, so a generator that the library did not
// seed anew would repeat itself, as the last one does.
func TestRequestsDrawDifferentNumbers(t *testing.T) {
	t.Parallel()
	d, inGo := newDriver(t), buildGo(t, "hello-go", "-buildmode=c-shared")
	for _, c := range []struct {
		module, path string
		different    int
	}{
		{"hello-c/hello.wasm", "/random", 5}, {"hello-rust/hello.wasm", "/random", 5},
		{"hello-as/hello.wasm", "/random", 5}, {inGo, "/random", 5}, {inGo, "/same", 1},
	} {
		guest, drawn := serve(t, d, c.module, "", &logBuffer{}), map[string]bool{}
		for range 5 {
			status, body := guest.fetch(t, c.path, nil)
			if _, err := strconv.ParseUint(strings.TrimSpace(string(body)), 10, 64); status != http.StatusOK || err != nil {
				t.Errorf("%s %s: status %d, %q", c.module, c.path, status, body)
			}
			drawn[string(body)] = true
		}
		if len(drawn) != c.different {
			t.Errorf("%s %s: %d different numbers in 5 requests, want %d", c.module, c.path, len(drawn), c.different)
		}
	}
}

func TestEchoReturnsBody(t *testing.T) {
	t.Parallel()
	d := newDriver(t)
	for _, module := range []string{
		"echo-c/echo.wasm", "echo-rust/echo.wasm", "echo-as/echo.wasm",
		buildGo(t, "echo-go", "-buildmode=c-shared"), buildGo(t, "echo-wagi-go"),
	} {
		guest := serve(t, d, module, "", &logBuffer{})
		for _, size := range []int{0, 1, 16384, 16385, 1 << 20} {
			sent := bytes.Repeat([]byte("0123456789abcdef\x00\xff"), size/18+1)[:size]
			status, got := guest.fetch(t, "/", sent)
			if status != http.StatusOK || !bytes.Equal(got, sent) {
				t.Errorf("%s, %d bytes: got %d with %d bytes", module, size, status, len(got))
			}
		}
	}
}

// A guest passes on what it fetched, and says so when it may not fetch it.
func TestFetchPassesOnWhatUpstreamAnswers(t *testing.T) {
	t.Parallel()
	page := bytes.Repeat([]byte("page "), 50_000)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Asked", r.Host+r.URL.Path+" by "+r.UserAgent())
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write(page)
	}))
	t.Cleanup(upstream.Close)
	d := newDriverOn(t, egress.Network{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", upstream.Listener.Addr().String())
	}})
	module := buildGo(t, "fetch-go", "-buildmode=c-shared")
	ask := func(url string, log *logBuffer) *httptest.ResponseRecorder {
		h := run(t, d, sandbox.Spec{
			Wasm: &api.WasmSpec{Mode: api.ModeHTTP}, Artifact: module, Env: map[string]string{"UPSTREAM": url}, Egress: []string{"example.com:80"}, Log: log,
		})
		w := httptest.NewRecorder()
		h.Endpoint().Handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
		return w
	}
	w := ask("http://example.com/page", &logBuffer{})
	if w.Code != http.StatusAccepted || w.Header().Get("X-Asked") != "example.com/page by fetch-go" || !bytes.Equal(w.Body.Bytes(), page) {
		t.Errorf("status %d, %v, %d bytes", w.Code, w.Header(), w.Body.Len())
	}
	log := &logBuffer{}
	if w := ask("http://example.org/", log); w.Code != http.StatusBadGateway || w.Body.String() != "fetch failed: errno 13\n" || !strings.Contains(log.String(), "names example.org:80") {
		t.Errorf("status %d, %q, log %q", w.Code, w.Body, log)
	}
}

// TestVisitsAreAllCounted: two replicas, as on two nodes, count at the same time in one bucket.
func TestVisitsAreAllCounted(t *testing.T) {
	t.Parallel()
	d := newDriver(t)
	for name, module := range map[string]string{
		"C": "visits-c/visits.wasm", "Rust": "visits-rust/visits.wasm", "AssemblyScript": "visits-as/visits.wasm", "Go": buildGo(t, "visits-go", "-buildmode=c-shared"),
	} {
		t.Run(name, func(t *testing.T) {
			store := fake.NewStorage("sessions")
			var replicas [2]sandbox.Handle
			log := &logBuffer{}
			for i := range replicas {
				replicas[i] = run(t, d, sandbox.Spec{
					Wasm: &api.WasmSpec{Mode: api.ModeHTTP}, Artifact: module, Log: log, Memory: 1 << 30,
					Storage: store, Buckets: []api.BucketGrant{{Bucket: "sessions", Access: api.AccessReadWrite}},
				})
			}
			visit := func(replica int) (int, string) {
				w := httptest.NewRecorder()
				replicas[replica].Endpoint().Handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
				return w.Code, w.Body.String()
			}
			const each = 40
			var mu sync.Mutex
			seen := map[string]bool{}
			var wg sync.WaitGroup
			for i := range 2 * each {
				wg.Go(func() {
					status, body := visit(i % 2)
					mu.Lock()
					defer mu.Unlock()
					if status != http.StatusOK || seen[body] {
						t.Errorf("status %d, %q, which is told twice: %v", status, body, seen[body])
					}
					seen[body] = true
				})
			}
			wg.Wait()
			if !seen[strconv.Itoa(2*each)+"\n"] {
				t.Errorf("of %d visits some were lost: %v\n%s", 2*each, seen, log)
			}
			store.Before = func(context.Context, string, string, string) error {
				return api.Errorf(api.CodeUnavailable, "no quorum")
			}
			if status, body := visit(0); status != http.StatusServiceUnavailable || body != "not counted: errno 11\n" {
				t.Errorf("without a quorum: status %d, %q", status, body)
			}
		})
	}
}

func TestJobCountsAndExits(t *testing.T) {
	t.Parallel()
	d, module := newDriver(t), buildGo(t, "job-go")
	for _, c := range []struct {
		count, log string
		code       int
	}{
		{"3", "1 of 3\n2 of 3\n3 of 3\n", 0},
		{"many", "COUNT is not a number: \"many\"\n", 2},
	} {
		log := &logBuffer{}
		h := start(t, d, module, api.ModeJob, map[string]string{"COUNT": c.count}, log)
		select {
		case <-h.Done():
		case <-time.After(runTime):
			t.Fatalf("COUNT=%s: the job runs after %s", c.count, runTime)
		}
		if got := h.Exit().Code; got != c.code {
			t.Errorf("COUNT=%s: exit %d (%s), want %d", c.count, got, h.Exit().Reason, c.code)
		}
		if diff := cmp.Diff(c.log, log.String()); diff != "" {
			t.Errorf("COUNT=%s: log (-want +got):\n%s", c.count, diff)
		}
	}
}

func TestServiceRunsUntilStopped(t *testing.T) {
	t.Parallel()
	first := make(firstWrite, 1)
	h := start(t, newDriver(t), buildGo(t, "service-go"), api.ModeService, map[string]string{"GREETING": "hi"}, first)
	select {
	case line := <-first:
		if line != "line 1 hi\n" {
			t.Errorf("the log begins with %q", line)
		}
	case <-h.Done():
		t.Fatalf("the service ended by itself: %s", h.Exit().Reason)
	case <-time.After(runTime):
		t.Fatalf("no line after %s", runTime)
	}
	if err := h.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	select {
	case <-h.Done():
	default:
		t.Error("the service runs after Stop")
	}
}

// Each manifest is valid and names a module that is committed or that build.sh makes.
func TestManifests(t *testing.T) {
	files, err := filepath.Glob("*/workload.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("found %d manifests: %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		docs, err := manifest.Parse(file, text, manifest.AllowPaths())
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		folder := filepath.Dir(file)
		if got := docs[0].Workload.Ref().Name; got != folder {
			t.Errorf("%s names its workload %s", file, got)
		}
		spec := docs[0].Workload.Spec.Wasm
		if spec == nil || strings.HasPrefix(spec.Module, "build/") {
			continue
		}
		if _, err := os.Stat(filepath.Join(folder, spec.Module)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func newDriver(t *testing.T) *wasm.Driver {
	t.Helper()
	return newDriverOn(t, egress.Network{})
}

// newDriverOn makes a driver whose guests reach the world through a network.
func newDriverOn(t *testing.T, network egress.Network) *wasm.Driver {
	t.Helper()
	d, err := wasm.New(wasm.Config{CacheDir: t.TempDir(), Log: zerolog.Nop(), Network: network})
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

// buildGo builds the guest in the folder name, as build.sh does, and returns the module's file.
func buildGo(t *testing.T, name string, flags ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), name+".wasm")
	args := append(append([]string{"build"}, flags...), "-trimpath", "-ldflags", "-s -w", "-o", out, "./"+name)
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, text)
	}
	return out
}

// start runs a module until the test ends.
func start(t *testing.T, d *wasm.Driver, module string, mode api.WasmMode, env map[string]string, log io.Writer) sandbox.Handle {
	t.Helper()
	return run(t, d, sandbox.Spec{Wasm: &api.WasmSpec{Mode: mode}, Artifact: module, Env: env, Log: log})
}

// run fills in what a spec leaves out, and runs its module until the test ends.
func run(t *testing.T, d *wasm.Driver, spec sandbox.Spec) sandbox.Handle {
	t.Helper()
	module := spec.Artifact
	code, err := os.ReadFile(module)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(code)
	spec.ID, spec.Workload, spec.Digest = api.NewID("r"), api.Ref{Namespace: "default", Name: "example"}, "sha256:"+hex.EncodeToString(sum[:])
	ctx, cancel := context.WithTimeout(t.Context(), runTime)
	defer cancel()
	h, err := d.Start(ctx, spec)
	if err != nil {
		t.Fatalf("start %s: %v", module, err)
	}
	t.Cleanup(func() {
		if err := h.Stop(context.Background(), 0); err != nil {
			t.Errorf("stop %s: %v", module, err)
		}
	})
	return h
}

// guest is an HTTP guest that runs.
type guest struct{ http.Handler }

// serve runs an HTTP guest, without GREETING if that is empty.
func serve(t *testing.T, d *wasm.Driver, module, greeting string, log *logBuffer) guest {
	t.Helper()
	env := map[string]string{}
	if greeting != "" {
		env["GREETING"] = greeting
	}
	h := start(t, d, module, api.ModeHTTP, env, log).Endpoint().Handler
	if h == nil {
		t.Fatalf("%s serves no HTTP", module)
	}
	return guest{h}
}

// fetch sends GET, or POST if there is a body.
func (g guest) fetch(t *testing.T, url string, body []byte) (int, []byte) {
	t.Helper()
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	ctx, cancel := context.WithTimeout(t.Context(), runTime)
	defer cancel()
	w := httptest.NewRecorder()
	g.ServeHTTP(w, httptest.NewRequestWithContext(ctx, method, url, bytes.NewReader(body)))
	return w.Code, w.Body.Bytes()
}

// logBuffer is a replica's log.
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

// firstWrite hands on the first write to it.
type firstWrite chan string

func (f firstWrite) Write(p []byte) (int, error) {
	select {
	case f <- string(p):
	default:
	}
	return len(p), nil
}
