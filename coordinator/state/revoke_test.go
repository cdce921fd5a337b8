package state

import (
	"fmt"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
)

// A revoked node is gone, its replicas with it, and its id is told to every agent until no
// certificate of it can be valid.
func TestARevokedNodeIsToldUntilItsCertificateHasEnded(t *testing.T) {
	s := New()
	index := uint64(0)
	apply := func(when time.Time, c Command) {
		t.Helper()
		index++
		c.At = when
		if res := s.Apply(index, c); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	apply(at, Command{Found: &Found{ClusterID: "c", Epoch: 1}})
	apply(at, Command{PutToken: &api.Token{ID: "tok", Role: api.RoleNode}})
	for _, id := range []string{"n1", "n2"} {
		apply(at, Command{EnrolNode: &EnrolNode{Node: nodeRow(id), TokenID: "tok"}})
	}
	apply(at, Command{RevokeNode: &RevokeNode{ID: "n1", Reason: "stolen"}})
	if _, ok := s.View().Node("n1"); ok {
		t.Error("the node is still there")
	}
	if got := s.View().Endpoints().Revoked; len(got) != 1 || got[0] != "n1" {
		t.Errorf("agents are told %q", got)
	}
	mark, _ := s.View().Mark(MarkServices)
	if mark != index {
		t.Error("the endpoint table did not change, so no agent would hear of it")
	}
	if res := s.Apply(index+1, Command{At: at, RevokeNode: &RevokeNode{ID: "n1"}}); res.Err == nil || res.Err.Code != api.CodeNotFound {
		t.Errorf("revoked twice: %v", res.Err)
	}
	index++

	apply(at.Add(api.LeafLifetime), Command{RemoveNode: &ByID{ID: "n2"}})
	if _, ok := s.View().Revocation("n1"); !ok {
		t.Error("forgotten while a certificate may still be good")
	}
	apply(at.Add(revokedFor), Command{EnrolNode: &EnrolNode{Node: nodeRow("n3"), TokenID: "tok"}})
	apply(at.Add(revokedFor), Command{RemoveNode: &ByID{ID: "n3"}})
	if _, ok := s.View().Revocation("n1"); ok {
		t.Error("kept for ever")
	}
	if _, ok := s.View().Revocation("n2"); !ok {
		t.Error("a younger one was forgotten with it")
	}
}

func TestRevocationsAreBounded(t *testing.T) {
	s := New()
	for i := range api.MaxRevoked + 2 {
		tx := s.begin(uint64(i+1), Command{At: at})
		tx.revoke(Revoked{ID: fmt.Sprintf("n%06d", i), Role: api.RoleNode})
		tx.finish()
	}
	if n := len(s.View().Revocations()); n != api.MaxRevoked {
		t.Errorf("%d are kept", n)
	}
	if _, ok := s.View().Revocation("n000000"); ok {
		t.Error("the oldest was not the one to go")
	}
}
