package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/chunkstore/place"
	"github.com/cloudless/cloudless/chunkstore/split"
	"github.com/cloudless/cloudless/internal/run"
)

// withObject makes a world with an object of some chunks, on all of three nodes, put long ago.
func withObject(t *testing.T, self string) (*world, *Gateway, []byte) {
	t.Helper()
	w := newWorld(t, 3)
	w.bucket("assets", nil)
	g := w.gateway(func(c *Config) { c.Self = self; c.Zone = "z1" })
	data := noise(1, 3<<20)
	mustPut(t, g, "key", data)
	g.settled(t)
	time.Sleep(time.Hour)
	return w, g, data
}

// A chunk is read from the own node, else from one of the own zone, and from others only when those fail.
func TestTheNearestNodeIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g, data := withObject(t, "node-0")
		mustGet(t, g, "key", data)
		if a, b, c := w.nodes["node-0"].count("get"), w.nodes["node-1"].count("get"), w.nodes["node-2"].count("get"); a != 3 || b+c != 0 {
			t.Errorf("asked %d %d %d times", a, b, c)
		}
		other := w.gateway(func(c *Config) { c.Zone = "z1" })
		mustGet(t, other, "key", data)
		if a, b, c := w.nodes["node-0"].count("get"), w.nodes["node-1"].count("get"), w.nodes["node-2"].count("get"); a != 3 || b != 3 || c != 0 {
			t.Errorf("asked %d %d %d times", a, b, c)
		}
	})
}

// Whatever is wrong with the nearest node, the next one gives the object; what is to be repaired is told.
func TestReadsFallOver(t *testing.T) {
	for _, c := range []struct {
		name   string
		script func(context.Context, string) error
		spoil  func(w *world, digests []string)
		short  bool
	}{
		{name: "it cannot be reached", script: fails(errAway)},
		{name: "it hangs", script: hangs},
		{name: "its copies are damaged", script: fails(errCorrupt), short: true},
		{name: "it has lost them", spoil: (*world).lose, short: true},
	} {
		for _, self := range []string{"", "node-1"} {
			t.Run(c.name+"/self="+self, func(t *testing.T) {
				if self != "" && c.name == "it hangs" {
					t.Skip("a node does not wait for itself")
				}
				synctest.Test(t, func(t *testing.T) {
					w, g, data := withObject(t, self)
					w.on("node-1", c.script)
					if c.spoil != nil {
						c.spoil(w, digestsOf(data))
					}
					mustGet(t, g, "key", data)
					got := w.shorts()
					slices.Sort(got)
					if want := digestsOf(data); c.short && !slices.Equal(got, want) || !c.short && len(got) > 0 {
						t.Errorf("told to be short: %v", got)
					}
				})
			})
		}
	}
}

// lose takes chunks away from node-1.
func (w *world) lose(digests []string) { w.take("node-1", digests...) }

// take deletes a node's copies, with their pins.
func (w *world) take(id string, digests ...string) {
	c := w.nodes[id].chunks
	for _, d := range digests {
		owners, err := c.Owners(d, 10)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, o := range owners {
			if err := c.Unref(context.Background(), o, d); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	if err := c.Delete(digests...); err != nil {
		w.t.Fatal(err)
	}
}

func digestsOf(data []byte) (out []string) {
	for part := range slices.Chunk(data, split.Normal) {
		out = append(out, chunkstore.DigestOf(part))
	}
	slices.Sort(out)
	return out
}

// A copy that is not there yet because the object was put just now is nothing to repair.
func TestACopyOnItsWayIsNotToldToBeMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.bucket("assets", nil)
		g := w.gateway(func(c *Config) { c.Self = "node-1" })
		w.on("node-1", func(ctx context.Context, op string) error {
			if op == "put" {
				return run.Sleep(ctx, time.Second)
			}
			return nil
		})
		data := noise(1, 1<<20)
		mustPut(t, g, "key", data)
		mustGet(t, g, "key", data)
		g.settled(t)
		if n := w.nodes["node-1"].count("get"); n != 1 || len(w.shorts()) > 0 {
			t.Errorf("asked %d times; told to be short: %v", n, w.shorts())
		}
	})
}

// A chunk that nobody can give is an error that says who was asked, after the bytes before it.
func TestAChunkThatNobodyHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g, data := withObject(t, "")
		second := chunkstore.DigestOf(data[split.Normal : 2*split.Normal])
		w.on("node-0", fails(errAway))
		w.on("node-2", fails(errCorrupt))
		w.lose([]string{second})
		got, err := content(t.Context(), g, "key", 0, -1)
		mustFail(t, err, api.CodeUnavailable, "n0: it cannot be reached", "n1", "n2", second)
		if !bytes.Equal(got, data[:split.Normal]) {
			t.Errorf("gave %d bytes before", len(got))
		}
	})
}

// A chunk of another length than the manifest says is not given out.
func TestAManifestThatLiesIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.bucket("assets", nil)
		g := w.gateway(nil)
		data := noise(1, 100_000)
		session, err := g.Begin(t.Context(), "assets")
		if err != nil {
			t.Fatal(err)
		}
		if err := g.PutChunk(t.Context(), session.ID, "assets", chunkstore.DigestOf(data), data); err != nil {
			t.Fatal(err)
		}
		m := manifestOf(data)
		m.Chunks[0].Bytes--
		if _, err := g.Commit(t.Context(), session.ID, at("key", -1), m); err != nil {
			t.Fatal(err)
		}
		_, err = content(t.Context(), g, "key", 0, -1)
		mustFail(t, err, api.CodeUnavailable, "100000 bytes, its manifest says 99999")
	})
}

func manifestOf(data []byte) *split.Manifest {
	m := &split.Manifest{}
	for part := range slices.Chunk(data, split.Normal) {
		m.Chunks = append(m.Chunks, split.Chunk{Digest: [32]byte(sha(part)), Bytes: len(part)})
	}
	return m
}

// An open object is read as it was found, and a reader that is closed early, or whose context ends,
// gives back its memory (which gateway checks in the end).
func TestReadersEndEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g, data := withObject(t, "")
		r, err := g.Open(t.Context(), "assets", "key")
		if err != nil {
			t.Fatal(err)
		}
		mustPut(t, g, "key", noise(2, 100))
		s := r.Range(t.Context(), 0, -1)
		first := make([]byte, 10)
		if _, err := io.ReadFull(s, first); err != nil || !bytes.Equal(first, data[:10]) {
			t.Errorf("%x: %v", first, err)
		}
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Error(err)
		}
		if _, err := s.Read(first); err == nil {
			t.Error("a closed reader gives bytes")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for id := range w.nodes {
			w.on(id, hangs)
		}
		s = r.Range(ctx, 0, -1)
		defer s.Close()
		_, err = io.ReadAll(s)
		mustFail(t, err, api.CodeTimeout)
	})
}

// A writer that fails ends the reading with its error.
func TestAWriterThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, g, _ := withObject(t, "")
		r, err := g.Open(t.Context(), "assets", "key")
		if err != nil {
			t.Fatal(err)
		}
		s := r.Range(t.Context(), 0, -1)
		defer s.Close()
		if _, err := s.(io.WriterTo).WriteTo(brokenWriter{}); !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
	})
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// Whatever the states, every member is asked in the end, those that are lost last, and the own zone first
// of those that are to have the chunk.
func TestTheOrderOfReading(t *testing.T) {
	w := newWorld(t, 7)
	w.setState("node-2", api.StoreLost)
	w.setState("node-3", api.StoreFull)
	members := w.storeMembers().Members
	for i := range 50 {
		digest := chunkstore.DigestOf([]byte{byte(i)})
		first := placed(digest, members)
		for r := 1; r <= 3; r++ {
			got := nearest(first, members, r, "z4")
			if sorted := slices.Sorted(slices.Values(got)); len(slices.Compact(sorted)) != 7 {
				t.Fatalf("asked are %v", got)
			}
			if got[6] != "node-2" {
				t.Errorf("the lost node is asked before others: %v", got)
			}
			if want := first[:r]; slices.Contains(want, "node-4") && got[0] != "node-4" {
				t.Errorf("of %v the one in the zone is not asked first: %v", want, got)
			}
			ready := PlaceMembers(members)
			for i := range ready {
				ready[i].State = place.Ready
			}
			if want := place.Choose(digest, ready, r); !slices.Equal(want, first[:r]) {
				t.Errorf("most likely are %v, chosen were %v", first[:r], want)
			}
		}
	}
}
