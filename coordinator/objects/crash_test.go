package objects

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/cloudless/cloudless/api"
)

// crashSeeds are how many histories are cut off by power cuts.
func crashSeeds() uint64 {
	if os.Getenv("CLOUDLESS_TEST_LONG") != "" {
		return 500
	}
	return 50
}

// history is a random log of n entries, each of which changes something, and what the rows are after
// each, as backups.
func history(t *testing.T, rng *rand.Rand, n int) (entries [][]Command, states [][]byte) {
	t.Helper()
	s := openStore(t, vfs.NewMem())
	defer closeStore(t, s)
	states = append(states, backup(t, s))
	for i := range n {
		cmds := []Command{at(bucketNamed("assets")), at(open("s1"))}
		if i > 0 {
			cmds = nil
		}
		for range 1 + rng.IntN(4) {
			cmds = append(cmds, randomCommand(rng))
		}
		apply(t, s, uint64(i+1), cmds...)
		entries, states = append(entries, cmds), append(states, backup(t, s))
	}
	return entries, states
}

func randomCommand(rng *rand.Rand) Command {
	key := fmt.Sprint("key-", rng.IntN(8))
	switch rng.IntN(4) {
	case 0:
		return at(Command{Delete: &Delete{Bucket: "assets", Key: key}})
	case 1:
		return at(put(key, rng.IntN(6), rng.IntN(6)))
	case 2:
		return at(Command{Copy: &Copy{FromBucket: "assets", FromKey: fmt.Sprint("key-", rng.IntN(8)), Bucket: "assets", Key: key}})
	}
	return at(small(key, string(make([]byte, rng.IntN(api.MaxInlineBytes))), Condition{}))
}

// cutting clones a disk, as a power cut would leave it, before writes that now names.
func cutting(mem *vfs.MemFS, now func(write int) bool, cut func(vfs.FS)) vfs.FS {
	var mu sync.Mutex // Pebble writes in the background too
	writes := 0
	return errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
			return nil
		}
		if writes++; now(writes) {
			percent := []int{0, 50, 90, 100}[writes%4]
			cut(mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(uint64(writes), 1))}))
		}
		return nil
	}))
}

// survives opens a disk after a power cut, compares its rows with those that its index tells, and goes
// on with the log to the end.
func survives(t *testing.T, fs vfs.FS, synced uint64, entries [][]Command, states [][]byte) {
	t.Helper()
	s := openStore(t, fs)
	defer closeStore(t, s)
	n := s.Applied()
	if n < synced {
		t.Fatalf("applied up to %d, though %d was synced", n, synced)
	}
	if !bytes.Equal(backup(t, s), states[n]) {
		t.Fatalf("the rows are not those of index %d", n)
	}
	applyAll(t, s, entries)
	if !bytes.Equal(backup(t, s), states[len(entries)]) {
		t.Fatal("the log leads elsewhere than before the power cut")
	}
}

// cut is a disk after a power cut, and what had been synced by then.
type cut struct {
	fs     vfs.FS
	synced uint64
}

// live applies a history, syncing and reopening now and then, and gives what power cuts leave of it.
func live(t *testing.T, rng *rand.Rand, entries [][]Command, now func(int) bool) (cuts []cut) {
	t.Helper()
	var synced uint64 // written between two writes of the disk, read before one
	var mu sync.Mutex
	note := func(n uint64) { mu.Lock(); defer mu.Unlock(); synced = n }
	fs := cutting(vfs.NewCrashableMem(), now, func(left vfs.FS) {
		mu.Lock()
		defer mu.Unlock()
		cuts = append(cuts, cut{left, synced})
	})
	s := openStore(t, fs)
	for i, cmds := range entries {
		apply(t, s, uint64(i+1), cmds...)
		switch rng.IntN(6) {
		case 0:
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
			note(s.Applied())
		case 1:
			closeStore(t, s)
			note(uint64(i + 1))
			s = openStore(t, fs)
		}
	}
	closeStore(t, s)
	return cuts
}

func TestAPowerCutAtEveryWrite(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	entries, states := history(t, rng, 30)
	cuts := live(t, rng, entries, func(int) bool { return true })
	if len(cuts) < 60 {
		t.Fatalf("only %d writes", len(cuts))
	}
	for _, c := range cuts {
		survives(t, c.fs, c.synced, entries, states)
	}
}

func TestPowerCutsLeaveRowsAndIndexOfOneMoment(t *testing.T) {
	for seed := range crashSeeds() {
		rng := rand.New(rand.NewPCG(seed, 1))
		entries, states := history(t, rng, 20)
		when := rand.New(rand.NewPCG(seed, 2)) // of its own: Pebble's writes in the background draw from it
		for _, c := range live(t, rng, entries, func(int) bool { return when.IntN(20) == 0 }) {
			survives(t, c.fs, c.synced, entries, states)
		}
	}
}

// A dump or a restore that is cut off has changed nothing; one that returned is there, a restore as
// soon as it was synced.
func TestAPowerCutDuringARestore(t *testing.T) {
	from := openStore(t, vfs.NewMem())
	defer closeStore(t, from)
	entries, states := history(t, rand.New(rand.NewPCG(9, 9)), 20)
	applyAll(t, from, entries)
	newer := dump(t, from)
	for name, replace := range map[string]func(s *Store) error{
		"dump": func(s *Store) error { return catchUp(s, newer) },
		"restore": func(s *Store) error {
			restore(t, s, "r1", states[20])
			return s.Sync()
		},
	} {
		var cuts []vfs.FS
		on := false
		fs := cutting(vfs.NewCrashableMem(), func(int) bool { return on }, func(left vfs.FS) { cuts = append(cuts, left) })
		s := openStore(t, fs)
		applyAll(t, s, entries[:5])
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		on = true
		if err := replace(s); err != nil {
			t.Fatal(err)
		}
		cuts = append(cuts, fs.(interface{ Unwrap() vfs.FS }).Unwrap().(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{}))
		closeStore(t, s)
		for i, left := range cuts {
			s := openStore(t, left)
			got := rowsOf(backup(t, s))
			if got != rowsOf(states[5]) && got != rowsOf(states[20]) {
				t.Errorf("%s: power cut %d of %d left other rows", name, i, len(cuts))
			}
			if last := cuts[len(cuts)-1]; left == last && got != rowsOf(states[20]) {
				t.Errorf("%s: what returned is lost", name)
			}
			closeStore(t, s)
		}
	}
}
