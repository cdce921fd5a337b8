package reconcile

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

// Whatever is scaled, restarted, lost and found again while there is little room: once that is over,
// nothing runs an old version, for where a copy of it runs there is room for its successor.
func TestARolloutComesToItsEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		nodes(w, rapid.IntRange(1, 3).Draw(t, "nodes"))
		cpu := rapid.SampledFrom([]int{100, 300, 500, 700}).Draw(t, "cpu")
		w.put("a", rapid.IntRange(1, 4).Draw(t, "replicas"), func(s *api.WorkloadSpec) { s.Resources.CPU = api.MilliCPU(cpu) })
		w.settle()
		for range rapid.IntRange(1, 15).Draw(t, "acts") {
			disturb(t, w)
		}
		for _, id := range []string{"n0", "n1", "n2"} {
			w.revive(id)
		}
		w.settle()
		wl, _ := w.store.View().Workload(ref("a"))
		for _, r := range w.store.View().Live(ref("a")) {
			if r.Version < wl.Template || !r.Ready {
				t.Fatalf("replica %s of version %d, ready=%t, is left; version %d is wanted\n%s", r.ID, r.Version, r.Ready, wl.Template, w.trace)
			}
		}
	})
}

// disturb does one thing that meets a rollout half-way.
func disturb(t *rapid.T, w *world) {
	node := rapid.SampledFrom([]string{"n0", "n1", "n2"}).Draw(t, "node")
	switch rapid.IntRange(0, 6).Draw(t, "act") {
	case 0:
		w.must(state.Command{RestartWorkload: &state.ByRef{Ref: ref("a")}})
	case 1, 2:
		w.must(state.Command{ScaleWorkload: &state.ScaleWorkload{Ref: ref("a"), Replicas: rapid.IntRange(1, 6).Draw(t, "replicas")}})
	case 3:
		w.kill(node)
	case 4:
		w.revive(node)
	case 5:
		w.agents()
	case 6:
		w.plan()
	}
}
