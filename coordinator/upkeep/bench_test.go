package upkeep

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/chunkstore/gateway"
	"github.com/cloudless/cloudless/chunkstore/place"
	"github.com/cloudless/cloudless/chunkstore/transfer"
	"github.com/cloudless/cloudless/coordinator/objects"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/internal/telemetry"
)

// site is nodes with stores on this machine's disk, which reach each other over its loopback.
type site struct {
	*world // members and refs; its nodes are not used
	stores map[string]*chunkstore.Chunks
	addrs  map[string]string
	client *transfer.Client
}

func newSite(b *testing.B, nodes int) *site {
	s := &site{world: &world{nodes: map[string]*node{}}, stores: map[string]*chunkstore.Chunks{}, addrs: map[string]string{}}
	var trust *tls.Config
	dial := func(ctx context.Context, node, _ string) (net.Conn, error) {
		return (&tls.Dialer{Config: trust}).DialContext(ctx, "tcp", s.addrs[node])
	}
	s.client = &transfer.Client{Dial: dial}
	b.Cleanup(s.client.Close)
	for i := range nodes {
		id := fmt.Sprint("n", i)
		chunks, err := chunkstore.Open(nil, filepath.Join(b.TempDir(), id), chunkstore.Options{})
		if err != nil {
			b.Fatal(err)
		}
		c := &transfer.Client{Dial: dial, Self: id, Local: chunks}
		server := httptest.NewTLSServer(&transfer.Server{Chunks: chunks, Client: c, Maintains: func(*http.Request) bool { return true }, Log: zerolog.Nop()})
		trust = server.Client().Transport.(*http.Transport).TLSClientConfig // the same for all
		b.Cleanup(func() {
			c.Close()
			server.Close()
			if err := chunks.Close(); err != nil {
				b.Error(err)
			}
		})
		s.stores[id], s.addrs[id] = chunks, server.Listener.Addr().String()
		s.join(id, "")
	}
	return s
}

// fill stores chunks where they belong.
func (s *site) fill(b *testing.B, n, size int) {
	b.Helper()
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	for i := range n {
		binary.BigEndian.PutUint64(data, uint64(i))
		digest := chunkstore.DigestOf(data)
		sum, err := chunkstore.ParseDigest(digest)
		if err != nil {
			b.Fatal(err)
		}
		s.refs = append(s.refs, objects.Ref{Digest: sum, Bytes: int64(size), Names: 1, R: 3})
		for _, id := range place.Choose(digest, gateway.PlaceMembers(s.members), 3) {
			if err := s.stores[id].Put(b.Context(), chunkstore.PutOptions{}, chunkstore.Chunk{Digest: digest, Data: data}); err != nil {
				b.Fatal(err)
			}
		}
	}
	s.sort()
}

// plain is how fast this disk takes appends of some size with a flush each, bytes a second.
func plain(b *testing.B, n, size int) float64 {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "plain"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	data, began := make([]byte, size), time.Now()
	for range n {
		if _, err := f.Write(data); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	return float64(n*size) / time.Since(began).Seconds()
}

// cpu is the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRepair loses one of four nodes, and measures how fast the others make good what it had, beside
// plain appends to the same disk with a flush for each chunk.
func BenchmarkRepair(b *testing.B) {
	chunks := 1_000
	if os.Getenv("CLOUDLESS_TEST_LONG") != "" {
		chunks = 10_000
	}
	const size = 256 << 10
	tel, err := telemetry.New(telemetry.Config{Role: "coordinator", LogWriter: io.Discard})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.StopTimer()
		s := newSite(b, 4)
		s.fill(b, chunks, size)
		disk := plain(b, chunks/4, size)
		s.members[1].State = api.StoreLost
		repaired := make(chan struct{})
		u := New(Config{Nodes: s.client.Leading(transfer.Lead{Epoch: 1, Term: 1}), Refs: s, Members: s.Members, Tel: tel.Metrics, Log: zerolog.Nop(),
			Event: func(kind string, _ api.Severity, _, _ string) {
				if kind == api.EventStoreRepaired {
					close(repaired)
				}
			}})
		g := run.New(b.Context())
		b.StartTimer()
		began, used := time.Now(), cpu(b)
		g.Go("upkeep", u.Run)
		<-repaired
		took, used := time.Since(began), cpu(b)-used
		b.StopTimer()
		if err := g.Close(); err != nil {
			b.Fatal(err)
		}
		r := u.Report()
		rate := float64(r.BytesDone) / took.Seconds()
		b.ReportMetric(float64(r.Copied), "copies")
		b.ReportMetric(rate/1e6, "MB/s")
		b.ReportMetric(disk/1e6, "plain_MB/s")
		b.ReportMetric(used.Seconds()/float64(r.BytesDone)*1e9, "cpu_s/GB")
		b.StartTimer()
	}
}
