package objects

import (
	"slices"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore/erasure"
)

// groupNo is a group of these chunks.
func groupNo(chunks ...int) *Group {
	g := &Group{}
	for _, i := range chunks {
		d := chunkNo(i).Digest
		g.Shards = append(g.Shards, Shard{Digest: d[:], Bytes: chunkNo(i).Bytes})
	}
	return g
}

func seal(session string, chunks ...int) Command {
	return Command{SealGroup: &SealGroup{Session: session, Group: *groupNo(chunks...)}}
}

// groupOf is the group of the model that a chunk is in. One of whose data nothing is named has ended.
func (r *modelRun) groupOf(chunk int) *Group {
	for _, g := range r.groups {
		if g.Shard(chunkNo(chunk).Digest) >= 0 {
			return g
		}
	}
	return nil
}

// prune ends groups, after each command, as the store does within it.
func (r *modelRun) prune() {
	r.groups = slices.DeleteFunc(r.groups, func(g *Group) bool {
		for i := range modelChunks {
			if at := g.Shard(chunkNo(i).Digest); at >= 0 && at < erasure.Data && r.asked(i).Names > 0 {
				return false
			}
		}
		return true
	})
}

func (r *modelRun) seal(t *rapid.T, session string) {
	data := rapid.Permutation([]int{0, 1, 2, 3, 4, 5}).Draw(t, "data")
	if rapid.Bool().Draw(t, "put first") { // else groups seldom come about
		if r.sessions[session] == nil {
			r.open(t, session)
		}
		r.put(t, "a", session, data[:erasure.Data], Condition{})
		r.prune()
	}
	chunks := append(
		data[:erasure.Data:erasure.Data],
		rapid.Permutation([]int{6, 7, 8, 9}).Draw(t, "parity")[:erasure.Parity]...)
	want := api.Code("")
	for i, c := range chunks {
		// one that only sessions name is of no length that is known
		whole := r.bytesOf(t, c) > 0
		if r.groupOf(c) != nil || i < erasure.Data && (!r.asked(c).Cold || !whole) {
			want = api.CodeConflict
		}
	}
	if !r.alive(session) {
		want = api.CodeConflict
	}
	r.apply(t, want, seal(session, chunks...))
	if want == "" {
		sealed.Add(1)
		delete(r.sessions, session)
		r.groups = append(r.groups, groupNo(chunks...))
		r.prune()
	}
}

// sealed counts groups, for TestModel is to make some.
var sealed atomic.Int64

func (r *modelRun) bytesOf(t *rapid.T, chunk int) int64 {
	v := r.s.View()
	ref, err := Reference(v, chunkNo(chunk).Digest)
	check(t, err)
	check(t, v.Close())
	return ref.Bytes
}

// coldGroup is a world with objects a to d in a cold bucket, of a chunk each, and a group of them.
func coldGroup(t *testing.T) *world {
	w := newWorld(t)
	w.must(Command{CreateBucket: &api.Bucket{Name: "assets", Replicas: 3, Class: api.ClassCold}})
	w.must(Command{CreateBucket: &api.Bucket{Name: "site", Replicas: 2}})
	w.must(open("s1"))
	for i, key := range []string{"a", "b", "c", "d"} {
		w.must(put(key, i))
	}
	w.must(seal("s1", 0, 1, 2, 3, 4, 5))
	return w
}

func (w *world) free(chunks ...int) (out []int) {
	w.t.Helper()
	for _, i := range chunks {
		free, err := Unreferenced(w.rows, [][32]byte{chunkNo(i).Digest})
		if err != nil {
			w.t.Fatal(err)
		}
		if len(free) > 0 {
			out = append(out, i)
		}
	}
	return out
}

// All chunks of a group are referenced until no object names any that it was made of.
func TestAGroupLivesAsLongAsOneOfItsChunks(t *testing.T) {
	w := coldGroup(t)
	all := []int{0, 1, 2, 3, 4, 5}
	for _, key := range []string{"a", "b", "c"} {
		w.must(Command{Delete: &Delete{Bucket: "assets", Key: key}})
		if free := w.free(all...); free != nil {
			t.Errorf("without %s %v are unreferenced", key, free)
		}
	}
	w.must(Command{Delete: &Delete{Bucket: "assets", Key: "d"}})
	if free := w.free(all...); len(free) != len(all) {
		t.Errorf("only %v are unreferenced", free)
	}
	for key := range w.rows {
		if key[:1] == groupKeys || key[:1] == countKeys {
			t.Errorf("row %q is left", key)
		}
	}
}

// A chunk of a group is kept once; as often as a hot object asks while one names it.
func TestAHotObjectHasItsCopiesThoughItsChunkIsInAGroup(t *testing.T) {
	w := coldGroup(t)
	want := func(what string, r int) {
		t.Helper()
		ref, err := Reference(w.rows, chunkNo(0).Digest)
		if err != nil || ref.R != r || !ref.Grouped() || ref.Shard != 0 || ref.Group != groupNo(0, 1, 2, 3, 4, 5).Sum() {
			t.Errorf("%s: %+v, %v", what, ref, err)
		}
	}
	want("sealed", 1)
	w.must(Command{Copy: &Copy{FromBucket: "assets", FromKey: "a", Bucket: "site", Key: "a"}})
	want("with a hot name", 3)
	w.must(Command{Delete: &Delete{Bucket: "site", Key: "a"}})
	want("without it", 1)
}

func TestGroupsThatMayNotBe(t *testing.T) {
	w := coldGroup(t)
	w.must(open("s1"))
	w.must(open("s2"))
	for i, key := range []string{"e", "f", "g", "h"} {
		w.must(put(key, 10+i))
	}
	w.must(Command{Copy: &Copy{FromBucket: "assets", FromKey: "h", Bucket: "site", Key: "h"}})
	long := seal("s1", 10, 11, 12, 10, 14, 15)
	long.SealGroup.Shards[3] = Shard{Digest: long.SealGroup.Shards[0].Digest[:31], Bytes: 3 << 20}
	other := seal("s1", 10, 11, 12, 13, 14, 15)
	other.SealGroup.Shards[5].Bytes--
	for name, c := range map[string]struct {
		code api.Code
		cmd  Command
	}{
		"five chunks":                 {api.CodeInvalid, seal("s1", 10, 11, 12, 14, 15)},
		"seven chunks":                {api.CodeInvalid, seal("s1", 10, 11, 12, 13, 14, 15, 16)},
		"one of them twice":           {api.CodeInvalid, seal("s1", 10, 11, 12, 10, 14, 15)},
		"what is no digest":           {api.CodeInvalid, long},
		"parity of another length":    {api.CodeInvalid, other},
		"a hot chunk":                 {api.CodeConflict, seal("s1", 10, 11, 12, 13, 14, 15)},
		"a chunk that nothing names":  {api.CodeConflict, seal("s1", 10, 11, 12, 17, 14, 15)},
		"a chunk in a group":          {api.CodeConflict, seal("s1", 10, 11, 12, 0, 14, 15)},
		"parity in a group":           {api.CodeConflict, seal("s1", 10, 11, 12, 13, 14, 5)},
		"a session that is not there": {api.CodeConflict, seal("s9", 10, 11, 12, 13, 14, 15)},
	} {
		t.Run(name, func(t *testing.T) { w.refuse(c.code, c.cmd) })
	}
	w.must(Command{Delete: &Delete{Bucket: "site", Key: "h"}})
	w.refuse(api.CodeConflict, func() Command {
		c := seal("s1", 10, 11, 12, 13, 14, 15)
		for i := range c.SealGroup.Shards {
			c.SealGroup.Shards[i].Bytes = erasure.MinBytes - 1
		}
		return c
	}())
	w.must(seal("s1", 10, 11, 12, 13, 14, 15))
}

// Any coordinator says in which group a chunk is.
func TestTheGroupOfAChunk(t *testing.T) {
	w := coldGroup(t)
	for i := range 6 {
		if g, err := GroupOf(w.rows, chunkNo(i).Digest); err != nil || g == nil || g.ID() != groupNo(0, 1, 2, 3, 4, 5).ID() {
			t.Errorf("chunk %d: %+v, %v", i, g, err)
		}
	}
	if g, err := GroupOf(w.rows, chunkNo(6).Digest); g != nil || err != nil {
		t.Errorf("%+v, %v", g, err)
	}
	var all [][]byte
	for i := range meta.MaxGroups { // those from 6 on are in none
		d := chunkNo(i).Digest
		all = append(all, d[:])
	}
	var a meta.Answer
	if err := askGroups(w.rows, all, &a); err != nil || len(a.Groups) != 1 || a.Groups[0].ID() != groupNo(0, 1, 2, 3, 4, 5).ID() {
		t.Errorf("asked for all at once: %+v, %v", a, err)
	}
	if err := askGroups(w.rows, [][]byte{{1}}, &a); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("a digest of one byte: %v", err)
	}
	if err := checkQuery(meta.Query{Groups: all}); err != nil {
		t.Error(err)
	}
	if err := checkQuery(meta.Query{Groups: append(all, all[0])}); api.CodeOf(err) != api.CodeTooLarge {
		t.Errorf("one too many: %v", err)
	}
	if err := checkQuery(meta.Query{Groups: all, Buckets: true}); err == nil {
		t.Error("two things may be asked at once")
	}
}
