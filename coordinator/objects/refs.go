package objects

import (
	"encoding/binary"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/erasure"
	"github.com/cloudless/cloudless/chunkstore/split"
)

// Ref is what the rows that name a chunk ask for.
type Ref struct {
	Digest [32]byte
	Bytes  int64    // 0 while only sessions name it
	Names  int64    // rows that name it
	R      int      // the most copies that one of them asks for
	Cold   bool     // all of them are of cold buckets
	Group  [32]byte // of which it is a shard, so that one copy is enough while it is cold; zero: none
	Shard  int      // which one
}

// Grouped tells whether the chunk is a shard of a group, which names it as a row does.
func (r Ref) Grouped() bool { return r.Group != digest{} }

// Wanted tells whether anything refers to the chunk.
func (r Ref) Wanted() bool { return r.Names > 0 || r.Grouped() }

// Name is the digest as nodes know it.
func (r Ref) Name() string { return split.Chunk{Digest: r.Digest}.Name() }

// Reference is what the rows ask of one chunk; Names is 0 when there is none.
func Reference(rows Rows, chunk [32]byte) (Ref, error) {
	value, err := rows.Get(countKey(chunk))
	if err != nil {
		return Ref{}, err
	}
	r, err := decodeReference(value)
	return r.ref(chunk), err
}

// Referenced is a page of the chunks that rows or groups name, in the order of digests, behind after; the zero
// digest is the start.
func Referenced(rows Rows, after [32]byte, limit int) (out []Ref, err error) {
	from := countKeys
	if after != (digest{}) {
		from = countKey(after) + "\x00"
	}
	err = eachFrom(rows, from, countKeys, func(key string, value []byte) (bool, error) {
		if len(key) != len(countKeys)+len(digest{}) {
			return false, damaged("a chunk is named by %d bytes", len(key)-len(countKeys))
		}
		r, err := decodeReference(value)
		out = append(out, r.ref(digest([]byte(key[len(countKeys):]))))
		return len(out) < limit, err
	})
	return out, err
}

// Unreferenced are those of the chunks that no row and no group names. A node may delete them if it has no pin of its own.
func Unreferenced(rows Rows, chunks [][32]byte) (out [][32]byte, err error) {
	for _, c := range chunks {
		value, err := rows.Get(countKey(c))
		if err != nil {
			return nil, err
		}
		if value == nil {
			out = append(out, c)
		}
	}
	return out, nil
}

// wish is how one row wants its chunks to be kept, as a small number: the copies, and coldWish when its
// bucket is cold.
type wish uint8

const (
	coldWish wish = 8
	wishes        = 16
	_             = uint(coldWish - 1 - api.MaxBucketReplicas) // the copies fit below it
)

// wishOf gives 0, which no row may have, for terms that cannot be.
func wishOf(t api.Terms) wish {
	if t.Replicas < 1 || t.Replicas > api.MaxBucketReplicas {
		return 0
	}
	w := wish(t.Replicas)
	if t.Class == api.ClassCold {
		w |= coldWish
	}
	return w
}

func termsOf(b *api.Bucket) api.Terms { return api.Terms{Replicas: b.Replicas, Class: b.Class} }

// reference is a chunk's row: its length, how many rows have each wish, and the group that it is in.
type reference struct {
	bytes int64
	names [wishes]int64
	group digest // zero: none
	shard int    // which one of the group
}

func (r reference) named() bool { return r.names != [wishes]int64{} }

func (r reference) ref(chunk digest) Ref {
	out := Ref{Digest: chunk, Bytes: r.bytes, Cold: true, Group: r.group, Shard: r.shard}
	for w, n := range r.names {
		if n > 0 {
			out.Names += n
			out.R = max(out.R, w&int(coldWish-1))
			out.Cold = out.Cold && w&int(coldWish) != 0
		}
	}
	out.Cold = out.Cold && out.Names > 0
	if out.Grouped() && (out.Cold || out.Names == 0) {
		out.R = 1
	}
	return out
}

// referenceFormat is the first byte of a chunk's row, groupedFormat that of one in a group. Then come the
// group's id and which of its shards the chunk is, if it is one; its length; and, for each wish that there
// is, in ascending order, the wish and how many rows have it. Numbers are uvarints.
const (
	referenceFormat = 1
	groupedFormat   = 2
)

// encode gives nil, which is no row, when nothing names the chunk.
func (r reference) encode() []byte {
	if r.group == (digest{}) && !r.named() {
		return nil
	}
	b := []byte{referenceFormat}
	if r.group != (digest{}) {
		b = binary.AppendUvarint(append([]byte{groupedFormat}, r.group[:]...), uint64(r.shard))
	}
	b = binary.AppendUvarint(b, uint64(r.bytes))
	for w, n := range r.names {
		if n > 0 {
			b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(w)), uint64(n))
		}
	}
	return b
}

// decodeReference reads what encode gave; nil is a chunk that nothing names.
func decodeReference(b []byte) (r reference, err error) {
	if b == nil {
		return r, nil
	}
	bad := damaged("how often a chunk is named cannot be read")
	if len(b) == 0 || b[0] != referenceFormat && (b[0] != groupedFormat || len(b) <= len(digest{})) {
		return r, bad
	}
	grouped := b[0] == groupedFormat
	if b = b[1:]; grouped {
		r.group, b = digest(b[:len(digest{})]), b[len(digest{}):]
		if r.group == (digest{}) {
			return reference{}, bad
		}
	}
	number := func(limit uint64) int64 {
		x, n := binary.Uvarint(b)
		if n <= 0 || x > limit {
			err, b = bad, nil
			return 0
		}
		b = b[n:]
		return int64(x)
	}
	if grouped {
		r.shard = int(number(erasure.Shards - 1))
	}
	r.bytes = number(split.MaxChunkBytes)
	last := int64(0)
	for len(b) > 0 {
		w := number(wishes - 1)
		n := number(1 << 62)
		if w <= last || w == int64(coldWish) || n == 0 {
			return reference{}, bad
		}
		last, r.names[w] = w, n
	}
	if err == nil && last == 0 && !grouped {
		err = bad
	}
	return r, err
}

// naming is a chunk as rows with one wish name it.
type naming struct {
	chunk digest
	wish  wish
}

// renaming is by how much the number of those rows changes; bytes is the chunk's length, if it is known.
type renaming struct{ by, bytes int64 }

// refer counts that a row names the chunks of m, or that it does so no more. A row counts once for a
// chunk, however often it names it.
func (d *decision) refer(m *split.Manifest, t api.Terms, by int64) {
	if m == nil {
		return
	}
	seen := make(map[digest]bool, len(m.Chunks))
	for _, c := range m.Chunks {
		if !seen[c.Digest] {
			seen[c.Digest] = true
			d.rename(c.Digest, t, renaming{by, int64(c.Bytes)})
		}
	}
}

func (d *decision) rename(chunk digest, t api.Terms, by renaming) {
	w := wishOf(t)
	if w == 0 {
		d.fail(damaged("a row asks for %d copies of its chunks", t.Replicas))
		return
	}
	n := d.names[naming{chunk, w}]
	d.names[naming{chunk, w}] = renaming{n.by + by.by, max(n.bytes, by.bytes)}
}

// settleNames writes what refer has added up. New names come before those that are gone, so that a row
// does not go and come again: what is written does not depend on the order of a map.
func (d *decision) settleNames() {
	for _, sign := range []int64{1, -1} {
		for n, r := range d.names {
			if r.by*sign > 0 {
				d.count(n, r)
			}
		}
	}
	for n := range d.names {
		d.release(n.chunk)
	}
}

func (d *decision) count(n naming, by renaming) {
	key := countKey(n.chunk)
	r, err := decodeReference(d.get(key))
	r.bytes = max(r.bytes, by.bytes)
	r.names[n.wish] += by.by
	if err == nil && r.names[n.wish] < 0 {
		err = damaged("a chunk is named by %d rows", r.names[n.wish])
	}
	if err != nil {
		d.fail(err)
		return
	}
	d.set[key] = r.encode()
}
