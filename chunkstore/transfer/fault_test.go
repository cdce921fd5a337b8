package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/internal/run"
)

// breaking is a connection that breaks when it has given so many bytes.
type breaking struct {
	net.Conn
	left  int64
	total *atomic.Int64 // that all have given
}

func (c *breaking) Read(p []byte) (int, error) {
	if c.left <= 0 {
		c.Conn.Close()
		return 0, errors.New("the line went dead")
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	c.total.Add(int64(n))
	return n, err
}

// A chunk whose transfer breaks goes on where it broke, and costs hardly more than its bytes.
func TestABrokenTransferGoesOn(t *testing.T) {
	w := newWorld(t, 1)
	chunk := chunkOf(noise(1, 1<<20))
	w.nodes["a"].mustHave(t, "o", chunk)
	var total, dials atomic.Int64
	w.through(func(c net.Conn) net.Conn {
		dials.Add(1)
		return &breaking{c, 300_000, &total}
	})
	got, err := w.client("").Get(t.Context(), "a", chunk.Digest, []byte("before"))
	if err != nil || !bytes.Equal(got[6:], chunk.Data) {
		t.Fatalf("%d bytes: %v", len(got), err)
	}
	if dials.Load() != 4 || total.Load() > 1<<20+4*1024 {
		t.Errorf("%d connections gave %d bytes", dials.Load(), total.Load())
	}
}

// It does not go on for ever: who gives too little each time is given up.
func TestATransferThatBreaksTooOftenIsGivenUp(t *testing.T) {
	w := newWorld(t, 1)
	chunk := chunkOf(noise(1, 1<<20))
	w.nodes["a"].mustHave(t, "o", chunk)
	var total, dials atomic.Int64
	w.through(func(c net.Conn) net.Conn {
		dials.Add(1)
		return &breaking{c, 50_000, &total}
	})
	_, err := w.client("").Get(t.Context(), "a", chunk.Digest, nil)
	mustBe(t, err, api.CodeUnavailable, nil)
	if n := dials.Load(); n != resumes+1 {
		t.Errorf("%d connections", n)
	}
}

// A node that gives other bytes is asked to look at its copy. If the next answer is good, all is well; a
// copy that has rotted is found and moved aside by that; a node that goes on to lie is told to.
func TestBytesOfAnotherDigest(t *testing.T) {
	chunk := chunkOf(noise(1, 100_000))
	for _, c := range []struct {
		name  string
		lies  int
		cause error
	}{{"once", 1, nil}, {"for ever", 1000, chunkstore.ErrCorrupt}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 0)
			var verified []string
			w.fake("a", func(rw http.ResponseWriter, r *http.Request) {
				verified = append(verified, r.URL.Query().Get("verify"))
				data := bytes.Clone(chunk.Data)
				if len(verified) <= c.lies {
					data[5] ^= 1
				}
				writeBytes(rw, data)
			})
			_, err := w.client("").Get(t.Context(), "a", chunk.Digest, nil)
			if c.cause == nil && err != nil || !errors.Is(err, c.cause) {
				t.Error(err)
			}
			if !slices.Equal(verified, []string{"", "true"}) {
				t.Errorf("asked to verify: %q", verified)
			}
		})
	}
}

// Answers that are no chunk are errors, and cost no memory.
func TestAnswersOfAnyLength(t *testing.T) {
	w := newWorld(t, 0)
	w.fake("long", func(rw http.ResponseWriter, r *http.Request) {
		writeBytes(rw, make([]byte, chunkstore.MaxChunkBytes+1))
	})
	w.fake("endless", func(rw http.ResponseWriter, r *http.Request) {
		rw.WriteHeader(http.StatusOK)
		for {
			if _, err := rw.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	})
	c := w.client("")
	digest := chunkstore.DigestOf([]byte("x"))
	for _, node := range []string{"long", "endless"} {
		if got, err := c.Get(t.Context(), node, digest, nil); err == nil {
			t.Errorf("%s gave %d bytes", node, len(got))
		}
		if got, err := c.Ref(t.Context(), node, "o", digest); err == nil {
			t.Errorf("%s gave %d digests", node, len(got))
		}
		if got, err := c.List(t.Context(), node, "", 5); err == nil {
			t.Errorf("%s gave %d rows", node, len(got))
		}
	}
}

// slowConn gives, or takes, a little at a time, with a pause after each.
type slowConn struct {
	net.Conn
	pause time.Duration
	step  int
}

func (c *slowConn) Read(p []byte) (int, error) {
	time.Sleep(c.pause)
	return c.Conn.Read(p[:min(len(p), c.step)])
}

func (c *slowConn) Write(p []byte) (n int, err error) {
	for len(p) > n && err == nil {
		time.Sleep(c.pause)
		var k int
		k, err = c.Conn.Write(p[n:min(len(p), n+c.step)])
		n += k
	}
	return n, err
}

// A transfer may take as long as it needs while it goes on, both ways.
func TestASlowTransferIsNotCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.through(func(c net.Conn) net.Conn { return &slowConn{c, stallTime / 8, 32 << 10} })
		c, chunk := w.client(""), chunkOf(noise(1, 1<<20))
		began := time.Now()
		if err := c.Put(t.Context(), "a", chunkstore.PutOptions{Owner: "o"}, chunk); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Get(t.Context(), "a", chunk.Digest, nil); err != nil || !bytes.Equal(got, chunk.Data) {
			t.Fatalf("%d bytes: %v", len(got), err)
		}
		if took := time.Since(began); took < 4*stallTime {
			t.Errorf("it took %v, which proves nothing", took)
		}
		c.Close()
		time.Sleep(stallTime) // until what reads slowly sees it
	})
}

// A node from which nothing comes is given up after stallTime.
func TestANodeThatHangsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		over := make(chan struct{})
		defer func() {
			close(over)
			time.Sleep(time.Second) // net/http closes a connection that it has not read to its end a little later
		}()
		w.fake("silent", func(http.ResponseWriter, *http.Request) { <-over })
		w.fake("halfway", func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Length", "100")
			_, _ = rw.Write(make([]byte, 50))
			_ = http.NewResponseController(rw).Flush()
			<-r.Context().Done()
		})
		c, chunk := w.client(""), chunkOf(noise(1, 1<<20))
		for _, call := range []func() error{
			func() error { _, err := c.Get(t.Context(), "silent", chunk.Digest, nil); return err },
			func() error { return c.Put(t.Context(), "silent", chunkstore.PutOptions{}, chunk) },
		} {
			began := time.Now()
			mustBe(t, call(), api.CodeUnavailable, nil)
			if took := time.Since(began); took != stallTime {
				t.Errorf("given up after %v, want %v", took, stallTime)
			}
		}
		began := time.Now()
		_, err := c.Get(t.Context(), "halfway", chunk.Digest, nil)
		mustBe(t, err, api.CodeUnavailable, nil)
		if took := time.Since(began); took > (resumes+1)*stallTime {
			t.Errorf("given up after %v", took)
		}
		c.Close()
	})
}

// A client that stops in the middle of a put does not hold the node's memory for longer than stallTime.
func TestAClientThatHangsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		n := w.nodes["a"]
		conn, err := w.dial(t.Context(), "a", api.ALPNChunks)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "POST "+pathPut+"?codec=0 HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nhalf"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n.server.memory.TryAcquire(budget) {
			t.Error("the put holds no memory")
		}
		answer := make(chan string, 1)
		go func() {
			b, _ := io.ReadAll(conn)
			answer <- string(b)
		}()
		time.Sleep(stallTime + time.Second)
		synctest.Wait()
		if !n.server.memory.TryAcquire(budget) {
			t.Error("the put still holds memory")
		}
		n.server.memory.Release(budget)
		conn.Close()
		if got := <-answer; !bytes.Contains([]byte(got), []byte("did not come whole")) {
			t.Errorf("answered %q", got)
		}
	})
}

// When a put returns, nobody reads its bytes any more, however it ended (which the race detector sees).
func TestAPutThatIsCutOffLeavesItsBytesAlone(t *testing.T) {
	w := newWorld(t, 1)
	w.through(func(c net.Conn) net.Conn { return &slowConn{c, time.Millisecond, 4 << 10} })
	c := w.client("")
	for i := range 10 {
		data := noise(uint64(i), 1<<20)
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*5*time.Millisecond)
		err := c.Put(ctx, "a", chunkstore.PutOptions{}, chunkOf(data))
		cancel()
		if err != nil {
			mustBe(t, err, api.CodeTimeout, nil)
		}
		clear(data)
	}
}

// A node that has no memory to spare says so, is asked again, and takes what comes when it has.
func TestABusyNodeIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		n, c, chunk := w.nodes["a"], w.client(""), chunkOf(noise(1, 100_000))
		n.server.once.Do(n.server.setUp)
		if !n.server.memory.TryAcquire(budget) {
			t.Fatal("the memory is taken")
		}
		began := time.Now()
		mustBe(t, c.Put(t.Context(), "a", chunkstore.PutOptions{}, chunk), api.CodeUnavailable, nil)
		if took := time.Since(began); took != busyTries*busyWait+(busyTries-1)*time.Second {
			t.Errorf("it said no after %v", took)
		}
		time.AfterFunc(busyWait+500*time.Millisecond, func() { n.server.memory.Release(budget) })
		if err := c.Put(t.Context(), "a", chunkstore.PutOptions{}, chunk); err != nil {
			t.Error(err)
		}
		c.Close()
	})
}

// A node copies from another what it is told to, says why something cannot be, and goes on.
func TestCopy(t *testing.T) {
	w := newWorld(t, 3)
	chunks, digests := some(1, 5, 300_000)
	w.nodes["a"].mustHave(t, "o", slices.Concat(chunks[:2], chunks[3:])...)
	w.nodes["b"].mustHave(t, "o", chunks[4])
	c := w.client("c")
	c.Local = w.nodes["c"].chunks
	done, err := c.Copy(t.Context(), "b", "a", digests...)
	if want := slices.Concat(digests[:2], digests[3:]); !slices.Equal(done, want) {
		t.Errorf("copied are %v, want %v", done, want)
	}
	mustBe(t, err, api.CodeUnavailable, nil)
	if !bytes.Contains([]byte(err.Error()), []byte("chunk "+digests[2]+" is not stored here")) {
		t.Errorf("%v does not say why", err)
	}
	for _, ch := range slices.Concat(chunks[:2], chunks[3:]) {
		if got, err := w.nodes["b"].chunks.Get(ch.Digest, nil); err != nil || !bytes.Equal(got, ch.Data) {
			t.Errorf("%d bytes: %v", len(got), err)
		}
	}
	done, err = c.Copy(t.Context(), "b", "nobody", digests...)
	if len(done) != 4 { // those that it has already
		t.Errorf("copied from nobody: %v: %v", done, err)
	}
}

// A node whose pace makes it wait says that it is at it.
func TestASlowCopyIsNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.serve("b", func(s *Server) {
			s.Pace = func(ctx context.Context, _ int64) error { return run.Sleep(ctx, 3*stallTime) }
		})
		chunks, digests := some(1, 2, 1000)
		w.nodes["a"].mustHave(t, "o", chunks...)
		c := w.client("")
		done, err := c.Copy(t.Context(), "b", "a", digests...)
		if err != nil || !slices.Equal(done, digests) {
			t.Errorf("copied are %v: %v", done, err)
		}
		c.Close()
		w.nodes["b"].server.Client.Close()
	})
}

// A copy ends with whoever asked for it.
func TestACopyEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		ended := make(chan error, 1)
		w.serve("b", func(s *Server) {
			s.Pace = func(ctx context.Context, _ int64) error {
				<-ctx.Done()
				ended <- ctx.Err()
				return ctx.Err()
			}
		})
		chunks, digests := some(1, 2, 1000)
		w.nodes["a"].mustHave(t, "o", chunks...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c := w.client("")
		done, err := c.Copy(ctx, "b", "a", digests...)
		if len(done) > 0 || err == nil {
			t.Errorf("copied are %v: %v", done, err)
		}
		<-ended
		c.Close()
	})
}
