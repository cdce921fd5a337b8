package gateway

import (
	"bytes"
	"crypto/md5"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/chunkstore/split"
)

// A client that cuts for itself sends what is missing and no more, before and after a break, and what
// other objects have is never sent.
func TestAnUploadInSteps(t *testing.T) {
	w := newWorld(t, 4)
	w.bucket("assets", nil)
	g := w.gateway(nil)
	data := noise(1, 5<<20)
	mustPut(t, g, "other", data[:2<<20])
	g.settled(t)
	m := manifestOf(data)
	m.MD5 = md5.Sum(data)
	var names []string
	for _, c := range m.Chunks {
		names = append(names, c.Name())
	}
	session, err := g.Begin(t.Context(), "assets")
	if err != nil {
		t.Fatal(err)
	}
	send := func(most int) {
		t.Helper()
		missing, err := g.Missing(t.Context(), session.ID, names)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range missing[:min(most, len(missing))] {
			i := slices.Index(names, name)
			if err := g.PutChunk(t.Context(), session.ID, "assets", name, data[i<<20:(i+1)<<20]); err != nil {
				t.Fatal(err)
			}
		}
		g.settled(t)
	}
	mustMiss(t, g, session.ID, names, names[2:])
	send(1)
	_, err = g.Commit(t.Context(), session.ID, at("key", -1), m)
	mustFail(t, err, api.CodeConflict, "2 chunks", names[3])
	mustMiss(t, g, session.ID, names, names[3:])
	send(5)
	mustMiss(t, g, session.ID, slices.Concat(names, names), nil)
	o, err := g.Commit(t.Context(), session.ID, at("key", int64(len(data))), m)
	if err != nil || o.Size != int64(len(data)) || o.ETag != m.ETag() {
		t.Fatalf("%+v: %v", o, err)
	}
	mustGet(t, g, "key", data)
	for _, name := range names {
		for _, id := range w.holders(name) {
			owners, err := w.nodes[id].chunks.Owners(name, 10)
			if err != nil || !slices.Contains(owners, SessionOwner(session.ID)) {
				t.Errorf("on %s chunk %s is pinned by %v: %v", id, name, owners, err)
			}
		}
	}
	_, err = g.Missing(t.Context(), session.ID, names)
	mustFail(t, err, api.CodeConflict, "has ended")
}

func mustMiss(t *testing.T, g *Gateway, session string, names, want []string) {
	t.Helper()
	got, err := g.Missing(t.Context(), session, names)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("missing are %v, want %v: %v", got, want, err)
	}
}

// A chunk that fewer than W nodes say they have is missing; one that W say they have is told to be short.
func TestAChunkOnTooFewNodesIsMissing(t *testing.T) {
	w := newWorld(t, 3)
	w.bucket("assets", nil)
	g := w.gateway(nil)
	data := noise(1, 1<<20)
	mustPut(t, g, "other", data)
	g.settled(t)
	session, err := g.Begin(t.Context(), "assets")
	if err != nil {
		t.Fatal(err)
	}
	name := []string{chunkstore.DigestOf(data)}
	w.on("node-0", fails(errAway))
	mustMiss(t, g, session.ID, name, nil)
	if got := w.shorts(); !slices.Equal(got, name) {
		t.Errorf("told to be short: %v", got)
	}
	w.on("node-1", fails(errAway))
	mustMiss(t, g, session.ID, name, name)
}

// Nodes that do not answer may have what is to be committed, so the client is told to wait and not to send
// all of it again; a node that is full or suspect still has what it was given.
func TestACommitWhileNodesAreSilent(t *testing.T) {
	w := newWorld(t, 3)
	w.bucket("assets", nil)
	g := w.gateway(nil)
	data := noise(1, 1<<20)
	session, err := g.Begin(t.Context(), "assets")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.PutChunk(t.Context(), session.ID, "assets", chunkstore.DigestOf(data), data); err != nil {
		t.Fatal(err)
	}
	g.settled(t)
	w.on("node-0", fails(errAway))
	w.on("node-1", fails(errAway))
	_, err = g.Commit(t.Context(), session.ID, at("key", -1), manifestOf(data))
	mustFail(t, err, api.CodeUnavailable, "1 chunks", "node-0", "node-1")
	w.on("node-0", nil)
	w.setState("node-0", api.StoreFull)
	if _, err := g.Commit(t.Context(), session.ID, at("key", -1), manifestOf(data)); err != nil {
		t.Fatal(err)
	}
}

func TestUploadsInStepsRefuse(t *testing.T) {
	w := newWorld(t, 1)
	w.bucket("assets", nil)
	g := w.gateway(nil)
	_, err := g.Begin(t.Context(), "nothing")
	mustFail(t, err, api.CodeNotFound)
	session, err := g.Begin(t.Context(), "assets")
	if err != nil {
		t.Fatal(err)
	}
	digest := chunkstore.DigestOf([]byte("x"))
	many := slices.Repeat([]string{digest}, MaxMissing+1)
	_, err = g.Missing(t.Context(), session.ID, many)
	mustFail(t, err, api.CodeTooLarge)
	mustMiss(t, g, session.ID, many[1:], many[1:])
	_, err = g.Missing(t.Context(), session.ID, []string{"x"})
	mustFail(t, err, api.CodeInvalid)
	_, err = g.Missing(t.Context(), "nothing", nil)
	mustFail(t, err, api.CodeConflict)
	mustFail(t, g.PutChunk(t.Context(), session.ID, "assets", digest, []byte("y")), api.CodeUnsupMedia)
	mustFail(t, g.PutChunk(t.Context(), session.ID, "nothing", digest, []byte("x")), api.CodeNotFound)
	for _, n := range []int{0, split.MaxChunkBytes + 1} {
		mustFail(t, g.PutChunk(t.Context(), session.ID, "assets", digest, make([]byte, n)), api.CodeTooLarge)
	}
	largest := noise(1, split.MaxChunkBytes)
	if err := g.PutChunk(t.Context(), session.ID, "assets", chunkstore.DigestOf(largest), largest); err != nil {
		t.Fatal(err)
	}
	_, err = g.Commit(t.Context(), session.ID, at("key", 5), manifestOf([]byte("x")))
	mustFail(t, err, api.CodeInvalid)
	_, err = g.Commit(t.Context(), session.ID, at("", -1), manifestOf([]byte("x")))
	mustFail(t, err, api.CodeInvalid)
}

// Parts are stored like objects, and one object is made of them.
func TestParts(t *testing.T) {
	w := newWorld(t, 3)
	w.bucket("assets", nil)
	g := w.gateway(nil)
	ref := meta.UploadRef{Bucket: "assets", Key: "key", ID: "upload"}
	w.do(meta.Command{CreateUpload: &meta.CreateUpload{UploadRef: ref}})
	data := noise(1, 12<<20+5)
	var refs []meta.PartRef
	for i, part := range [][]byte{data[:6<<20], data[6<<20 : 12<<20], data[12<<20:]} {
		p, err := g.PutPart(t.Context(), ref, i+1, int64(len(part)), bytes.NewReader(part))
		if err != nil || p.Size != int64(len(part)) {
			t.Fatalf("%+v: %v", p, err)
		}
		refs = append(refs, meta.PartRef{Number: i + 1, ETag: p.ETag})
	}
	o := w.do(meta.Command{CompleteUpload: &meta.CompleteUpload{UploadRef: ref, Parts: refs}}).Object
	if o.Size != int64(len(data)) || !strings.HasSuffix(o.ETag, "-3") {
		t.Errorf("%+v", o)
	}
	mustGet(t, g, "key", data)
	for _, n := range []int{0, api.MaxParts + 1} {
		_, err := g.PutPart(t.Context(), ref, n, 1, strings.NewReader("x"))
		mustFail(t, err, api.CodeInvalid)
	}
	session := w.nextSession()
	_, err := g.PutPart(t.Context(), ref, 1, 1, strings.NewReader("x")) // it was completed
	mustFail(t, err, api.CodeNotFound)
	g.settled(t)
	if id := <-session; w.sessions(id) != 0 {
		t.Error("its session lives on")
	}
}

// What was certainly not sent is sent again; what may have been done is repeated only where that cannot
// do it twice, and told to be unknown otherwise.
func TestMetadataIsAskedAgainWhereThatIsSafe(t *testing.T) {
	notSent := api.Errorf(api.CodeUnavailable, "no coordinator")
	notSent.Err = meta.ErrNotSent
	unknown := api.Errorf(api.CodeUnavailable, "no answer")
	isPut := func(c meta.Command) bool { return c.Put != nil }
	isOpen := func(c meta.Command) bool { return c.OpenSession != nil }
	times := func(n int, of func(meta.Command) bool, err error) func(meta.Command) error {
		return func(c meta.Command) error {
			if of(c) && n > 0 {
				n--
				return err
			}
			return nil
		}
	}
	for _, c := range []struct {
		name          string
		size          int
		before, after func(meta.Command) error
		fails         bool
		there         bool
	}{
		{"a put was not sent", 5000, times(3, isPut, notSent), nil, false, true},
		{"a small put was not sent", 5, times(3, isPut, notSent), nil, false, true},
		{"nothing can be sent", 5, times(1000, isPut, notSent), nil, true, false},
		{"the answer to a put is lost", 5000, nil, times(1, isPut, unknown), false, true},
		{"the answer to a small put is lost", 5, nil, times(1, isPut, unknown), true, true},
		{"a put is lost", 5000, times(1, isPut, unknown), nil, false, true},
		{"a small put is lost", 5, times(1, isPut, unknown), nil, true, false},
		{"both puts are lost", 5000, times(2, isPut, unknown), nil, true, false},
		{"the answer to the session is lost", 5000, nil, times(1, isOpen, unknown), false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 3)
				w.bucket("assets", nil)
				g := w.gateway(nil)
				data := noise(1, c.size)
				puts := 0
				w.meta.script(c.before, func(cmd meta.Command) error {
					if cmd.Put != nil {
						puts++
					}
					if c.after != nil {
						return c.after(cmd)
					}
					return nil
				})
				p := at("key", int64(c.size))
				p.Condition.IfAbsent = true // a second time it would be refused
				o, err := g.Put(t.Context(), p, bytes.NewReader(data))
				w.meta.script(nil, nil)
				if (err != nil) != c.fails {
					t.Fatalf("%+v: %v", o, err)
				}
				if err != nil {
					mustFail(t, err, api.CodeUnavailable)
				} else if o.Size != int64(c.size) || o.Manifest != nil {
					t.Errorf("answered %+v", o)
				}
				if c.there {
					mustGet(t, g, "key", data)
				} else {
					_, err := g.Stat(t.Context(), "assets", "key")
					mustFail(t, err, api.CodeNotFound)
				}
			})
		})
	}
}

// A put whose answer was lost, and whose object somebody else has replaced since, is told to be unknown.
func TestALostAnswerOfAnObjectThatIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.bucket("assets", nil)
		g := w.gateway(nil)
		lost := false
		w.meta.script(nil, func(c meta.Command) error {
			if c.Put == nil || lost {
				return nil
			}
			lost = true
			w.meta.index++
			if _, err := w.meta.store.Apply(w.meta.index, []meta.Command{{At: time.Now(), Put: &meta.Put{Bucket: "assets", Key: "key", Inline: []byte("later")}}}); err != nil {
				t.Error(err)
			}
			return errAway
		})
		_, err := g.Put(t.Context(), at("key", 5000), bytes.NewReader(noise(1, 5000)))
		mustFail(t, err, api.CodeUnavailable)
		mustGet(t, g, "key", []byte("later"))
	})
}
