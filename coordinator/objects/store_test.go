package objects

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
)

var update = flag.Bool("update", false, "write the golden files")

// at gives a command its time.
func at(c Command) Command {
	c.At = day
	return c
}

func openStore(t testing.TB, fs vfs.FS) *Store {
	t.Helper()
	s, err := Open(fs, "objects", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func apply(t testing.TB, s *Store, index uint64, cmds ...Command) []Result {
	t.Helper()
	results, err := s.Apply(index, cmds)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func closeStore(t testing.TB, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// backup is all of a store as bytes: equal stores give equal ones.
func backup(t testing.TB, s *Store) []byte {
	t.Helper()
	v := s.View()
	defer closeStore(t, v)
	var b bytes.Buffer
	if err := v.Backup(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// dump is all of where a store stands.
func dump(t testing.TB, s *Store) []byte {
	t.Helper()
	v := s.View()
	defer closeStore(t, v)
	var b bytes.Buffer
	if err := v.Dump(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func catchUp(s *Store, dump []byte) error { return s.CatchUp(bufio.NewReader(bytes.NewReader(dump))) }

// pieces are the commands that restore a backup.
func pieces(t testing.TB, id string, backup []byte) (cmds []Command) {
	t.Helper()
	p, err := ReadPieces(bytes.NewReader(backup), id)
	for err == nil {
		var piece *RestorePiece
		if piece, err = p.Next(); err == nil {
			cmds = append(cmds, at(Command{Restore: piece}))
		}
	}
	if err != io.EOF {
		t.Fatal(err)
	}
	return cmds
}

// restore replaces the rows of a store by entries of the log.
func restore(t testing.TB, s *Store, id string, backup []byte) {
	t.Helper()
	for _, c := range pieces(t, id, backup) {
		if res := apply(t, s, s.Applied()+1, c); res[0].Err != nil {
			t.Fatal(res[0].Err)
		}
	}
}

// rowsOf is a backup without its index, for rows that came to be at another one, and without its checksum.
func rowsOf(backup []byte) string {
	return string(backup[len(backupMagic)+8 : len(backup)-4])
}

// life is a few entries that leave a row of each kind.
func life() [][]Command {
	one := chunkNo(1).Digest
	ref := UploadRef{Bucket: "assets", Key: "big", ID: "u1"}
	return [][]Command{
		{at(bucketNamed("assets")), at(open("s1"))},
		{at(put("a", 1, 2)), at(small("b", "hello", Condition{})), at(small("b", "again", Condition{IfAbsent: true}))},
		{at(Command{RenewSession: &RenewSession{ID: "s1", Chunks: [][]byte{one[:]}}})},
		{at(Command{CreateUpload: &CreateUpload{UploadRef: ref}}), at(part(ref, 1, 2, 3))},
	}
}

func applyAll(t testing.TB, s *Store, entries [][]Command) {
	t.Helper()
	for i, cmds := range entries {
		apply(t, s, uint64(i+1), cmds...)
	}
}

func TestAnEntryIsAppliedOnce(t *testing.T) {
	fs := vfs.NewMem()
	s := openStore(t, fs)
	applyAll(t, s, life())
	want := backup(t, s)
	for range 2 {
		for i, cmds := range life() {
			if res := apply(t, s, uint64(i+1), cmds...); res != nil {
				t.Errorf("entry %d gave %+v again", i+1, res)
			}
		}
		if !bytes.Equal(backup(t, s), want) {
			t.Fatal("a replay changed rows")
		}
		closeStore(t, s)
		s = openStore(t, fs)
		if s.Applied() != uint64(len(life())) {
			t.Errorf("applied up to %d", s.Applied())
		}
	}
	closeStore(t, s)
}

// Each command of an entry sees what those before it did, and a refusal leaves the others.
func TestCommandsOfOneEntry(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	defer closeStore(t, s)
	absent := Condition{IfAbsent: true}
	results := apply(t, s, 5, at(small("k", "x", absent)), at(bucketNamed("assets")), at(small("k", "x", absent)), at(small("k", "y", absent)), at(small("l", "z", absent)))
	var codes []api.Code
	for _, r := range results {
		codes = append(codes, codeOf(r.Err))
	}
	if d := cmp.Diff([]api.Code{api.CodeNotFound, "", "", api.CodeConflict, ""}, codes); d != "" {
		t.Error(d)
	}
	v := s.View()
	defer closeStore(t, v)
	if u, err := Usage(v, "assets"); err != nil || u != (api.BucketUsage{Objects: 2, Bytes: 2}) || v.Index() != 5 {
		t.Errorf("%+v, %v at %d", u, err, v.Index())
	}
}

func TestAViewShowsOneMoment(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	defer closeStore(t, s)
	applyAll(t, s, life())
	v := s.View()
	defer closeStore(t, v)
	apply(t, s, 100, at(Command{Delete: &Delete{Bucket: "assets", Key: "a"}}))
	if o, err := Object(v, "assets", "a"); err != nil || o.Size != 6<<20 {
		t.Errorf("%+v, %v", o, err)
	}
	empty := openStore(t, vfs.NewMem())
	defer closeStore(t, empty)
	restore(t, s, "r1", backup(t, empty))
	if page, err := List(v, Query{Bucket: "assets"}); err != nil || len(page.Objects) != 2 || v.Index() != 4 || s.Applied() != 101 {
		t.Errorf("%+v, %v", page, err)
	}
}

// A coordinator that takes a dump has the same rows, and reads no further than the dump's end. One that
// has come as far by itself keeps what it has.
func TestADumpGivesTheSameRows(t *testing.T) {
	from := openStore(t, vfs.NewMem())
	defer closeStore(t, from)
	applyAll(t, from, life())
	fs := vfs.NewMem()
	to := openStore(t, fs)
	apply(t, to, 3, at(bucketNamed("foreign")))
	for i := range 4 { // round the generations
		want := backup(t, from)
		stream := bufio.NewReader(io.MultiReader(bytes.NewReader(dump(t, from)), strings.NewReader("what follows")))
		if err := to.CatchUp(stream); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(stream); err != nil || string(rest) != "what follows" {
			t.Errorf("%q is left, %v", rest, err)
		}
		if to.Applied() != from.Applied() || !bytes.Equal(backup(t, to), want) {
			t.Fatalf("other rows, applied up to %d", to.Applied())
		}
		closeStore(t, to)
		to = openStore(t, fs)
		apply(t, from, from.Applied()+1, at(small(fmt.Sprint(i), "x", Condition{})))
	}
	apply(t, to, 50, at(bucketNamed("later")))
	want := backup(t, to)
	stream := bufio.NewReader(io.MultiReader(bytes.NewReader(dump(t, from)), strings.NewReader("what follows")))
	if err := to.CatchUp(stream); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(stream); err != nil || string(rest) != "what follows" || !bytes.Equal(backup(t, to), want) {
		t.Errorf("%q is left, or rows have changed, %v", rest, err)
	}
	closeStore(t, to)
}

func TestADamagedDumpChangesNothing(t *testing.T) {
	from := openStore(t, vfs.NewMem())
	defer closeStore(t, from)
	applyAll(t, from, life())
	good := dump(t, from)
	s := openStore(t, vfs.NewMem())
	defer closeStore(t, s)
	apply(t, s, 1, at(bucketNamed("here")))
	want := backup(t, s)
	eachDamage(good, func(what string, bad []byte) {
		if err := catchUp(s, bad); err != nil && api.CodeOf(err) != api.CodeInvalid {
			t.Fatalf("%s: %v", what, err)
		} else if err == nil && s.Applied() != 1 {
			t.Fatalf("%s: taken", what)
		}
	})
	if !bytes.Equal(backup(t, s), want) {
		t.Error("rows have changed")
	}
}

// eachDamage gives many ways in which bytes can be damaged.
func eachDamage(good []byte, try func(what string, bad []byte)) {
	for i := range good {
		if i%7 == 0 {
			try(fmt.Sprint("cut after ", i), good[:i])
		}
		if i%5 == 0 {
			bad := bytes.Clone(good)
			bad[i] ^= 1
			try(fmt.Sprint("a bit in byte ", i), bad)
		}
	}
}

func TestBackupHasItsGoldenBytes(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	defer closeStore(t, s)
	applyAll(t, s, life())
	golden(t, "backup", backup(t, s))
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is\n%q, want\n%q", name, got, want)
	}
}

// After a write that failed nobody knows what is on the disk: nothing is changed any more, and a
// restart goes on from the log.
func TestAWriteThatFailsEndsAllChanges(t *testing.T) {
	from := openStore(t, vfs.NewMem())
	defer closeStore(t, from)
	applyAll(t, from, life())
	newer := dump(t, from)
	mem := vfs.NewCrashableMem()
	full := false
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return errorfs.ErrInjected
		}
		return nil
	}))
	s := openStore(t, fs)
	applyAll(t, s, life()[:2])
	full = true
	if err := s.Sync(); api.CodeOf(err) != api.CodeInternal {
		t.Fatalf("%v", err)
	}
	full = false
	if _, err := s.Apply(3, life()[2]); err == nil {
		t.Error("applied after a failure")
	}
	if err := catchUp(s, newer); err == nil {
		t.Error("caught up after a failure")
	}
	closeStore(t, s)
	s = openStore(t, mem.CrashClone(vfs.CrashCloneCfg{}))
	defer closeStore(t, s)
	applyAll(t, s, life())
	if s.Applied() != 4 {
		t.Errorf("applied up to %d", s.Applied())
	}
}

// What Apply says that it has done is there, also when the disk fails under a write that nobody waits for:
// Pebble tells of that with the next that does not fit into what it has gathered.
func TestADiskThatFailsUnseenLosesNothingThatWasSaid(t *testing.T) {
	var broken atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return errorfs.ErrInjected
		}
		return nil
	}))
	s := openStore(t, fs)
	defer closeStore(t, s)
	apply(t, s, 1, at(bucketNamed("assets")))
	broken.Store(true)
	if err := guarded(func() error { return s.db.LogData(nil, pebble.Sync) }); !errors.Is(err, errorfs.ErrInjected) {
		t.Fatal(err) // Pebble knows by now that its disk has failed, the store does not
	}
	for i := uint64(2); i < 20; i++ {
		if _, err := s.Apply(i, []Command{at(small(fmt.Sprint(i), strings.Repeat("x", api.MaxInlineBytes), Condition{}))}); err != nil {
			return
		}
		v := s.View()
		if _, err := Object(v, "assets", fmt.Sprint(i)); err != nil {
			t.Errorf("entry %d was applied: %v", i, err)
		}
		closeStore(t, v)
	}
	t.Error("no write failed")
}
