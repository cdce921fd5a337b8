package transfer

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
)

// A copy is kept as the node that gave it keeps it: nobody compresses it once more.
func TestACopyKeepsItsForm(t *testing.T) {
	w := newWorld(t, 2)
	text := bytes.Repeat([]byte("as it is written, so it is read. "), 10_000)
	chunk := chunkOf(text)
	if err := w.nodes["a"].chunks.Put(t.Context(), chunkstore.PutOptions{Codec: chunkstore.Zstd}, chunk); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client("").Copy(t.Context(), "b", "a", chunk.Digest); err != nil {
		t.Fatal(err)
	}
	want, err := w.nodes["a"].chunks.Stat(chunk.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.nodes["b"].chunks.Stat(chunk.Digest); err != nil || got != want || got.Codec != chunkstore.Zstd {
		t.Errorf("the copy is %+v: %v, want %+v", got, err, want)
	}
	if got, err := w.nodes["b"].chunks.Get(chunk.Digest, nil); err != nil || !bytes.Equal(got, text) {
		t.Errorf("%d bytes: %v", len(got), err)
	}
}

// A copy whose connection breaks again and again comes through, and no byte goes over it twice but those
// of the chunk that broke first.
func TestACopyGoesOnWhereItBroke(t *testing.T) {
	w := newWorld(t, 2)
	const size, breaks = 200_000, 700_000
	chunks, digests := some(1, 20, size)
	w.nodes["a"].mustHave(t, "o", chunks...)
	var total atomic.Int64
	w.through(func(c net.Conn) net.Conn { return &breaking{c, breaks, &total} })
	done, err := w.client("").Copy(t.Context(), "b", "a", digests...)
	if err != nil || !slices.Equal(done, digests) {
		t.Fatalf("%d of %d are copied: %v", len(done), len(digests), err)
	}
	if n, most := total.Load(), int64(len(digests)*size*13/10); n > most {
		t.Errorf("%d bytes went over the line, want %d at most", n, most)
	}
}

// A node that gives other bytes than those it was asked for, or another chunk, is not believed; the
// other chunks that it gives are.
func TestACopyFromANodeThatLies(t *testing.T) {
	chunks, digests := some(1, 9, 50_000)
	store := openChunks(t)
	if err := store.Put(t.Context(), chunkstore.PutOptions{}, chunks...); err != nil {
		t.Fatal(err)
	}
	packed := map[string][]byte{} // the liar may go on for a moment when the test is over
	for _, d := range digests {
		var err error
		if packed[d], err = store.Pack(d, nil); err != nil {
			t.Fatal(err)
		}
	}
	changed := func(at int) []byte { b := slices.Clone(packed[digests[4]]); b[at] ^= 1; return b }
	for name, lie := range map[string][]byte{
		"another chunk":  packed[digests[5]],
		"other bytes":    changed(len(packed[digests[4]]) - 1),
		"a damaged head": changed(20),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1)
			w.fake("liar", func(rw http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, pathGet) {
					writeBytes(rw, []byte("something else"))
					return
				}
				body, _ := io.ReadAll(r.Body) // what breaks off asks for nothing
				asked, _ := decodeDigests(body)
				for _, d := range asked {
					given := packed[d]
					if d == digests[4] {
						given = lie
					}
					_ = send(rw, slices.Concat(outcome(copyDone, nil), given))
				}
			})
			done, err := w.client("").Copy(t.Context(), "a", "liar", digests...)
			if want := slices.Concat(digests[:4], digests[5:]); !slices.Equal(done, want) {
				t.Errorf("copied are %d: %v", len(done), err)
			}
			if err == nil || !strings.Contains(err.Error(), digests[4]) {
				t.Errorf("%v does not name the chunk", err)
			}
			if w.nodes["a"].has(t, digests[4]) {
				t.Error("the lie was believed")
			}
		})
	}
}

// A node that does not answer costs a copy no more than two waits, however many chunks it was to give.
func TestACopyFromANodeThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		over := make(chan struct{})
		w.fake("silent", func(http.ResponseWriter, *http.Request) { <-over })
		_, digests := some(1, 100, 100)
		c, began := w.client(""), time.Now()
		done, err := c.Copy(t.Context(), "a", "silent", digests...)
		mustBe(t, err, api.CodeUnavailable, nil)
		if took := time.Since(began); len(done) > 0 || took != 2*stallTime {
			t.Errorf("%d are copied after %v", len(done), took)
		}
		close(over)
		c.Close()
		w.nodes["a"].server.Client.Close()
		time.Sleep(time.Second) // net/http closes a connection that it has not read to its end a little later
	})
}

// A node with no room says so of each chunk, and does not fetch what it could not store.
func TestACopyToAFullNode(t *testing.T) {
	const size, room = 200_000, 5
	w := newWorld(t, 1)
	chunks, digests := some(1, 200, size)
	w.nodes["a"].mustHave(t, "o", chunks...)
	full, err := chunkstore.Open(vfs.NewMem(), "chunks", chunkstore.Options{Small: true, ReserveBytes: 1 << 20, Capacity: room * (size + chunkstore.PackedHead), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	var total atomic.Int64
	w.through(func(c net.Conn) net.Conn { return &breaking{c, 1 << 40, &total} })
	w.serve("b", func(s *Server) { s.Chunks = full })
	t.Cleanup(func() {
		if err := full.Close(); err != nil {
			t.Error(err)
		}
	})
	done, err := w.client("").Copy(t.Context(), "b", "a", digests...)
	mustBe(t, err, api.CodeUnavailable, nil)
	if len(done) > room || !strings.Contains(err.Error(), "is full") {
		t.Errorf("%d are copied: %v", len(done), err)
	}
	if most := int64(len(digests) * size / 2); total.Load() > most {
		t.Errorf("%d bytes were fetched for a node with no room, want %d at most", total.Load(), most)
	}
	for _, d := range done {
		if has, err := full.Has(d); err != nil || !has {
			t.Errorf("chunk %s is not there: %v", d, err)
		}
	}
}

// So many copies are under way at once on a node; the next wait, and say that they do.
func TestCopiesWaitForTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		paced := make(chan struct{})
		n := w.serve("b", func(s *Server) {
			s.Pace = func(ctx context.Context, _ int64) error { <-paced; return ctx.Err() }
		})
		chunks, digests := some(1, maxPulls+1, 1000)
		w.nodes["a"].mustHave(t, "o", chunks...)
		c, ended := w.client(""), make(chan error)
		for _, d := range digests {
			go func() {
				_, err := c.Copy(t.Context(), "b", "a", d)
				ended <- err
			}()
		}
		synctest.Wait()
		if n.server.pulls.TryAcquire(1) {
			t.Error("there is room for one more copy")
		}
		time.Sleep(3 * stallTime)
		close(paced)
		for range digests {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		c.Close()
		n.server.Client.Close()
	})
}

// A node that moves as many chunks as it can gives one to be kept a little later.
func TestAFetchWaitsForMemory(t *testing.T) {
	for name, c := range map[string]struct {
		wait time.Duration
		done int
	}{"just in time": {fetchWait - time.Second, 1}, "too late": {fetchWait + time.Second, 0}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2)
				chunk, a := chunkOf(noise(1, 1000)), w.nodes["a"]
				a.mustHave(t, "o", chunk)
				a.server.once.Do(a.server.setUp)
				if !a.server.memory.TryAcquire(budget) {
					t.Fatal("the memory is taken")
				}
				time.AfterFunc(c.wait, func() { a.server.memory.Release(budget) })
				client := w.client("")
				if done, err := client.Copy(t.Context(), "b", "a", chunk.Digest); len(done) != c.done {
					t.Errorf("%d are copied: %v", len(done), err)
				}
				client.Close()
				w.nodes["b"].server.Client.Close()
			})
		})
	}
}

// Whatever a node sends as chunks, no other one is taken for the one that was asked for.
func FuzzPacked(f *testing.F) {
	store, chunk := openChunks(f), chunkOf(noise(1, 100))
	if err := store.Put(f.Context(), chunkstore.PutOptions{}, chunk); err != nil {
		f.Fatal(err)
	}
	good, err := store.Pack(chunk.Digest, outcome(copyDone, nil))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(outcome(copyFailed, io.EOF))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := readPacked(bytes.NewReader(b), chunk.Digest)
		if err == nil && p.err == nil && p.chunk.Digest != chunk.Digest {
			t.Errorf("%q was taken for the chunk that was asked for", b)
		}
	})
}
