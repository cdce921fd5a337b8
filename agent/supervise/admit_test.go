package supervise

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudless/cloudless/agent/converge"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox/fake"
)

// Each start is asked about, with the artifact's file, before anything is prepared; what is refused
// says why, and starts once it is no longer refused.
func TestEachStartIsAskedAbout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := wasmDriver(fake.Script{})
		n := newNode(t, d)
		var asked atomic.Int32
		var refused atomic.Bool
		n.admit = func(a api.Assignment, path string) error {
			asked.Add(1)
			same(t, "asked about", []string{"r-1", "/store/" + digest}, []string{a.ReplicaID, path})
			if refused.Load() {
				return api.Errorf(api.CodeForbidden, "nobody signed it")
			}
			return nil
		}
		n.run("r-1", api.VariantWasm, wasm(policy(api.RestartAlways)))
		synctest.Wait()
		same(t, "asked, and started", []int{1, 1}, []int{int(asked.Load()), d.Starts("r-1")})

		refused.Store(true)
		synctest.Wait()
		same(t, "what runs goes on", true, n.last("r-1").Ready)
		d.Kill("r-1")
		after(10 * time.Second)
		rep := n.last("r-1")
		same(t, "a start that is refused", []any{api.ReplicaBackoff, "nobody signed it", 1}, []any{rep.State, rep.Reason, d.Starts("r-1")})

		refused.Store(false)
		after(2 * time.Minute)
		same(t, "starts", 2, d.Starts("r-1"))
		same(t, "ready", true, n.last("r-1").Ready)
		n.close(StopRestart)
	})
}

// A module's driver is told what it may reach; nothing, where the manifest says nothing.
func TestADriverIsToldWhatMayBeReached(t *testing.T) {
	w := wasm(nil)
	same(t, "without rules", 0, len(sandboxSpec(Config{}, assignment("r-1", api.VariantWasm), &w).Egress))
	w.Egress = &api.Egress{Allow: []string{"example.com:443"}}
	same(t, "with a rule", []string{"example.com:443"}, sandboxSpec(Config{}, assignment("r-1", api.VariantWasm), &w).Egress)
}

// A version that is refused is not prepared either: its module is not even compiled.
func TestWhatIsRefusedIsNotPrepared(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, wasmDriver(fake.Script{}))
		n.admit = func(api.Assignment, string) error { return api.Errorf(api.CodeForbidden, "nobody signed it") }
		n.Apply([]converge.Action{{Kind: converge.Prepare, Assignment: assignment("", ""), Spec: wasm(nil)}})
		after(time.Second)
		same(t, "prepared", 0, len(n.Warm()))
		n.close(StopRestart)
	})
}
