package chunkstore

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cloudless/cloudless/api"
)

// The disk loses the end of a segment that it had acknowledged: the chunks in it are damaged, the
// others are not, and new ones go elsewhere.
func TestASegmentThatLostItsEnd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "chunks")
	c, err := Open(vfs.Default, dir, small)
	if err != nil {
		t.Fatal(err)
	}
	a, b := noise(1, 100_000), noise(2, 100_000)
	putChunks(t, c, "o", a)
	putChunks(t, c, "o", b)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, segmentDirName, segmentName(1)), 150_000); err != nil {
		t.Fatal(err)
	}
	if c, err = Open(vfs.Default, dir, small); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mustGet(t, c, a)
	_, err = c.Get(DigestOf(b), nil)
	mustBe(t, err, api.CodeInternal, ErrCorrupt)
	putChunks(t, c, "o", b)
	mustGet(t, c, b)
	if c.writer.id != 2 {
		t.Errorf("segment %d is written to", c.writer.id)
	}
}

// Behind the end that the index knows lie a whole record and a torn one, as a power cut leaves them
// between the flush of the segment and that of the index. The whole one is taken up, the torn one is
// passed over, and what comes next is put behind both.
func TestATornTail(t *testing.T) {
	whole, torn := &record{data: noise(2, 100_000)}, &record{data: noise(3, 100_000)}
	for _, cut := range []int{1, headBytes - 1, headBytes, headBytes + 1, headBytes + 99_999} {
		fs := vfs.NewMem()
		c := openChunks(t, fs, small)
		putChunks(t, c, "o", noise(1, 100_000))
		end := c.writer.end
		var tail []byte
		for _, r := range []*record{whole, torn} {
			r.key = must(parseDigest(DigestOf(r.data)))
			tail = append(append(tail, r.encode().append(nil)...), r.body...)
		}
		tail = tail[:headBytes+100_000+cut]
		if _, err := c.writer.file.WriteAt(tail, end); err != nil {
			t.Fatal(err)
		}
		c = reopen(t, c)
		mustGet(t, c, noise(1, 100_000))
		mustGet(t, c, whole.data)
		if _, err := c.Get(torn.key.String(), nil); !isMissing(err) {
			t.Errorf("%d bytes of the torn one: %v", cut, err)
		}
		if s := c.Stats(); s.Chunks != 2 || s.DeadBytes != int64(cut) {
			t.Errorf("%d bytes: %+v", cut, s)
		}
		putChunks(t, c, "o", torn.data)
		c = reopen(t, c)
		mustGet(t, c, torn.data)
		if err := consistent(c); err != nil {
			t.Error(err)
		}
	}
}

// looksLike is bytes of a chunk that look like the head of a record of n bytes. A chunk may hold any: a copy of
// a segment, for one.
func looksLike(n int) []byte {
	return append(head{codec: Raw, raw: uint32(n), stored: uint32(n)}.append([]byte("torn")), 1, 2, 3)
}

// What is torn may look like a record that reaches over whole ones: it hides none of them, neither when the
// segment is opened nor when it is compacted.
func TestWhatLooksLikeARecordHidesNone(t *testing.T) {
	fs := vfs.NewMem()
	c := openChunks(t, fs, small)
	data := noise(1, 100_000)
	whole := &record{data: noise(2, 100_000)}
	whole.key = must(parseDigest(DigestOf(whole.data)))
	tail := append(append(looksLike(50_000), whole.encode().append(nil)...), whole.body...)
	if _, err := c.writer.file.WriteAt(tail, 0); err != nil {
		t.Fatal(err)
	}
	c = reopen(t, c)
	mustGet(t, c, whole.data)
	putChunks(t, c, "o", data)
	for c.writer.id == 1 {
		drop(t, c, noise(3, 200_000))
		putChunks(t, c, "o", noise(3, 200_000))
	}
	if r, err := c.Compact(t.Context()); err != nil || r.Segments != 1 || r.Skipped != 0 {
		t.Errorf("%+v: %v", r, err)
	}
	mustGet(t, c, whole.data)
	mustGet(t, c, data)
}

// What was written when the agent was killed is in the kernel's memory, not on the disk. Taken up, it is as
// durable as what was put: a put that finds it here relies on it.
func TestWhatIsTakenUpOutlivesAPowerCut(t *testing.T) {
	fs := vfs.NewCrashableMem()
	c := openChunks(t, fs, small)
	putChunks(t, c, "o", noise(1, 100_000))
	r := &record{data: noise(2, 100_000)}
	r.key = must(parseDigest(DigestOf(r.data)))
	if _, err := c.writer.append(r.encode(), r.body); err != nil {
		t.Fatal(err)
	}
	c = reopen(t, c)
	putChunks(t, c, "o", r.data)
	if s := c.Stats(); s.Hits != 1 {
		t.Fatalf("it was not taken up: %+v", s)
	}
	c = openChunks(t, fs.CrashClone(vfs.CrashCloneCfg{}), small)
	mustGet(t, c, r.data)
}

func TestASegmentThatIsGone(t *testing.T) {
	fs := vfs.NewMem()
	c := openChunks(t, fs, small)
	s := fillSegments(t, c, 1)
	if err := errors.Join(c.Close(), fs.Remove("chunks/segments/"+segmentName(1))); err != nil {
		t.Fatal(err)
	}
	c = openChunks(t, fs, small)
	for _, data := range s[0] {
		_, err := c.Get(DigestOf(data), nil)
		mustBe(t, err, api.CodeInternal, ErrCorrupt)
	}
	mustGet(t, c, s[1][0])
	if _, err := c.Compact(t.Context()); err != nil {
		t.Error(err)
	}
	if st := c.Stats(); st.DeadBytes != 0 || st.Quarantined != int64(len(s[0])) {
		t.Errorf("%+v", st)
	}
}

// A segment that is gone does not keep others from being compacted, whatever lives in it by the index.
func TestASegmentThatIsGoneHoldsUpNoOther(t *testing.T) {
	fs := vfs.NewMem()
	c := openChunks(t, fs, small)
	s := fillSegments(t, c, 2)
	drop(t, c, s[0][1:]...) // the first is compacted first
	drop(t, c, s[1][2:]...)
	if err := errors.Join(c.Close(), fs.Remove("chunks/segments/"+segmentName(1))); err != nil {
		t.Fatal(err)
	}
	c = openChunks(t, fs, small)
	if r, err := c.Compact(t.Context()); err != nil || r.Segments != 1 || r.Skipped != 1 {
		t.Errorf("%+v: %v", r, err)
	}
	mustGet(t, c, s[1][0])
}

// indexFiles are the files of the index whose name matches.
func indexFiles(t *testing.T, fs vfs.FS, suffix string) (out []string) {
	t.Helper()
	names, err := fs.List("chunks/index")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, suffix) || strings.HasPrefix(name, suffix) {
			out = append(out, "chunks/index/"+name)
		}
	}
	return out
}

// An index that is lost, or damaged in any of its files, costs the chunks that lived in it and the
// pins. All the others are found again, and nothing is collected for a day.
func TestTheIndexIsMadeAgain(t *testing.T) {
	for name, harm := range map[string]func(*testing.T, vfs.FS){
		"lost": func(t *testing.T, fs vfs.FS) { _ = must(0, fs.RemoveAll("chunks/index")) },
		"no manifest": func(t *testing.T, fs vfs.FS) {
			for _, f := range indexFiles(t, fs, "MANIFEST") {
				_ = must(0, fs.Remove(f))
			}
		},
		"manifest": func(t *testing.T, fs vfs.FS) {
			for _, f := range indexFiles(t, fs, "MANIFEST") {
				flip(t, fs, f, 20, 0xff)
			}
		},
		"no table": func(t *testing.T, fs vfs.FS) {
			for _, f := range indexFiles(t, fs, ".sst") {
				_ = must(0, fs.Remove(f))
			}
		},
		"table": func(t *testing.T, fs vfs.FS) {
			for _, f := range indexFiles(t, fs, ".sst") {
				flip(t, fs, f, 3, 0xff)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			c := openChunks(t, fs, small)
			s := fillSegments(t, c, 2)
			putChunks(t, c, "o", []byte("small"))
			drop(t, c, s[0][0])
			if err := errors.Join(c.db.Flush(), c.Close()); err != nil {
				t.Fatal(err)
			}
			harm(t, fs)
			checkRebuilt(t, openChunks(t, fs, small), slices.Concat(s...))
		})
	}
}

func checkRebuilt(t *testing.T, c *Chunks, large [][]byte) {
	t.Helper()
	for _, data := range large { // a damaged table shows when it is read
		if _, err := c.Get(DigestOf(data), nil); err != nil {
			c = reopen(t, c)
			break
		}
	}
	for _, data := range large { // the deleted one too, until it is collected
		mustGet(t, c, data)
	}
	if _, err := c.Get(DigestOf([]byte("small")), nil); !isMissing(err) {
		t.Errorf("the small chunk: %v", err)
	}
	if owners, err := c.Owners(DigestOf(large[1]), 1); err != nil || len(owners) != 0 {
		t.Errorf("owners %v: %v", owners, err)
	}
	if err := consistent(c); err != nil {
		t.Error(err)
	}
	c = reopen(t, c)
	pass1(t, c, day, yes)
	if r := pass1(t, c, day.Add(HoldAfterRebuild-1), yes); !r.Held || r.Deleted != 0 || r.Ripe != len(large) {
		t.Errorf("just before the hold ends: %+v", r)
	}
	putChunks(t, c, "o", large[1:]...)
	if r := pass1(t, c, day.Add(HoldAfterRebuild), yes); r.Held || r.Deleted != 1 {
		t.Errorf("after the hold: %+v", r)
	}
}

// A bit that flips in the log of the index may cost its end. What the segments hold is taken up again.
func TestAFlippedBitInTheLogOfTheIndex(t *testing.T) {
	for at := int64(0); at < 2000; at += 97 {
		fs := vfs.NewMem()
		c := openChunks(t, fs, small)
		data := [][]byte{noise(1, 100_000), noise(2, 200_000), text(3, 300_000)}
		for _, b := range data {
			putChunks(t, c, "o", b)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		logs := indexFiles(t, fs, ".log")
		info, err := fs.Stat(logs[len(logs)-1])
		if err != nil || info.Size() <= at {
			break
		}
		flip(t, fs, logs[len(logs)-1], at, 4)
		c = openChunks(t, fs, small)
		for _, b := range data {
			mustGet(t, c, b)
		}
		if err := errors.Join(consistent(c), c.Close()); err != nil {
			t.Fatalf("byte %d: %v", at, err)
		}
	}
}

// copyFiles copies the files of a folder into another.
func copyFiles(t *testing.T, fs vfs.FS, from, to string) {
	t.Helper()
	names, err := fs.List(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(fs.RemoveAll(to), fs.MkdirAll(to, 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := vfs.Copy(fs, fs.PathJoin(from, name), fs.PathJoin(to, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// An index that has lost its end may say that chunks are in a segment which a compaction has removed
// since. They are found where that has put them.
func TestAnIndexFromBeforeACompaction(t *testing.T) {
	fs := vfs.NewMem()
	c := openChunks(t, fs, small)
	s := fillSegments(t, c, 1)
	drop(t, c, s[0][:6]...)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	copyFiles(t, fs, "chunks/index", "before")
	c = openChunks(t, fs, small)
	if r, err := c.Compact(t.Context()); err != nil || r.Segments != 1 {
		t.Fatalf("%+v: %v", r, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	copyFiles(t, fs, "before", "chunks/index")
	c = openChunks(t, fs, small)
	for _, data := range s[0][6:] {
		mustGet(t, c, data)
	}
	if err := consistent(c); err != nil {
		t.Error(err)
	}
}
