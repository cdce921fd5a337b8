package objects

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/split"
)

// compareRefs looks at each chunk by itself, and at pages of all.
func (r *modelRun) compareRefs(t *rapid.T, v *View) {
	var all []Ref
	for i := range modelChunks + modelParity {
		want := r.asked(i)
		got, err := Reference(v, want.Digest)
		check(t, err)
		bytes := got.Bytes
		got.Bytes = 0
		if g := r.groupOf(i); g != nil {
			want.Group, want.Shard = g.Sum(), g.Shard(want.Digest)
			if want.Cold || want.Names == 0 {
				want.R = 1
			}
		}
		if got != want || bytes != 0 && bytes != int64(chunkNo(i).Bytes) {
			t.Fatalf("chunk %d of %d bytes: %+v, want %+v", i, bytes, got, want)
		}
		if got.Bytes = bytes; got.Wanted() {
			all = append(all, got)
		}
	}
	slices.SortFunc(all, func(a, b Ref) int { return bytes.Compare(a.Digest[:], b.Digest[:]) })
	var paged []Ref
	for after, more := (digest{}), true; more; {
		page, err := Referenced(v, after, 2)
		check(t, err)
		if more = len(page) == 2; len(page) > 0 {
			after = page[len(page)-1].Digest
		}
		paged = append(paged, page...)
	}
	if !slices.Equal(paged, all) {
		t.Fatalf("pages show %+v, want %+v", paged, all)
	}
}

// A chunk has the most copies that a row asks for, as the row's bucket was when the row was made, and is
// cold while no row of a hot bucket names it.
func TestTheMostCopiesAskedForCount(t *testing.T) {
	w := newWorld(t)
	bucket := func(name string, replicas int, class string) {
		t.Helper()
		w.must(Command{CreateBucket: &api.Bucket{Name: name, Replicas: replicas, Class: class}})
	}
	bucket("assets", 2, api.ClassCold)
	bucket("archive", 5, api.ClassCold)
	bucket("site", 3, api.ClassHot)
	w.must(open("s1"))
	want := func(what string, names int64, r int, cold bool) {
		t.Helper()
		got, err := Reference(w.rows, chunkNo(1).Digest)
		if want := (Ref{Digest: chunkNo(1).Digest, Bytes: int64(chunkNo(1).Bytes), Names: names, R: r, Cold: cold}); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", what, got, err, want)
		}
	}
	w.must(put("a", 1))
	want("one row", 1, 2, true)
	copied := func(to string) {
		t.Helper()
		w.must(Command{Copy: &Copy{FromBucket: "assets", FromKey: "a", Bucket: to, Key: "a"}})
	}
	copied("archive")
	want("copied to where more are kept", 2, 5, true)
	copied("site")
	want("and to a hot bucket", 3, 5, false)
	w.must(Command{UpdateBucket: &UpdateBucket{Bucket: api.Bucket{Name: "archive", Replicas: 7}}})
	want("a bucket that has changed since", 3, 5, false)
	w.must(Command{Delete: &Delete{Bucket: "archive", Key: "a"}})
	want("without the one that asked for most", 2, 3, false)
	w.must(Command{Delete: &Delete{Bucket: "site", Key: "a"}})
	want("and without the hot one", 1, 2, true)
	w.must(Command{UpdateBucket: &UpdateBucket{Bucket: api.Bucket{Name: "assets", Replicas: 4}}})
	w.must(put("a", 1))
	want("put again in a bucket that has changed", 1, 4, false)
	w.must(Command{Delete: &Delete{Bucket: "assets", Key: "a"}})
	if refs, err := Referenced(w.rows, digest{}, 9); err != nil || len(refs) != 0 {
		t.Errorf("%+v, %v", refs, err)
	}
}

func TestReferencesAreReadAsWritten(t *testing.T) {
	r := reference{bytes: split.MaxChunkBytes}
	r.names[1], r.names[coldWish|7] = 1, 1<<62
	if got, err := decodeReference(r.encode()); err != nil || got != r {
		t.Errorf("%+v, %v", got, err)
	}
	for _, r := range []reference{{bytes: 5, group: digest{1}, shard: 5}, {bytes: 5, group: digest{1}, names: [wishes]int64{3: 2}}} {
		if got, err := decodeReference(r.encode()); err != nil || got != r {
			t.Errorf("%+v, %v, want %+v", got, err, r)
		}
	}
	group := string(append([]byte{groupedFormat}, bytes.Repeat([]byte{7}, len(digest{}))...))
	if b := (reference{bytes: 5}).encode(); b != nil {
		t.Errorf("a chunk that nothing names has the row %q", b)
	}
	for name, b := range map[string]string{
		"empty": "", "another format": "\x03\x05\x03\x01", "a group cut short": group[:len(digest{})], "no shard": group, "no such shard": group + "\x06\x05",
		"a group that is none": "\x02" + string(make([]byte, len(digest{}))) + "\x00\x05", "no length": "\x01", "no names": "\x01\x05",
		"a wish and no number": "\x01\x05\x03", "named by none": "\x01\x05\x03\x00", "no copies": "\x01\x05\x00\x01", "no copies and cold": "\x01\x05\x08\x01",
		"too many copies": "\x01\x05\x10\x01", "out of order": "\x01\x05\x03\x01\x02\x01", "twice": "\x01\x05\x03\x01\x03\x01",
		"too long a chunk": "\x01\x81\x80\x80\x02\x03\x01",
	} {
		if r, err := decodeReference([]byte(b)); api.CodeOf(err) != api.CodeInternal {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}
