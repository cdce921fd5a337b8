package gateway

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/split"
)

// Uploads of large objects by many at once hold a chunk each, and what is spare between them; and go on
// when nothing is.
func TestUploadsHoldAChunkEachAndWhatIsSpare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.bucket("assets", nil)
		g := w.gateway(nil)
		const clients, spare = 6, 4
		if !g.spare.TryAcquire(spareBytes - spare*split.Normal) {
			t.Fatal("the spare memory is taken")
		}
		most, gate := int64(0), make(chan struct{})
		for id := range w.nodes {
			w.on(id, func(ctx context.Context, op string) error {
				<-gate
				return nil
			})
		}
		var group sync.WaitGroup
		for i := range clients {
			group.Go(func() {
				data := noise(uint64(i), 8<<20)
				p := PutObject{Bucket: "assets", Key: string(rune('a' + i)), Size: int64(len(data))}
				if _, err := g.Put(t.Context(), p, bytes.NewReader(data)); err != nil {
					t.Error(err)
				}
			})
		}
		for range 3 {
			synctest.Wait() // everybody waits for the nodes or for memory
			most = max(most, held.Load())
			if n := held.Load(); n > clients+spare {
				t.Errorf("%d buffers are held, at most %d are to be", n, clients+spare)
			}
			gate <- struct{}{}
		}
		if most != clients+spare {
			t.Errorf("at most %d buffers were held, %d could have been", most, clients+spare)
		}
		close(gate)
		group.Wait()
		g.settled(t)
		g.spare.Release(spareBytes - spare*split.Normal)
		if !g.spare.TryAcquire(spareBytes) {
			t.Error("spare memory was not given back")
		}
	})
}

// A read holds one chunk, and one ahead if there is memory to spare.
func TestAReadHoldsOneChunkAndOneAhead(t *testing.T) {
	for _, spare := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			_, g, data := withObject(t, "")
			if !spare && !g.spare.TryAcquire(spareBytes) {
				t.Fatal("the spare memory is taken")
			}
			r, err := g.Open(t.Context(), "assets", "key")
			if err != nil {
				t.Fatal(err)
			}
			s := r.Range(t.Context(), 0, -1)
			defer s.Close()
			got := make([]byte, len(data))
			for at := 0; at < len(got); at += 100_000 {
				if _, err := io.ReadFull(s, got[at:min(at+100_000, len(got))]); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				want := int64(1)
				if spare && at < 2<<20 {
					want = 2
				}
				if n := held.Load(); n > want {
					t.Errorf("%d chunks are held at %d with spare=%v, want %d", n, at, spare, want)
				}
			}
			if !bytes.Equal(got, data) {
				t.Error("other bytes were read")
			}
		})
	}
}

// Copies for a node that hangs hold no more than the stragglers may; the oldest are given up for those
// that come after, and told.
func TestStragglersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.bucket("assets", nil)
		g := w.gateway(func(c *Config) { c.Small = true })
		w.on("node-2", hangs)
		const most, puts = smallStragglerBytes / split.Small, 40
		began := time.Now()
		for i := range puts {
			mustPut(t, g, "key", noise(uint64(i), split.Small))
			synctest.Wait()
			if n := held.Load(); n > most {
				t.Fatalf("%d buffers are held, at most %d are to be", n, most)
			}
		}
		if took := time.Since(began); took > (puts/most)*stragglerPatience {
			t.Errorf("the puts waited %v for a node that hangs", took)
		}
		synctest.Wait()
		if n := len(w.shorts()); n != puts-most {
			t.Errorf("%d chunks are told to be short, want %d", n, puts-most)
		}
		g.settled(t)
		if n := len(w.shorts()); n != puts {
			t.Errorf("%d chunks are told to be short, want %d", n, puts)
		}
	})
}

// Stragglers of nodes that are only slow are waited for, not given up.
func TestStragglersThatComeAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.bucket("assets", nil)
		g := w.gateway(func(c *Config) { c.Small = true })
		w.on("node-2", func(ctx context.Context, _ string) error {
			time.Sleep(stragglerPatience / 2)
			return nil
		})
		for i := range 40 {
			mustPut(t, g, "key", noise(uint64(i), split.Small))
		}
		g.settled(t)
		if n := len(w.shorts()); n > 0 {
			t.Errorf("%d chunks are told to be short", n)
		}
	})
}

// A write that waits for room among the stragglers ends with its context, and is good all the same: W
// copies are durable.
func TestAWriteThatMayNotWaitGivesItsLastCopyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStragglers(1)
		s.add(t.Context(), 1, func() { t.Error("given up") })
		ctx, cancel := context.WithTimeout(t.Context(), stragglerPatience/2)
		defer cancel()
		if s.add(ctx, 1, func() {}) != nil {
			t.Error("taken in over the limit")
		}
	})
}

// The settings of a bucket are those of the last seconds.
func TestABucketIsRememberedForALittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.bucket("assets", nil)
		g := w.gateway(nil)
		for _, c := range []struct {
			pause time.Duration
			want  int
		}{{0, 3}, {bucketAge - 1, 3}, {1, 2}} {
			time.Sleep(c.pause)
			b, err := g.bucket(t.Context(), "assets")
			if err != nil || b.Replicas != c.want {
				t.Errorf("after %v: %+v: %v", c.pause, b, err)
			}
			if c.pause == 0 {
				changed := *b
				changed.Replicas = 2
				w.do(updateBucket(changed))
			}
		}
		for i := range api.MaxBuckets + 5 {
			g.buckets.set(&api.Bucket{Name: string(rune(i))})
		}
		if n := len(g.buckets.known); n > api.MaxBuckets {
			t.Errorf("%d buckets are remembered", n)
		}
	})
}

// Close ends what goes on, at whatever moment it comes, and what is asked for after it is refused.
func TestCloseEndsWhatGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g, data := withObject(t, "")
		w.on("node-0", hangs)
		w.on("node-1", func(context.Context, string) error { time.Sleep(time.Millisecond); return nil })
		var group sync.WaitGroup
		for i := range 4 {
			other := noise(uint64(i), 20_000)
			group.Go(func() {
				for {
					_, err := g.Put(t.Context(), at("other", -1), bytes.NewReader(other))
					if err != nil {
						if api.CodeOf(err) != api.CodeUnavailable {
							t.Error(err)
						}
						return
					}
				}
			})
			group.Go(func() {
				for {
					got, err := content(t.Context(), g, "key", split.Normal-10, 20)
					if err != nil {
						if code := api.CodeOf(err); code != api.CodeUnavailable && code != api.CodeTimeout {
							t.Error(err)
						}
						return
					}
					if !bytes.Equal(got, data[split.Normal-10:split.Normal+10]) {
						t.Error("other bytes were read")
					}
				}
			})
		}
		time.Sleep(10 * time.Millisecond)
		began := time.Now()
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		group.Wait()
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v", took)
		}
	})
}
