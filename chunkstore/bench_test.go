package chunkstore

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The benchmarks write to the real disk and wait for it, as the store does; `make bench-storage` runs
// them. write-amp is bytes written to files by bytes put.

func benchStore(b *testing.B, o Options) (*Chunks, *faulty) {
	b.Helper()
	d := newFaulty(vfs.Default)
	c, err := Open(d, b.TempDir(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := c.Close(); err != nil {
			b.Error(err)
		}
	})
	return c, d
}

// stream gives chunks that differ and do not compress, without the time to make them.
type stream struct {
	base []byte
	next atomic.Uint64
}

func newStream(size int) *stream { return &stream{base: noise(rand.Uint64(), size)} }

func (s *stream) chunk() Chunk {
	n := s.next.Add(1)
	data := make([]byte, len(s.base))
	copy(data, s.base)
	for i := range 8 {
		data[i] ^= byte(n >> (8 * i))
	}
	return chunkOf(data)
}

func (s *stream) chunks(n int) []Chunk {
	out := make([]Chunk, n)
	for i := range out {
		out[i] = s.chunk()
	}
	return out
}

var benchSizes = []int{1 << 10, 4 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20}

func sizeName(n int) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%dMiB", n>>20)
	}
	return fmt.Sprintf("%dKiB", n>>10)
}

// pooled prepares what b.N puts take, a bounded number of chunks at once, outside the time.
const preparedBytes = 256 << 20

func benchPut(b *testing.B, size, group int, put func([]Chunk) error) {
	b.Helper()
	s := newStream(size)
	b.SetBytes(int64(size * group))
	var ready [][]Chunk
	var cpu time.Duration
	puts := 0
	for b.Loop() {
		if len(ready) == 0 {
			b.StopTimer()
			for range max(1, preparedBytes/(size*group)/4) {
				ready = append(ready, s.chunks(group))
			}
			b.StartTimer()
		}
		before := cpuTime(b)
		if err := put(ready[0]); err != nil {
			b.Fatal(err)
		}
		cpu += cpuTime(b) - before
		puts++
		ready = ready[1:]
	}
	reportCPU(b, puts*size*group, cpu)
}

// cpuTime is what the process has used. Unlike MB/s it hardly depends on what else the machine does.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func reportCPU(b *testing.B, bytes int, cpu time.Duration) {
	b.ReportMetric(float64(bytes)/1e6/cpu.Seconds(), "MB/cpu-s")
}

func reportAmplification(b *testing.B, written, put int64) {
	b.ReportMetric(float64(written)/float64(put), "write-amp")
}

func BenchmarkWrite(b *testing.B) {
	for _, size := range benchSizes {
		for _, group := range []int{1, 8} {
			if size*group > budgetBytes {
				continue
			}
			b.Run(fmt.Sprintf("%s/group%d", sizeName(size), group), func(b *testing.B) {
				c, d := benchStore(b, Options{})
				benchPut(b, size, group, func(chunks []Chunk) error { return c.Put(b.Context(), PutOptions{Owner: "bench"}, chunks...) })
				reportAmplification(b, d.written.Load(), c.Stats().RawBytes)
			})
		}
	}
}

// Writers that know nothing of each other share their flushes, and hash while the disk works.
func BenchmarkConcurrentWrite(b *testing.B) {
	const round = 64 << 20 // bytes between two stops of the clock
	for _, size := range []int{4 << 10, 256 << 10, 1 << 20} {
		for _, writers := range []int{8, 32} {
			b.Run(fmt.Sprintf("%s/writers%d", sizeName(size), writers), func(b *testing.B) {
				c, d := benchStore(b, Options{})
				s := newStream(size)
				n := min(round/size, 2048)
				b.SetBytes(int64(n * size))
				var cpu time.Duration
				for b.Loop() {
					b.StopTimer()
					todo := make(chan Chunk, n)
					for range n {
						todo <- s.chunk()
					}
					close(todo)
					b.StartTimer()
					before := cpuTime(b)
					writeAll(b, c, writers, todo)
					cpu += cpuTime(b) - before
				}
				reportCPU(b, n*size*b.N, cpu)
				b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "puts/s")
				reportAmplification(b, d.written.Load(), c.Stats().RawBytes)
			})
		}
	}
}

func writeAll(b *testing.B, c *Chunks, writers int, todo chan Chunk) {
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for ch := range todo {
				if err := c.Put(b.Context(), PutOptions{Owner: "bench"}, ch); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func benchFilled(b *testing.B, c *Chunks, size, n int) []Chunk {
	b.Helper()
	s := newStream(size)
	var all []Chunk
	for len(all) < n {
		chunks := s.chunks(min(n-len(all), max(1, 16<<20/size)))
		if err := c.Put(b.Context(), PutOptions{Owner: "bench"}, chunks...); err != nil {
			b.Fatal(err)
		}
		all = append(all, chunks...)
	}
	return all
}

func BenchmarkRead(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(sizeName(size), func(b *testing.B) {
			c, _ := benchStore(b, Options{})
			all := benchFilled(b, c, size, max(8, min(1024, 64<<20/size)))
			b.SetBytes(int64(size))
			buf, i := make([]byte, 0, size), 0
			for b.Loop() {
				if _, err := c.Get(all[i%len(all)].Digest, buf); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

func BenchmarkConcurrentRead(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		b.Run(sizeName(size), func(b *testing.B) {
			c, _ := benchStore(b, Options{})
			all := benchFilled(b, c, size, 64)
			b.SetBytes(int64(size))
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				buf := make([]byte, 0, size)
				for i := rand.IntN(len(all)); pb.Next(); i++ {
					if _, err := c.Get(all[i%len(all)].Digest, buf); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// A half of what is put is there already.
func BenchmarkDedup(b *testing.B) {
	c, _ := benchStore(b, Options{})
	known := benchFilled(b, c, 1<<20, 8)
	put := int64(8 << 20)
	benchPut(b, 1<<20, 4, func(chunks []Chunk) error {
		put += 8 << 20
		return c.Put(b.Context(), PutOptions{Owner: "bench"}, append(chunks, known[:4]...)...)
	})
	b.ReportMetric(float64(put)/float64(c.Stats().RawBytes), "dedup-ratio")
}

// words is n bytes that compress as prose does: words of which a few are used often.
func words(n int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	vocabulary := make([][]byte, 4000)
	for i := range vocabulary {
		for range 2 + rng.IntN(9) {
			vocabulary[i] = append(vocabulary[i], byte('a'+rng.IntN(26)))
		}
	}
	var out []byte
	for len(out) < n {
		pick := int(float64(len(vocabulary)) * math.Pow(rng.Float64(), 3))
		out = append(append(out, vocabulary[pick]...), ' ')
	}
	return out[:n]
}

func BenchmarkCompress(b *testing.B) {
	for _, codec := range []Codec{S2, Zstd} {
		for _, data := range []struct {
			name string
			b    []byte
		}{{"text", words(1 << 20)}, {"noise", noise(1, 1<<20)}} {
			b.Run(codec.String()+"/"+data.name, func(b *testing.B) {
				b.SetBytes(int64(len(data.b)))
				var stored int
				for b.Loop() {
					_, body, buf := compress(codec, data.b)
					stored = len(body)
					PutBuffer(buf)
				}
				b.ReportMetric(float64(len(data.b))/float64(stored), "ratio")
			})
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, size := range []int{64 << 10, 1 << 20} {
		b.Run(sizeName(size), func(b *testing.B) {
			c, _ := benchStore(b, Options{})
			all := benchFilled(b, c, size, 16)
			b.SetBytes(int64(size))
			i := 0
			for b.Loop() {
				if err := c.Verify(all[i%len(all)].Digest); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

func BenchmarkCollect(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c, _ := benchStore(b, Options{})
			for b.Loop() {
				b.StopTimer()
				benchFilled(b, c, 1<<10, n)
				if err := c.Unref(b.Context(), "bench"); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				collectAll(b, c, n)
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "chunks/s")
		})
	}
}

// What the small profile needs while large and small chunks are written to it: all that Go has from the
// system, looked at after each put.
func BenchmarkSmallProfileMemory(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(50)) // as the agent sets it on such a board
	c, _ := benchStore(b, Options{Small: true})
	large, tiny := newStream(256<<10), newStream(16<<10)
	debug.FreeOSMemory() // of the benchmarks before
	var peak uint64
	b.SetBytes(8*256<<10 + 32*16<<10)
	for b.Loop() {
		chunks := append(large.chunks(8), tiny.chunks(32)...)
		if err := c.Put(b.Context(), PutOptions{Owner: "bench"}, chunks...); err != nil {
			b.Fatal(err)
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		peak = max(peak, m.Sys-m.HeapReleased)
	}
	b.ReportMetric(float64(peak)/1e6, "peak-MB")
}
