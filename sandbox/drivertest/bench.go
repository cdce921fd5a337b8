package drivertest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// bench is one test's driver and what it has started.
type bench struct {
	Harness
	t      *testing.T
	driver sandbox.Driver
	n      int
}

func newBench(t *testing.T, h Harness) *bench {
	b := &bench{Harness: h, t: t, driver: h.New(t)}
	t.Cleanup(func() {
		if err := b.driver.Clean(context.Background(), nil); err != nil {
			t.Errorf("Clean: %v", err)
		}
		if err := b.driver.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return b
}

// output is where a replica's log arrives: through Spec.Log or in the file of Spec.LogPath.
type output struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	path string
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	file, _ := os.ReadFile(o.path) // absent when the driver writes to Log
	return o.buf.String() + string(file)
}

// fill gives a spec its identity and its log.
func (b *bench) fill(spec sandbox.Spec) (sandbox.Spec, *output) {
	b.n++
	spec.ID = fmt.Sprintf("%s-%d", api.NewID("r"), b.n)
	spec.NodeID, spec.Cluster = cmp.Or(spec.NodeID, "n-drivertest"), cmp.Or(spec.Cluster, "c-drivertest")
	spec.Workload = api.Ref{Namespace: api.DefaultNamespace, Name: "drivertest"}
	out := &output{path: filepath.Join(b.t.TempDir(), spec.ID+".log")}
	spec.Log, spec.LogPath = out, out.path
	return spec, out
}

func (b *bench) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), b.Patience)
	b.t.Cleanup(cancel)
	return ctx
}

func (b *bench) start(spec sandbox.Spec) (sandbox.Handle, *output) {
	b.t.Helper()
	spec, out := b.fill(spec)
	h, err := b.driver.Start(b.context(), spec)
	if err != nil {
		b.t.Fatalf("Start: %v", err)
	}
	b.t.Cleanup(func() { b.stop(h, 0) })
	if h.ID() != spec.ID {
		b.t.Errorf("the handle's id is %q, want %q", h.ID(), spec.ID)
	}
	return h, out
}

func (b *bench) stop(h sandbox.Handle, grace time.Duration) {
	b.t.Helper()
	if err := h.Stop(b.context(), grace); err != nil {
		b.t.Errorf("Stop: %v", err)
	}
}

// ended waits for the replica's end.
func (b *bench) ended(h sandbox.Handle) sandbox.Exit {
	b.t.Helper()
	select {
	case <-h.Done():
	case <-time.After(b.Patience):
		b.t.Fatalf("the replica has not ended after %s", b.Patience)
	}
	exit := h.Exit()
	if exit.At.IsZero() || exit.Reason == "" {
		b.t.Errorf("the exit has no time or no reason: %+v", exit)
	}
	return exit
}

// eventually polls: what it waits for is another process's doing.
func (b *bench) eventually(what string, ok func() bool) {
	b.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(b.Patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			b.t.Fatalf("%s: not after %s", what, b.Patience)
		}
	}
}

func running(h sandbox.Handle) bool {
	select {
	case <-h.Done():
		return false
	default:
		return true
	}
}

func (b *bench) wantCode(err error, code api.Code) {
	b.t.Helper()
	if api.CodeOf(err) != code || err.Error() == "" {
		b.t.Errorf("error %v has code %q, want %q with a reason", err, api.CodeOf(err), code)
	}
}
