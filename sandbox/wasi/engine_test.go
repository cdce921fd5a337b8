package wasi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	wapi "github.com/tetratelabs/wazero/api"
)

// These tests run a real guest, built by Go from testdata/guest, on a real engine.

// engine runs guests, on the functions of this package.
type engine struct{ wazero.Runtime }

// goEngine has a Go guest compiled, which takes seconds: all tests share it.
type goEngine struct {
	engine
	guest wazero.CompiledModule
}

type worldKey struct{}

func newEngine() (engine, error) {
	ctx := context.Background()
	e := engine{wazero.NewRuntime(ctx)}
	b := e.NewHostModuleBuilder(Module)
	for _, f := range Functions() {
		call := func(ctx context.Context, m wapi.Module, stack []uint64) {
			f.Call(ctx.Value(worldKey{}).(*World), m.Memory(), stack)
		}
		b.NewFunctionBuilder().WithGoModuleFunction(wapi.GoModuleFunc(call), f.Params, f.Results).Export(f.Name)
	}
	_, err := b.Instantiate(ctx)
	return e, err
}

var sharedEngine = sync.OnceValues(func() (*goEngine, error) {
	dir, err := os.MkdirTemp("", "guest")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "guest.wasm")
	build := exec.Command("go", "build", "-o", file, "./testdata/guest")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the guest: %w\n%s", err, out)
	}
	code, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	e, err := newEngine()
	if err != nil {
		return nil, err
	}
	guest, err := e.CompileModule(context.Background(), code)
	return &goEngine{e, guest}, err
})

func (e *goEngine) run(w *World) error { return e.start(e.guest, w) }

// start runs a guest's _start in a world.
func (e engine) start(guest wazero.CompiledModule, w *World) error {
	ctx := context.WithValue(context.Background(), worldKey{}, w)
	m, err := e.InstantiateModule(ctx, guest, wazero.NewModuleConfig().WithName(""))
	if m != nil {
		_ = m.Close(context.Background())
	}
	return err
}

// needEngine is the engine, for tests that may take their time.
func needEngine(t testing.TB) *goEngine {
	t.Helper()
	if testing.Short() {
		t.Skip("building and compiling a Go guest takes a while")
	}
	e, err := sharedEngine()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// exitCode is the code of a guest that has exited by itself.
func exitCode(t testing.TB, err error) uint32 {
	t.Helper()
	var exit *Exit
	if !errors.As(err, &exit) {
		t.Fatalf("the guest ended with: %v", err)
	}
	return exit.Code
}

func newWorld(t testing.TB, c Config) *World {
	t.Helper()
	w, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func TestACGuestUsesItsLibrary(t *testing.T) {
	code, err := os.ReadFile("testdata/libc/libc.wasm")
	if err != nil {
		t.Fatal(err)
	}
	e, err := newEngine()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(context.Background())
	guest, err := e.CompileModule(context.Background(), code)
	if err != nil {
		t.Fatal(err)
	}
	v := openVolume(t, t.TempDir(), VolumeLimits{})
	w := newWorld(t, Config{Args: []string{"libc", "arg"}, Env: []string{"NAME=value"}, Mounts: []Mount{{"/data", v, false}}})
	var out, errs bytes.Buffer
	w.Bind(context.Background(), strings.NewReader("the input"), &out, &errs)
	err = e.start(guest, w)
	if errs.Len() > 0 {
		t.Fatalf("the guest says: %s", &errs)
	}
	if code := exitCode(t, err); code != 3 || out.String() != "the input" {
		t.Errorf("the guest exits with %d: %s", code, &out)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func TestAGoGuestUsesFiles(t *testing.T) {
	e := needEngine(t)
	v := openVolume(t, t.TempDir(), VolumeLimits{Bytes: 4 << 20, Names: 20})
	w := newWorld(t, Config{Args: []string{"guest", "files"}, Mounts: []Mount{{"/data", v, false}}})
	var out, errs bytes.Buffer
	w.Bind(context.Background(), nil, &out, &errs)
	if code := exitCode(t, e.run(w)); code != 0 || out.String() != "ok\n" {
		t.Errorf("the guest exits with %d: %s%s", code, &out, &errs)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	w2 := openVolume(t, v.root.Name(), VolumeLimits{Bytes: 1, Names: 1})
	if got, want := v.Used(), w2.Used(); got != want {
		t.Errorf("the volume counts %+v, but there is %+v", got, want)
	}
}

func TestAGoGuestCopiesItsInput(t *testing.T) {
	e := needEngine(t)
	w := newWorld(t, Config{Args: []string{"guest", "copy"}})
	text := strings.Repeat("text ", 100_000)
	var out bytes.Buffer
	w.Bind(context.Background(), strings.NewReader(text), &out, nil)
	if code := exitCode(t, e.run(w)); code != 0 || out.String() != text {
		t.Errorf("the guest exits with %d after %d bytes", code, out.Len())
	}
}

func TestAGoGuestExits(t *testing.T) {
	e := needEngine(t)
	w := newWorld(t, Config{Args: []string{"guest", "exit"}})
	if code := exitCode(t, e.run(w)); code != 7 {
		t.Errorf("the code is %d", code)
	}
}

func TestASleepingGoGuestEndsWithItsCall(t *testing.T) {
	e := needEngine(t)
	asleep := make(chan struct{}, 1)
	w := newWorld(t, Config{Args: []string{"guest", "sleep"}, Wait: func(f func()) {
		select {
		case asleep <- struct{}{}:
		default:
		}
		f()
	}})
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() { <-asleep; cancel(gone) }()
	w.Bind(ctx, nil, nil, nil)
	if err := e.run(w); !errors.Is(err, gone) {
		t.Errorf("the guest ended with: %v", err)
	}
	close(asleep)
}

// serveGuest runs the guest as a server.
func serveGuest(t testing.TB, l *Listener) (ended chan error, client *http.Client) {
	t.Helper()
	e := needEngine(t)
	w := newWorld(t, Config{Args: []string{"guest", "serve"}, Listener: l})
	ctx, cancel := context.WithCancel(context.Background())
	var errs bytes.Buffer
	w.Bind(ctx, nil, &errs, &errs)
	ended = make(chan error, 1)
	go func() { ended <- e.run(w) }()
	transport := &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return l.Dial(ctx) },
		MaxIdleConnsPerHost: 1000,
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
		if t.Failed() {
			t.Logf("the guest says: %s", &errs)
		}
	})
	return ended, &http.Client{Transport: transport, Timeout: time.Minute}
}

func TestAGoGuestServesHTTP(t *testing.T) {
	ended, client := serveGuest(t, NewListener())
	for i := range 3 { // on one connection, that is kept
		if got := echo(t, client, fmt.Sprint("hello ", i)); got != fmt.Sprint("hello ", i) {
			t.Fatalf("the guest echoes %q", got)
		}
	}
	const clients, requests = 100, 5
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			for j := range requests {
				text := fmt.Sprintf("client %d request %d", i, j)
				if got := echo(t, client, text); got != text {
					t.Errorf("the guest echoes %q to %q", got, text)
				}
			}
		})
	}
	all.Wait()
	large := strings.Repeat("large ", 100_000)
	if got := echo(t, client, large); got != large {
		t.Errorf("the guest echoes %d bytes of %d", len(got), len(large))
	}
	res, err := client.Get("http://guest/large")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); err != nil || n != 64*64<<10 {
		t.Errorf("the large answer has %d bytes: %v", n, err)
	}
	stop, err := client.Post("http://guest/stop", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = stop.Body.Close()
	if code := exitCode(t, <-ended); code != 0 {
		t.Errorf("the server exits with %d", code)
	}
}

func echo(t testing.TB, client *http.Client, text string) string {
	res, err := client.Post("http://guest/echo", "text/plain", strings.NewReader(text))
	if err != nil {
		t.Error(err)
		return ""
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return string(got)
}

// What a request costs a Go guest that serves, by the listener.
func BenchmarkAGoGuestServes(b *testing.B) {
	_, client := serveGuest(b, NewListener())
	hello := func() {
		res, err := client.Get("http://guest/hello")
		if err != nil {
			b.Error(err)
			return
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
	hello() // it is there
	b.ReportAllocs()
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			hello()
		}
	})
}
