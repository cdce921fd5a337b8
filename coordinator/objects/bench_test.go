package objects

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
)

// filled is a store on this disk with n objects of one chunk each, in folders of 100.
func filled(t testing.TB, n int) *Store {
	t.Helper()
	s, err := Open(vfs.Default, t.TempDir(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	apply(t, s, 1, at(bucketNamed("assets")), at(open("s1")))
	const batch = 500
	for i := 0; i < n; i += batch {
		var cmds []Command
		for j := i; j < min(i+batch, n); j++ {
			cmds = append(cmds, at(put(fmt.Sprintf("folder-%05d/key-%02d", j/100, j%100), j)))
		}
		for _, res := range apply(t, s, s.Applied()+1, cmds...) {
			if res.Err != nil {
				t.Fatal(res.Err)
			}
		}
	}
	return s
}

func objectCount() int {
	if os.Getenv("CLOUDLESS_TEST_LONG") != "" {
		return 1_000_000
	}
	return 20_000
}

// maxResident is what the process may hold with a million objects, Go's runtime included.
const maxResident = 256 << 20

func TestObjectsAreNotInMemory(t *testing.T) {
	s := filled(t, objectCount())
	defer closeStore(t, s)
	v := s.View()
	defer closeStore(t, v)
	page, err := List(v, Query{Bucket: "assets", Delimiter: "/", Limit: api.MaxListLimit})
	if err != nil || len(page.Prefixes) != objectCount()/100 {
		t.Fatalf("%d folders, %v", len(page.Prefixes), err)
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	caches := uint64(s.db.Metrics().BlockCache.Size) // without cgo they are in the heap, with it beside
	t.Logf("%d objects: %d MB from the system, block cache %d MB", objectCount(), m.Sys>>20, caches>>20)
	if m.Sys+caches > maxResident {
		t.Errorf("%d bytes of memory, at most %d", m.Sys+caches, maxResident)
	}
}

func BenchmarkPut(b *testing.B) {
	for _, batch := range []int{1, 64} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			s := filled(b, 0)
			defer closeStore(b, s)
			n := 0
			for b.Loop() {
				cmds := make([]Command, batch)
				for i := range cmds {
					cmds[i] = at(put(fmt.Sprint("key-", n), n))
					n++
				}
				apply(b, s, s.Applied()+1, cmds...)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "put/s")
		})
	}
}

func BenchmarkList(b *testing.B) {
	s := filled(b, objectCount())
	defer closeStore(b, s)
	for name, q := range map[string]Query{"keys": {}, "folders": {Delimiter: "/"}} {
		b.Run(name, func(b *testing.B) {
			q.Bucket, q.Limit = "assets", 1000
			for b.Loop() {
				v := s.View()
				page, err := List(v, q)
				if err != nil || len(page.Objects)+len(page.Prefixes) == 0 {
					b.Fatal(page, err)
				}
				closeStore(b, v)
			}
		})
	}
}
