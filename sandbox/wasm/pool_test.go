package wasm

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox/linear"
)

func placesOnly(_ context.Context, mem *linear.Account) (*instance, error) {
	s := newSink(nil)
	return &instance{memory: mem, out: &lines{sink: s}, err: &lines{sink: s}}, nil
}

// resting counts the idle instances.
func (p *pool) resting() (n int) {
	for i := range p.shards {
		n += len(p.shards[i].idle)
	}
	return n
}

func mustGet(t *testing.T, p *pool) *instance {
	t.Helper()
	i, err := p.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestThePoolUsesTheLastInstanceFirst(t *testing.T) {
	p := newPool(linear.NewBudget(1<<20), 8, pageBytes, 0, placesOnly)
	a, b := mustGet(t, p), mustGet(t, p)
	p.put(a)
	p.put(b)
	if mustGet(t, p) != b || mustGet(t, p) != a {
		t.Error("the pool is not last in, first out")
	}
}

func TestThePoolQueuesAndThenRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(linear.NewBudget(1<<20), 1, 0, 0, placesOnly)
		held := mustGet(t, p)
		var wg sync.WaitGroup
		for range maxQueued {
			wg.Go(func() { p.put(mustGet(t, p)) })
		}
		synctest.Wait()
		if _, err := p.get(t.Context()); !errors.Is(err, errBusy) {
			t.Errorf("one more than the queue holds: error %v", err)
		}
		p.put(held)
		wg.Wait()
		if p.resting() != 1 || p.live != 1 {
			t.Errorf("%d idle, %d live", p.resting(), p.live)
		}
	})
}

func TestWhoWaitsLeavesWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(linear.NewBudget(1<<20), 1, 0, 0, placesOnly)
		held := mustGet(t, p)
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errDeadline)
		defer cancel()
		if _, err := p.get(ctx); !errors.Is(err, errDeadline) {
			t.Errorf("error %v", err)
		}
		p.drop(held)
		if len(p.waiting) != 0 || p.live != 0 {
			t.Errorf("%d wait, %d live", len(p.waiting), p.live)
		}
		p.close()
		if _, err := p.get(t.Context()); !errors.Is(err, errStopped) {
			t.Errorf("after close: error %v", err)
		}
	})
}

// TestThePoolKeepsToItsBounds: never more instances than max, never more memory than the limit, and
// nothing held at the end.
func TestThePoolKeepsToItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Uint64Range(1, 40).Draw(t, "limit") * pageBytes
		most := rapid.IntRange(1, 6).Draw(t, "max")
		beside := rapid.Uint64Range(0, 3).Draw(t, "beside") * pageBytes
		p := newPool(linear.NewBudget(limit), most, pageBytes, beside, placesOnly)
		var out []*instance
		cancelled, cancel := context.WithCancel(context.Background())
		cancel()
		steps := rapid.SliceOfN(rapid.IntRange(0, 3), 0, 60).Draw(t, "steps")
		for _, step := range steps {
			switch {
			case step == 0:
				if i, err := p.get(cancelled); err == nil {
					out = append(out, i)
				}
			case len(out) == 0:
			case step == 1:
				p.put(out[0])
				out = out[1:]
			case step == 2:
				p.drop(out[0])
				out = out[1:]
			case step == 3:
				out[0].memory.Cover(out[0].memory.Held() + pageBytes)
			}
			if p.live > most || p.live != len(out)+p.resting() || p.memory.Used() > limit {
				t.Fatalf("%d live of %d, %d out, %d idle; %d bytes of %d", p.live, most, len(out), p.resting(), p.memory.Used(), limit)
			}
		}
		p.close()
		for _, i := range out {
			p.put(i)
		}
		if p.memory.Used() != 0 || p.live != 0 {
			t.Fatalf("%d bytes are still held, %d instances live", p.memory.Used(), p.live)
		}
	})
}

func TestOneLargeInstanceLeavesRoomForOthers(t *testing.T) {
	p := newPool(linear.NewBudget(64*pageBytes), 8, pageBytes, 0, placesOnly)
	i := mustGet(t, p)
	if !i.memory.Cover(40 * pageBytes) {
		t.Fatal("no room to grow")
	}
	p.put(i)
	var got []*instance
	for range 4 { // the large one, then 8 pages (a share) each
		got = append(got, mustGet(t, p))
	}
	if got[3].memory.Held() != 8*pageBytes {
		t.Errorf("%d bytes are reserved", got[3].memory.Held())
	}
}

// TestIdleInstancesAreDroppedInTime: the spare ones soon, the last one late.
func TestIdleInstancesAreDroppedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(linear.NewBudget(1<<20), 8, pageBytes, 0, placesOnly)
		a, b, c := mustGet(t, p), mustGet(t, p), mustGet(t, p)
		use := func(i *instance) {
			i.clock.start()
			p.put(i)
		}
		use(a)
		time.Sleep(time.Second)
		use(b)
		use(c)
		for _, step := range []struct {
			wait time.Duration
			left int
		}{{8 * time.Second, 3}, {time.Second, 2}, {time.Second, 1}, {time.Hour - 11*time.Second, 1}, {time.Second, 0}} {
			time.Sleep(step.wait)
			if empty := p.trim(1, 10*time.Second, time.Hour); p.live != step.left || empty != (step.left == 0) {
				t.Fatalf("%d instances live, %d were to stay; empty: %v", p.live, step.left, empty)
			}
		}
		if p.memory.Used() != 0 {
			t.Errorf("%d bytes are still held", p.memory.Used())
		}
	})
}

// TestNobodyIsLeftWaiting: with one instance and many who want it, each gets it in the end.
func TestNobodyIsLeftWaiting(t *testing.T) {
	p := newPool(linear.NewBudget(1<<20), 1, 0, 0, placesOnly)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 500 {
				i, err := p.get(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				p.put(i)
			}
		})
	}
	wg.Wait()
}

func TestTheStopwatchCountsNoWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := stopwatch{meter: &meter{}}
		a.start()
		time.Sleep(time.Second)
		a.wait(func() { time.Sleep(time.Minute) })
		time.Sleep(time.Second)
		if d := a.lap(); d != time.Second || a.meter.cost().CPU != 2*time.Second {
			t.Errorf("the last lap was %s, all of them %s", d, a.meter.cost().CPU)
		}
	})
}

// TestTheQuotaFillsAtItsRate: half a processor, with 50 ms at hand.
func TestTheQuotaFillsAtItsRate(t *testing.T) {
	q := newQuota(500)
	now := q.at
	for _, step := range []struct{ after, use, wait time.Duration }{
		{0, 50 * time.Millisecond, 0},                            // all that is at hand
		{0, time.Millisecond, 2 * time.Millisecond},              // one over: twice that to earn it
		{2 * time.Millisecond, 0, 0},                             // earned
		{time.Hour, 51 * time.Millisecond, 2 * time.Millisecond}, // no more than that is ever at hand
		{1 << 62, 50*time.Millisecond + 1, 2 * time.Nanosecond},  // after centuries too
		{time.Hour, time.Minute, quotaPeriod},                    // what is owed is bounded
	} {
		now += step.after
		if wait := q.take(step.use, now); wait != step.wait {
			t.Errorf("after %s, using %s: wait %s, not %s", step.after, step.use, wait, step.wait)
		}
	}
	if newQuota(0).take(time.Hour, 0) != 0 {
		t.Error("no quota bounds something")
	}
}

func TestOutputIsCutIntoLines(t *testing.T) {
	var log bytes.Buffer
	s := newSink(&log)
	a, b := &lines{sink: s}, &lines{sink: s}
	for _, step := range []struct {
		to   *lines
		text string
	}{{a, "one"}, {b, "two\n"}, {a, " and\nthree\n\nfo"}, {a, "ur"}} {
		if n, err := step.to.Write([]byte(step.text)); n != len(step.text) || err != nil {
			t.Errorf("Write gave %d, %v", n, err)
		}
	}
	a.end()
	b.end()
	if want := "two\none and\nthree\n\nfour\n"; log.String() != want {
		t.Errorf("the log is %q, want %q", log.String(), want)
	}
}

func TestTooMuchOutputIsDroppedAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := newSink(&log)
		l := &lines{sink: s}
		line := []byte(strings.Repeat("x", 999) + "\n")
		for range 1500 {
			l.Write(line)
		}
		if log.Len() != api.DefaultLogBytesPerSec {
			t.Errorf("%d bytes were logged in an instant", log.Len())
		}
		time.Sleep(time.Second)
		l.Write([]byte("next\n"))
		if !strings.HasSuffix(log.String(), "longer than 16384 bytes\nnext\n") || strings.Count(log.String(), "cloudless: 500000 bytes of output were dropped") != 1 {
			t.Errorf("the log ends in %q", log.String()[max(0, log.Len()-200):])
		}
		l.Write(bytes.Repeat([]byte("y"), api.MaxLogLineBytes+50))
		l.Write([]byte("zz\n"))
		s.Close()
		if !strings.Contains(log.String(), "cloudless: 52 bytes") {
			t.Error("the cut of a long line is not told")
		}
		l.Write([]byte("late\n"))
		if strings.Contains(log.String(), "late") {
			t.Error("a closed log was written")
		}
	})
}

// TestAThousandReplicas: starts cost no instance, and all of them answer.
func TestAThousandReplicas(t *testing.T) {
	d := newDriver(t)
	const replicas = 1000
	began := time.Now()
	handlers := make([]http.Handler, replicas)
	for i := range replicas {
		spec := moduleSpec("hello", api.ModeHTTP)
		spec.ID = strconv.Itoa(i)
		h, err := d.Start(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		handlers[i] = h.Endpoint().Handler
	}
	t.Logf("%d starts took %s", replicas, time.Since(began))
	for i, h := range handlers {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		if w.Code != http.StatusOK {
			t.Fatalf("replica %d: status %d", i, w.Code)
		}
	}
	if len(d.engine.loaded) != 1 {
		t.Errorf("%d modules are loaded for one", len(d.engine.loaded))
	}
}

func TestConcurrentRequests(t *testing.T) {
	server, _, _ := serve(t, newDriver(t), moduleSpec("evil", api.ModeHTTP))
	var wg sync.WaitGroup
	for _, path := range []string{"/c", "/u", "/o", "/p", "/e", "/c", "/g", "/h"} {
		wg.Go(func() {
			for range 20 {
				if _, _, err := fetch(t, http.MethodGet, server.URL+path, ""); err != nil {
					t.Errorf("%s: %v", path, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestAClosedDriverStartsNothing(t *testing.T) {
	d := newDriver(t)
	h, _ := start(t, d, moduleSpec("spin", api.ModeService))
	web, _ := start(t, d, moduleSpec("hello", api.ModeHTTP))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for _, r := range []interface{ Done() <-chan struct{} }{h, web} {
		select {
		case <-r.Done():
		default:
			t.Error("a replica outlived its driver")
		}
	}
	if _, err := d.Start(t.Context(), moduleSpec("hello", api.ModeHTTP)); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("error is %v", err)
	}
}
