package cli

import (
	"testing"

	"github.com/cloudless/cloudless/api"
)

// A node is drained when it has no replicas and nothing needs its chunks, if it keeps any.
func TestDrained(t *testing.T) {
	for name, c := range map[string]struct {
		node    api.Node
		drained bool
		remains string
	}{
		"replicas":           {api.Node{Status: &api.NodeStatus{Replicas: 2}}, false, "2 replicas"},
		"no store":           {api.Node{Status: &api.NodeStatus{}}, true, "0 replicas"},
		"not looked at yet":  {api.Node{StoreCapacity: 1, Status: &api.NodeStatus{}}, false, "0 replicas"},
		"chunks":             {api.Node{StoreCapacity: 1, Status: &api.NodeStatus{Upkeep: &api.NodeUpkeep{Chunks: 3}}}, false, "0 replicas and 3 chunks"},
		"safe to remove":     {api.Node{StoreCapacity: 1, Status: &api.NodeStatus{Upkeep: &api.NodeUpkeep{SafeToRemove: true}}}, true, "0 replicas"},
		"replicas alone now": {api.Node{StoreCapacity: 1, Status: &api.NodeStatus{Replicas: 1, Upkeep: &api.NodeUpkeep{SafeToRemove: true}}}, false, "1 replicas"},
	} {
		if got, text := isDrained(c.node), remaining(c.node); got != c.drained || text != c.remains {
			t.Errorf("%s: %v, %s", name, got, text)
		}
	}
}
