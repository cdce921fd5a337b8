package wasm

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
)

// These benchmarks measure what a sandbox promises beyond the time of a request; test/bench makes a table
// of them.

// BenchmarkWAGI is one request to a guest that is made anew for it.
func BenchmarkWAGI(b *testing.B) {
	for name, path := range map[string]string{
		"C": "testdata/bench/wagi-c.wasm", "Rust": "testdata/bench/wagi-rust.wasm", "Go": "../../wasm-examples/hello-wagi-go/build/hello.wasm",
	} {
		b.Run(name, func(b *testing.B) {
			h, r := askable(b, path, nil)
			b.ReportAllocs()
			before := usedCPU(b)
			for b.Loop() {
				h.ServeHTTP(&discard{header: http.Header{}}, r)
			}
			b.ReportMetric(float64(usedCPU(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// askable starts a replica of a module and makes a request for it.
func askable(b *testing.B, path string, change func(*sandbox.Spec)) (http.Handler, *http.Request) {
	b.Helper()
	spec := fileSpec(path, api.ModeHTTP)
	if spec.Digest == "" {
		b.Skipf("%s is not built: make examples", path)
	}
	spec.Memory = 64 << 20
	if change != nil {
		change(&spec)
	}
	h, _ := start(b, newDriver(b), spec)
	return h.Endpoint().Handler, asking(b, "/")
}

func asking(b *testing.B, path string) *http.Request {
	b.Helper()
	r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://hello.localhost"+path, nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("User-Agent", "bench")
	return r
}

// BenchmarkDeadline has a guest of a replica with a timeout of 50 ms run for ever in several ways, while a
// neighbour is asked again and again and the collector runs. It tells when the guest was stopped, how slow
// the neighbour's slow answers were, meanwhile and before, and the longest pause of the collector.
func BenchmarkDeadline(b *testing.B) {
	for _, way := range []string{"loop", "chain", "recursion", "fill", "sleep"} {
		b.Run(way, func(b *testing.B) {
			endless, _ := askable(b, "testdata/bench/endless.wasm", func(s *sandbox.Spec) { s.Wasm.Timeout = api.Duration(50 * time.Millisecond) })
			neighbour, r := askable(b, "../../wasm-examples/hello-c/hello.wasm", nil)
			quiet := slow(neighbour, r, time.After(300*time.Millisecond))
			pauses := pausesSince(nil)
			ctx, cancel := context.WithCancel(b.Context())
			g := run.New(ctx)
			g.Go("collect garbage", func(ctx context.Context) error {
				for run.Sleep(ctx, 10*time.Millisecond) == nil {
					runtime.GC()
				}
				return nil
			})
			busy := make(chan time.Duration, 1)
			stop := make(chan time.Time)
			g.Go("ask the neighbour", func(context.Context) error { busy <- slow(neighbour, r, stop); return nil })
			var stopped []time.Duration
			for b.Loop() {
				began := time.Now()
				endless.ServeHTTP(&discard{header: http.Header{}}, asking(b, "/"+way))
				stopped = append(stopped, time.Since(began))
			}
			close(stop)
			slices.Sort(stopped)
			b.ReportMetric(stopped[len(stopped)/2].Seconds(), "stopped-s")
			b.ReportMetric(float64(<-busy), "neighbour-p99-ns")
			b.ReportMetric(float64(quiet), "quiet-p99-ns")
			b.ReportMetric(longest(pausesSince(pauses)), "gc-pause-s")
			cancel()
			if err := g.Wait(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// slow asks a handler one request after the other until stop, and tells the 99th percentile.
func slow(h http.Handler, r *http.Request, stop <-chan time.Time) time.Duration {
	var took []time.Duration
	for {
		select {
		case <-stop:
			slices.Sort(took)
			return took[len(took)*99/100]
		default:
			began := time.Now()
			h.ServeHTTP(&discard{header: http.Header{}}, r)
			took = append(took, time.Since(began))
		}
	}
}

// pausesSince are the pauses of the collector, stopping the world included, without those counted before.
func pausesSince(before *metrics.Float64Histogram) *metrics.Float64Histogram {
	sample := []metrics.Sample{{Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(sample)
	h := sample[0].Value.Float64Histogram()
	now := &metrics.Float64Histogram{Counts: slices.Clone(h.Counts), Buckets: slices.Clone(h.Buckets)}
	if before != nil {
		for i := range now.Counts {
			now.Counts[i] -= before.Counts[i]
		}
	}
	return now
}

// longest is the upper bound of the last bucket that holds something.
func longest(h *metrics.Float64Histogram) float64 {
	for i, n := range slices.Backward(h.Counts) {
		if bound := h.Buckets[i+1]; n > 0 && !math.IsInf(bound, 0) {
			return bound
		}
	}
	return 0
}

// BenchmarkIdleInstance tells what an instance holds of memory that has served and is idle.
func BenchmarkIdleInstance(b *testing.B) {
	const instances = 200
	for name, spec := range guests(b) {
		b.Run(name, func(b *testing.B) {
			spec.Memory, spec.Wasm.MaxConcurrency = 1<<30, instances
			h, _ := start(b, newDriver(b), spec)
			s := h.(*server)
			var held float64
			for b.Loop() {
				first := taken(b, s)
				before := residentBytes(b)
				all := []*instance{first}
				for len(all) < instances {
					all = append(all, taken(b, s))
				}
				for _, i := range all {
					x := newExchange(s.ctx, &discard{header: http.Header{}}, asking(b, "/"), s.timeout)
					if err := s.serve(i, x); err != nil {
						b.Fatal(err)
					}
					x.close()
				}
				s.pool.settle(0)
				held = (residentBytes(b) - before) / (instances - 1)
				s.pool.trim(0, 0, 0)
			}
			b.ReportMetric(held, "B/instance")
		})
	}
}

func taken(b *testing.B, s *server) *instance {
	b.Helper()
	i, err := s.pool.get(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return i
}

// residentBytes is this process's memory after a collection.
func residentBytes(b *testing.B) float64 {
	b.Helper()
	runtime.GC() // what finalizers held goes with the next
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		b.Skip(err)
	}
	for line := range strings.Lines(string(text)) {
		var kib float64
		if n, _ := fmt.Sscanf(line, "Rss: %f kB", &kib); n == 1 {
			return kib * 1024
		}
	}
	b.Fatal("no Rss in smaps_rollup")
	return 0
}

// tried has d's cache remember that specs were tried, as it does of modules that were deployed before.
func tried(t testing.TB, d *Driver, specs []sandbox.Spec) {
	t.Helper()
	for _, spec := range specs {
		known, how, err := d.inspect(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		if err := known.tried.once(spec, how, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkIdleModules starts ten thousand modules that are known and were tried, as an agent does that
// starts again, and tells what the process holds then.
func BenchmarkIdleModules(b *testing.B) {
	dir := b.TempDir()
	d, _ := newLoggedDriver(b, dir)
	specs := describedOnly(b, d, 10_000)
	tried(b, d, specs)
	var began time.Time
	var took time.Duration
	var before, after float64
	for b.Loop() {
		before = residentBytes(b)
		began = time.Now()
		d, err := New(Config{CacheDir: dir})
		if err != nil {
			b.Fatal(err)
		}
		for n, spec := range specs {
			spec.ID = fmt.Sprintf("r-%d", n)
			if _, err := d.Start(b.Context(), spec); err != nil {
				b.Fatal(err)
			}
		}
		took, after = time.Since(began), residentBytes(b)
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(took.Seconds(), "start-s")
	b.ReportMetric(after, "rss-B")
	b.ReportMetric((after-before)/float64(len(specs)), "B/module")
}

// TestAThousandIdleModulesLoadNoCode: what was tried once starts from its description alone, and holds
// little.
func TestAThousandIdleModulesLoadNoCode(t *testing.T) {
	const perModule = 6 << 10
	dir := t.TempDir()
	first, _ := newLoggedDriver(t, dir)
	specs := describedOnly(t, first, 1000)
	tried(t, first, specs)
	d, err := New(Config{CacheDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	before := heap()
	for n, spec := range specs {
		spec.ID = fmt.Sprintf("r-%d", n)
		if _, err := d.Start(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	if held := (heap() - before) / int64(len(specs)); held > perModule {
		t.Errorf("an idle module holds %d bytes of heap, want at most %d", held, perModule)
	}
	if len(d.engine.loaded) != 0 || d.arena.Usage().Regions != 0 {
		t.Errorf("%d modules are loaded, %d memories made, want none", len(d.engine.loaded), d.arena.Usage().Regions)
	}
}

// TestUsageTellsFuelAndInstances: fuel only grows, and instances are those that there are.
func TestUsageTellsFuelAndInstances(t *testing.T) {
	h, _ := start(t, newDriver(t), fileSpec("../../wasm-examples/hello-c/hello.wasm", api.ModeHTTP))
	idle, err := h.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.Endpoint().Handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	after, err := h.Usage(t.Context())
	if err != nil || after.Fuel <= idle.Fuel || after.Instances != 1 {
		t.Errorf("fuel %d, then %d, with %d instances (%v)", idle.Fuel, after.Fuel, after.Instances, err)
	}
	if err := h.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if ended, err := h.Usage(t.Context()); err != nil || ended.Instances != 0 || ended.Fuel != after.Fuel {
		t.Errorf("%d instances are left, with fuel %d (%v)", ended.Instances, ended.Fuel, err)
	}
}
