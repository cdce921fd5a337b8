package chunkstore

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cloudless/cloudless/api"
)

func TestPutThenGetOfEachKind(t *testing.T) {
	for _, c := range []struct {
		name  string
		data  []byte
		codec Codec
		want  Codec
	}{
		{"one byte", []byte("x"), S2, Raw},
		{"as large as the index takes", noise(1, inlineBytes), S2, Raw},
		{"one more", noise(2, inlineBytes+1), S2, Raw},
		{"small text", text(3, 4096), S2, S2},
		{"large text", text(4, 1<<20), S2, S2},
		{"large text in zstd", text(5, 1<<20), Zstd, Zstd},
		{"small text in zstd", text(6, 4096), Zstd, Zstd},
		{"noise in zstd", noise(7, 100_000), Zstd, Raw},
		{"text that is to stay raw", text(8, 100_000), Raw, Raw},
		{"the largest", noise(9, MaxChunkBytes), S2, Raw},
		{"the largest text in zstd", text(10, MaxChunkBytes), Zstd, Zstd},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openChunks(t, vfs.NewCrashableMem(), small)
			if err := s.Put(t.Context(), PutOptions{Codec: c.codec}, chunkOf(c.data)); err != nil {
				t.Fatal(err)
			}
			mustGet(t, s, c.data)
			s = reopen(t, s)
			mustGet(t, s, c.data)
			list, err := s.List("", 10)
			if err != nil || len(list) != 1 || list[0].Codec != c.want || list[0].Bytes != int64(len(c.data)) {
				t.Errorf("list %+v: %v, want codec %s", list, err, c.want)
			}
			if err := s.Verify(DigestOf(c.data)); err != nil {
				t.Error(err)
			}
			prefix := []byte("before")
			got, err := s.Get(DigestOf(c.data), prefix)
			if err != nil || !bytes.Equal(got, append(prefix, c.data...)) {
				t.Errorf("appended wrong: %v", err)
			}
		})
	}
}

func TestPutRefusesChunks(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	s := openChunks(t, vfs.NewMem(), small)
	good := chunkOf([]byte("good"))
	for _, c := range []struct {
		name   string
		ctx    context.Context
		o      PutOptions
		chunks []Chunk
		code   api.Code
	}{
		{"other bytes", t.Context(), PutOptions{}, []Chunk{good, {Digest: good.Digest, Data: []byte("bad")}}, api.CodeUnsupMedia},
		{"no digest", t.Context(), PutOptions{}, []Chunk{{Digest: "good", Data: []byte("good")}}, api.CodeInvalid},
		{"nothing", t.Context(), PutOptions{}, []Chunk{chunkOf(nil)}, api.CodeTooLarge},
		{"too large", t.Context(), PutOptions{}, []Chunk{chunkOf(make([]byte, MaxChunkBytes+1))}, api.CodeTooLarge},
		{"too many at once", t.Context(), PutOptions{}, []Chunk{chunkOf(noise(1, MaxChunkBytes)), chunkOf(noise(2, MaxChunkBytes)), good}, api.CodeTooLarge},
		{"unknown codec", t.Context(), PutOptions{Codec: 9}, []Chunk{good}, api.CodeInvalid},
		{"long owner", t.Context(), PutOptions{Owner: string(make([]byte, MaxOwnerBytes+1))}, []Chunk{good}, api.CodeInvalid},
		{"cancelled", cancelled, PutOptions{}, []Chunk{good}, api.CodeTimeout},
	} {
		if c.name == "cancelled" { // it is looked at only by who has to wait
			if err := s.budget.Acquire(t.Context(), s.options.budget()); err != nil {
				t.Fatal(err)
			}
		}
		t.Run(c.name, func(t *testing.T) { mustBe(t, s.Put(c.ctx, c.o, c.chunks...), c.code, nil) })
	}
	if stats := s.Stats(); stats.Chunks != 0 {
		t.Errorf("a refused put left %+v", stats)
	}
}

func TestPutAtTheLimits(t *testing.T) {
	s := openChunks(t, vfs.NewMem(), small)
	owner := string(bytes.Repeat([]byte{0xff}, MaxOwnerBytes))
	a, b := noise(1, MaxChunkBytes), noise(2, MaxChunkBytes)
	putChunks(t, s, owner, a, b)
	mustGet(t, s, a)
	if owners, err := s.Owners(DigestOf(b), 2); err != nil || !slices.Equal(owners, []string{owner}) {
		t.Errorf("owners %q: %v", owners, err)
	}
}

func TestRangeOfAChunk(t *testing.T) {
	s := openChunks(t, vfs.NewMem(), small)
	data := text(1, 100_000)
	d := putChunks(t, s, "", data)[0]
	for _, c := range []struct{ off, n, from, to int64 }{
		{0, 10, 0, 10}, {99_999, 1, 99_999, 100_000}, {99_999, 10, 99_999, 100_000}, {100_000, 1, 0, 0}, {200_000, 1, 0, 0}, {5, 0, 0, 0}, {0, 1 << 40, 0, 100_000},
	} {
		got, err := s.GetRange(d, c.off, c.n, []byte("x"))
		if err != nil || !bytes.Equal(got, append([]byte("x"), data[c.from:c.to]...)) {
			t.Errorf("range %d+%d gave %d bytes: %v", c.off, c.n, len(got)-1, err)
		}
	}
	_, err := s.GetRange(d, -1, 1, nil)
	mustBe(t, err, api.CodeInvalid, nil)
}

func TestWhatIsNotHereIsNotFound(t *testing.T) {
	s := openChunks(t, vfs.NewMem(), small)
	d := DigestOf([]byte("never put"))
	_, err := s.Get(d, nil)
	mustBe(t, err, api.CodeNotFound, nil)
	mustBe(t, s.Verify(d), api.CodeNotFound, nil)
	if has, err := s.Has(d); has || err != nil {
		t.Errorf("has %v, %v", has, err)
	}
	if err := s.Delete(d); err != nil {
		t.Error(err)
	}
	_, err = s.Get("sha256:x", nil)
	mustBe(t, err, api.CodeInvalid, nil)
}

// A put of what is here costs no write to a segment, and none at all without a new pin.
func TestDeduplicationCostsNoWrite(t *testing.T) {
	d := newFaulty(vfs.NewMem())
	s := openChunks(t, d, small)
	data := noise(1, 100_000)
	putChunks(t, s, "a", data, data)
	if stats := s.Stats(); stats.Chunks != 1 || stats.Hits != 1 {
		t.Errorf("twice in one put: %+v", stats)
	}
	before := d.written.Load()
	putChunks(t, s, "a", data)
	putChunks(t, s, "", data)
	if n := d.written.Load() - before; n != 0 {
		t.Errorf("%d bytes were written for what is here and pinned", n)
	}
	putChunks(t, s, "b", data)
	if n := d.written.Load() - before; n == 0 || n > 4096 {
		t.Errorf("%d bytes were written for a pin", n)
	}
	if owners, err := s.Owners(DigestOf(data), 10); err != nil || !slices.Equal(owners, []string{"a", "b"}) {
		t.Errorf("owners %q: %v", owners, err)
	}
}

func TestListGoesOnBehindItsCursor(t *testing.T) {
	s := openChunks(t, vfs.NewMem(), small)
	var want []string
	for i := range 25 {
		want = append(want, putChunks(t, s, "", noise(uint64(i), 100))...)
	}
	slices.Sort(want)
	var got []string
	for after := ""; ; {
		page, err := s.List(after, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range page {
			got = append(got, info.Digest)
		}
		if len(page) < 10 {
			break
		}
		after = page[9].Digest
	}
	if !slices.Equal(got, want) {
		t.Errorf("listed %d of %d", len(got), len(want))
	}
}

func TestPinsAreIdempotentAndByOwner(t *testing.T) {
	s := openChunks(t, vfs.NewMem(), small)
	a, b := []byte("a"), noise(1, 100_000)
	d := putChunks(t, s, "up/load", a, b)
	absent := DigestOf([]byte("absent"))
	for range 2 {
		missing, err := s.Ref("manifest", append(d, absent)...)
		if err != nil || !slices.Equal(missing, []string{absent}) {
			t.Fatalf("missing %v: %v", missing, err)
		}
	}
	mustBe(t, s.Delete(d[0]), api.CodeConflict, nil)
	// An owner whose name another's begins with, and one with every odd byte, are others.
	if _, err := s.Ref("up", d...); err != nil {
		t.Fatal(err)
	}
	odd := "up\x00\xff/load" + d[0]
	if _, err := s.Ref(odd, d[0]); err != nil {
		t.Fatal(err)
	}
	for _, owner := range []string{"up/load", "up/load", "up", "manifest"} {
		if err := s.Unref(t.Context(), owner); err != nil {
			t.Fatal(err)
		}
	}
	if owners, err := s.Owners(d[0], 10); err != nil || !slices.Equal(owners, []string{odd}) {
		t.Errorf("owners %q: %v", owners, err)
	}
	mustBe(t, s.Delete(d[1], d[0]), api.CodeConflict, nil)
	mustGet(t, s, b) // of a refused delete nothing is done
	if err := s.Unref(t.Context(), odd, d[0], d[1]); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(d...); err != nil {
		t.Fatal(err)
	}
	if stats := s.Stats(); stats.Chunks != 0 || stats.StoredBytes != 0 || stats.DeadBytes != stats.UsedBytes {
		t.Errorf("left: %+v", stats)
	}
	_, err := s.Ref("", d...)
	mustBe(t, err, api.CodeInvalid, nil)
}

func TestUnrefOfManyChunks(t *testing.T) {
	s := openChunks(t, vfs.NewMem(), small)
	var keys []key
	for i := range unrefChunks + 1 {
		k := key{byte(i), byte(i >> 8)}
		keys = append(keys, k)
	}
	err := s.submit(&request{stage: func(g *group) error {
		for _, k := range keys {
			g.pin("o", k)
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unref(t.Context(), "o"); err != nil {
		t.Fatal(err)
	}
	if left, err := s.pinnedBy("o", 1); err != nil || len(left) != 0 {
		t.Errorf("left %v: %v", left, err)
	}
}

func TestAClosedStoreSaysSo(t *testing.T) {
	s := openChunks(t, vfs.NewMem(), small)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := s.Get(DigestOf([]byte("x")), nil)
	mustBe(t, err, api.CodeUnavailable, nil)
	mustBe(t, s.Put(t.Context(), PutOptions{}, chunkOf([]byte("x"))), api.CodeUnavailable, nil)
}

// Close waits for a call that has begun, and no call begins after it.
func TestCloseWaitsForCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(vfs.NewMem(), "chunks", small)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.enter(); err != nil {
			t.Fatal(err)
		}
		closed := make(chan error, 1)
		go func() { closed <- s.Close() }()
		synctest.Wait()
		select {
		case <-closed:
			t.Fatal("it did not wait")
		default:
		}
		mustBe(t, s.Delete(DigestOf([]byte("x"))), api.CodeUnavailable, nil)
		s.leave()
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

// A put waits for the memory that others hold, no longer than its context lasts.
func TestAPutWaitsForMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openChunks(t, vfs.NewMem(), small)
		if err := s.budget.Acquire(t.Context(), s.options.budget()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		mustBe(t, s.Put(ctx, PutOptions{}, chunkOf([]byte("a"))), api.CodeTimeout, context.DeadlineExceeded)
		done := make(chan error, 1)
		go func() { done <- s.Put(t.Context(), PutOptions{}, chunkOf([]byte("b"))) }()
		synctest.Wait()
		if len(done) > 0 {
			t.Fatal("it did not wait")
		}
		s.budget.Release(s.options.budget())
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Segments that were not read for longest are closed; one that is being read stays readable.
func TestSegmentsOpenForReadingAreBounded(t *testing.T) {
	fs := vfs.NewMem()
	r := newReaders(fs, "")
	for id := range uint64(maxReaders + 3) {
		w, err := openWriter(fs, "", id, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.file.WriteAt([]byte{byte(id)}, 0); err != nil {
			t.Fatal(err)
		}
		if err := w.close(); err != nil {
			t.Fatal(err)
		}
	}
	first := func(id uint64) error {
		return r.read(id, func(f vfs.File) error {
			var b [1]byte
			if err := readFull(f, b[:], 0); err != nil || b[0] != byte(id) {
				t.Errorf("segment %d: %v, %v", id, b, err)
			}
			return nil
		})
	}
	err := r.read(0, func(f vfs.File) error {
		for id := range uint64(maxReaders + 3) {
			if err := first(id); err != nil {
				return err
			}
		}
		if _, open := r.open[0]; open || r.order.Len() != maxReaders {
			t.Errorf("%d are open", r.order.Len())
		}
		if err := r.remove(0); err != nil {
			return err
		}
		return readFull(f, make([]byte, 1), 0)
	})
	if err != nil {
		t.Error(err)
	}
	if err := first(0); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a removed segment: %v", err)
	}
	if err := r.close(); err != nil {
		t.Error(err)
	}
}

func TestAFolderIsForOneStore(t *testing.T) {
	for _, fs := range []vfs.FS{vfs.NewMem(), vfs.Default} {
		dir := t.TempDir()
		if fs != vfs.Default {
			dir = "chunks"
		}
		s, err := Open(fs, dir, small)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Open(fs, dir, small)
		mustBe(t, err, api.CodeConflict, nil)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A disk that refuses a write or a flush fails the put, loses nothing that was acknowledged, and the
// segment is given up, for nobody knows what is in it.
func TestAFlushThatFailsIsNeverTrusted(t *testing.T) {
	d := newFaulty(vfs.NewCrashableMem())
	s := openChunks(t, d, small)
	first := noise(1, 100_000)
	putChunks(t, s, "o", first)
	broken := errors.New("no answer from the disk")
	d.failWrites(func(name string, sync bool) error {
		if sync && bytes.HasSuffix([]byte(name), []byte(segmentSuffix)) {
			return broken
		}
		return nil
	})
	second := noise(2, 100_000)
	mustBe(t, s.Put(t.Context(), PutOptions{}, chunkOf(second)), api.CodeInternal, broken)
	d.failWrites(nil)
	if has, err := s.Has(DigestOf(second)); has || err != nil {
		t.Errorf("has what was not flushed: %v", err)
	}
	putChunks(t, s, "o", noise(3, 100_000))
	if s.writer.id != 2 || s.Stats().DeadBytes != 100_000+headBytes {
		t.Errorf("segment %d is written to: %+v", s.writer.id, s.Stats())
	}
	s = reopen(t, s)
	if has, err := s.Has(DigestOf(second)); has || err != nil {
		t.Errorf("has taken up what was not flushed: %v", err)
	}
	putChunks(t, s, "o", second)
	mustGet(t, s, first)
	mustGet(t, s, second)
	s = reopen(t, s)
	mustGet(t, s, first)
	mustGet(t, s, second)
}

// When the index cannot be written the store stops accepting and goes on reading.
func TestAnIndexThatCannotBeWrittenEndsChangesOnly(t *testing.T) {
	d := newFaulty(vfs.NewCrashableMem())
	s, err := Open(d, "chunks", small)
	if err != nil {
		t.Fatal(err)
	}
	data := noise(1, 100_000)
	putChunks(t, s, "o", data)
	broken := errors.New("no answer from the disk")
	d.failWrites(func(string, bool) error { return broken })
	mustBe(t, s.Delete(DigestOf([]byte("x"))), "", nil) // changes nothing, so it writes nothing
	_, err = s.Ref("p", DigestOf(data))
	mustBe(t, err, api.CodeUnavailable, broken)
	d.failWrites(nil)
	_, err = s.Ref("p", DigestOf(data))
	mustBe(t, err, api.CodeUnavailable, broken)
	mustGet(t, s, data)
	if !s.Stats().Failed {
		t.Error("the stats do not tell")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := openChunks(t, d, small)
	mustGet(t, again, data)
	if _, err := again.Ref("p", DigestOf(data)); err != nil {
		t.Error(err)
	}
}
