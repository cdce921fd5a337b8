package coordinator

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

// Every node is told the endpoint table of the present state, which is made once for all of them.
func TestTheEndpointTableIsMadeOnceForAllNodes(t *testing.T) {
	s := listening()
	index := uint64(0)
	apply := func(cmd state.Command) {
		index++
		if res := s.store.Apply(index, cmd); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	ask := func(node string) (table api.EndpointTable) {
		rec := httptest.NewRecorder()
		s.handleEndpoints(rec, httptest.NewRequest(http.MethodGet, api.PathEndpoints, nil), node)
		if err := json.Unmarshal(rec.Body.Bytes(), &table); err != nil || rec.Code != http.StatusOK {
			t.Fatalf("%d %s: %v", rec.Code, rec.Body, err)
		}
		return table
	}
	apply(state.Command{Found: &state.Found{ClusterID: "c", Epoch: 1}})
	apply(state.Command{PutToken: &api.Token{ID: "t", Role: api.RoleNode}})
	apply(state.Command{EnrolNode: &state.EnrolNode{Node: api.Node{ID: "n1", Name: "one"}, TokenID: "t"}})
	var made []*byte
	for _, zone := range []string{"a", "b"} {
		apply(state.Command{RegisterNode: &state.RegisterNode{ID: "n1", Info: api.RegisterRequest{Zone: zone}}})
		for _, node := range []string{"n1", "n2"} {
			got := ask(node)
			if diff := cmp.Diff(s.store.View().Endpoints(), &got); diff != "" || got.Nodes["n1"].Zone != zone {
				t.Errorf("%s is told of zone %q\n%s", node, got.Nodes["n1"].Zone, diff)
			}
			made = append(made, &s.endpoints.encoded[0])
		}
	}
	if made[0] != made[1] || made[2] != made[3] || made[1] == made[2] {
		t.Errorf("tables at %p", made)
	}
	apply(state.Command{Found: &state.Found{ClusterID: "c", Epoch: 2}})
	if got := ask("n1"); got.Epoch != 2 {
		t.Errorf("after the beginning of epoch 2 the table is of epoch %d", got.Epoch)
	}
}
