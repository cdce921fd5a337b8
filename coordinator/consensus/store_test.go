package consensus

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"
	"pgregory.net/rapid"

	"github.com/cloudless/cloudless/api"
)

func mustStore(t *testing.T, fs vfs.FS) *store {
	t.Helper()
	s, err := openStore("data/raft", fs, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t *testing.T, s *store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func entry(index uint64) *raft.Log {
	return &raft.Log{Index: index, Term: 1 + index/10, Type: raft.LogCommand, Data: fmt.Appendf(nil, "entry %d", index),
		AppendedAt: time.Unix(0, 1_700_000_000_000_000_000+int64(index))}
}

func fill(t *testing.T, s *store, from, to uint64) {
	t.Helper()
	var logs []*raft.Log
	for i := from; i <= to; i++ {
		logs = append(logs, entry(i))
	}
	if err := s.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
}

// wantEntries checks the bounds and every entry between them.
func wantEntries(t *testing.T, s *store, first, last uint64, missing ...uint64) {
	t.Helper()
	gotFirst, _ := s.FirstIndex()
	gotLast, _ := s.LastIndex()
	if gotFirst != first || gotLast != last {
		t.Fatalf("entries %d to %d, want %d to %d", gotFirst, gotLast, first, last)
	}
	absent := map[uint64]bool{}
	for _, i := range missing {
		absent[i] = true
	}
	for i := first; i <= last && i != 0; i++ {
		var got raft.Log
		err := s.GetLog(i, &got)
		switch {
		case absent[i] && !errors.Is(err, raft.ErrLogNotFound):
			t.Errorf("entry %d: error %v, want not found", i, err)
		case !absent[i] && err != nil:
			t.Errorf("entry %d: %v", i, err)
		case !absent[i]:
			if d := cmp.Diff(*entry(i), got); d != "" {
				t.Errorf("entry %d: %s", i, d)
			}
		}
	}
}

func TestStoreKeepsEntries(t *testing.T) {
	const top = ^uint64(0)
	for _, c := range []struct {
		name        string
		do          func(*testing.T, *store)
		first, last uint64
		missing     []uint64
	}{
		{"empty", func(*testing.T, *store) {}, 0, 0, nil},
		{"one", func(t *testing.T, s *store) { fill(t, s, 7, 7) }, 7, 7, nil},
		{"many", func(t *testing.T, s *store) { fill(t, s, 1, 300) }, 1, 300, nil},
		{"a gap, as after a snapshot", func(t *testing.T, s *store) { fill(t, s, 1, 3); fill(t, s, 6, 8) }, 1, 8, []uint64{4, 5}},
		{"prefix deleted", func(t *testing.T, s *store) { fill(t, s, 1, 20); remove(t, s, 1, 10) }, 11, 20, nil},
		{"prefix deleted up to a gap", func(t *testing.T, s *store) { fill(t, s, 1, 3); fill(t, s, 6, 8); remove(t, s, 1, 3) }, 6, 8, nil},
		{"suffix deleted", func(t *testing.T, s *store) { fill(t, s, 1, 20); remove(t, s, 11, 20) }, 1, 10, nil},
		{"all deleted", func(t *testing.T, s *store) { fill(t, s, 1, 20); remove(t, s, 1, 20) }, 0, 0, nil},
		{"all deleted and begun later", func(t *testing.T, s *store) { fill(t, s, 1, 20); remove(t, s, 1, 20); fill(t, s, 50, 52) }, 50, 52, nil},
		{"rewritten after a conflict", func(t *testing.T, s *store) { fill(t, s, 1, 20); remove(t, s, 5, 20); fill(t, s, 5, 6) }, 1, 6, nil},
		{"deleted to the highest index", func(t *testing.T, s *store) { fill(t, s, 1, 20); remove(t, s, 15, top) }, 1, 14, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := vfs.NewMem()
			s := mustStore(t, fs)
			c.do(t, s)
			wantEntries(t, s, c.first, c.last, c.missing...)
			closeStore(t, s)
			s = mustStore(t, fs) // the same after it was opened again
			wantEntries(t, s, c.first, c.last, c.missing...)
			closeStore(t, s)
		})
	}
}

func remove(t *testing.T, s *store, min, max uint64) {
	t.Helper()
	if err := s.DeleteRange(min, max); err != nil {
		t.Fatal(err)
	}
}

func TestStoreKeepsStableValues(t *testing.T) {
	fs := vfs.NewMem()
	s := mustStore(t, fs)
	if _, err := s.GetUint64([]byte("CurrentTerm")); err == nil || err.Error() != "not found" {
		t.Errorf("missing value: error %v; the library knows it by the text %q", err, "not found")
	}
	if err := errors.Join(s.SetUint64([]byte("CurrentTerm"), 42), s.Set([]byte("LastVoteCand"), []byte("s-1"))); err != nil {
		t.Fatal(err)
	}
	fill(t, s, 1, 3)
	closeStore(t, s)
	s = mustStore(t, fs)
	defer closeStore(t, s)
	if v, err := s.GetUint64([]byte("CurrentTerm")); v != 42 || err != nil {
		t.Errorf("term %d, %v", v, err)
	}
	if v, err := s.Get([]byte("LastVoteCand")); string(v) != "s-1" || err != nil {
		t.Errorf("vote %q, %v", v, err)
	}
	if _, err := s.GetUint64([]byte("LastVoteCand")); err == nil {
		t.Error("text was taken for a number")
	}
}

// TestNoAcknowledgedEntryIsLostInAPowerCut cuts the power at random moments of a random history.
func TestNoAcknowledgedEntryIsLostInAPowerCut(t *testing.T) {
	const rounds = 40
	rng := rand.New(rand.NewPCG(1, 2))
	fs := vfs.NewCrashableMem()
	var last, first uint64
	for round := range rounds {
		s := mustStore(t, fs)
		if err := s.verify(max(first, 1) - 1); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		wantEntries(t, s, first, last)
		for range rng.IntN(20) {
			n := 1 + rng.Uint64N(5)
			fill(t, s, last+1, last+n)
			last += n
			first = max(first, 1)
			if last-first > 60 {
				remove(t, s, first, last-30)
				first = last - 29
			}
		}
		crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		closeStore(t, s)
		fs = crashed
	}
	if last < 100 {
		t.Fatalf("only %d entries were written", last)
	}
}

func TestAFullDiskIsToldAndLosesNothing(t *testing.T) {
	mem := vfs.NewCrashableMem()
	var full atomic.Bool
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && (op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpCreate) {
			return syscall.ENOSPC
		}
		return nil
	}))
	var out bytes.Buffer
	s, err := openStore("data/raft", fs, zerolog.New(&out))
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, 1, 10)
	full.Store(true)
	err = s.StoreLog(entry(11))
	if api.CodeOf(err) != api.CodeNoRoom || !strings.Contains(err.Error(), "data/raft") {
		t.Fatalf("error %v, want no_room naming the folder", err)
	}
	if !strings.Contains(out.String(), "cannot be written") {
		t.Errorf("the log says nothing: %s", out.String())
	}
	select {
	case told := <-s.broken:
		if api.CodeOf(told) != api.CodeNoRoom {
			t.Errorf("the owner is told %v", told)
		}
	default:
		t.Error("the owner is not told")
	}
	full.Store(false)
	if err := s.StoreLog(entry(11)); api.CodeOf(err) != api.CodeNoRoom {
		t.Errorf("a store that failed once accepted a write: %v", err)
	}
	if last, _ := s.LastIndex(); last != 10 {
		t.Errorf("last index %d, want 10", last)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	again := mustStore(t, mem.CrashClone(vfs.CrashCloneCfg{}))
	defer closeStore(t, again)
	wantEntries(t, again, 1, 10)
}

func TestASecondProcessIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	s, err := openStore(dir, vfs.Default, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	_, err = openStore(dir, vfs.Default, zerolog.Nop())
	if api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), dir) {
		t.Errorf("error %v, want conflict naming %s", err, dir)
	}
}

func TestAFolderThatCannotBeMadeIsTold(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := openStore(filepath.Join(file, "raft"), vfs.Default, zerolog.Nop())
	if api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), file) {
		t.Errorf("error %v, want invalid naming the folder", err)
	}
}

// TestADamagedLogIsTold damages each kind of file that Pebble keeps.
func TestADamagedLogIsTold(t *testing.T) {
	for _, c := range []struct {
		name, pattern string
		damage        func(path string) error
	}{
		{"truncated manifest", "MANIFEST-*", func(p string) error { return os.Truncate(p, 8) }},
		{"garbage in the manifest", "MANIFEST-*", scribble},
		{"truncated table", "*.sst", func(p string) error { return os.Truncate(p, 20) }},
		{"missing table", "*.sst", os.Remove},
		{"garbage in the write-ahead log", "*.log", scribble},
		{"truncated write-ahead log", "*.log", func(p string) error { return os.Truncate(p, 4000) }},
		{"missing write-ahead log", "*.log", os.Remove},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "raft")
			s, err := openStore(dir, vfs.Default, zerolog.Nop())
			if err != nil {
				t.Fatal(err)
			}
			fill(t, s, 1, 200)
			if err := s.db.Flush(); err != nil {
				t.Fatal(err)
			}
			for i := uint64(201); i <= 400; i++ {
				fill(t, s, i, i)
			}
			closeStore(t, s)
			damageNewest(t, dir, c.pattern, c.damage)
			s, err = openStore(dir, vfs.Default, zerolog.Nop())
			if err == nil {
				err = s.verify(0)
				closeStore(t, s)
			}
			if err == nil {
				t.Fatal("the damage was not noticed")
			}
			if !strings.Contains(err.Error(), dir) || api.AsError(err).Hint == "" {
				t.Errorf("error without folder or remedy: %v", err)
			}
		})
	}
}

func damageNewest(t *testing.T, dir, pattern string, damage func(string) error) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s: %v", pattern, err)
	}
	newest := names[0]
	for _, n := range names {
		if size(t, n) > size(t, newest) {
			newest = n
		}
	}
	if err := damage(newest); err != nil {
		t.Fatal(err)
	}
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// scribble overwrites a stretch in the first half of a file.
func scribble(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	_, err = f.WriteAt(bytes.Repeat([]byte{0xa5}, 40), info.Size()/3)
	return errors.Join(err, f.Close())
}

func TestAGapInTheLogIsTold(t *testing.T) {
	s := mustStore(t, vfs.NewMem())
	defer closeStore(t, s)
	fill(t, s, 5, 9)
	fill(t, s, 12, 13)
	for _, c := range []struct {
		snapshot uint64
		text     string
	}{
		{0, "entries 1 to 4 are missing"}, {4, "entries 10 to 11 are missing"}, {11, ""}, {20, ""},
	} {
		err := s.verify(c.snapshot)
		if (err == nil) != (c.text == "") || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("snapshot %d: error %v, want %q", c.snapshot, err, c.text)
		}
	}
}

func TestEntriesSurviveTheirEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := raft.Log{
			Index:      rapid.Uint64().Draw(t, "index"),
			Term:       rapid.Uint64().Draw(t, "term"),
			Type:       raft.LogType(rapid.IntRange(0, int(raft.LogConfiguration)).Draw(t, "type")),
			Data:       clone(rapid.SliceOf(rapid.Byte()).Draw(t, "data")),
			Extensions: clone(rapid.SliceOf(rapid.Byte()).Draw(t, "extensions")),
		}
		if ns := rapid.Int64().Draw(t, "appended"); ns != 0 {
			want.AppendedAt = time.Unix(0, ns)
		}
		var got raft.Log
		if err := decodeEntry(want.Index, encodeEntry(&want), &got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add(encodeEntry(entry(1)))
	f.Add([]byte{entryFormat, 0, 0x80})
	f.Add([]byte{entryFormat, 5, 1, 2, 200})
	f.Fuzz(func(t *testing.T, b []byte) {
		var l, again raft.Log
		if decodeEntry(1, b, &l) != nil {
			return
		}
		if err := decodeEntry(1, encodeEntry(&l), &again); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(l, again); d != "" {
			t.Error(d)
		}
	})
}

func FuzzDecodeFooter(f *testing.F) {
	f.Add([]byte("short"))
	f.Add(append([]byte("{}"), 0, 0, 0, 2, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		footer, err := decodeFooter(bytes.NewReader(b), int64(len(b)))
		if err == nil && footer.Meta.Size > int64(len(b)) {
			t.Errorf("a snapshot of %d bytes in a file of %d", footer.Meta.Size, len(b))
		}
	})
}

func writeSnapshot(t *testing.T, s *snapshots, index uint64, content string) string {
	t.Helper()
	members := raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "a"}}}
	sink, err := s.Create(raft.SnapshotVersionMax, index, 3, members, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(sink, content); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	return sink.ID()
}

func TestSnapshotsKeepTheNewestTwo(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s, err := openSnapshots("data/snapshots", fs, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for i := range uint64(4) {
		ids = append(ids, writeSnapshot(t, s, 90+i*10, fmt.Sprintf("state %d", i)))
	}
	unfinished, err := s.Create(raft.SnapshotVersionMax, 500, 3, raft.Configuration{}, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(unfinished, "half"); err != nil {
		t.Fatal(err)
	}
	s, err = openSnapshots("data/snapshots", fs.CrashClone(vfs.CrashCloneCfg{}), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.List()
	if err != nil || len(all) != 2 || all[0].ID != ids[3] || all[1].ID != ids[2] || all[0].Index != 120 {
		t.Fatalf("%v, %v", all, err)
	}
	meta, r, err := s.Open(ids[3])
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(r)
	if string(content) != "state 3" || err != nil || meta.ConfigurationIndex != 2 || meta.Configuration.Servers[0].ID != "a" {
		t.Errorf("%q, %+v, %v", content, meta, err)
	}
	if err := errors.Join(r.Close(), unfinished.Cancel()); err != nil {
		t.Error(err)
	}
}

func TestADamagedSnapshotIsNotUsed(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	s, err := openSnapshots(dir, vfs.Default, zerolog.New(&out))
	if err != nil {
		t.Fatal(err)
	}
	old := writeSnapshot(t, s, 10, strings.Repeat("old", 100))
	newer := writeSnapshot(t, s, 20, strings.Repeat("new", 100))
	if err := scribble(filepath.Join(dir, newer+snapshotSuffix)); err != nil {
		t.Fatal(err)
	}
	if all, err := s.List(); err != nil || len(all) != 1 || all[0].ID != old {
		t.Errorf("%v, %v; want the older one", all, err)
	}
	if _, _, err := s.Open(newer); err == nil {
		t.Error("the damaged one was opened")
	}
	if !strings.Contains(out.String(), newer) {
		t.Errorf("the log does not name it: %s", out.String())
	}
}
