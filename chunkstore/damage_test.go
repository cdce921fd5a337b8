package chunkstore

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/cloudless/cloudless/api"
)

// The bytes of a record are on people's disks.
func TestRecordHasItsGoldenBytes(t *testing.T) {
	r := &record{key: key{1, 2, 3}, data: []byte("hello"), codec: S2}
	got := hex.EncodeToString(append(r.encode().append(nil), r.body...))
	want := "434c5231" + "02000000" + "05000000" + "05000000" + "010203" + strings.Repeat("00", 29) + "4cbb719a" + "99cecb30" + "68656c6c6f"
	if got != want {
		t.Errorf("record is\n%s, want\n%s", got, want)
	}
	h, err := decodeHead(r.encode().append(nil))
	if err != nil || h != r.encode() {
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
	e, err := c.lookup(must(parseDigest(d)))
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
			store: func(g *group) error { return g.keep(r) },
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
		r, err := c.Scrub(t.Context(), Scrubbing{Now: day, MaxBytes: 200_000})
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
	if r, err := c.Scrub(t.Context(), Scrubbing{Now: day, MaxBytes: 1 << 30}); err != nil || r.Chunks != 9 || !r.Wrapped {
		t.Errorf("from the start again: %+v, %v", r, err)
	}
}

func TestScrubTellsWhenItWasWhole(t *testing.T) {
	c := openChunks(t, vfs.NewMem(), small)
	putChunks(t, c, "o", noise(1, 90_000), noise(2, 90_000), noise(3, 90_000))
	scrub := func(o Scrubbing, chunks int, whole bool) {
		t.Helper()
		if r, err := c.Scrub(t.Context(), o); err != nil || r.Chunks != chunks || r.Wrapped != whole {
			t.Errorf("%+v: %+v, %v", o, r, err)
		}
	}
	is := func(want time.Time) {
		t.Helper()
		if at, err := c.ScrubbedAt(); err != nil || !at.Equal(want) {
			t.Errorf("scrubbed at %v, want %v: %v", at, want, err)
		}
	}
	is(time.Time{})
	scrub(Scrubbing{Now: day, MaxBytes: 100_000}, 2, false)
	is(time.Time{})
	scrub(Scrubbing{Now: day.Add(1), MaxBytes: 1 << 30, Restart: true}, 3, true)
	is(day.Add(1))
	scrub(Scrubbing{Now: day.Add(2), MaxBytes: 1}, 1, false)
	c = reopen(t, c)
	is(day.Add(1))
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
				if _, err := c.Scrub(t.Context(), Scrubbing{Now: day, MaxBytes: 1 << 30}); err != nil {
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

// What cannot be read for a reason of ours, such as too many open files, is no damage.
func TestAFailureToOpenIsNoDamage(t *testing.T) {
	armed := false
	busy := &os.PathError{Op: "open", Path: "x", Err: syscall.EMFILE}
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if armed && op.Kind == errorfs.OpOpen && strings.HasSuffix(op.Path, segmentSuffix) {
			return busy
		}
		return nil
	}))
	c := openChunks(t, fs, small)
	d := putChunks(t, c, "o", noise(1, 100_000))[0]
	armed = true
	_, err := c.Get(d, nil)
	mustBe(t, err, api.CodeUnavailable, syscall.EMFILE)
	if s := c.Stats(); s.Quarantined != 0 || s.Chunks != 1 {
		t.Errorf("%+v", s)
	}
}

// Of many damaged records the first are kept for people to look at.
func TestTheQuarantineIsBounded(t *testing.T) {
	fs := vfs.NewMem()
	c := openChunks(t, fs, small)
	for i := range maxQuarantined + 3 {
		d := putChunks(t, c, "o", noise(uint64(i), inlineBytes+1))[0]
		e, err := c.lookup(must(parseDigest(d)))
		if err != nil {
			t.Fatal(err)
		}
		flip(t, fs, "chunks/segments/"+segmentName(e.segment), e.offset+headBytes, 1)
		mustBe(t, c.Verify(d), api.CodeInternal, ErrCorrupt)
	}
	names, err := fs.List("chunks/quarantine")
	if err != nil || len(names) != maxQuarantined || c.Stats().Quarantined != maxQuarantined+3 {
		t.Errorf("%d files, %+v: %v", len(names), c.Stats(), err)
	}
	page, err := c.Damaged("", 10)
	rest, err2 := c.Damaged(page[len(page)-1], 1000)
	if err != nil || err2 != nil || len(page)+len(rest) != maxQuarantined+3 {
		t.Errorf("%d and %d are listed: %v, %v", len(page), len(rest), err, err2)
	}
}
