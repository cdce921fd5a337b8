package wasm

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

const exhausted = "call stack exhausted"

func TestHostileCPU(t *testing.T) {
	newYard(t).run(t, []attack{
		{name: "loop", end: overdue},
		{name: "loop-start", end: cut},
		{name: "loop-initialize", end: cut},
		{name: "loop-resume", end: overdue},
		{name: "loop-table", end: overdue},
		{name: "loop-values", end: overdue},
		{name: "loop-leaf", end: overdue},
		{name: "loop-fuel", end: overdue},
		{name: "chain", end: overdue},
		{name: "chain-start", end: cut},
		{name: "chain-indirect", end: overdue},
		{name: "chain-bombs", end: overdue},
		{name: "chain-values", end: overdue},
		{name: "recursion", end: answers(http.StatusBadGateway, exhausted)},
		{name: "recursion-start", end: refused(exhausted)},
		{name: "recursion-indirect", end: answers(http.StatusBadGateway, exhausted)},
		{name: "recursion-mutual", end: answers(http.StatusBadGateway, exhausted)},
		{name: "fill", end: overdue},
		{name: "copy", end: overdue},
		{name: "init", end: overdue},
		{name: "table-fill", end: overdue},
		{name: "sleep-relative", end: overdue},
		{name: "sleep-absolute", end: overdue},
		{name: "sleep-many", end: overdue},
		{name: "sleep-count", end: tells(4 * 28)}, // EINVAL four times
		{name: "sleep-start", end: cut},
		{name: "sleep-initialize", end: cut},
		{name: "flood-random", end: overdue},
		{name: "flood-yield", end: overdue},
		{name: "flood-heads", end: overdue},
	})
}

// A guest that calls the host pays for the calls, so that its slice of fuel is not a long time.
func TestCallsOfTheHostAreCharged(t *testing.T) {
	spec := attack{name: "descriptors"}.spec(t) // about 15,000 calls
	h, _ := start(t, newDriver(t), spec)
	ctx, cost := sandbox.WithCost(t.Context())
	h.Endpoint().Handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil))
	if cost.Fuel < 14_000*callFuel {
		t.Errorf("15,000 calls cost %d", cost.Fuel)
	}
}

// TestTheCollectorIsNotHeldUp: while guests use all processors, the collector runs on, and stops the
// world for no longer than a guest's slice and what the machine takes.
func TestTheCollectorIsNotHeldUp(t *testing.T) {
	const (
		hogs   = 3 * time.Second // each is ended by its deadline
		rounds = 5               // of the collector that must fit in there
		worst  = time.Second     // of a stop; 3 s if a guest held it up
	)
	d := newDriver(t)
	for _, name := range []string{"loop", "chain", "chain-indirect", "chain-values", "loop-leaf", "fill", "copy"} {
		spec := fileSpec(filepath.Join("testdata", "hostile", name+".wasm"), api.ModeHTTP)
		spec.Memory, spec.Wasm.Timeout = api.DefaultWasmMemory, api.Duration(hogs/6)
		h, _ := start(t, d, spec)
		before := stops()
		ctx, cancel := context.WithCancel(t.Context())
		var busy sync.WaitGroup
		for range runtime.GOMAXPROCS(0) {
			busy.Go(func() {
				for ctx.Err() == nil {
					h.Endpoint().Handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
				}
			})
		}
		eventually(t, "the first requests", func() bool { return inFlight(h) >= runtime.GOMAXPROCS(0) })
		for range rounds {
			runtime.GC()
		}
		cancel()
		busy.Wait()
		longest := longestStop(before, stops())
		t.Logf("%s: the longest stop is under %s", name, longest)
		if longest > worst {
			t.Errorf("%s: the world was stopped for %s", name, longest)
		}
	}
}

// inFlight is how many requests a replica handles.
func inFlight(h sandbox.Handle) int {
	return int(h.(*server).inFlight.Load())
}

// stops is the histogram of how long the collector has stopped the world.
func stops() *metrics.Float64Histogram {
	sample := []metrics.Sample{{Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(sample)
	h := sample[0].Value.Float64Histogram()
	return &metrics.Float64Histogram{Counts: append([]uint64(nil), h.Counts...), Buckets: h.Buckets}
}

// longestStop is the upper bound of the last bucket that has grown.
func longestStop(before, after *metrics.Float64Histogram) (longest time.Duration) {
	for i, n := range after.Counts {
		if n > before.Counts[i] {
			longest = time.Duration(min(after.Buckets[i+1], 1e6) * float64(time.Second))
		}
	}
	return longest
}
