package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/coordinator/objects"
)

// world is a cluster in memory: real chunk stores and real metadata, with scripts for what goes wrong.
type world struct {
	t     testing.TB
	meta  *metaStore
	nodes map[string]*node

	mu      sync.Mutex
	members []api.StoreMember
	short   []string
}

// node is one node's chunks; its script may fail a call, or hold it until its context ends.
type node struct {
	id     string
	fs     *vfs.MemFS
	chunks *chunkstore.Chunks

	mu     sync.Mutex
	script func(ctx context.Context, op string) error
	calls  map[string]int
}

func newWorld(t testing.TB, nodes int) *world {
	t.Helper()
	w := &world{t: t, meta: newMetaStore(t), nodes: map[string]*node{}}
	for i := range nodes {
		id := fmt.Sprintf("node-%d", i)
		n := &node{id: id, fs: vfs.NewCrashableMem(), calls: map[string]int{}}
		n.chunks = openChunks(t, n.fs)
		w.nodes[id] = n
		w.members = append(w.members, api.StoreMember{ID: id, Name: "n" + fmt.Sprint(i), Zone: fmt.Sprint("z", i), Weight: 1000, State: api.StoreReady})
	}
	return w
}

func openChunks(t testing.TB, fs vfs.FS) *chunkstore.Chunks {
	t.Helper()
	c, err := chunkstore.Open(fs, "chunks", chunkstore.Options{Small: true, ReserveBytes: 1 << 20, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// gateway makes one that is closed before the stores are, and checks that it gave back all its memory.
func (w *world) gateway(change func(*Config)) *Gateway {
	w.t.Helper()
	c := Config{Meta: w.meta, Peers: w, Members: w.storeMembers, Short: w.hearShort, Log: zerolog.Nop()}
	if change != nil {
		change(&c)
	}
	g := New(c)
	w.t.Cleanup(func() {
		if err := g.Close(); err != nil {
			w.t.Error(err)
		}
		if n := held.Load(); n != 0 {
			w.t.Errorf("%d buffers were not given back", n)
		}
	})
	return g
}

func (w *world) storeMembers() api.StoreMembers {
	w.mu.Lock()
	defer w.mu.Unlock()
	return api.StoreMembers{Members: slices.Clone(w.members)}
}

func (w *world) setState(id string, s api.StoreMemberState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.members {
		if w.members[i].ID == id {
			w.members[i].State = s
		}
	}
}

func (w *world) hearShort(digests ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.short = append(w.short, digests...)
}

func (w *world) shorts() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.short)
}

// on sets a node's script; nil is a node that is well.
func (w *world) on(id string, script func(ctx context.Context, op string) error) {
	n := w.nodes[id]
	n.mu.Lock()
	defer n.mu.Unlock()
	n.script = script
}

func (n *node) enter(ctx context.Context, op string) error {
	n.mu.Lock()
	n.calls[op]++
	script := n.script
	n.mu.Unlock()
	if script == nil {
		return nil
	}
	return script(ctx, op)
}

func (n *node) count(op string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls[op]
}

// Scripts.
func hangs(ctx context.Context, _ string) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func fails(err error) func(context.Context, string) error {
	return func(context.Context, string) error { return err }
}

var (
	errAway    = api.Errorf(api.CodeUnavailable, "it cannot be reached")
	errFull    = api.Errorf(api.CodeNoRoom, "the chunk store is full")
	errCorrupt = fmt.Errorf("rotten: %w", chunkstore.ErrCorrupt)
)

// Put implements Peers.
func (w *world) Put(ctx context.Context, id string, o chunkstore.PutOptions, chunks ...chunkstore.Chunk) error {
	if err := w.nodes[id].enter(ctx, "put"); err != nil {
		return err
	}
	return w.nodes[id].chunks.Put(ctx, o, chunks...)
}

// Get implements Peers.
func (w *world) Get(ctx context.Context, id, digest string, buf []byte) ([]byte, error) {
	if err := w.nodes[id].enter(ctx, "get"); err != nil {
		return nil, err
	}
	return w.nodes[id].chunks.Get(digest, buf)
}

// Ref implements Peers.
func (w *world) Ref(ctx context.Context, id, owner string, digests ...string) ([]string, error) {
	if err := w.nodes[id].enter(ctx, "ref"); err != nil {
		return nil, err
	}
	return w.nodes[id].chunks.Ref(owner, digests...)
}

// holders are the nodes that have a chunk.
func (w *world) holders(digest string) (out []string) {
	w.t.Helper()
	for id, n := range w.nodes {
		has, err := n.chunks.Has(digest)
		if err != nil {
			w.t.Fatal(err)
		}
		if has {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// metaStore is the real metadata without Raft, and with scripts.
type metaStore struct {
	t testing.TB

	mu     sync.Mutex
	store  *objects.Store
	index  uint64
	before func(meta.Command) error // what fails before anything was done
	after  func(meta.Command) error // what fails although it was done
}

func newMetaStore(t testing.TB) *metaStore {
	t.Helper()
	s, err := objects.Open(vfs.NewMem(), "objects", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &metaStore{t: t, store: s}
}

func (m *metaStore) script(before, after func(meta.Command) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before, m.after = before, after
}

// Apply implements Meta.
func (m *metaStore) Apply(_ context.Context, cmds ...meta.Command) (*meta.Results, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.before != nil {
		if err := m.before(cmds[0]); err != nil {
			return nil, err
		}
	}
	m.index++
	results, err := m.store.Apply(m.index, cmds)
	if err != nil {
		m.t.Error(err)
	}
	if m.after != nil {
		err = errors.Join(err, m.after(cmds[0]))
	}
	return &meta.Results{Index: m.index, Results: results}, err
}

// Read implements Meta.
func (m *metaStore) Read(_ context.Context, q meta.Query) (*meta.Answer, error) {
	v := m.store.View()
	defer v.Close()
	return objects.Ask(v, q)
}

// bucket makes a bucket.
func (w *world) bucket(name string, change func(*api.Bucket)) {
	w.t.Helper()
	b := api.Bucket{Name: name}
	if change != nil {
		change(&b)
	}
	w.do(meta.Command{CreateBucket: &b})
}

func (w *world) do(c meta.Command) meta.Result {
	w.t.Helper()
	c.At = time.Now()
	results, err := w.meta.Apply(context.Background(), c)
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := results.First()
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// sessions is how many of the sessions that were opened live.
func (w *world) sessions(ids ...string) int {
	w.t.Helper()
	a, err := w.meta.Read(context.Background(), meta.Query{Sessions: ids})
	if err != nil {
		w.t.Fatal(err)
	}
	return len(a.Sessions)
}

func noise(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), 1})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

func at(key string, size int64) PutObject { return PutObject{Bucket: "assets", Key: key, Size: size} }

func mustPut(t testing.TB, g *Gateway, key string, data []byte) *api.Object {
	t.Helper()
	o, err := g.Put(t.Context(), at(key, int64(len(data))), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// content reads a range of an object.
func content(ctx context.Context, g *Gateway, key string, offset, n int64) ([]byte, error) {
	r, err := g.Open(ctx, "assets", key)
	if err != nil {
		return nil, err
	}
	s := r.Range(ctx, offset, n)
	defer s.Close()
	return io.ReadAll(s)
}

func mustGet(t testing.TB, g *Gateway, key string, want []byte) {
	t.Helper()
	got, err := content(t.Context(), g, key, 0, -1)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s: %d bytes, want %d: %v", key, len(got), len(want), err)
	}
}

func mustFail(t testing.TB, err error, code api.Code, words ...string) {
	t.Helper()
	if api.CodeOf(err) != code {
		t.Fatalf("%v, want %s", err, code)
	}
	for _, word := range words {
		if !bytes.Contains([]byte(err.Error()), []byte(word)) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}

func updateBucket(b api.Bucket) meta.Command {
	return meta.Command{UpdateBucket: &meta.UpdateBucket{Bucket: b}}
}
