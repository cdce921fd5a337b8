package gateway

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/chunkstore/erasure"
	"github.com/cloudless/cloudless/chunkstore/place"
	"github.com/cloudless/cloudless/chunkstore/split"
	"github.com/cloudless/cloudless/internal/run"
)

// grouped is a world of six nodes with a cold object of four chunks, which are a group, each on its node
// alone.
type grouped struct {
	*world
	g      *Gateway
	data   []byte
	chunks [erasure.Data]split.Chunk
	group  *meta.Group
}

func withGroup(t *testing.T) *grouped {
	t.Helper()
	w := &grouped{world: newWorld(t, 6), data: noise(1, 4<<20-1000)}
	w.bucket("assets", coldBucket)
	w.g = w.gateway(nil)
	o := mustPut(t, w.g, "key", w.data)
	w.g.settled(t)
	time.Sleep(time.Hour)
	m, err := split.Decode(w.object(o.Key).Manifest)
	if err != nil {
		t.Fatal(err)
	}
	copy(w.chunks[:], m.Chunks)
	if err := w.g.Seal(t.Context(), w.chunks); err != nil {
		t.Fatal(err)
	}
	if w.group, err = groupOf(t.Context(), w.g.Meta(), w.chunks[0]); err != nil || w.group == nil {
		t.Fatalf("%v, %v", w.group, err)
	}
	w.spread()
	return w
}

func (w *world) object(key string) *api.Object {
	w.t.Helper()
	a, err := w.meta.Read(context.Background(), meta.Query{Object: &meta.ObjectRef{Bucket: "assets", Key: key}})
	if err != nil {
		w.t.Fatal(err)
	}
	return a.Object
}

func (w *grouped) seat(i int) string {
	return place.Seat(w.group.ID(), i, PlaceMembers(w.storeMembers().Members))
}

func (w *grouped) name(i int) string {
	return split.Chunk{Digest: [32]byte(w.group.Shards[i].Digest)}.Name()
}

// spread does what upkeep does after a group was sealed.
func (w *grouped) spread() {
	w.t.Helper()
	for i := range w.group.Shards {
		holders := w.holders(w.name(i))
		data, err := w.nodes[holders[0]].chunks.Get(w.name(i), nil)
		if err == nil {
			err = w.nodes[w.seat(i)].chunks.Put(w.t.Context(), chunkstore.PutOptions{}, chunkstore.Chunk{Digest: w.name(i), Data: data})
		}
		if err != nil {
			w.t.Fatal(err)
		}
		for _, id := range holders {
			if id != w.seat(i) {
				w.take(id, w.name(i))
			}
		}
	}
}

// What is sealed is on six nodes, and read from the one that has each chunk, with no other asked.
func TestAGroupIsReadWhereItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withGroup(t)
		before := map[string]int{}
		for i := range w.group.Shards {
			if at := w.holders(w.name(i)); !slices.Equal(at, []string{w.seat(i)}) {
				t.Errorf("shard %d is on %v, want %s", i, at, w.seat(i))
			}
			before[w.seat(i)] = w.nodes[w.seat(i)].count("get")
		}
		mustGet(t, w.g, "key", w.data)
		for i := range w.group.Shards {
			asked := w.nodes[w.seat(i)].count("get") - before[w.seat(i)]
			if want := map[bool]int{true: 1}[i < erasure.Data]; asked != want {
				t.Errorf("the node of shard %d was asked %d times, want %d", i, asked, want)
			}
		}
		if len(w.shorts()) > 0 {
			t.Errorf("told to be short: %v", w.shorts())
		}
	})
}

// Without any two of its six nodes an object is read as it was; without three it is not, and says why.
func TestAGroupIsReadWithoutTwoOfItsNodes(t *testing.T) {
	for name, script := range map[string]func(context.Context, string) error{
		"away": fails(errAway), "damaged": fails(errCorrupt), "silent": silent,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := withGroup(t)
				for a := range erasure.Shards {
					for b := range a {
						w.on(w.seat(a), script)
						w.on(w.seat(b), script)
						mustGet(t, w.g, "key", w.data)
						w.on(w.seat(a), nil)
						w.on(w.seat(b), nil)
					}
				}
				for i := range 3 {
					w.on(w.seat(i), fails(errAway))
				}
				_, err := content(t.Context(), w.g, "key", 0, -1)
				mustFail(t, err, api.CodeUnavailable, w.name(0), ErrGroupLost.Error())
			})
		})
	}
}

// A chunk that its node has lost is read all the same, told to be short, and made anew where it belongs.
func TestALostChunkIsMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withGroup(t)
		for i := range w.group.Shards {
			w.take(w.seat(i), w.name(i))
			mustGet(t, w.g, "key", w.data)
			if told := slices.Contains(w.shorts(), w.name(i)); told != (i < erasure.Data) {
				t.Errorf("shard %d is told to be short: %v", i, told)
			}
			s := w.group.Shards[i]
			if err := w.g.Rebuild(t.Context(), w.seat(i), split.Chunk{Digest: [32]byte(s.Digest), Bytes: s.Bytes}); err != nil {
				t.Fatal(err)
			}
			if at := w.holders(w.name(i)); !slices.Equal(at, []string{w.seat(i)}) {
				t.Errorf("shard %d is on %v, want %s", i, at, w.seat(i))
			}
		}
		for i := range 3 {
			w.take(w.seat(i), w.name(i))
		}
		if err := w.g.Rebuild(t.Context(), w.seat(0), w.chunks[0]); !errors.Is(err, ErrGroupLost) {
			t.Errorf("without three of six: %v", err)
		}
	})
}

// Whatever fails while a group is sealed, its session ends, and the chunks are in no group.
func TestASealThatFailsLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 6)
		w.bucket("assets", coldBucket)
		g := w.gateway(nil)
		mustPut(t, g, "key", noise(1, 4<<20))
		g.settled(t)
		m, err := split.Decode(w.object("key").Manifest)
		if err != nil {
			t.Fatal(err)
		}
		session := ""
		w.meta.script(nil, func(c meta.Command) error {
			if c.OpenSession != nil {
				session = c.OpenSession.ID
			}
			return nil
		})
		for name, script := range map[string]func(context.Context, string) error{
			"no chunk is to be had": func(ctx context.Context, op string) error {
				return map[bool]error{true: errAway}[op == "get"]
			},
			"no node takes parity": func(ctx context.Context, op string) error {
				return map[bool]error{true: errFull}[op == "put"]
			},
		} {
			for id := range w.nodes {
				w.on(id, script)
			}
			if err := g.Seal(t.Context(), [erasure.Data]split.Chunk(m.Chunks)); err == nil {
				t.Errorf("%s, and it is sealed", name)
			}
			synctest.Wait()
			if group, err := groupOf(t.Context(), g.Meta(), m.Chunks[0]); group != nil || err != nil || w.sessions(session) != 0 {
				t.Errorf("%s: %+v, %v, %d sessions live", name, group, err, w.sessions(session))
			}
		}
		for id := range w.nodes {
			w.on(id, nil)
		}
		mustGet(t, g, "key", bytes.Clone(noise(1, 4<<20)))
	})
}

// asking counts the questions for groups.
type asking struct {
	Meta
	questions atomic.Int64
	fails     error
}

func (a *asking) Read(ctx context.Context, q meta.Query) (*meta.Answer, error) {
	if q.Groups == nil {
		return a.Meta.Read(ctx, q)
	}
	a.questions.Add(1)
	if a.fails != nil {
		return nil, a.fails
	}
	return a.Meta.Read(ctx, q)
}

// A reader asks once in which groups the chunks of a cold object are, and again only behind those; also
// when nobody answers, and reads all the same.
func TestAColdReadAsksForManyGroupsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withGroup(t)
		for _, fails := range []error{nil, errAway} {
			m := &asking{Meta: w.meta, fails: fails}
			g := w.gateway(func(c *Config) { c.Meta = m })
			mustGet(t, g, "key", w.data)
			if n := m.questions.Load(); n != 1 {
				t.Errorf("asked %d times for four chunks (%v)", n, fails)
			}
		}
		m := &asking{Meta: w.meta}
		book := groupBook{g: w.gateway(func(c *Config) { c.Meta = m }), chunks: make([]split.Chunk, 2*meta.MaxGroups+1)}
		for i := range book.chunks {
			book.chunks[i] = split.Chunk{Digest: [32]byte{byte(i)}, Bytes: erasure.MinBytes}
		}
		copy(book.chunks[meta.MaxGroups-2:], w.chunks[:])
		for i, c := range book.chunks {
			if known := book.of(t.Context(), i); (known != nil) != slices.Contains(w.chunks[:], c) {
				t.Errorf("the group of chunk %d is %v", i, known)
			}
		}
		if n := m.questions.Load(); n != 3 {
			t.Errorf("asked %d times for %d chunks", n, len(book.chunks))
		}
	})
}

// silent is a node that gives nothing, until the transfer is broken off for that.
func silent(ctx context.Context, _ string) error {
	if err := run.Sleep(ctx, 20*time.Second); err != nil {
		return err
	}
	return errAway
}

// coldBucket does not compress: zstd keeps its encoders, and a bubble does not share channels.
func coldBucket(b *api.Bucket) { b.Class, b.Compression = api.ClassCold, api.CompressionNone }
