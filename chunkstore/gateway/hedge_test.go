package gateway

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudless/cloudless/chunkstore/erasure"
	"github.com/cloudless/cloudless/internal/run"
)

// A node may take a little longer than it mostly does, within bounds.
func TestHowLongANodeMayTake(t *testing.T) {
	for name, c := range map[string]struct {
		took        []time.Duration
		least, most time.Duration
	}{
		"unknown": {nil, hedgeFirst, hedgeFirst},
		"fast":    {[]time.Duration{time.Millisecond}, hedgeLeast, hedgeLeast},
		"steady":  {[]time.Duration{200 * time.Millisecond}, 200 * time.Millisecond, 220 * time.Millisecond},
		"uneven":  {[]time.Duration{50 * time.Millisecond, 250 * time.Millisecond}, 400 * time.Millisecond, 700 * time.Millisecond},
		"slow":    {[]time.Duration{time.Minute}, hedgeMost, hedgeMost},
	} {
		t.Run(name, func(t *testing.T) {
			var all tempos
			for range 100 {
				for _, took := range c.took {
					all.note("a", took)
				}
			}
			if got := all.patience("a"); got < c.least || got > c.most {
				t.Errorf("it may take %v, want %v to %v", got, c.least, c.most)
			}
		})
	}
	var all tempos
	for i := range 3 * maxTempos {
		all.note(fmt.Sprint(i), time.Second)
	}
	if len(all.nodes) > maxTempos {
		t.Errorf("%d nodes are remembered", len(all.nodes))
	}
}

// A reader waits for a node that never answers no longer than until another is asked; nor for two of them.
func TestAReadDoesNotWaitForNodesThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g, data := withObject(t, "")
		w.on("node-0", hangs)
		w.on("node-1", hangs)
		began := time.Now()
		mustGet(t, g, "key", data)
		if took := time.Since(began); took > 3*2*hedgeFirst {
			t.Errorf("it took %v for three chunks", took)
		}
	})
}

// A node that was not waited for alone may still be the first that gives the chunk.
func TestASlowNodeMayStillWin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g, data := withObject(t, "")
		for id := range w.nodes {
			w.on(id, hangs)
		}
		const slow = 2*hedgeFirst + 100*time.Millisecond
		w.on("node-1", func(ctx context.Context, _ string) error { return run.Sleep(ctx, slow) })
		began := time.Now()
		got, err := content(t.Context(), g, "key", 0, 1000)
		if err != nil || string(got) != string(data[:1000]) {
			t.Fatalf("%d bytes: %v", len(got), err)
		}
		if took := time.Since(began); took != slow {
			t.Errorf("it took %v, want %v", took, slow)
		}
	})
}

// A cold object is read without any two of its nodes, which hang, in little more time than with them, and
// no more in memory than the chunks that are asked for and two groups.
func TestADegradedReadDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withGroup(t)
		var most atomic.Int64
		well := func(context.Context, string) error {
			for n := held.Load(); n > most.Load(); {
				most.Store(n)
			}
			return nil
		}
		for id := range w.nodes {
			w.on(id, well)
		}
		for a := range erasure.Shards {
			for b := range a {
				w.on(w.seat(a), hangs)
				w.on(w.seat(b), hangs)
				began := time.Now()
				mustGet(t, w.g, "key", w.data)
				if took := time.Since(began); took > erasure.Data*2*hedgeFirst {
					t.Errorf("without %d and %d it took %v", a, b, took)
				}
				w.on(w.seat(a), well)
				w.on(w.seat(b), well)
			}
		}
		if limit := int64(2*maxAsked + groupsAtOnce*erasure.Shards); most.Load() > limit {
			t.Errorf("%d buffers were in use, want %d at most", most.Load(), limit)
		}
	})
}
