package transfer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
)

// world is nodes that serve their chunks on connections in memory.
type world struct {
	t     testing.TB
	nodes map[string]*node

	mu   sync.Mutex
	wrap func(net.Conn) net.Conn // the client's end of each connection; nil: as it is
}

type node struct {
	id     string
	chunks *chunkstore.Chunks
	server *Server
	ln     *listener
}

// newWorld makes nodes a, b, …; each lets everybody maintain it.
func newWorld(t testing.TB, nodes int) *world {
	t.Helper()
	w := &world{t: t, nodes: map[string]*node{}}
	for i := range nodes {
		id := string(rune('a' + i))
		w.serve(id, func(*Server) {})
	}
	return w
}

// serve starts a node, as change wants it.
func (w *world) serve(id string, change func(*Server)) *node {
	w.t.Helper()
	n := &node{id: id, chunks: openChunks(w.t), ln: &listener{conns: make(chan net.Conn), done: make(chan struct{})}}
	n.server = &Server{Chunks: n.chunks, Maintains: func(*http.Request) bool { return true }, Log: zerolog.Nop()}
	n.server.Client = w.client(id)
	change(n.server)
	w.handle(n, n.server)
	return n
}

func (w *world) handle(n *node, h http.Handler) {
	srv := &http.Server{Handler: h}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := srv.Serve(n.ln); !errors.Is(err, http.ErrServerClosed) {
			w.t.Error(err)
		}
	}()
	w.nodes[n.id] = n
	w.t.Cleanup(func() {
		srv.Close()
		<-ended
	})
}

// fake is a node that h plays.
func (w *world) fake(id string, h http.HandlerFunc) {
	w.handle(&node{id: id, ln: &listener{conns: make(chan net.Conn), done: make(chan struct{})}}, h)
}

// client is one that lives on node self; "" is on none.
func (w *world) client(self string) *Client {
	c := &Client{Self: self, Dial: w.dial}
	w.t.Cleanup(c.Close)
	return c
}

func (w *world) dial(ctx context.Context, id, alpn string) (net.Conn, error) {
	n := w.nodes[id]
	if n == nil || alpn != api.ALPNChunks {
		return nil, fmt.Errorf("nobody speaks %s at %q", alpn, id)
	}
	near, far := net.Pipe()
	w.mu.Lock()
	if w.wrap != nil {
		near = w.wrap(near)
	}
	w.mu.Unlock()
	select {
	case n.ln.conns <- far:
		return near, nil
	case <-n.ln.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// through puts something between the client and the nodes.
func (w *world) through(wrap func(net.Conn) net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrap = wrap
}

type listener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *listener) Addr() net.Addr { return &net.TCPAddr{} }

func openChunks(t testing.TB) *chunkstore.Chunks {
	t.Helper()
	c, err := chunkstore.Open(vfs.NewMem(), "chunks", chunkstore.Options{Small: true, ReserveBytes: 1 << 20, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func noise(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 2})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

func chunkOf(data []byte) chunkstore.Chunk {
	return chunkstore.Chunk{Digest: chunkstore.DigestOf(data), Data: data}
}

// some are n chunks of a size, in the order of their digests.
func some(seed uint64, n, size int) (chunks []chunkstore.Chunk, digests []string) {
	for i := range n {
		chunks = append(chunks, chunkOf(noise(seed+uint64(i), size)))
	}
	slices.SortFunc(chunks, func(a, b chunkstore.Chunk) int {
		if a.Digest < b.Digest {
			return -1
		}
		return 1
	})
	for _, c := range chunks {
		digests = append(digests, c.Digest)
	}
	return chunks, digests
}

// mustHave puts chunks straight into a node's store.
func (n *node) mustHave(t testing.TB, owner string, chunks ...chunkstore.Chunk) {
	t.Helper()
	for _, c := range chunks {
		if err := n.chunks.Put(t.Context(), chunkstore.PutOptions{Owner: owner}, c); err != nil {
			t.Fatal(err)
		}
	}
}

func (n *node) has(t testing.TB, digest string) bool {
	t.Helper()
	has, err := n.chunks.Has(digest)
	if err != nil {
		t.Fatal(err)
	}
	return has
}

func mustBe(t testing.TB, err error, code api.Code, cause error) {
	t.Helper()
	if api.CodeOf(err) != code || cause != nil && !errors.Is(err, cause) {
		t.Fatalf("%v, want %s because of %v", err, code, cause)
	}
}
