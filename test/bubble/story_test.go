package bubble

import (
	"testing"
	"time"
)

func TestTenReplicasSettleOnTenNodes(t *testing.T) {
	story(t, func(w *world) {
		w.check(w.put(w.mustLead(), "web", 10))
		w.eventually("ten replicas", 30*time.Second, func() bool { return w.settled("web", 10) })
		w.sameState()
		for _, n := range w.nodes {
			if body, err := w.get(n, "web"); err != nil {
				w.t.Errorf("%s does not serve: %q, %v", n.name, body, err)
			}
		}
	})
}
