package state

import (
	"testing"

	"github.com/cloudless/cloudless/api"
)

// A node's own drain ends with its next start; what people have asked for, a cordon or a drain, does not, and
// goes on whatever the node asks for itself.
func TestADrainByHandOutlastsTheNodesOwn(t *testing.T) {
	self := Command{Drain: &DrainNode{ID: "n1", Drain: &api.Drain{Graceful: true, Self: true}}}
	byHand := Command{Drain: &DrainNode{ID: "n1", Drain: &api.Drain{Graceful: true}}}
	cordon := Command{Cordon: &Cordon{ID: "n1", Cordoned: true}}
	start := Command{RegisterNode: registration("n1")}
	for name, c := range map[string]struct {
		asked          []Command
		stopping, back api.NodeState
		own            bool // the drain while it stops is the node's own
	}{
		"nothing":                 {[]Command{self}, api.NodeDraining, api.NodeReady, true},
		"a cordon":                {[]Command{cordon, self}, api.NodeDraining, api.NodeCordoned, true},
		"a drain":                 {[]Command{byHand, self}, api.NodeDraining, api.NodeDraining, false},
		"a drain after the nodes": {[]Command{self, byHand, self}, api.NodeDraining, api.NodeDraining, false},
	} {
		s, index := New(), uint64(0)
		do := func(cmds ...Command) {
			for _, cmd := range cmds {
				index++
				if res := s.Apply(index, cmd); res.Err != nil {
					t.Fatalf("%s: %v", name, res.Err)
				}
			}
		}
		do(Command{PutToken: &api.Token{ID: "t", Role: api.RoleNode}}, Command{EnrolNode: &EnrolNode{Node: nodeRow("n1"), TokenID: "t"}}, start)
		do(c.asked...)
		n, _ := s.View().Node("n1")
		if n.State != c.stopping || n.Drain.Self != c.own {
			t.Errorf("%s: stopping, it is %s, by itself %v", name, n.State, n.Drain.Self)
		}
		do(start)
		if n, _ := s.View().Node("n1"); n.State != c.back {
			t.Errorf("%s: back, it is %s", name, n.State)
		}
	}
}
