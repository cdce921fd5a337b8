package upkeep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/internal/run"
)

// world is one store with its keeper, and coordinators that know what is referred to.
type world struct {
	t      *testing.T
	chunks *chunkstore.Chunks
	keeper *Keeper

	mu         sync.Mutex
	referred   map[string]bool // chunks
	sessions   map[string]bool // that live
	silent     bool            // no coordinator answers
	heldUntil  time.Time
	diskFull   bool
	told       []string // types of events
	damaged    []string
	asked      int // questions
	background *run.Group
}

// in runs f in a bubble, in a world whose loops run.
func in(t *testing.T, fs vfs.FS, capacity int64, f func(*world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, referred: map[string]bool{}, sessions: map[string]bool{}}
		var err error
		w.chunks, err = chunkstore.Open(fs, "chunks", chunkstore.Options{Small: true, Capacity: capacity, ReserveBytes: 1 << 20, OnDamage: func(d string, _ error) { w.hear(d) }, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		w.keeper, err = New(Config{
			Chunks: w.chunks, Capacity: capacity, Ask: w.ask, Log: zerolog.Nop(), Damaged: w.hear,
			HeldUntil: func() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.heldUntil },
			DiskFull:  func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.diskFull },
			Session:   func(owner string) (string, bool) { return strings.CutPrefix(owner, "session/") },
			Tell: func(eventType string, _ api.Severity, _ string) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.told = append(w.told, eventType)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		w.background = run.New(t.Context())
		w.background.Go("scrub", w.keeper.Scrub)
		w.background.Go("collect", w.keeper.Collect)
		f(w)
		if err := errors.Join(w.background.Close(), w.chunks.Close()); err != nil {
			t.Error(err)
		}
	})
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) hear(digests ...string) {
	w.set(func() { w.damaged = append(w.damaged, digests...) })
}

func (w *world) ask(_ context.Context, q meta.Query) (*meta.Answer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if w.silent {
		return nil, errors.New("nobody leads")
	}
	a := &meta.Answer{}
	for _, sum := range q.Unreferenced {
		if !w.referred[fmt.Sprintf("sha256:%x", sum)] {
			a.Chunks = append(a.Chunks, sum)
		}
	}
	for _, id := range q.Sessions {
		if w.sessions[id] {
			a.Sessions = append(a.Sessions, id)
		}
	}
	return a, nil
}

// put stores n chunks of a kind, pinned by owner, and returns their digests.
func (w *world) put(owner, kind string, n, size int) (digests []string) {
	w.t.Helper()
	for i := range n {
		c := chunk(kind, i, size)
		if err := w.chunks.Put(w.t.Context(), chunkstore.PutOptions{Owner: owner, Codec: chunkstore.Raw}, c); err != nil {
			w.t.Fatal(err)
		}
		digests = append(digests, c.Digest)
	}
	return digests
}

// chunk is the i-th of a kind.
func chunk(kind string, i, size int) chunkstore.Chunk {
	data := bytes.Repeat(fmt.Appendf(nil, "%s %d ", kind, i), size)[:size]
	return chunkstore.Chunk{Digest: chunkstore.DigestOf(data), Data: data}
}

// after lets time go by.
func (w *world) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) has(want int64) {
	w.t.Helper()
	if n := w.chunks.Stats().Chunks; n != want {
		w.t.Errorf("%d chunks, want %d", n, want)
	}
}

func (w *world) refer(digests ...string) {
	w.set(func() {
		for _, d := range digests {
			w.referred[d] = true
		}
	})
}

// What an upload stored stays while its session lives or an object names it, and goes when neither does.
func TestChunksGoWithTheLastWhoNeedsThem(t *testing.T) {
	in(t, vfs.NewMem(), 1<<30, func(w *world) {
		w.set(func() { w.sessions["a"], w.sessions["b"] = true, true })
		kept := w.put("session/a", "kept", 3, 100_000)
		w.put("session/b", "broken off", 2, 100_000)
		w.put("other", "not a session's", 1, 1000)
		w.after(5 * time.Hour)
		w.has(6)
		w.refer(kept...)
		w.set(func() { clear(w.sessions) })
		w.after(3 * time.Hour)
		w.has(4)
		w.set(func() { clear(w.referred) })
		w.after(3 * time.Hour)
		w.has(1)
	})
}

// Pins of uploads that have ended go at once when somebody waits for that; those of others stay.
func TestPinsEndWhenAskedFor(t *testing.T) {
	in(t, vfs.NewMem(), 1<<30, func(w *world) {
		w.set(func() { w.sessions["lives"] = true })
		stays, goes := w.put("session/lives", "stays", 2, 1000), w.put("session/ended", "goes", 3, 1000)
		w.refer(append(stays, goes...)...)
		kept, err := w.chunks.Drop(goes...)
		if err != nil || len(kept) != 3 {
			t.Fatalf("kept %v, %v", kept, err)
		}
		w.keeper.EndPins()
		w.after(time.Millisecond)
		if kept, err := w.chunks.Drop(append(stays, goes...)...); err != nil || len(kept) != 2 {
			t.Errorf("kept %v, %v", kept, err)
		}
		w.has(2)
	})
}

func TestNothingGoesWhileNobodyAnswers(t *testing.T) {
	in(t, vfs.NewMem(), 1<<30, func(w *world) {
		w.set(func() { w.silent = true })
		w.put("session/gone", "chunk", 3, 1000)
		w.after(48 * time.Hour)
		w.has(3)
		w.set(func() { w.silent = false })
		w.after(3 * time.Hour)
		w.has(0)
	})
}

func TestNothingGoesWhileTheCoordinatorsHold(t *testing.T) {
	in(t, vfs.NewMem(), 1<<30, func(w *world) {
		w.set(func() { w.heldUntil = time.Now().Add(24 * time.Hour) })
		w.put("", "chunk", 3, 1000)
		w.after(23 * time.Hour)
		w.has(3)
		if want := []string{api.EventCollectionHeld}; !slices.Equal(w.told, want) {
			w.t.Errorf("told %v, want %v", w.told, want)
		}
		w.after(3 * time.Hour)
		w.has(0)
	})
}

// More than a tenth of a store waits for a day, or for a person.
func TestMuchIsHeldUntilADayIsOverOrSomebodySaysSo(t *testing.T) {
	for name, anyway := range map[string]bool{"a day": false, "somebody": true} {
		t.Run(name, func(t *testing.T) {
			in(t, vfs.NewMem(), 1<<30, func(w *world) {
				w.put("", "chunk", leastHeld/(1<<20)+1, 1<<20)
				w.after(3 * time.Hour)
				w.has(leastHeld/(1<<20) + 1)
				if held := w.keeper.HeldBytes(); held <= leastHeld {
					w.t.Errorf("%d bytes are told to be held, want more than %d", held, leastHeld)
				}
				if anyway {
					w.keeper.CollectNow(true)
					w.keeper.CollectNow(false)
					w.after(time.Second)
				} else {
					w.after(24 * time.Hour)
				}
				w.has(0)
				if held := w.keeper.HeldBytes(); held != 0 {
					w.t.Errorf("%d bytes are told to be held when all are gone", held)
				}
				if want := []string{api.EventCollectionHeld}; !slices.Equal(w.told, want) {
					w.t.Errorf("told %v, want %v", w.told, want)
				}
			})
		})
	}
}

func TestTheBoundOfAPass(t *testing.T) {
	for stored, want := range map[int64]int64{0: leastHeld, 10*leastHeld - 1: leastHeld, 10 * leastHeld: leastHeld, 20 * leastHeld: 2 * leastHeld} {
		if got := bound(stored); got != want {
			t.Errorf("of %d bytes %d may go, want %d", stored, got, want)
		}
	}
}

// A store that is short of room is collected each minute, one that has room each hour.
func TestAFullStoreIsCollectedSooner(t *testing.T) {
	for name, press := range map[string]func(*world){
		"room":      func(*world) {},
		"capacity":  func(w *world) { w.put("o", "held", 9, 1<<20) },
		"disk full": func(w *world) { w.set(func() { w.diskFull = true }) },
	} {
		t.Run(name, func(t *testing.T) {
			in(t, vfs.NewMem(), 10<<20, func(w *world) {
				press(w)
				w.put("", "lonely", 1, 1000)
				w.after(chunkstore.Grace + 3*pressedInterval)
				gone := !slices.Contains(listed(w), chunk("lonely", 0, 1000).Digest)
				if want := name != "room"; gone != want {
					t.Errorf("gone: %v, want %v", gone, want)
				}
			})
		})
	}
}

func listed(w *world) (digests []string) {
	w.t.Helper()
	list, err := w.chunks.List("", 0)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range list {
		digests = append(digests, c.Digest)
	}
	return digests
}

// A pass ends in time however large the store is.
func TestTheWholeStoreIsScrubbedInTime(t *testing.T) {
	for _, stored := range []int64{1, scrubSteps - 1, scrubSteps, 1 << 40} {
		if steps := (stored + share(stored) - 1) / share(stored); time.Duration(steps)*scrubInterval > 14*24*time.Hour {
			t.Errorf("%d bytes take %d steps", stored, steps)
		}
	}
	in(t, vfs.NewMem(), 1<<30, func(w *world) {
		w.put("o", "chunk", 5, 50_000)
		w.after(4 * scrubInterval)
		if !w.keeper.ScrubbedAt().IsZero() {
			t.Error("whole before every chunk was read")
		}
		w.after(3 * scrubInterval)
		if w.keeper.ScrubbedAt().IsZero() {
			t.Error("not whole after as many steps as there are chunks, and one")
		}
	})
}

// Damage is told when it is found, and again until it is healed: who was told may have forgotten.
func TestDamageIsToldUntilItIsHealed(t *testing.T) {
	fs := vfs.NewMem()
	in(t, fs, 1<<30, func(w *world) {
		bad := w.put("o", "chunk", 1, 100_000)[0]
		spoil(t, fs)
		w.keeper.ScrubNow()
		w.keeper.ScrubNow()
		w.after(time.Second)
		if w.keeper.ScrubbedAt().IsZero() {
			t.Error("a scrub that was asked for is not over")
		}
		w.after(scrubInterval + time.Second)
		if len(w.damaged) < 2 || w.damaged[0] != bad {
			t.Fatalf("told of %v", w.damaged)
		}
		w.put("o", "chunk", 1, 100_000)
		w.set(func() { w.damaged = nil })
		w.after(2 * scrubInterval)
		if len(w.damaged) > 0 {
			t.Errorf("told of %v after it was healed", w.damaged)
		}
	})
}

// spoil changes a byte in the middle of the first segment.
func spoil(t *testing.T, fs vfs.FS) {
	t.Helper()
	f, err := fs.OpenReadWrite("chunks/segments/0000000000000001.seg", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, 50_000)
	b[0] ^= 1
	_, werr := f.WriteAt(b, 50_000)
	if err := errors.Join(err, werr, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestThePaceIsKeptAndYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := false
		p := NewPacer(true, func() bool { return busy })
		took := func() time.Duration {
			began := time.Now()
			for range 8 {
				if err := p.Wait(t.Context(), smallPaceBytes/8); err != nil {
					t.Fatal(err)
				}
			}
			return time.Since(began)
		}
		took() // up to the pace
		if d := took(); d != time.Second {
			t.Errorf("a second's worth took %v", d)
		}
		busy = true
		took()
		if d := took(); d != yield*time.Second {
			t.Errorf("with people waiting it took %v", d)
		}
		p = NewPullPacer(true, func() bool { return busy })
		took()
		if d := took(); d != time.Second {
			t.Errorf("with people waiting a second's worth was pulled in %v", d)
		}
		busy = false
		if d := took(); d != 0 {
			t.Errorf("with nobody waiting it was pulled in %v", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if p.Wait(ctx, 1) == nil {
			t.Error("went on after the end")
		}
	})
}
