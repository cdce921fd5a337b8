package chunkstore

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/cloudless/cloudless/api"
)

// model is a store of maps.
type model struct {
	chunks map[string][]byte
	pins   map[string]map[string]bool // by owner
	marks  map[string]time.Time
}

func (m *model) pinned(d string) bool {
	for _, p := range m.pins {
		if p[d] {
			return true
		}
	}
	return false
}

func (m *model) pin(owner, d string) {
	if m.pins[owner] == nil {
		m.pins[owner] = map[string]bool{}
	}
	m.pins[owner][d] = true
	delete(m.marks, d)
}

// collect is what a pass at now does.
func (m *model) collect(now time.Time) (deleted int) {
	for d := range m.chunks {
		if _, marked := m.marks[d]; !marked && !m.pinned(d) {
			m.marks[d] = now
		}
		if at, marked := m.marks[d]; marked && now.Sub(at) >= Grace && !m.pinned(d) {
			delete(m.chunks, d)
			delete(m.marks, d)
			deleted++
		}
	}
	return deleted
}

// The store does what maps would do, whatever the order of puts, pins, deletes, collections,
// compactions and restarts.
func TestModel(t *testing.T) {
	var pool [][]byte
	for i := range 8 {
		pool = append(pool, noise(uint64(i), []int{10, 5000, 70_000, 200_000}[i%4]))
	}
	owners := []string{"a", "b", "b\x00", "c"}
	rapid.Check(t, func(rt *rapid.T) {
		c, err := Open(vfs.NewMem(), "chunks", small)
		if err != nil {
			rt.Fatal(err)
		}
		m := &model{map[string][]byte{}, map[string]map[string]bool{}, map[string]time.Time{}}
		now := day
		data := func() []byte { return pool[rapid.IntRange(0, len(pool)-1).Draw(rt, "chunk")] }
		owner := func() string { return rapid.SampledFrom(owners).Draw(rt, "owner") }
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(rt *rapid.T) {
				b, o := data(), rapid.SampledFrom(append(owners, "")).Draw(rt, "owner")
				check(rt, c.Put(context.Background(), PutOptions{Owner: o}, chunkOf(b)))
				m.chunks[DigestOf(b)] = b
				delete(m.marks, DigestOf(b))
				if o != "" {
					m.pin(o, DigestOf(b))
				}
			},
			"ref": func(rt *rapid.T) {
				d, o := DigestOf(data()), owner()
				missing, err := c.Ref(o, d)
				check(rt, err)
				if _, here := m.chunks[d]; here != (len(missing) == 0) {
					rt.Fatalf("missing %v", missing)
				} else if here {
					m.pin(o, d)
				}
			},
			"unref": func(rt *rapid.T) {
				o := owner()
				check(rt, c.Unref(context.Background(), o))
				delete(m.pins, o)
			},
			"unref one": func(rt *rapid.T) {
				o, d := owner(), DigestOf(data())
				check(rt, c.Unref(context.Background(), o, d))
				delete(m.pins[o], d)
			},
			"delete": func(rt *rapid.T) {
				d := DigestOf(data())
				err := c.Delete(d)
				if (err != nil) != m.pinned(d) {
					rt.Fatalf("pinned %v: %v", m.pinned(d), err)
				}
				if err == nil {
					delete(m.chunks, d)
					delete(m.marks, d)
				}
			},
			"collect": func(rt *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 9).Draw(rt, "minutes")) * time.Minute)
				r, err := c.Collect(context.Background(), Collection{Now: now, Confirm: yes})
				check(rt, err)
				if want := m.collect(now); r.Deleted != want {
					rt.Fatalf("%+v, want %d deleted", r, want)
				}
			},
			"compact": func(rt *rapid.T) {
				_, err := c.Compact(context.Background())
				check(rt, err)
			},
			"reopen": func(rt *rapid.T) {
				check(rt, c.Close())
				var err error
				c, err = Open(c.fs, "chunks", small)
				check(rt, err)
			},
			"": func(rt *rapid.T) { m.compare(rt, c, pool) },
		})
		check(rt, c.Close())
	})
}

func check(rt *rapid.T, err error) {
	if err != nil {
		rt.Fatal(err)
	}
}

func (m *model) compare(rt *rapid.T, c *Chunks, pool [][]byte) {
	list, err := c.List("", MaxPage)
	check(rt, err)
	var got []string
	for _, info := range list {
		got = append(got, info.Digest)
	}
	if want := slices.Sorted(maps.Keys(m.chunks)); !slices.Equal(got, want) {
		rt.Fatalf("listed %v, want %v", got, want)
	}
	for _, data := range pool {
		d := DigestOf(data)
		b, err := c.Get(d, nil)
		if want, here := m.chunks[d]; here != (err == nil) || here && !bytes.Equal(b, want) {
			rt.Fatalf("here %v: %v", here, err)
		}
		owners, err := c.Owners(d, 10)
		check(rt, err)
		for o, p := range m.pins {
			if p[d] != slices.Contains(owners, o) {
				rt.Fatalf("owners of %s are %q; %q pins it: %v", d, owners, o, p[d])
			}
		}
	}
	check(rt, consistent(c))
}

// Puts, gets, deletes, compactions, collections, scrubs and listings at once: whoever pins a chunk
// reads it until it lets go.
func TestAllAtOnce(t *testing.T) {
	c := openChunks(t, vfs.NewMem(), small)
	ctx, cancel := context.WithCancel(t.Context())
	var workers, background sync.WaitGroup
	for w := range 6 {
		workers.Go(func() {
			if err := work(ctx, c, uint64(w)); err != nil {
				t.Error(err)
			}
		})
	}
	loop := func(f func() error) {
		background.Go(func() {
			for ctx.Err() == nil {
				if err := f(); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	now := day
	loop(func() error { _, err := c.Compact(ctx); return err })
	loop(func() error {
		now = now.Add(Grace)
		_, err := c.Collect(ctx, Collection{Now: now, Confirm: yes})
		return err
	})
	loop(func() error { _, err := c.Scrub(ctx, Scrubbing{Now: day, MaxBytes: 300_000}); return err })
	loop(func() error { _, err := c.List("", 10); c.Stats(); return err })
	workers.Wait()
	cancel()
	background.Wait()
	if s := c.Stats(); s.Quarantined != 0 {
		t.Errorf("%+v", s)
	}
	if err := consistent(c); err != nil {
		t.Error(err)
	}
}

// work puts chunks that others put too, reads them while it pins them, and lets them go.
func work(ctx context.Context, c *Chunks, w uint64) error {
	rng := rand.New(rand.NewPCG(w, 1))
	owner := fmt.Sprint("worker", w)
	buf := make([]byte, 0, 300_000)
	for range 60 {
		data := noise(rng.Uint64N(12), 40_000+20_000*rng.IntN(4))
		if err := c.Put(ctx, PutOptions{Owner: owner}, chunkOf(data)); err != nil {
			return err
		}
		for range 3 {
			if got, err := c.Get(DigestOf(data), buf); err != nil || !bytes.Equal(got, data) {
				return fmt.Errorf("reading what is pinned: %w", err)
			}
		}
		if rng.IntN(3) > 0 {
			if err := c.Unref(ctx, owner); err != nil {
				return err
			}
			_ = c.Delete(DigestOf(data)) // unless another pins it
		}
	}
	return nil
}

// Requests that wait are committed together, in the order in which they came, within the bounds.
func TestWhatAGroupTakes(t *testing.T) {
	for _, c := range []struct {
		name  string
		bytes []int64
		want  []int
	}{
		{"all that wait", []int64{1, 2, 3}, []int{3}},
		{"as many bytes as may be", []int64{maxGroupBytes - 1, 1, 1}, []int{2, 1}},
		{"one that is too large goes alone", []int64{maxGroupBytes + 1, 1}, []int{1, 1}},
		{"as many as may be", make([]int64, maxGroupRequests+1), []int{maxGroupRequests, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var q queue
			for _, n := range c.bytes {
				q.add(&request{bytes: n})
			}
			var got []int
			for group := q.take(); len(group) > 0; group = q.take() {
				got = append(got, len(group))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("groups of %v, want %v", got, c.want)
			}
		})
	}
}

// together queues calls behind a commit that is under way, in their order, so that they are one group.
func together(t *testing.T, c *Chunks, calls ...func() error) {
	t.Helper()
	c.committing.Lock()
	var wg sync.WaitGroup
	for i, call := range calls {
		wg.Go(func() {
			if err := call(); err != nil {
				t.Error(err)
			}
		})
		for waiting := 0; waiting <= i; runtime.Gosched() {
			c.queue.mu.Lock()
			waiting = len(c.queue.waiting)
			c.queue.mu.Unlock()
		}
	}
	c.committing.Unlock()
	wg.Wait()
}

// While one commit is on its way to the disk the next ones gather, and share one flush.
func TestPutsShareAFlush(t *testing.T) {
	d := newFaulty(vfs.NewMem())
	c := openChunks(t, d, small)
	syncs := 0
	d.failWrites(func(name string, sync bool) error {
		if sync && name == "chunks/segments/"+segmentName(1) {
			syncs++
		}
		return nil
	})
	var calls []func() error
	for i := range 8 {
		calls = append(calls, func() error { return c.Put(t.Context(), PutOptions{}, chunkOf(noise(uint64(i), 70_000))) })
	}
	together(t, c, calls...)
	if syncs != 1 {
		t.Errorf("%d flushes of the segment", syncs)
	}
}

// A put that found its chunk here keeps it, although a delete of it is in the same group, and before it.
func TestAPutWinsOverADeleteInItsGroup(t *testing.T) {
	c := openChunks(t, vfs.NewMem(), small)
	data := noise(1, 100_000)
	d := putChunks(t, c, "", data)[0]
	err := make(chan error, 1)
	together(t, c,
		func() error { err <- c.Delete(d); return nil },
		func() error { return c.Put(t.Context(), PutOptions{Owner: "o"}, chunkOf(data)) },
	)
	mustBe(t, <-err, api.CodeConflict, nil)
	mustGet(t, c, data)
}

// Of two puts of a new chunk in one group one stores it, and the other is told that it is there.
func TestTwoPutsOfOneChunkInAGroup(t *testing.T) {
	for _, size := range []int{100, 100_000} {
		c := openChunks(t, vfs.NewMem(), small)
		data := noise(1, size)
		put := func(owner string) func() error {
			return func() error { return c.Put(t.Context(), PutOptions{Owner: owner}, chunkOf(data)) }
		}
		together(t, c, put("a"), put("b"))
		if s := c.Stats(); s.Chunks != 1 || s.Hits != 1 || s.DeadBytes != 0 {
			t.Errorf("%+v", s)
		}
		if owners, err := c.Owners(DigestOf(data), 9); err != nil || !slices.Equal(owners, []string{"a", "b"}) {
			t.Errorf("owners %q: %v", owners, err)
		}
		mustGet(t, c, data)
	}
}
