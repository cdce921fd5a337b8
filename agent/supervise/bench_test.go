package supervise

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"golang.org/x/time/rate"

	"github.com/cloudless/cloudless/agent/converge"
	"github.com/cloudless/cloudless/agent/ledger"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/fake"
)

// BenchmarkStart1000 is what the supervisor and a real ledger on a real disk add to 1,000 starts.
func BenchmarkStart1000(b *testing.B) {
	const replicas = 1000
	actions := make([]converge.Action, replicas)
	for i := range actions {
		id := fmt.Sprintf("r-%d", i)
		actions[i] = converge.Action{Kind: converge.Start, ReplicaID: id, Assignment: assignment(id, api.VariantWasm), Spec: wasm(nil)}
	}
	for b.Loop() {
		l, err := ledger.Open(b.TempDir(), nil)
		if err != nil {
			b.Fatal(err)
		}
		var ready atomic.Int32
		all := make(chan struct{})
		s := New(Config{
			Ledger: l, LogDir: b.TempDir(), Drivers: map[api.Variant]sandbox.Driver{api.VariantWasm: wasmDriver(fake.Script{})},
			Fetch: func(context.Context, string) (string, error) { return "", nil },
			OnStatus: func(rep api.ReplicaReport) {
				if rep.Ready && ready.Add(1) == replicas {
					close(all)
				}
			},
		})
		s.Apply(actions)
		<-all
		b.StopTimer()
		if err := s.Stop(context.Background(), StopKill); err != nil {
			b.Fatal(err)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkLogLine is a line of a wasm replica on its way to its file.
func BenchmarkLogLine(b *testing.B) {
	l := openLogs(b.TempDir(), "r-1")
	defer l.Close()
	l.limit = rate.NewLimiter(rate.Inf, 0)
	line := []byte("GET /some/path 200 in 1.2 ms\n")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Write(line); err != nil {
			b.Fatal(err)
		}
	}
}
