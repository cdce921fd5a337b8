package coordinator

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
)

func score(id string, spread, packing float64) api.Score {
	return api.Score{NodeID: id, Node: id, Total: spread + packing, Parts: map[string]float64{"spread": spread, "packing": packing}}
}

// A placement that is still right says nothing, whatever its marks have become; one that would go
// elsewhere says where, and what has changed.
func TestADifferenceIsToldOnlyWhenTheReplicaWouldGoElsewhere(t *testing.T) {
	fit := func(s api.Score) api.NodeExplanation {
		return api.NodeExplanation{NodeID: s.NodeID, Node: s.Node, Score: s}
	}
	then := api.Decision{Best: []api.Score{score("n1", 60, 10), score("n2", 60, 5)}, Chosen: "n1"}
	tests := []struct {
		name string
		own  api.NodeExplanation
		best []api.Score
		want []string
	}{
		{"as it was", fit(score("n1", 60, 10)), []api.Score{score("n1", 60, 10)}, nil},
		{"other marks, still the best", fit(score("n1", 60, 2)), []api.Score{score("n1", 60, 2), score("n2", 19, 5)}, nil},
		{"less than a point behind", fit(score("n1", 60, 4.5)), []api.Score{score("n2", 60, 5), score("n1", 60, 4.5)}, nil},
		{"another is better", fit(score("n1", 19, 10)), []api.Score{score("n2", 60, 5), score("n1", 19, 10)},
			[]string{"replica r: node n2 would now be chosen, with 65.0 points; node n1 has 29.0 (70.0 then: spread 60.0 then, 19.0 now); it is ahead by spread +41.0"}},
		{"refused", api.NodeExplanation{NodeID: "n1", Node: "n1", Filter: "cordoned", Reason: "is cordoned"}, nil,
			[]string{"replica r: node n1 would now be refused by cordoned: is cordoned"}},
		{"its node is gone", api.NodeExplanation{}, nil, []string{"replica r: its node is no longer part of the cluster"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &api.Replica{ID: "r", NodeID: "n1", Decision: then}
			if diff := cmp.Diff(tt.want, difference(r, tt.own, api.Decision{Best: tt.best})); diff != "" {
				t.Error(diff)
			}
		})
	}
}
