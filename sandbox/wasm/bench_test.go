package wasm

import (
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
)

// discard is a response that goes nowhere.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

// BenchmarkRequest is one request to an example in this process, without a network: pooled keeps what the
// last request left, isolated restores the image, fresh makes an instance.
func BenchmarkRequest(b *testing.B) {
	for _, module := range []string{"hello-c/hello.wasm", "hello-rust/hello.wasm", "hello-as/hello.wasm", "hello-go/build/hello.wasm"} {
		for _, isolation := range []string{api.IsolationInstance, api.IsolationRequest, api.IsolationFresh} {
			name, _, _ := strings.Cut(module, "/")
			b.Run(name+"/"+isolation, func(b *testing.B) {
				spec := fileSpec(filepath.Join("..", "..", "wasm-examples", module), api.ModeHTTP)
				if spec.Digest == "" {
					b.Skipf("%s is not built: make examples", module)
				}
				spec.Wasm.Isolation, spec.Memory = isolation, 64<<20
				h, _ := start(b, newDriver(b), spec)
				r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://hello.localhost/", nil)
				if err != nil {
					b.Fatal(err)
				}
				r.Header.Set("User-Agent", "bench")
				w := &discard{header: http.Header{}}
				b.ReportAllocs()
				before := usedCPU(b)
				for b.Loop() {
					clear(w.header)
					h.Endpoint().Handler.ServeHTTP(w, r)
				}
				b.ReportMetric(float64(usedCPU(b)-before)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// usedCPU is what this process has used of the processors, which tells more than the clock on a machine
// that does other work.
func usedCPU(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
