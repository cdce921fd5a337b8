package coordinator

import (
	"fmt"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/pki"
)

// A set carries a grant for each artifact that its node may read, and other nodes believe it.
func TestASetCarriesGrants(t *testing.T) {
	s := openServer(t)
	digest, other := "sha256:"+fmt.Sprintf("%064d", 1), "sha256:"+fmt.Sprintf("%064d", 2)
	spec := func(module string) api.WorkloadSpec { return api.WorkloadSpec{Wasm: &api.WasmSpec{Module: module}} }
	set := s.granted(&api.AssignmentSet{
		NodeID: "n-1", Assignments: []api.Assignment{{UID: "u", Version: 1, Variant: api.VariantWasm}},
		Specs: []api.AssignedSpec{{UID: "u", Version: 1, Spec: spec(digest)}}, Prepare: []api.AssignedSpec{{UID: "u", Version: 2, Spec: spec(other)}},
	})
	if len(set.Grants) != 2 {
		t.Errorf("grants: %v", set.Grants)
	}
	for d, grant := range set.Grants {
		if err := s.creds.CheckGrant(grant, "n-1", d); err != nil {
			t.Error(err)
		}
	}
	if empty := s.granted(&api.AssignmentSet{NodeID: "n-2"}); len(empty.Grants) != 0 {
		t.Errorf("grants of an empty set: %v", empty.Grants)
	}
}

// A grant is signed once, by the CA of the moment, and those that are kept are bounded.
func TestGrantsAreKeptAndBounded(t *testing.T) {
	ca, next := testCA(t), testCA(t)
	var g grants
	get := func(ca *pki.CA, digest string) string {
		t.Helper()
		grant, err := g.get(ca, "n-1", digest)
		if err != nil {
			t.Fatal(err)
		}
		return grant
	}
	first := get(ca, "d")
	if get(ca, "d") != first {
		t.Error("signed twice")
	}
	if get(next, "d") == first || get(ca, "d") == first {
		t.Error("kept over a change of the CA")
	}
	for i := len(g.made); i < maxGrants; i++ {
		g.made[grantOf{"n-2", fmt.Sprint(i)}] = "kept"
	}
	get(ca, "d")
	if len(g.made) != maxGrants {
		t.Errorf("%d are kept at the limit", len(g.made))
	}
	if get(ca, "e"); len(g.made) != 1 {
		t.Errorf("%d are kept past the limit", len(g.made))
	}
}

func testCA(t *testing.T) *pki.CA {
	t.Helper()
	ca, err := pki.NewCA("c-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}
