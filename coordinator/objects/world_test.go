package objects

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/split"
)

var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// mapRows are rows in a map.
type mapRows map[string][]byte

func (m mapRows) Get(key string) ([]byte, error) { return m[key], nil }

func (m mapRows) Range(from, to string) (Cursor, error) {
	keys := slices.Sorted(maps.Keys(m))
	lo, _ := slices.BinarySearch(keys, from)
	hi := len(keys)
	if to != "" {
		hi, _ = slices.BinarySearch(keys, to)
	}
	return &mapCursor{m, keys[lo:max(lo, hi)], -1}, nil
}

type mapCursor struct {
	rows mapRows
	keys []string
	at   int
}

func (c *mapCursor) Seek(key string) bool {
	c.at, _ = slices.BinarySearch(c.keys, key)
	return c.at < len(c.keys)
}
func (c *mapCursor) Next() bool             { c.at++; return c.at < len(c.keys) }
func (c *mapCursor) Key() string            { return c.keys[c.at] }
func (c *mapCursor) Value() ([]byte, error) { return c.rows[c.keys[c.at]], nil }
func (c *mapCursor) Close() error           { return nil }

// world decides over a map, one command after the other.
type world struct {
	t     testing.TB
	rows  mapRows
	index uint64
	now   time.Time
}

func newWorld(t testing.TB) *world { return &world{t: t, rows: mapRows{}, now: day} }

func (w *world) do(c Command) Result {
	w.t.Helper()
	w.index++
	c.At = w.now
	changes, res, err := Decide(w.rows, w.index, c)
	if err != nil {
		w.t.Fatal(err)
	}
	if res.Err != nil && len(changes) > 0 {
		w.t.Fatalf("%v, but %d rows change", res.Err, len(changes))
	}
	for _, ch := range changes {
		if ch.Value == nil {
			delete(w.rows, ch.Key)
		} else {
			w.rows[ch.Key] = ch.Value
		}
	}
	return res
}

// must does what is not to be refused.
func (w *world) must(c Command) Result {
	w.t.Helper()
	res := w.do(c)
	if res.Err != nil {
		w.t.Fatal(res.Err)
	}
	return res
}

// refuse does what is to be refused with a code, and tells what to do.
func (w *world) refuse(code api.Code, c Command) {
	w.t.Helper()
	before := maps.Clone(w.rows)
	res := w.do(c)
	if res.Err == nil || res.Err.Code != code {
		w.t.Fatalf("%v, want a refusal with code %s", res.Err, code)
	}
	if !maps.EqualFunc(before, w.rows, slices.Equal) {
		w.t.Fatal("a refusal changed rows")
	}
}

func (w *world) usage(bucket string) api.BucketUsage {
	w.t.Helper()
	u, err := Usage(w.rows, bucket)
	if err != nil {
		w.t.Fatal(err)
	}
	return u
}

// refs are the counts of chunks 0 to n-1.
func (w *world) refs(n int) (out []int64) {
	w.t.Helper()
	for i := range n {
		ref, err := Reference(w.rows, chunkNo(i).Digest)
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, ref.Names)
	}
	return out
}

func (w *world) wantRefs(want ...int64) {
	w.t.Helper()
	if got := w.refs(len(want)); !slices.Equal(got, want) {
		w.t.Fatalf("chunks are named by %v rows, want %v", got, want)
	}
}

func bucketNamed(name string) Command { return Command{CreateBucket: &api.Bucket{Name: name}} }

// chunkNo is a chunk of 3 MiB.
func chunkNo(i int) split.Chunk {
	return split.Chunk{Digest: sha256.Sum256(fmt.Append(nil, i)), Bytes: 3 << 20}
}

// manifestNo is the manifest of an object of these chunks.
func manifestNo(chunks ...int) *split.Manifest {
	m := &split.Manifest{}
	for _, i := range chunks {
		m.Chunks = append(m.Chunks, chunkNo(i))
	}
	m.MD5 = md5.Sum(fmt.Append(nil, chunks))
	return m
}

func open(id string) Command { return Command{OpenSession: &OpenSession{ID: id, Bucket: "assets"}} }

func put(key string, chunks ...int) Command {
	return Command{Put: &Put{Bucket: "assets", Key: key, Manifest: manifestNo(chunks...).Encode(), Session: "s1"}}
}

func small(key, text string, c Condition) Command {
	return Command{Put: &Put{Bucket: "assets", Key: key, Inline: []byte(text), Condition: c}}
}

func tagOf(text string) string {
	sum := md5.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}
