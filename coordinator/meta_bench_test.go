package coordinator

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
)

// benchClients is how many clients put or read at the same time.
const benchClients = 8

// eachClient does n things by several clients.
func eachClient(b *testing.B, n int, do func(i int) error) {
	var next atomic.Int64
	var group sync.WaitGroup
	for range benchClients {
		group.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				if err := do(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
}

// BenchmarkMetadata is the metadata's part of small puts and reads: objects of 4 KiB, kept in their rows,
// by 8 clients, of one coordinator and of a follower of three.
func BenchmarkMetadata(b *testing.B) {
	for _, n := range []int{1, 3} {
		b.Run(fmt.Sprintf("coordinators=%d", n), func(b *testing.B) {
			c := newCluster(b, n)
			s := c.servers[c.leader()]
			if n > 1 {
				s = c.servers[c.followers()[0]]
			}
			if _, err := s.applyMeta(b.Context(), bucket("assets")); err != nil {
				b.Fatal(err)
			}
			text := strings.Repeat("x", api.MaxInlineBytes)
			b.Run("put", func(b *testing.B) {
				eachClient(b, b.N, func(i int) error {
					_, err := s.applyOne(b.Context(), small(fmt.Sprint(i), text))
					return err
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "put/s")
			})
			b.Run("get", func(b *testing.B) {
				eachClient(b, b.N, func(i int) error {
					_, err := s.readMeta(b.Context(), meta.Query{Object: &meta.ObjectRef{Bucket: "assets", Key: "1"}})
					return err
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "get/s")
			})
		})
	}
}
