package cli

import (
	"strings"
	"testing"

	"github.com/cloudless/cloudless/api"
)

// Dev does not wait for an agent in vain without saying why: one that was removed needs another folder.
func TestDevNamesTheAgentThatWasRemoved(t *testing.T) {
	node := func(name string, live api.NodeState, connected bool) api.Node {
		return api.Node{Name: name, Liveness: live, Status: &api.NodeStatus{Connected: connected}}
	}
	all := []api.Node{node("dev-1", api.NodeReady, true), node("dev-2", api.NodeReady, true), node("dev-3", api.NodeReady, true)}
	if names := notReady(all, 3); names != nil {
		t.Errorf("all are ready, but not %v", names)
	}
	for _, c := range []struct {
		nodes []api.Node
		want  string
	}{
		{all[:2], "not ready: dev-3 (dev-3 was removed from the cluster: delete its folder /d/agents/dev-3, and it joins anew)"},
		{[]api.Node{all[0], node("dev-2", api.NodeLost, false), all[2]}, "not ready: dev-2 (the log says more with --log-level info)"},
		{[]api.Node{node("dev-1", api.NodeReady, false), all[2]}, "not ready: dev-1, dev-2 (dev-2 was removed"},
	} {
		err := unready(c.nodes, notReady(c.nodes, 3), "/d")
		if got := err.Error() + " (" + api.AsError(err).Hint + ")"; !strings.Contains(got, c.want) {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
