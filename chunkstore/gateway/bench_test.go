package gateway_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/chunkstore/gateway"
	"github.com/cloudless/cloudless/chunkstore/transfer"
	"github.com/cloudless/cloudless/coordinator/objects"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/pki"
)

// The benchmarks write to the real disk and wait for it; nodes speak over TLS on loopback. What is
// missing to a whole cluster is the log of the metadata, which is applied at once here, and the door.
// The bare store, in the same run, is what to compare with.

const benchClients = 8

// site is nodes on this machine, each with its store and its port; the gateway is on the first.
type site struct {
	b     *testing.B
	ca    *pki.CA
	addrs map[string]string
	creds map[string]*pki.Credentials
	nodes []*chunkstore.Chunks
	gate  *gateway.Gateway
	short atomic.Int64
}

func newSite(b *testing.B, nodes, copies int) *site {
	b.Helper()
	ca, err := pki.NewCA("c-1", time.Now())
	check(b, err)
	s := &site{b: b, ca: ca, addrs: map[string]string{}, creds: map[string]*pki.Credentials{}}
	var members api.StoreMembers
	for i := range nodes {
		id := fmt.Sprint("node-", i)
		s.serve(id)
		members.Members = append(members.Members, api.StoreMember{ID: id, Weight: 1000, State: api.StoreReady})
	}
	m := &benchMeta{store: openRows(b)}
	client := s.client("node-0")
	client.Local = s.nodes[0]
	s.gate = gateway.New(gateway.Config{
		Self: "node-0", Meta: m, Peers: client, Members: func() api.StoreMembers { return members },
		Short: func(d ...string) { s.short.Add(int64(len(d))) }, Log: zerolog.Nop(),
	})
	b.Cleanup(func() { check(b, s.gate.Close()) })
	_, err = m.Apply(b.Context(), meta.Command{At: time.Now(), CreateBucket: &api.Bucket{Name: "assets", Replicas: copies}})
	check(b, err)
	return s
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (s *site) member(id string) *pki.Credentials {
	keyPEM, csr, err := pki.NewKeyCSR()
	check(s.b, err)
	certPEM, err := s.ca.Issue(csr, pki.Identity{Cluster: "c-1", Role: api.RoleNode, ID: id}, nil, time.Now(), time.Hour)
	check(s.b, err)
	creds, err := pki.NewCredentials(certPEM, keyPEM, s.ca.CertPEM())
	check(s.b, err)
	return creds
}

func (s *site) client(id string) *transfer.Client {
	dialer := &link.Dialer{Creds: s.creds[id]}
	return &transfer.Client{Self: id, Dial: func(ctx context.Context, node, alpn string) (net.Conn, error) {
		return dialer.Dial(ctx, s.addrs[node], alpn, pki.Identity{Role: api.RoleNode, ID: node})
	}}
}

func (s *site) serve(id string) {
	chunks, err := chunkstore.Open(vfs.Default, s.b.TempDir(), chunkstore.Options{Log: zerolog.Nop()})
	check(s.b, err)
	s.b.Cleanup(func() { check(s.b, chunks.Close()) })
	s.nodes = append(s.nodes, chunks)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(s.b, err)
	s.addrs[id], s.creds[id] = ln.Addr().String(), s.member(id)
	mux := link.NewMux(ln, s.creds[id], zerolog.Nop())
	conns := mux.Handle(api.ALPNChunks, api.RoleNode)
	server := &transfer.Server{Chunks: chunks, Client: s.client(id), Maintains: func(*http.Request) bool { return false }, Log: zerolog.Nop()}
	ctx, cancel := context.WithCancel(context.Background())
	var running errgroup.Group
	running.Go(func() error { return mux.Serve(ctx) })
	running.Go(func() error { return link.ServeHTTP1(ctx, conns, server, zerolog.Nop()) })
	s.b.Cleanup(func() { cancel(); check(s.b, running.Wait()) })
}

// benchMeta is the metadata without a log.
type benchMeta struct {
	store *objects.Store
	index atomic.Uint64
}

func openRows(b *testing.B) *objects.Store {
	s, err := objects.Open(vfs.Default, b.TempDir(), zerolog.Nop())
	check(b, err)
	b.Cleanup(func() { check(b, s.Close()) })
	return s
}

// Apply implements gateway.Meta.
func (m *benchMeta) Apply(_ context.Context, cmds ...meta.Command) (*meta.Results, error) {
	for {
		index := m.index.Add(1)
		results, err := m.store.Apply(index, cmds)
		if err != nil || results != nil { // else another was faster
			return &meta.Results{Index: index, Results: results}, err
		}
	}
}

// Read implements gateway.Meta.
func (m *benchMeta) Read(_ context.Context, q meta.Query) (*meta.Answer, error) {
	v := m.store.View()
	defer v.Close()
	return objects.Ask(v, q)
}

// object reads as bytes that do not compress, and differ from those of every other object in each 64 KiB.
type object struct {
	base []byte
	id   uint64
	at   int
}

var (
	base = noise(1 << 20)
	made atomic.Uint64
)

func noise(n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(rand.Uint64()), byte(rand.Uint64()), byte(rand.Uint64())})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

func newObject(size int) io.Reader {
	return io.LimitReader(&object{base: base, id: made.Add(1)}, int64(size))
}

// Read gives the next bytes.
func (o *object) Read(p []byte) (n int, err error) {
	const step = 64 << 10
	for n < len(p) {
		from := o.at % len(o.base)
		k := copy(p[n:], o.base[from:from+step-from%step])
		if from%step == 0 && k >= 16 {
			binary.LittleEndian.PutUint64(p[n:], o.id)
			binary.LittleEndian.PutUint64(p[n+8:], uint64(o.at))
		}
		n, o.at = n+k, o.at+k
	}
	return n, nil
}

var benchSizes = []int{4 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20}

func sizeName(n int) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%dMiB", n>>20)
	}
	return fmt.Sprintf("%dKiB", n>>10)
}

// measure runs op by several clients at once, each time with the number of the operation.
func measure(b *testing.B, size int, op func(i int64) error) {
	b.Helper()
	b.SetBytes(int64(size))
	before := cpuTime(b)
	b.ResetTimer()
	var next atomic.Int64
	var clients errgroup.Group
	for range benchClients {
		clients.Go(func() error {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if err := op(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	check(b, clients.Wait())
	b.StopTimer()
	used := cpuTime(b) - before
	b.ReportMetric(float64(used.Microseconds())/1000/float64(b.N), "cpu-ms/op")
}

// cpuTime is what the process has used: unlike MB/s it hardly depends on what else the machine does.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	check(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkPut(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(sizeName(size)+"/store", func(b *testing.B) {
			s := newSite(b, 1, 1)
			measure(b, size, func(int64) error { return putBare(b.Context(), s.nodes[0], size) })
		})
		for _, c := range []struct{ nodes, copies int }{{1, 1}, {3, 2}, {3, 3}} {
			b.Run(fmt.Sprintf("%s/copies%d", sizeName(size), c.copies), func(b *testing.B) {
				s := newSite(b, c.nodes, c.copies)
				measure(b, size, func(i int64) error { return s.put(i, size) })
				b.ReportMetric(float64(s.short.Load()), "short")
			})
		}
	}
}

// putBare stores what an object of the size is cut into.
func putBare(ctx context.Context, c *chunkstore.Chunks, size int) error {
	r := newObject(size)
	for left := size; left > 0; {
		buf := chunkstore.GetBuffer(min(left, 1<<20))
		if _, err := io.ReadFull(r, *buf); err != nil {
			return err
		}
		if err := c.Put(ctx, chunkstore.PutOptions{Owner: "bench"}, chunkstore.NewChunk(*buf)); err != nil {
			return err
		}
		left -= len(*buf)
		chunkstore.PutBuffer(buf)
	}
	return nil
}

func key(i int64) string { return fmt.Sprint("object-", i) }

func (s *site) put(i int64, size int) error {
	_, err := s.gate.Put(s.b.Context(), gateway.PutObject{Bucket: "assets", Key: key(i), Size: int64(size)}, newObject(size))
	return err
}

// benchObjects is how many objects are read over and over.
const benchObjects = 16

func BenchmarkGet(b *testing.B) {
	for _, size := range benchSizes {
		s := newSite(b, 1, 1)
		for i := range int64(benchObjects) {
			check(b, s.put(i, size))
		}
		b.Run(sizeName(size)+"/own", func(b *testing.B) {
			measure(b, size, func(i int64) error { return get(b.Context(), s.gate, i, size) })
		})
		b.Run(sizeName(size)+"/other", func(b *testing.B) {
			s.creds["reader"] = s.member("reader")
			far := gateway.New(gateway.Config{
				Meta: s.gate.Meta(), Peers: s.client("reader"), Log: zerolog.Nop(),
				Members: func() api.StoreMembers {
					return api.StoreMembers{Members: []api.StoreMember{{ID: "node-0", Weight: 1, State: api.StoreReady}}}
				},
			})
			defer far.Close()
			measure(b, size, func(i int64) error { return get(b.Context(), far, i, size) })
		})
	}
}

func get(ctx context.Context, g *gateway.Gateway, i int64, size int) error {
	r, err := g.Open(ctx, "assets", key(i%benchObjects))
	if err != nil {
		return err
	}
	s := r.Range(ctx, 0, -1)
	n, err := s.(io.WriterTo).WriteTo(io.Discard)
	if err == nil && n != int64(size) {
		err = fmt.Errorf("read %d bytes of %d", n, size)
	}
	if err != nil {
		return err
	}
	return s.Close()
}
