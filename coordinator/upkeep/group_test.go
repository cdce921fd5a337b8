package upkeep

import (
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore/erasure"
	"github.com/cloudless/cloudless/chunkstore/gateway"
	"github.com/cloudless/cloudless/chunkstore/place"
	"github.com/cloudless/cloudless/chunkstore/split"
	"github.com/cloudless/cloudless/coordinator/objects"
)

// ref is a chunk's row, with the lock held.
func (w *world) ref(chunk [32]byte) *objects.Ref {
	for i := range w.refs {
		if w.refs[i].Digest == chunk {
			return &w.refs[i]
		}
	}
	return nil
}

// Seal does what the gateway and the metadata do together.
func (w *world) Seal(ctx context.Context, chunks [erasure.Data]split.Chunk) error {
	if _, err := w.reach(ctx, w.members[0].ID); err != nil {
		return err
	}
	defer w.mu.Unlock()
	group := &meta.Group{}
	for _, c := range chunks {
		if r := w.ref(c.Digest); r == nil || !r.Cold || r.Grouped() {
			return api.Errorf(api.CodeConflict, "chunk %s is in a group, or hot", c.Name())
		}
		group.Shards = append(group.Shards, meta.Shard{Digest: c.Digest[:], Bytes: c.Bytes})
	}
	for range erasure.Parity {
		sum := sha256.Sum256(fmt.Append(nil, "parity", len(w.refs)))
		w.refs = append(w.refs, objects.Ref{Digest: sum, Bytes: chunkBytes})
		group.Shards = append(group.Shards, meta.Shard{Digest: sum[:], Bytes: chunkBytes})
	}
	for i, s := range group.Shards {
		r := w.ref([32]byte(s.Digest))
		r.R, r.Group, r.Shard = 1, group.Sum(), i
		if i >= erasure.Data {
			w.nodes[place.Seat(group.ID(), i, gateway.PlaceMembers(w.members))].chunks[r.Name()] = true
		}
	}
	w.sort()
	w.groups++
	return nil
}

// Rebuild needs as many of the others as the code does.
func (w *world) Rebuild(ctx context.Context, id string, c split.Chunk) error {
	n, err := w.reach(ctx, id)
	if err != nil {
		return err
	}
	defer w.mu.Unlock()
	have := 0
	for _, r := range w.refs {
		if r.Group == w.ref(c.Digest).Group && r.Digest != c.Digest && w.readable(r.Name()) {
			have++
		}
	}
	if have < erasure.Data {
		return fmt.Errorf("%w: %d", gateway.ErrGroupLost, have)
	}
	n.chunks[c.Name()] = true
	delete(n.lies, c.Name())
	return nil
}

func (w *world) readable(digest string) bool {
	for _, n := range w.nodes {
		if !n.down && n.chunks[digest] {
			return true
		}
	}
	return false
}

// storeCold stores chunks of cold objects.
func (w *world) storeCold(n int) {
	cold := set(w.store(n, 3))
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.refs {
		w.refs[i].Cold = w.refs[i].Cold || cold[w.refs[i].Name()]
	}
}

// held is how many copies there are.
func (w *world) held() (copies int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.nodes {
		copies += len(n.chunks)
	}
	return copies
}

// Cold chunks go into groups when six nodes take chunks, and are then kept once; what is too small, or hot,
// or left over stays in copies.
func TestColdChunksGoIntoGroups(t *testing.T) {
	inBubble(t, 6, func(w *world) {
		w.storeCold(42)
		w.store(10, 3)
		w.refs[0].Cold, w.refs[0].Bytes = true, erasure.MinBytes-1
		small := w.refs[0]
		u := w.lead()
		time.Sleep(10 * time.Minute)
		w.settle(0)
		if got := w.ref(small.Digest); got.Grouped() {
			t.Error("a small chunk is in a group")
		}
		grouped := 0
		for _, r := range w.refs {
			if r.Grouped() {
				grouped++
			}
			if r.Grouped() && r.Names > 0 && !r.Cold {
				t.Error("a hot chunk is in a group")
			}
		}
		if w.groups != 10 || grouped != 60 {
			t.Errorf("%d groups of %d chunks, want 10 of 60", w.groups, grouped)
		}
		if want := 60 + 3*(len(w.refs)-60); w.held() != want {
			t.Errorf("%d copies, want %d", w.held(), want)
		}
		if r := u.Report(); r.Short+r.Lost+r.Misplaced != 0 || r.Trouble != "" {
			t.Errorf("%+v", r)
		}
	})
}

// With fewer than six nodes that take chunks nothing is put into groups.
func TestFiveNodesMakeNoGroups(t *testing.T) {
	inBubble(t, 6, func(w *world) {
		w.set("n5", api.StoreFull)
		w.storeCold(40)
		w.lead()
		time.Sleep(3 * time.Hour)
		if w.groups != 0 {
			t.Errorf("%d groups", w.groups)
		}
		w.set("n5", api.StoreReady)
		time.Sleep(10 * time.Minute)
		if w.groups != 10 {
			t.Errorf("%d groups with the sixth, want 10", w.groups)
		}
	})
}

// What one or two lost nodes had is made anew on the others, and taken away there when they come back.
// With three of six lost the chunks are lost, which is told, until one is back.
func TestShardsAreMadeAnew(t *testing.T) {
	inBubble(t, 6, func(w *world) {
		w.storeCold(40)
		u := w.lead()
		time.Sleep(10 * time.Minute)
		w.settle(0)
		w.set("n1", api.StoreLost)
		w.set("n2", api.StoreLost)
		time.Sleep(10 * time.Minute)
		w.settle(0)
		if r := u.Report(); r.Short+r.Lost != 0 || r.Copied == 0 {
			t.Errorf("without two nodes: %+v", r)
		}
		w.set("n1", api.StoreReady)
		w.set("n2", api.StoreReady)
		time.Sleep(10 * time.Minute)
		w.settle(0)
		if w.held() != 60 {
			t.Errorf("%d copies, want 60", w.held())
		}
		w.told()
		for _, id := range []string{"n1", "n2", "n3"} {
			w.set(id, api.StoreLost)
		}
		time.Sleep(10 * time.Minute)
		if r := u.Report(); r.Lost != 30 || len(r.LostSome) == 0 {
			t.Errorf("without three nodes: %+v", r)
		}
		w.set("n3", api.StoreReady)
		time.Sleep(10 * time.Minute)
		w.settle(0)
		if r := u.Report(); r.Short+r.Lost != 0 {
			t.Errorf("with one of them back: %+v", r)
		}
	})
}
