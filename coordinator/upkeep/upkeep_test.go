package upkeep

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/place"
	"github.com/cloudless/cloudless/coordinator/objects"
)

func inBubble(t *testing.T, nodes int, f func(w *world)) {
	synctest.Test(t, func(t *testing.T) { f(newWorld(t, nodes)) })
}

func wantEvents(t *testing.T, w *world, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, w.told()); diff != "" {
		t.Error(diff)
	}
}

// A node that is lost: what it had is copied to others, and dropped again when it comes back.
func TestALostNode(t *testing.T) {
	inBubble(t, 4, func(w *world) {
		w.store(400, 3)
		u := w.lead()
		time.Sleep(10 * time.Second)
		if w.made()+w.dropped() > 0 {
			t.Fatalf("%d copies and %d drops, though all was well", w.made(), w.dropped())
		}
		w.set("n1", api.StoreLost)
		w.settle(time.Minute)
		time.Sleep(time.Second)
		wantEvents(t, w, api.EventStoreShort, api.EventStoreRepaired)
		r := u.Report()
		if r.Short+r.Missing+r.Misplaced+r.Lost+r.Waiting+r.Copying != 0 || r.Chunks != 400 || r.Copied != int64(w.made()) || !r.ShortAt.IsZero() || r.Looking {
			t.Errorf("%+v", r)
		}
		w.set("n1", api.StoreReady)
		w.settle(time.Minute)
		if w.dropped() != w.made() {
			t.Errorf("%d copies were made, %d dropped", w.made(), w.dropped())
		}
		time.Sleep(time.Second)
		if r := u.Report(); r.Misplaced != 0 || r.Dropped != int64(w.dropped()) {
			t.Errorf("%+v", r)
		}
		wantEvents(t, w)
	})
}

// What is nearest to being lost is in the first wave, whatever else is to be done.
func TestTheMostUrgentComesFirst(t *testing.T) {
	inBubble(t, 4, func(w *world) {
		w.store(1_500, 3)
		urgent := slices.DeleteFunc(w.store(40, 2), func(d string) bool { return !w.nodes["n1"].chunks[d] })
		w.set("n1", api.StoreLost)
		w.lead()
		for slices.ContainsFunc(urgent, func(d string) bool { return len(w.holders(d)) < 2 }) {
			time.Sleep(time.Millisecond)
		}
		if all := w.misplaced(); len(urgent) == 0 || w.made() > waveChunks || all < 500 {
			t.Errorf("%d chunks had one copy left; when they had two, %d copies had been made and %d chunks were not done", len(urgent), w.made(), all)
		}
		w.settle(time.Minute)
	})
}

// A node that drains is emptied, and then it is told once that it is safe to remove; not before.
func TestDrain(t *testing.T) {
	inBubble(t, 4, func(w *world) {
		w.store(300, 3)
		u := w.lead()
		w.set("n2", api.StoreDraining)
		for w.on("n2") > 0 {
			if n := u.Report().Nodes; len(n) == 4 && n[2].SafeToRemove {
				t.Fatalf("safe to remove with %d chunks: %+v", w.on("n2"), n[2])
			}
			time.Sleep(10 * time.Millisecond)
		}
		w.settle(time.Minute)
		time.Sleep(time.Second)
		if n := u.Report().Nodes[2]; !n.SafeToRemove || n.Node != "n2" || n.Name != "name-n2" || n.Chunks+n.Lose+n.Gain != 0 {
			t.Errorf("%+v", n)
		}
		u.Look()
		time.Sleep(time.Minute)
		wantEvents(t, w, api.EventStoreDrained)
		w.set("n2", api.StoreReady)
		w.settle(time.Minute)
		w.set("n2", api.StoreDraining)
		w.settle(time.Minute)
		time.Sleep(time.Second)
		wantEvents(t, w, api.EventStoreDrained)
		w.remove("n2")
		time.Sleep(time.Minute)
		w.settle(0)
		wantEvents(t, w)
	})
}

// What an upload pins on a draining node stays there, and the node is not safe to remove, until the pin is gone.
func TestAPinnedCopyStays(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		w.store(50, 1)
		u := w.lead()
		time.Sleep(time.Second)
		w.mu.Lock()
		pinned := ""
		for d := range w.nodes["n0"].chunks {
			pinned = d
		}
		w.nodes["n0"].pinned[pinned] = true
		w.mu.Unlock()
		w.set("n0", api.StoreDraining)
		time.Sleep(time.Minute)
		if r := u.Report(); w.on("n0") != 1 || r.Nodes[0].SafeToRemove || r.Trouble == "" || r.Failed > 0 {
			t.Errorf("%d chunks, %+v", w.on("n0"), r)
		}
		w.mu.Lock()
		w.nodes["n0"].pinned = nil
		w.mu.Unlock()
		w.settle(lastRetry)
		time.Sleep(time.Second)
		wantEvents(t, w, api.EventStoreDrained)
	})
}

// What was too much when it was planned, and is wanted by an object that was put since, is not dropped.
func TestACopyThatIsWantedMeanwhileStays(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		d := w.store(1, 1)[0]
		for _, n := range w.nodes {
			n.chunks[d] = true
		}
		u := w.keeper()
		f, err := u.survey(w.t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.refs[0].R = 3
		if _, err := u.wave(w.t.Context(), keyOf(f.named), f.work.sorted()); w.dropped() != 0 || !errors.Is(err, errMoved) {
			t.Errorf("%d copies were dropped: %v", w.dropped(), err)
		}
		w.refs[0].R = 1
		if _, err := u.wave(w.t.Context(), keyOf(f.named), f.work.sorted()); w.dropped() != 2 || err != nil {
			t.Errorf("%d copies were dropped: %v", w.dropped(), err)
		}
	})
}

// A node that joins is given what it wins, and its effective copies: a shortfall shows until nodes join.
func TestJoin(t *testing.T) {
	inBubble(t, 1, func(w *world) {
		w.store(200, 3)
		u := w.lead()
		time.Sleep(time.Second)
		if r := u.Report(); r.Awaited != 400 || r.Short != 0 {
			t.Errorf("one node: %+v", r)
		}
		w.join("n1", "")
		w.settle(time.Minute)
		time.Sleep(time.Second)
		if r := u.Report(); r.Awaited != 200 || r.Short != 0 || w.made() != 200 || w.dropped() != 0 {
			t.Errorf("two nodes: %+v", r)
		}
		w.join("n2", "")
		w.join("n3", "")
		w.settle(time.Minute)
		time.Sleep(time.Second)
		if r := u.Report(); r.Awaited != 0 || r.Short != 0 || r.Nodes[3].Chunks < 100 || w.dropped() == 0 || r.Dropped != int64(w.dropped()) {
			t.Errorf("four nodes: %+v", r)
		}
	})
}

// While another zone has room, no zone has two copies of a chunk.
func TestZones(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		for _, id := range []string{"a1", "a2", "a3"} {
			w.join(id, "a")
		}
		w.store(200, 2)
		w.lead()
		w.join("b1", "b")
		w.settle(time.Minute)
		for _, r := range w.refs {
			if at := w.holders(r.Name()); len(at) != 2 || at[1] != "b1" {
				t.Errorf("%s is on %v", r.Name(), at)
			}
		}
	})
}

// Chunks that no node has are told of and not forgotten; they are back when a node is.
func TestLostChunks(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		w.store(90, 1)
		gone := w.on("n1")
		u := w.lead()
		w.set("n1", api.StoreLost)
		time.Sleep(2 * time.Hour)
		if r := u.Report(); r.Lost != int64(gone) || len(r.LostSome) != maxLostShown || r.Short != 0 {
			t.Errorf("%d chunks are lost: %+v", gone, r)
		}
		wantEvents(t, w, api.EventChunkLost)
		for range 3 {
			u.Hint(u.Report().LostSome...) // as readers do; it is no news
			time.Sleep(time.Minute)
		}
		wantEvents(t, w)
		w.set("n1", api.StoreReady)
		time.Sleep(time.Minute)
		if r := u.Report(); r.Lost != 0 || len(r.LostSome) != 0 {
			t.Errorf("%+v", r)
		}
		wantEvents(t, w, api.EventStoreRepaired)
	})
}

// A node that is a member and does not tell what it has: at first nothing is planned, for nobody knows
// what it has; then it counts as lost.
func TestASilentNode(t *testing.T) {
	inBubble(t, 4, func(w *world) {
		w.store(100, 3)
		u := w.lead()
		time.Sleep(time.Second)
		w.down("n3", true)
		u.Look()
		time.Sleep(patience - time.Second)
		if r := u.Report(); w.made() != 0 || r.Trouble == "" {
			t.Errorf("%d copies, %+v", w.made(), r)
		}
		time.Sleep(2 * time.Minute)
		if r := u.Report(); w.made() != w.on("n3") || r.Trouble != "" || r.Nodes[3].Silent == "" || r.Nodes[2].Silent != "" {
			t.Errorf("%+v", r)
		}
		wantEvents(t, w, api.EventStoreShort, api.EventStoreRepaired)
		w.down("n3", false)
		u.Look()
		w.settle(time.Minute)
		if r := u.Report(); w.dropped() != w.made() || r.Nodes[3].Silent != "" {
			t.Errorf("%d copies and %d drops, %+v", w.made(), w.dropped(), r)
		}
	})
}

// A chunk that is told to be short has its copies at once, though it may be named only a while later.
func TestHints(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		names := w.store(2, 3)
		w.mu.Lock()
		late := w.refs[slices.IndexFunc(w.refs, func(r objects.Ref) bool { return r.Name() == names[1] })]
		w.refs = slices.DeleteFunc(w.refs, func(r objects.Ref) bool { return r == late })
		for _, d := range names {
			delete(w.nodes["n1"].chunks, d)
		}
		w.mu.Unlock()
		u := w.lead()
		time.Sleep(time.Second) // the first look sees the one that is named
		w.mu.Lock()
		delete(w.nodes["n1"].chunks, names[0])
		w.mu.Unlock()
		u.Hint(names[0], names[1], "sha256:none")
		time.Sleep(time.Second)
		if at := w.holders(names[0]); len(at) != 3 {
			t.Errorf("a second later it is on %v", at)
		}
		time.Sleep(5 * time.Minute)
		w.mu.Lock()
		w.refs = append(w.refs, late)
		w.mu.Unlock()
		time.Sleep(2 * hintPause)
		if at := w.holders(names[1]); len(at) != 3 {
			t.Errorf("named since %v it is on %v", 2*hintPause, at)
		}
		if _, kept := hinted(u)["sha256:none"]; !kept {
			t.Error("a hint of a chunk that nothing names was forgotten")
		}
		time.Sleep(api.SessionLifetime)
		if left := hinted(u); len(left) != 0 {
			t.Errorf("hints are kept: %v", left)
		}
		wantEvents(t, w)
	})
}

func hinted(u *Upkeep) map[string]hint {
	u.hints.mu.Lock()
	defer u.hints.mu.Unlock()
	return maps.Clone(u.hints.chunks)
}

func TestHintsAreBounded(t *testing.T) {
	h, now := newHints(), time.Now()
	var many []string
	for i := range maxHints {
		many = append(many, fmt.Sprint(i))
	}
	if !h.add(many[:maxHints-1], now) || !h.add(many, now) || !h.add(many[:1], now) || h.add([]string{"one more"}, now) {
		t.Errorf("%d hints are kept of at most %d", len(h.chunks), maxHints)
	}
	<-h.due
	if got := h.take(now); len(got) != hintBatch {
		t.Errorf("took %d", len(got))
	}
	<-h.due
}

func TestTheWorklistKeepsTheMostUrgent(t *testing.T) {
	for _, n := range []int{0, 1, maxWork, maxWork + 1, 3 * maxWork} {
		var w worklist
		for i := range n {
			w.add(task{Repair: place.Repair{Digest: fmt.Sprintf("%06d", n-i), Good: 1 + i%2, Want: 3}})
		}
		got := w.sorted()
		if len(got) != min(n, maxWork) || w.more != (n > maxWork) {
			t.Errorf("of %d tasks %d are kept, more: %v", n, len(got), w.more)
		}
		for i := 1; i < len(got); i++ {
			if got[i-1].Compare(got[i].Repair) >= 0 || n > 2*maxWork && got[i].Good != 1 {
				t.Fatalf("of %d: %+v comes before %+v", n, got[i-1], got[i])
			}
		}
	}
}

func (w *world) holders(digest string) (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, n := range w.nodes {
		if !n.down && n.chunks[digest] {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// Hints that fail without end do not put off the look at all chunks that they cause.
func TestHintsThatFailDoNotHoldUpTheNextLook(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		names := w.store(30, 2)
		u := w.lead()
		time.Sleep(time.Minute)
		w.down("n2", true)
		for range 60 {
			u.Hint(names...)
			time.Sleep(time.Second)
		}
		if r := u.Report(); r.Trouble == "" { // of a look that was made meanwhile
			t.Errorf("%+v", r)
		}
	})
}
