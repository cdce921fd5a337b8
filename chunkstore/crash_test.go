package chunkstore

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// crashSeeds are how many histories are cut off by a power cut.
func crashSeeds() uint64 {
	if os.Getenv("CLOUDLESS_TEST_LONG") != "" {
		return 500
	}
	return 50
}

// history is a random life of a store, with what it has acknowledged so far.
type history struct {
	t     *testing.T
	rng   *rand.Rand
	c     *Chunks
	data  [][]byte // what is put
	known map[string][]byte

	mu    sync.Mutex      // Pebble writes in the background too: a power cut sees disk and maps at one moment
	acked map[string]bool // a digest is here and pinned by "o", as acknowledged
	doubt map[string]bool // a change of it is under way or failed: either state is right
}

func newHistory(t *testing.T, rng *rand.Rand) *history {
	h := &history{t: t, rng: rng, acked: map[string]bool{}, doubt: map[string]bool{}, known: map[string][]byte{}}
	for i := range 12 {
		size := []int{1, 3000, inlineBytes, inlineBytes + 1, 150_000, 300_000}[rng.IntN(6)]
		data := noise(rng.Uint64(), size)
		if i%3 == 0 {
			data = text(rng.Uint64(), size)
		}
		h.data = append(h.data, data)
		h.known[DigestOf(data)] = data
	}
	return h
}

// step does one random thing. While it is under way all that it touches is in doubt.
func (h *history) step() error {
	switch h.rng.IntN(10) {
	default:
		return h.put(1 + h.rng.IntN(3))
	case 0, 1, 2:
		return h.remove(h.data[h.rng.IntN(len(h.data))])
	case 3:
		_, err := h.c.Compact(h.t.Context())
		return err
	case 4:
		if err := h.c.Close(); err != nil {
			return err
		}
		c, err := Open(h.c.fs, "chunks", h.c.options)
		if err == nil {
			h.c = c
		}
		return err
	}
}

func (h *history) put(n int) error {
	var chunks []Chunk
	for range n {
		ch := chunkOf(h.data[h.rng.IntN(len(h.data))])
		chunks = append(chunks, ch)
		h.set(ch.Digest, h.acked[ch.Digest], !h.acked[ch.Digest])
	}
	if err := h.c.Put(h.t.Context(), PutOptions{Owner: "o"}, chunks...); err != nil {
		return err
	}
	for _, ch := range chunks {
		h.set(ch.Digest, true, false)
	}
	return nil
}

func (h *history) remove(data []byte) error {
	d := DigestOf(data)
	h.set(d, false, true)
	if err := h.c.Unref(h.t.Context(), "o", d); err != nil {
		return err
	}
	if err := h.c.Delete(d); err != nil {
		return err
	}
	h.set(d, false, false)
	return nil
}

func (h *history) set(digest string, acked, doubt bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.acked[digest], h.doubt[digest] = acked, doubt
}

// check opens what is left of a disk and compares it with what was acknowledged.
func (h *history) check(fs vfs.FS, acked, doubt map[string]bool) error {
	c, err := Open(fs, "chunks", small)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer c.Close()
	for d, data := range h.known {
		got, err := c.Get(d, nil)
		owners, ownersErr := c.Owners(d, 2)
		switch {
		case ownersErr != nil:
			return ownersErr
		case err != nil && !isMissing(err):
			return fmt.Errorf("what is there must be whole: %w", err)
		case err == nil && !bytes.Equal(got, data):
			return fmt.Errorf("%s has other bytes", d)
		case doubt[d]:
			continue
		case acked[d] && (err != nil || len(owners) != 1):
			return errors.Join(fmt.Errorf("acknowledged and lost, owners %q", owners), err)
		case !acked[d] && len(owners) > 0:
			return fmt.Errorf("%s is pinned by %q", d, owners)
		}
	}
	return consistent(c)
}

// consistent compares the totals and the segments with the chunks that are listed.
func consistent(c *Chunks) error {
	var chunks, raw, stored int64
	live := map[uint64]int64{}
	for after := ""; ; {
		list, err := c.List(after, MaxPage)
		if err != nil {
			return err
		}
		for _, info := range list {
			chunks, raw, stored, after = chunks+1, raw+info.Bytes, stored+info.StoredBytes, info.Digest
			k, _ := parseDigest(info.Digest)
			e, err := c.lookup(k)
			if err != nil {
				return err
			}
			if !e.inline {
				live[e.segment] += e.bytes()
			}
		}
		if len(list) < MaxPage {
			break
		}
	}
	s := c.Stats()
	if s.Chunks != chunks || s.RawBytes != raw || s.StoredBytes != stored || s.DeadBytes < 0 {
		return fmt.Errorf("stats %+v of %d chunks with %d bytes, %d stored", s, chunks, raw, stored)
	}
	for id, seg := range c.segments {
		if seg.live != live[id] || seg.live > seg.size {
			return fmt.Errorf("segment %d: %+v, of its chunks %d bytes live", id, seg, live[id])
		}
	}
	return nil
}

// cut is a disk as a power cut has left it, and what had been acknowledged by then.
type cut struct {
	fs           vfs.FS
	acked, doubt map[string]bool
}

// play runs a history of n steps and cuts the power before the writes that cutNow names.
func play(t *testing.T, rng *rand.Rand, n int, cutNow func(write int) bool) (*history, []cut) {
	t.Helper()
	mem := vfs.NewCrashableMem()
	d := newFaulty(mem)
	h := newHistory(t, rng)
	var cuts []cut
	writes := 0
	d.before = func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if writes++; cutNow(writes) {
			percent := []int{0, 50, 90, 100}[writes%4]
			fs := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(uint64(writes), 1))})
			cuts = append(cuts, cut{fs, maps.Clone(h.acked), maps.Clone(h.doubt)})
		}
	}
	var err error
	if h.c, err = Open(d, "chunks", small); err != nil {
		t.Fatal(err)
	}
	for range n {
		if err := h.step(); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.c.Close(); err != nil {
		t.Fatal(err)
	}
	return h, cuts
}

func checkCuts(t *testing.T, h *history, cuts []cut) {
	t.Helper()
	for i, cut := range cuts {
		if err := h.check(cut.fs, cut.acked, cut.doubt); err != nil {
			t.Fatalf("power cut %d of %d: %v", i, len(cuts), err)
		}
	}
}

// One history, the power cut before every single write of it.
func TestAPowerCutAtEveryWrite(t *testing.T) {
	h, cuts := play(t, rand.New(rand.NewPCG(7, 7)), 30, func(int) bool { return true })
	if len(cuts) < 150 {
		t.Fatalf("only %d writes", len(cuts))
	}
	checkCuts(t, h, cuts)
}

// Many histories, each with a few power cuts: nothing acknowledged is lost, and nothing is half there.
func TestPowerCutsLoseNothing(t *testing.T) {
	for seed := range crashSeeds() {
		rng := rand.New(rand.NewPCG(seed, 1))
		at := rand.New(rand.NewPCG(seed, 2))
		h, cuts := play(t, rng, 25, func(int) bool { return at.IntN(40) == 0 })
		t.Log("seed", seed)
		checkCuts(t, h, cuts)
	}
}

// Opening writes too. Each of its writes is cut off in several ways, so that each new name in a folder
// survives without some other one: the index must never be taken for damaged.
func TestAPowerCutWhileOpening(t *testing.T) {
	mem := vfs.NewCrashableMem()
	d := newFaulty(mem)
	c := openChunks(t, d, small)
	data := [][]byte{noise(1, 100), noise(2, 100_000)}
	putChunks(t, c, "o", data...)
	var mu sync.Mutex // Pebble writes in the background too
	var cuts []vfs.FS
	d.before = func() {
		mu.Lock()
		defer mu.Unlock()
		for seed := range uint64(20) {
			cuts = append(cuts, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(seed, 3))}))
		}
	}
	c = reopen(t, c)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	d.before = nil
	for i, fs := range cuts {
		again, err := Open(fs, "chunks", small)
		if err != nil {
			t.Fatalf("power cut %d of %d: %v", i, len(cuts), err)
		}
		if again.rebuilt {
			t.Fatalf("power cut %d of %d: the index was taken for damaged", i, len(cuts))
		}
		for _, b := range data {
			mustGet(t, again, b)
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
}
