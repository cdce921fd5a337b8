package objects

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/split"
)

// model is what a bucket, its sessions and its uploads are, in maps of Go values. It knows neither rows
// nor counts: what names a chunk is looked up.
type model struct {
	now      time.Time
	terms    api.Terms // of the bucket
	objects  map[string]thing
	sessions map[string]*lease
	uploads  map[UploadRef]map[int]thing
	groups   []*Group
}

type thing struct {
	etag   string
	size   int64
	chunks []int
	terms  api.Terms // of the bucket when it was made
}

type lease struct {
	expires time.Time
	chunks  map[int]bool
	terms   api.Terms
}

func (m *model) alive(id string) bool {
	s := m.sessions[id]
	return s != nil && m.now.Before(s.expires)
}

// asked is what the things that name a chunk ask for.
func (m *model) asked(chunk int) Ref {
	ref := Ref{Digest: chunkNo(chunk).Digest, Cold: true}
	count := func(names bool, t api.Terms) {
		if names {
			ref.Names++
			ref.R = max(ref.R, t.Replicas)
			ref.Cold = ref.Cold && t.Class == api.ClassCold
		}
	}
	for _, o := range m.objects {
		count(slices.Contains(o.chunks, chunk), o.terms)
	}
	for _, parts := range m.uploads {
		for _, p := range parts {
			count(slices.Contains(p.chunks, chunk), p.terms)
		}
	}
	for _, s := range m.sessions {
		count(s.chunks[chunk], s.terms)
	}
	ref.Cold = ref.Cold && ref.Names > 0
	return ref
}

func (m *model) usage() (u api.BucketUsage) {
	for _, o := range m.objects {
		u = u.Add(api.BucketUsage{Objects: 1, Bytes: o.size})
	}
	for _, parts := range m.uploads {
		u.Uploads++
		for _, p := range parts {
			u.UploadBytes += p.size
		}
	}
	return u
}

func met(c Condition, have bool, etag string) api.Code {
	switch {
	case c.IfAbsent && have:
		return api.CodeConflict
	case c.IfMatch != "" && !have:
		return api.CodeNotFound
	case c.IfMatch != "" && c.IfMatch != "*" && c.IfMatch != etag:
		return api.CodeConflict
	}
	return ""
}

// Chunks of objects, and after them those that may be parity.
const modelChunks, modelParity = 6, 4

// run is a store beside its model.
type modelRun struct {
	*model
	s       *Store
	index   uint64
	entries [][]Command
}

func (r *modelRun) apply(t *rapid.T, want api.Code, c Command) Result {
	c.At = r.now
	b, err := Encode([]Command{c})
	check(t, err)
	cmds, err := Decode(b)
	check(t, err)
	r.index++
	r.entries = append(r.entries, cmds)
	res, err := r.s.Apply(r.index, cmds)
	check(t, err)
	if codeOf(res[0].Err) != want {
		t.Fatalf("%v, want %q", res[0].Err, want)
	}
	return res[0]
}

func check(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Whatever the order of commands, the store holds what the model holds, each chunk is counted as often
// as rows name it, and neither a replay, nor a restart, nor a backup changes anything.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		fs := vfs.NewMem()
		r := &modelRun{model: &model{now: day, terms: api.Terms{Replicas: 3, Class: api.ClassHot}, objects: map[string]thing{}, sessions: map[string]*lease{}, uploads: map[UploadRef]map[int]thing{}}, s: openStore(t, fs)}
		r.apply(rt, "", bucketNamed("assets"))
		if rapid.Bool().Draw(rt, "cold") {
			r.terms.Class = api.ClassCold
			r.apply(rt, "", Command{UpdateBucket: &UpdateBucket{Bucket: api.Bucket{Name: "assets", Replicas: 3, Class: api.ClassCold}}})
		}
		r.repeat(rt, t, fs)
		closeStore(t, r.s)
	})
	t.Logf("%d groups were sealed", sealed.Load())
	if sealed.Load() == 0 {
		t.Error("no group was sealed: nothing was tested of them")
	}
}

func (r *modelRun) repeat(rt *rapid.T, t *testing.T, fs vfs.FS) {
	key := func(rt *rapid.T) string {
		return rapid.SampledFrom([]string{"a", "a/b", "a\x00", "ü"}).Draw(rt, "key")
	}
	id := func(rt *rapid.T) string { return rapid.SampledFrom([]string{"s1", "s2"}).Draw(rt, "session") }
	ref := func(rt *rapid.T) UploadRef {
		return UploadRef{Bucket: "assets", Key: key(rt), ID: rapid.SampledFrom([]string{"u1", "u2"}).Draw(rt, "upload")}
	}
	chunks := func(rt *rapid.T) []int {
		return rapid.SliceOfN(rapid.IntRange(0, modelChunks-1), 2, 5).Draw(rt, "chunks")
	}
	rt.Repeat(map[string]func(*rapid.T){
		"time passes": func(rt *rapid.T) {
			r.now = r.now.Add(time.Duration(rapid.IntRange(1, 10).Draw(rt, "minutes")) * time.Minute)
		},
		"open":            func(rt *rapid.T) { r.open(rt, id(rt)) },
		"renew":           func(rt *rapid.T) { r.renew(rt, id(rt), chunks(rt)) },
		"expire sessions": func(rt *rapid.T) { r.expire(rt) },
		"put":             func(rt *rapid.T) { r.put(rt, key(rt), id(rt), chunks(rt), r.condition(rt, key(rt))) },
		"put inline": func(rt *rapid.T) {
			k, text := key(rt), rapid.StringN(0, 20, -1).Draw(rt, "text")
			r.apply(rt, "", small(k, text, Condition{}))
			r.objects[k] = thing{etag: tagOf(text), size: int64(len(text))}
		},
		"delete": func(rt *rapid.T) { r.delete(rt, key(rt)) },
		"copy":   func(rt *rapid.T) { r.copy(rt, key(rt), key(rt)) },
		"create upload": func(rt *rapid.T) {
			u, want := ref(rt), api.Code("")
			if r.uploads[u] != nil {
				want = api.CodeConflict
			} else {
				r.uploads[u] = map[int]thing{}
			}
			r.apply(rt, want, Command{CreateUpload: &CreateUpload{UploadRef: u}})
		},
		"put part":      func(rt *rapid.T) { r.part(rt, ref(rt), id(rt), rapid.IntRange(1, 3).Draw(rt, "number"), chunks(rt)) },
		"complete":      func(rt *rapid.T) { r.complete(rt, ref(rt)) },
		"abort upload":  func(rt *rapid.T) { r.abort(rt, ref(rt)) },
		"delete bucket": func(rt *rapid.T) { r.deleteBucket(rt) },
		"update bucket": func(rt *rapid.T) { r.updateBucket(rt) },
		"seal":          func(rt *rapid.T) { r.seal(rt, id(rt)) },
		"reopen": func(*rapid.T) {
			closeStore(t, r.s)
			r.s = openStore(t, fs)
		},
		"replay": func(rt *rapid.T) {
			for i, cmds := range r.entries {
				_, err := r.s.Apply(uint64(i+1), cmds)
				check(rt, err)
			}
		},
		"backup and restore": func(rt *rapid.T) {
			for _, c := range pieces(t, fmt.Sprint("r", r.index), backup(t, r.s)) {
				r.apply(rt, "", c)
			}
		},
		"": func(rt *rapid.T) { r.compare(rt) },
	})
}

func (r *modelRun) condition(t *rapid.T, other string) Condition {
	return rapid.SampledFrom([]Condition{{}, {}, {IfAbsent: true}, {IfMatch: "*"}, {IfMatch: r.objects[other].etag}}).Draw(t, "condition")
}

func (r *modelRun) open(t *rapid.T, id string) {
	want := api.Code("")
	if r.sessions[id] != nil {
		want = api.CodeConflict
	} else {
		r.sessions[id] = &lease{r.now.Add(api.SessionLifetime), map[int]bool{}, r.terms}
	}
	r.apply(t, want, open(id))
}

func (r *modelRun) renew(t *rapid.T, id string, chunks []int) {
	c := Command{RenewSession: &RenewSession{ID: id}}
	for _, i := range chunks {
		d := chunkNo(i).Digest
		c.RenewSession.Chunks = append(c.RenewSession.Chunks, d[:])
	}
	if !r.alive(id) {
		r.apply(t, api.CodeConflict, c)
		return
	}
	r.sessions[id].expires = r.now.Add(api.SessionLifetime)
	for _, i := range chunks {
		r.sessions[id].chunks[i] = true
	}
	r.apply(t, "", c)
}

func (r *modelRun) expire(t *rapid.T) {
	v := r.s.View()
	c, err := PlanSessions(v, r.now)
	check(t, err)
	check(t, v.Close())
	for id := range r.sessions {
		if !r.alive(id) {
			delete(r.sessions, id)
		}
	}
	if c != nil {
		r.apply(t, "", *c)
	}
}

func (r *modelRun) put(t *rapid.T, key, session string, chunks []int, cond Condition) {
	m := manifestNo(chunks...)
	c := put(key, chunks...)
	c.Put.Session, c.Put.Condition, c.Put.End = session, cond, rapid.Bool().Draw(t, "end")
	old, have := r.objects[key]
	want := met(cond, have, old.etag)
	if !r.alive(session) {
		want = api.CodeConflict
	}
	r.apply(t, want, c)
	if want == "" {
		r.objects[key] = thing{m.ETag(), m.Size(), chunks, r.terms}
		if c.Put.End {
			delete(r.sessions, session)
		}
	}
}

func (r *modelRun) delete(t *rapid.T, key string) {
	old, have := r.objects[key]
	cond := r.condition(t, key)
	cond.IfAbsent = false
	want := met(cond, have, old.etag)
	r.apply(t, want, Command{Delete: &Delete{Bucket: "assets", Key: key, IfMatch: cond.IfMatch}})
	if want == "" {
		delete(r.objects, key)
	}
}

func (r *modelRun) copy(t *rapid.T, from, to string) {
	cond := r.condition(t, to)
	source, ok := r.objects[from]
	old, have := r.objects[to]
	want := met(cond, have, old.etag)
	if !ok {
		want = api.CodeNotFound
	}
	r.apply(t, want, Command{Copy: &Copy{FromBucket: "assets", FromKey: from, Bucket: "assets", Key: to, Condition: cond}})
	if want == "" {
		source.terms = r.terms
		r.objects[to] = source
	}
}

func (r *modelRun) part(t *rapid.T, ref UploadRef, session string, number int, chunks []int) {
	c := part(ref, number, chunks...)
	c.PutPart.Session = session
	want := api.Code("")
	switch {
	case r.uploads[ref] == nil:
		want = api.CodeNotFound
	case !r.alive(session):
		want = api.CodeConflict
	default:
		m := manifestNo(chunks...)
		r.uploads[ref][number] = thing{m.ETag(), m.Size(), chunks, r.terms}
	}
	r.apply(t, want, c)
}

func (r *modelRun) complete(t *rapid.T, ref UploadRef) {
	c := &CompleteUpload{UploadRef: ref}
	whole := thing{terms: r.terms}
	for number := 1; number <= 3; number++ {
		if p, ok := r.uploads[ref][number]; ok && rapid.Bool().Draw(t, fmt.Sprint("with part ", number)) {
			c.Parts = append(c.Parts, PartRef{Number: number, ETag: p.etag})
			whole.size += p.size
			whole.chunks = append(whole.chunks, p.chunks...)
		}
	}
	want := api.Code("")
	switch {
	case r.uploads[ref] == nil:
		want = api.CodeNotFound
	case len(c.Parts) == 0:
		want = api.CodeInvalid
	}
	res := r.apply(t, want, Command{CompleteUpload: c})
	if want == "" {
		whole.etag = res.Object.ETag
		r.objects[ref.Key] = whole
		delete(r.uploads, ref)
	}
}

func (r *modelRun) abort(t *rapid.T, ref UploadRef) {
	want := api.Code("")
	if r.uploads[ref] == nil {
		want = api.CodeNotFound
	}
	delete(r.uploads, ref)
	r.apply(t, want, Command{AbortUpload: &ref})
}

// deleteBucket makes it again at once, so that there is something to do.
func (r *modelRun) deleteBucket(t *rapid.T) {
	if len(r.objects)+len(r.uploads) > 0 {
		r.apply(t, api.CodeConflict, Command{DeleteBucket: &DeleteBucket{Name: "assets"}})
		return
	}
	r.apply(t, "", Command{DeleteBucket: &DeleteBucket{Name: "assets"}})
	r.apply(t, "", bucketNamed("assets"))
	r.terms = api.Terms{Replicas: 3, Class: api.ClassHot}
}

func (r *modelRun) updateBucket(t *rapid.T) {
	r.terms = api.Terms{
		Replicas: rapid.IntRange(1, api.MaxBucketReplicas).Draw(t, "replicas"),
		Class:    rapid.SampledFrom([]string{api.ClassHot, api.ClassCold}).Draw(t, "class"),
	}
	r.apply(t, "", Command{UpdateBucket: &UpdateBucket{Bucket: api.Bucket{Name: "assets", Replicas: r.terms.Replicas, Class: r.terms.Class}}})
}

func (r *modelRun) compare(t *rapid.T) {
	r.prune() // groups that have ended with the last command
	v := r.s.View()
	page, err := List(v, Query{Bucket: "assets"})
	check(t, err)
	if len(page.Objects) != len(r.objects) || v.Index() != r.index {
		t.Fatalf("%d objects at %d, want %d at %d", len(page.Objects), v.Index(), len(r.objects), r.index)
	}
	for _, o := range page.Objects {
		want := r.objects[o.Key]
		whole, err := Object(v, "assets", o.Key)
		check(t, err)
		if o.ETag != want.etag || o.Size != want.size || !slices.Equal(chunksOf(t, whole), want.chunks) {
			t.Fatalf("%+v, want %+v", o, want)
		}
	}
	if u, err := Usage(v, "assets"); err != nil || u != r.usage() {
		t.Fatalf("%+v, %v, want %+v", u, err, r.usage())
	}
	r.compareRefs(t, v)
	check(t, v.Close())
}

func chunksOf(t *rapid.T, o *api.Object) (out []int) {
	if o.Manifest == nil {
		return nil
	}
	m, err := split.Decode(o.Manifest)
	check(t, err)
	for _, c := range m.Chunks {
		out = append(out, slices.IndexFunc([]int{0, 1, 2, 3, 4, 5}, func(i int) bool { return chunkNo(i) == c }))
	}
	return out
}
