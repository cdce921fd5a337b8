package gateway

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/chunkstore/split"
)

// What is put is what is read, however large it is, however it comes and however it is cut.
func TestPutThenGet(t *testing.T) {
	w := newWorld(t, 4)
	w.bucket("assets", nil)
	w.bucket("by-content", func(b *api.Bucket) { b.Chunking = api.ChunkingContent })
	for _, small := range []bool{false, true} {
		chunk := split.CutterFor(-1, small, false).Size
		g := w.gateway(func(c *Config) { c.Small = small; c.Self = "node-1"; c.Zone = "z1" })
		for _, bucket := range []string{"assets", "by-content"} {
			for i, size := range []int{0, 1, api.MaxInlineBytes, api.MaxInlineBytes + 1, chunk - 1, chunk, chunk + 1, (window+2)*chunk + 7} {
				for _, known := range []bool{true, false} {
					name := fmt.Sprintf("small=%v/%s/%d/known=%v", small, bucket, size, known)
					data, p := noise(uint64(i), size), PutObject{Bucket: bucket, Key: name, Size: -1}
					var r io.Reader = bytes.NewReader(data)
					if known {
						p.Size = int64(size)
					} else {
						r = iotest.DataErrReader(iotest.HalfReader(r))
					}
					checkRoundTrip(t, g, p, r, data)
				}
			}
		}
	}
	if short := w.shorts(); len(short) > 0 {
		t.Errorf("%d chunks are told to be short", len(short))
	}
}

func checkRoundTrip(t *testing.T, g *Gateway, p PutObject, r io.Reader, data []byte) {
	t.Helper()
	put, err := g.Put(t.Context(), p, r)
	if err != nil {
		t.Fatalf("%s: %v", p.Key, err)
	}
	sum := md5.Sum(data)
	if put.Size != int64(len(data)) || put.ETag != hex.EncodeToString(sum[:]) || put.Manifest != nil {
		t.Errorf("%s: answered %+v", p.Key, put)
	}
	stat, err := g.Stat(t.Context(), p.Bucket, p.Key)
	if err != nil || stat.ETag != put.ETag || stat.Inline != nil || stat.Manifest != nil {
		t.Errorf("%s: found %+v: %v", p.Key, stat, err)
	}
	reader, err := g.Open(t.Context(), p.Bucket, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	if m := reader.manifest; m != nil && len(m.Chunks) == 1 && put.SHA256 != hex.EncodeToString(sha(data)) {
		t.Errorf("%s: its SHA-256 is %q", p.Key, put.SHA256)
	}
	for _, c := range [][2]int64{{0, -1}, {0, 0}, {1, 10}, {int64(len(data)) / 2, -1}, {split.Small - 1, 2}, {int64(len(data)) - 1, 5}, {int64(len(data)) + 1, -1}} {
		var got bytes.Buffer
		s := reader.Range(t.Context(), c[0], c[1])
		if c[0]%2 == 0 {
			_, err = s.(io.WriterTo).WriteTo(&got)
		} else {
			_, err = got.ReadFrom(iotest.OneByteReader(io.LimitReader(s, 100)))
			if err == nil {
				_, err = io.Copy(&got, s)
			}
		}
		if err != nil || !bytes.Equal(got.Bytes(), part(data, c[0], c[1])) {
			t.Errorf("%s: range %v gave %d bytes: %v", p.Key, c, got.Len(), err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func sha(data []byte) []byte { sum := sha256.Sum256(data); return sum[:] }

func part(data []byte, offset, n int64) []byte {
	offset = min(max(offset, 0), int64(len(data)))
	if data = data[offset:]; n < 0 {
		return data
	}
	return data[:min(n, int64(len(data)))]
}

// Every chunk is on as many nodes as the bucket asks for, in different zones, and pinned by its session
// until the nodes hear that the session has ended.
func TestChunksAreOnTheirNodes(t *testing.T) {
	w := newWorld(t, 5)
	w.bucket("assets", func(b *api.Bucket) { b.Replicas = 2 })
	g := w.gateway(nil)
	var ids sync.Map
	w.meta.script(func(c meta.Command) error {
		if c.OpenSession != nil {
			ids.Store(c.OpenSession.ID, true)
		}
		return nil
	}, nil)
	mustPut(t, g, "key", noise(1, 3<<20))
	g.settled(t)
	r, err := g.Open(t.Context(), "assets", "key")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.manifest.Chunks {
		holders := w.holders(c.Name())
		if len(holders) != 2 {
			t.Errorf("chunk %s is on %v", c.Name(), holders)
		}
		for _, id := range holders {
			owners, err := w.nodes[id].chunks.Owners(c.Name(), 10)
			if err != nil || len(owners) != 1 || !strings.HasPrefix(owners[0], SessionOwnerPrefix) {
				t.Errorf("on %s it is pinned by %v: %v", id, owners, err)
			}
		}
	}
	ids.Range(func(id, _ any) bool {
		if w.sessions(id.(string)) != 0 {
			t.Errorf("session %v lives on", id)
		}
		return true
	})
}

// settled waits for what goes on in the background.
func (g *Gateway) settled(t testing.TB) {
	t.Helper()
	if err := g.group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// A put is acknowledged when W copies are durable, though a node does not answer; what it does not take
// in the end is told.
func TestAPutDoesNotWaitForANodeThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.bucket("assets", nil)
		g := w.gateway(nil)
		w.on("node-2", hangs)
		began := time.Now()
		data := noise(1, 2<<20)
		mustPut(t, g, "key", data)
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
		mustGet(t, g, "key", data)
		time.Sleep(stragglerTime + time.Second)
		synctest.Wait()
		if n := len(w.shorts()); n != 2 {
			t.Errorf("%d chunks are told to be short, want 2", n)
		}
		w.on("node-2", nil)
	})
}

// A node that fails, or takes too long while its copy is needed, is replaced by the next one.
func TestAnotherNodeTakesThePlace(t *testing.T) {
	for name, script := range map[string]func(context.Context, string) error{"fails": fails(errAway), "is full": fails(errFull), "hangs": hangs} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 4)
				w.bucket("assets", func(b *api.Bucket) { b.WriteQuorum = 3 })
				g := w.gateway(nil)
				w.on("node-0", script)
				data := noise(1, 8<<20)
				mustPut(t, g, "key", data)
				mustGet(t, g, "key", data)
			})
		})
	}
}

// Fewer than W nodes: the put is refused, says which nodes cannot be reached, and nothing of it stays
// but chunks that no session keeps.
func TestTooFewNodesRefuseThePut(t *testing.T) {
	for _, c := range []struct {
		name   string
		script func(context.Context, string) error
		state  api.StoreMemberState
		code   api.Code
		words  []string
	}{
		{"cannot be reached", fails(errAway), api.StoreReady, api.CodeUnavailable, []string{"n1", "n2", "it cannot be reached"}},
		{"are lost", nil, api.StoreLost, api.CodeUnavailable, []string{"n1 is lost", "n2 is lost"}},
		{"are full", fails(errFull), api.StoreReady, api.CodeNoRoom, []string{"n1", "n2"}},
		{"have said so", nil, api.StoreFull, api.CodeNoRoom, []string{"n1 is full"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 3)
			w.bucket("assets", nil)
			g := w.gateway(nil)
			for _, id := range []string{"node-1", "node-2"} {
				w.on(id, c.script)
				w.setState(id, c.state)
			}
			session := w.nextSession()
			_, err := g.Put(t.Context(), at("key", 3<<20), bytes.NewReader(noise(1, 3<<20)))
			mustFail(t, err, c.code, c.words...)
			w.mustHaveNothing(g, "key", session)
		})
	}
	w := newWorld(t, 0)
	w.bucket("assets", nil)
	_, err := w.gateway(nil).Put(t.Context(), at("key", 5000), bytes.NewReader(noise(1, 5000)))
	mustFail(t, err, api.CodeUnavailable, "no node keeps chunks")
}

// nextSession is told the id of the next session that is opened.
func (w *world) nextSession() <-chan string {
	ids := make(chan string, 1)
	w.meta.script(func(c meta.Command) error {
		if c.OpenSession != nil {
			select {
			case ids <- c.OpenSession.ID:
			default:
			}
		}
		return nil
	}, nil)
	return ids
}

func (w *world) mustHaveNothing(g *Gateway, key string, session <-chan string) {
	w.t.Helper()
	_, err := g.Stat(context.Background(), "assets", key)
	mustFail(w.t, err, api.CodeNotFound)
	g.settled(w.t)
	if id := <-session; w.sessions(id) != 0 {
		w.t.Error("its session lives on")
	}
}

// What fails in the middle of an upload leaves nothing: no object, no session, no memory.
func TestAnUploadThatBreaksLeavesNothing(t *testing.T) {
	broken := errors.New("the line went dead")
	wrong := api.Errorf(api.CodeUnsupMedia, "the checksum is another")
	data := noise(1, 5<<20)
	for _, c := range []struct {
		name string
		r    io.Reader
		size int64
		code api.Code
	}{
		{"the line breaks", io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)), 6 << 20, api.CodeInvalid},
		{"the line breaks, size unknown", io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)), -1, api.CodeInvalid},
		{"the reader refuses at the end", io.MultiReader(bytes.NewReader(data), iotest.ErrReader(wrong)), int64(len(data)), api.CodeUnsupMedia},
		{"shorter than announced", bytes.NewReader(data), int64(len(data)) + 1, api.CodeInvalid},
		{"longer than announced", bytes.NewReader(data), int64(len(data)) - 1, api.CodeInvalid},
		{"longer by a chunk", bytes.NewReader(data), int64(len(data)) - split.Normal, api.CodeInvalid},
		{"a small one longer than announced", bytes.NewReader(data), split.Small, api.CodeInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 3)
			w.bucket("assets", nil)
			g := w.gateway(nil)
			session := w.nextSession()
			_, err := g.Put(t.Context(), at("key", c.size), c.r)
			mustFail(t, err, c.code)
			w.mustHaveNothing(g, "key", session)
		})
	}
	w := newWorld(t, 3)
	w.bucket("assets", nil)
	g := w.gateway(nil)
	for _, size := range []int64{3, 5} {
		_, err := g.Put(t.Context(), at("key", size), strings.NewReader("four"))
		mustFail(t, err, api.CodeInvalid)
	}
}

// A client that goes away in the middle ends its upload.
func TestAnUploadEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.bucket("assets", nil)
		g := w.gateway(nil)
		for id := range w.nodes {
			w.on(id, hangs)
		}
		session := w.nextSession()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := g.Put(ctx, at("key", 5<<20), bytes.NewReader(noise(1, 5<<20)))
		mustFail(t, err, api.CodeTimeout)
		w.mustHaveNothing(g, "key", session)
	})
}

func TestPutRefuses(t *testing.T) {
	w := newWorld(t, 3)
	w.bucket("assets", nil)
	g := w.gateway(nil)
	_, err := g.Put(t.Context(), at("", 1), strings.NewReader("x"))
	mustFail(t, err, api.CodeInvalid)
	p := at("key", 1)
	p.Head.ContentType = strings.Repeat("x", api.MaxContentTypeLen+1)
	_, err = g.Put(t.Context(), p, strings.NewReader("x"))
	mustFail(t, err, api.CodeTooLarge)
	for _, size := range []int{1, 5000} {
		_, err = g.Put(t.Context(), PutObject{Bucket: "nothing", Key: "key", Size: int64(size)}, bytes.NewReader(noise(1, size)))
		mustFail(t, err, api.CodeNotFound)
		p = at("there", int64(size))
		p.Condition.IfAbsent = true
		if _, err = g.Put(t.Context(), p, bytes.NewReader(noise(1, size))); size == 1 && err != nil {
			t.Fatal(err)
		}
	}
	mustFail(t, err, api.CodeConflict)
}

// Puts of one key at once: the last that was acknowledged is read, whole.
func TestPutsOfOneKeyAtOnce(t *testing.T) {
	w := newWorld(t, 3)
	w.bucket("assets", nil)
	g := w.gateway(nil)
	byTag := sync.Map{}
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for round := range 3 {
				data := noise(uint64(10*i+round), 1<<20+i)
				o, err := g.Put(t.Context(), at("key", int64(len(data))), bytes.NewReader(data))
				if err != nil {
					t.Error(err)
					return
				}
				byTag.Store(o.ETag, data)
			}
		})
	}
	group.Wait()
	o, err := g.Stat(t.Context(), "assets", "key")
	if err != nil {
		t.Fatal(err)
	}
	want, ok := byTag.Load(o.ETag)
	if !ok {
		t.Fatalf("nobody has put %+v", o)
	}
	mustGet(t, g, "key", want.([]byte))
}

// A long upload keeps its session alive, and one that is refused because its session has ended all the
// same changes nothing.
func TestTheSessionLivesAsLongAsTheUpload(t *testing.T) {
	for _, c := range []struct {
		name  string
		renew error
		code  api.Code
	}{{"renewed", nil, ""}, {"cannot be renewed", errAway, api.CodeConflict}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 3)
				w.bucket("assets", nil)
				g := w.gateway(nil)
				w.meta.script(func(cmd meta.Command) error {
					if cmd.RenewSession != nil {
						return c.renew
					}
					return nil
				}, nil)
				data := noise(1, 3<<20)
				_, err := g.Put(t.Context(), at("key", int64(len(data))), &slow{r: bytes.NewReader(data), pause: api.SessionLifetime - time.Minute})
				if c.code == "" && err != nil {
					t.Fatal(err)
				}
				mustFail(t, err, c.code)
				g.settled(t)
			})
		})
	}
}

// slow gives a MiB, then nothing for a while.
type slow struct {
	r     io.Reader
	pause time.Duration
	given int
}

func (s *slow) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if s.given += n; s.given >= split.Normal {
		s.given = 0
		time.Sleep(s.pause)
	}
	return n, err
}

// What was acknowledged is on W nodes after a power cut of all of them at that moment.
func TestAPowerCutAfterTheAcknowledgement(t *testing.T) {
	w := newWorld(t, 3)
	w.bucket("assets", nil)
	g := w.gateway(nil)
	data := noise(1, 5<<20)
	mustPut(t, g, "key", data)
	clones := map[string]*vfs.MemFS{}
	for id, n := range w.nodes {
		clones[id] = n.fs.CrashClone(vfs.CrashCloneCfg{})
	}
	after := map[string]*chunkstore.Chunks{}
	for id, fs := range clones {
		after[id] = openChunks(t, fs)
	}
	for part := range slices.Chunk(data, split.Normal) {
		copies := 0
		for id, c := range after {
			if got, err := c.Get(chunkstore.DigestOf(part), nil); err == nil && bytes.Equal(got, part) {
				copies++
			} else if api.CodeOf(err) != api.CodeNotFound {
				t.Errorf("%s: %v", id, err)
			}
		}
		if copies < 2 {
			t.Errorf("a chunk has %d copies, want 2", copies)
		}
	}
}

// Where every node is slow, one more is asked, not all of them.
func TestWhereAllAreSlowOneMoreIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 6)
		w.bucket("assets", func(b *api.Bucket) { b.Replicas = 2 })
		g := w.gateway(nil)
		mustPut(t, g, "key", noise(1, 100_000))
		g.settled(t)
		before := w.count("put")
		for id := range w.nodes {
			w.on(id, hangs)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*hedgeAfter)
		defer cancel()
		_, err := g.Put(ctx, at("other", 100_000), bytes.NewReader(noise(2, 100_000)))
		mustFail(t, err, api.CodeTimeout)
		if n := w.count("put") - before; n != 3 {
			t.Errorf("%d nodes were asked to store, want 3", n)
		}
		ctx, cancel = context.WithTimeout(t.Context(), 10*hedgeMost)
		defer cancel()
		_, err = content(ctx, g, "key", 0, -1)
		mustFail(t, err, api.CodeTimeout)
		if n := w.count("get"); n != maxAsked {
			t.Errorf("%d nodes were asked to read, want %d", n, maxAsked)
		}
		g.settled(t)
	})
}

// count is how many calls all nodes had.
func (w *world) count(op string) (n int) {
	for _, node := range w.nodes {
		n += node.count(op)
	}
	return n
}
