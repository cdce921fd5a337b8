package chunkstore

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cloudless/cloudless/api"
)

// The bytes of a record are on people's disks.
func TestRecordHasItsGoldenBytes(t *testing.T) {
	r := &record{key: key{1, 2, 3}, data: []byte("hello"), codec: S2}
	r.encode()
	got := hex.EncodeToString(append(r.head().append(nil), r.body...))
	want := "434c5231" + "02000000" + "05000000" + "05000000" + "010203" + strings.Repeat("00", 29) + "4cbb719a" + "99cecb30" + "68656c6c6f"
	if got != want {
		t.Errorf("record is\n%s, want\n%s", got, want)
	}
	h, err := decodeHead(r.head().append(nil))
	if err != nil || h != r.head() {
		t.Errorf("decoded %+v: %v", h, err)
	}
}

func flip(t *testing.T, fs vfs.FS, path string, at int64, bit byte) {
	t.Helper()
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= bit
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// A bit that flips anywhere in a record is found at the next read. The chunk is moved aside, told and
// counted, its pins stay, and a put of it makes all well.
func TestABitThatFlipsInARecordIsFound(t *testing.T) {
	fields := map[string]int64{"magic": 1, "codec": 4, "zeros": 6, "raw": 8, "stored": 13, "digest": 20, "sum of the bytes": 49, "sum of the head": 55, "first byte": headBytes, "last byte": -1}
	for name, at := range fields {
		for _, data := range [][]byte{noise(1, 100_000), text(2, 1<<20)} {
			t.Run(fmt.Sprint(name, len(data)), func(t *testing.T) { flipIn(t, at, data) })
		}
	}
}

func flipIn(t *testing.T, at int64, data []byte) {
	var told []string
	o := small
	o.OnDamage = func(digest string, _ error) { told = append(told, digest) }
	fs := vfs.NewMem()
	c := openChunks(t, fs, o)
	other := noise(3, 200_000)
	putChunks(t, c, "o", data, other)
	d := DigestOf(data)
	e, err := c.lookup(key(must(parseDigest(d))))
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		at += e.bytes()
	}
	flip(t, fs, "chunks/segments/"+segmentName(1), e.offset+at, 0x10)
	for range 2 {
		_, err = c.Get(d, nil)
		mustBe(t, err, api.CodeInternal, ErrCorrupt)
	}
	if has, err := c.Has(d); has || err != nil {
		t.Errorf("has %v, %v", has, err)
	}
	if s := c.Stats(); s.Quarantined != 1 || s.Chunks != 1 || !slices.Equal(told, []string{d}) {
		t.Errorf("%+v, told %v", s, told)
	}
	if list, err := c.Damaged("", 10); err != nil || !slices.Equal(list, []string{d}) {
		t.Errorf("damaged %v: %v", list, err)
	}
	if f, err := fs.Open("chunks/quarantine/" + strings.TrimPrefix(d, digestPrefix)); err != nil {
		t.Error(err)
	} else if err := f.Close(); err != nil {
		t.Error(err)
	}
	mustGet(t, c, other)
	c = reopen(t, c)
	if owners, err := c.Owners(d, 9); err != nil || !slices.Equal(owners, []string{"o"}) {
		t.Errorf("owners %q: %v", owners, err)
	}
	putChunks(t, c, "", data)
	mustGet(t, c, data)
	if s := c.Stats(); s.Quarantined != 0 || s.Chunks != 2 {
		t.Errorf("after the repair: %+v", s)
	}
	if err := consistent(c); err != nil {
		t.Error(err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Bytes with a right checksum and a wrong digest are found by Verify, as no read would.
func TestVerifyComparesTheDigest(t *testing.T) {
	c := openChunks(t, vfs.NewMem(), small)
	for _, size := range []int{1000, 100_000} {
		r := &record{key: key{byte(size)}, data: noise(1, size), codec: S2}
		err := c.submit(&request{
			store: func(g *group) error { return g.keep([]*record{r}) },
			stage: func(g *group) error { g.stagePut("o", []*record{r}); return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(r.key.String(), nil); err != nil {
			t.Fatal(err)
		}
		mustBe(t, c.Verify(r.key.String()), api.CodeInternal, ErrCorrupt)
		_, err = c.Get(r.key.String(), nil)
		mustBe(t, err, api.CodeInternal, ErrCorrupt)
	}
}

func TestScrubGoesThroughTheWholeStore(t *testing.T) {
	fs := vfs.NewMem()
	c := openChunks(t, fs, small)
	for i := range 10 {
		putChunks(t, c, "o", noise(uint64(i), 90_000+i))
	}
	flip(t, fs, "chunks/segments/"+segmentName(1), 500_000, 1)
	var total ScrubReport
	for pass := 1; ; pass++ {
		r, err := c.Scrub(t.Context(), 200_000)
		if err != nil {
			t.Fatal(err)
		}
		total.Chunks += r.Chunks
		total.Damaged += r.Damaged
		c = reopen(t, c) // the place is kept
		if r.Wrapped {
			if pass < 4 {
				t.Errorf("only %d passes: the bound was not kept", pass)
			}
			break
		}
	}
	if total.Chunks != 10 || total.Damaged != 1 {
		t.Errorf("%+v", total)
	}
	if r, err := c.Scrub(t.Context(), 1<<30); err != nil || r.Chunks != 9 || !r.Wrapped {
		t.Errorf("from the start again: %+v, %v", r, err)
	}
}

// What a compaction comes upon is taken out of service too, and hides no other chunk.
func TestCompactionFindsDamage(t *testing.T) {
	for name, at := range map[string]int64{"in the head": 8, "in the bytes": 50_000} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			c := openChunks(t, fs, small)
			s := fillSegments(t, c, 1)
			drop(t, c, s[0][:5]...)
			bad, good := s[0][5], s[0][6:]
			flip(t, fs, "chunks/segments/"+segmentName(1), 5*100_056+at, 1)
			r, err := c.Compact(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if r.Skipped == 1 { // a head that cannot be read does not say whose it is: a scrub finds out
				if _, err := c.Scrub(t.Context(), 1<<30); err != nil {
					t.Fatal(err)
				}
				r, err = c.Compact(t.Context())
			}
			if err != nil || r.Segments != 1 {
				t.Fatalf("%+v: %v", r, err)
			}
			for _, data := range good {
				mustGet(t, c, data)
			}
			_, err = c.Get(DigestOf(bad), nil)
			mustBe(t, err, api.CodeInternal, ErrCorrupt)
		})
	}
}

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
			r.encode()
			tail = append(append(tail, r.head().append(nil)...), r.body...)
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
