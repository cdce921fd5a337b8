package upkeep

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/chunkstore/gateway"
	"github.com/cloudless/cloudless/chunkstore/place"
	"github.com/cloudless/cloudless/coordinator/objects"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/internal/telemetry"
)

// world is nodes and what the metadata names, in a bubble.
type world struct {
	t   *testing.T
	rng *rand.Rand

	mu      sync.Mutex
	members []api.StoreMember
	changed time.Time // when a member did last
	nodes   map[string]*node
	refs    []objects.Ref // in the order of digests
	events  []string
	copies  int // made by Copy
	drops   int
	broken  map[pair]bool // two nodes that do not reach each other
	groups  int
}

type node struct {
	chunks map[string]bool
	lies   map[string]bool // it lists them and does not have them
	pinned map[string]bool
	rotted map[string]time.Time // when it lost a copy
	down   bool
}

const (
	chunkBytes = 1 << 20
	moment     = 10 * time.Millisecond // between the last question and what is done about it
)

func newWorld(t *testing.T, nodes int) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(1, 2)), nodes: map[string]*node{}, broken: map[pair]bool{}}
	for i := range nodes {
		w.join(fmt.Sprint("n", i), "")
	}
	return w
}

func (w *world) join(id, zone string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changed = time.Now()
	w.members = append(w.members, api.StoreMember{ID: id, Name: "name-" + id, Zone: zone, Weight: 100, State: api.StoreReady})
	w.nodes[id] = &node{chunks: map[string]bool{}, lies: map[string]bool{}, pinned: map[string]bool{}, rotted: map[string]time.Time{}}
}

func (w *world) set(id string, state api.StoreMemberState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changed = time.Now()
	for i := range w.members {
		if w.members[i].ID == id {
			w.members[i].State = state
		}
	}
	w.nodes[id].down = state == api.StoreLost
}

func (w *world) down(id string, down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes[id].down = down
}

func (w *world) remove(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.members = slices.DeleteFunc(w.members, func(m api.StoreMember) bool { return m.ID == id })
	delete(w.nodes, id)
}

// store names n more chunks, which are where they belong.
func (w *world) store(n, r int) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for range n {
		ref := objects.Ref{Digest: sha256.Sum256(fmt.Append(nil, len(w.refs))), Bytes: chunkBytes, Names: 1, R: r}
		w.refs = append(w.refs, ref)
		names = append(names, ref.Name())
		at := place.Choose(ref.Name(), gateway.PlaceMembers(w.members), r)
		if len(at) == 0 { // nobody takes it now
			at = []string{w.members[0].ID}
		}
		for _, id := range at {
			w.nodes[id].chunks[ref.Name()] = true
		}
	}
	w.sort()
	return names
}

func (w *world) sort() {
	slices.SortFunc(w.refs, func(a, b objects.Ref) int { return bytes.Compare(a.Digest[:], b.Digest[:]) })
}

// Members, Referenced and Reference are the coordinators' side.
func (w *world) Members() api.StoreMembers {
	w.mu.Lock()
	defer w.mu.Unlock()
	return api.StoreMembers{Members: slices.Clone(w.members)}
}

func (w *world) Referenced(after [32]byte, limit int) (out []objects.Ref, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.refs {
		if len(out) < limit && (after == [32]byte{} || bytes.Compare(r.Digest[:], after[:]) > 0) {
			out = append(out, r)
		}
	}
	return out, nil
}

func (w *world) Reference(chunk [32]byte) (objects.Ref, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.refs {
		if r.Digest == chunk {
			return r, nil
		}
	}
	return objects.Ref{Digest: chunk}, nil
}

// reach takes the time of a call and gives a node that answers, with the lock held.
func (w *world) reach(ctx context.Context, ids ...string) (*node, error) {
	if err := run.Sleep(ctx, time.Millisecond); err != nil {
		return nil, err
	}
	w.mu.Lock()
	for _, id := range ids {
		if n, ok := w.nodes[id]; !ok || n.down {
			w.mu.Unlock()
			<-ctx.Done() // as a node that has no power does
			return nil, ctx.Err()
		}
	}
	return w.nodes[ids[0]], nil
}

func (w *world) List(ctx context.Context, id, after string, limit int) ([]chunkstore.ChunkInfo, error) {
	n, err := w.reach(ctx, id)
	if err != nil {
		return nil, err
	}
	defer w.mu.Unlock()
	var out []chunkstore.ChunkInfo
	all := maps.Clone(n.chunks)
	maps.Copy(all, n.lies)
	for _, d := range slices.Sorted(maps.Keys(all)) {
		if d > after && len(out) < limit {
			out = append(out, chunkstore.ChunkInfo{Digest: d, Bytes: chunkBytes})
		}
	}
	return out, nil
}

func (w *world) Missing(ctx context.Context, id string, digests ...string) (out []string, err error) {
	n, err := w.reach(ctx, id)
	if err != nil {
		return nil, err
	}
	defer w.mu.Unlock()
	for _, d := range digests {
		if !n.chunks[d] {
			out = append(out, d)
		}
	}
	return out, nil
}

func (w *world) Copy(ctx context.Context, to, from string, digests ...string) (done []string, err error) {
	for _, d := range digests {
		n, gone := w.reach(ctx, to, from)
		if gone != nil {
			return done, gone
		}
		if w.nodes[from].chunks[d] && !w.broken[pair{to, from}] {
			n.chunks[d] = true
			delete(n.lies, d)
			done = append(done, d)
			w.copies++
		} else {
			err = fmt.Errorf("%s did not get %s from %s", to, d, from)
		}
		w.mu.Unlock()
	}
	return done, err
}

// Drop checks what must hold whenever a copy is dropped.
func (w *world) Drop(ctx context.Context, id string, digests ...string) (kept []string, err error) {
	n, err := w.reach(ctx, id)
	if err != nil {
		return nil, err
	}
	defer w.mu.Unlock()
	for _, d := range digests {
		if n.pinned[d] {
			kept = append(kept, d)
			continue
		}
		delete(n.chunks, d)
		delete(n.lies, d)
		w.drops++
		w.checkDrop(id, d)
	}
	return kept, nil
}

// checkDrop sees to it that after a drop a chunk has what it is to have on nodes that are not to be
// emptied, or a copy on each of them. Copies that have rotted since the node was asked, a moment ago,
// count, and so does how the members were then.
func (w *world) checkDrop(from, digest string) {
	if time.Since(w.changed) < moment {
		return
	}
	have, could := 0, 0
	for _, m := range w.members {
		if m.State == api.StoreDraining {
			continue
		}
		n := w.nodes[m.ID]
		if could++; n.chunks[digest] || time.Since(n.rotted[digest]) < moment {
			have++
		}
	}
	i := slices.IndexFunc(w.refs, func(r objects.Ref) bool { return r.Name() == digest })
	if want := place.Copies(w.refs[i].R, could); have < max(1, want) {
		w.t.Errorf("dropped a copy of %s from %s: %d are left, %d are wanted", digest, from, have, want)
	}
}

func (w *world) event(kind string, _ api.Severity, resource, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t.Logf("%v %s %s: %s", time.Now().Format("15:04:05.000"), kind, resource, message)
	w.events = append(w.events, kind)
}

// told gives the events since it was asked last.
func (w *world) told() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.events
	w.events = nil
	return out
}

// keeper is upkeep that does not run yet.
func (w *world) keeper() *Upkeep {
	tel, err := telemetry.New(telemetry.Config{Role: "coordinator", LogWriter: io.Discard})
	if err != nil {
		w.t.Fatal(err)
	}
	return New(Config{Nodes: w, Groups: w, Refs: w, Members: w.Members, Event: w.event, Tel: tel.Metrics, Log: zerolog.Nop()})
}

// lead runs upkeep until the test ends.
func (w *world) lead() *Upkeep {
	u := w.keeper()
	ctx, cancel := context.WithCancel(context.Background())
	g := run.New(ctx)
	g.Go("upkeep", u.Run)
	w.t.Cleanup(func() {
		cancel()
		if err := g.Wait(); err != nil {
			w.t.Error(err)
		}
	})
	return u
}

// placed says of how many chunks the copies are not exactly where they belong.
func (w *world) misplaced() (wrong int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	members := gateway.PlaceMembers(w.members)
	var chunks []place.Chunk
	for _, r := range w.refs {
		c := chunkOf(r)
		for _, m := range w.members {
			if n := w.nodes[m.ID]; !n.down && n.chunks[c.Digest] {
				c.Holders = append(c.Holders, m.ID)
			}
		}
		chunks = append(chunks, c)
	}
	for _, r := range place.Plan(members, chunks) {
		if len(r.Copy)+len(r.Drop) > 0 {
			wrong++
		}
	}
	return wrong
}

// settle waits until every chunk is where it belongs, for at most a time.
func (w *world) settle(within time.Duration) time.Duration {
	w.t.Helper()
	began := time.Now()
	for w.misplaced() > 0 {
		if time.Since(began) > within {
			w.t.Fatalf("after %v %d chunks are not where they belong", within, w.misplaced())
		}
		time.Sleep(100 * time.Millisecond)
	}
	return time.Since(began)
}

// on is how many chunks a node has, made how many copies were made, dropped how many were dropped.
func (w *world) on(id string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.nodes[id].chunks)
}

func (w *world) made() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.copies
}

func (w *world) dropped() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.drops
}
