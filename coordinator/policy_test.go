package coordinator

import (
	"strings"
	"testing"

	"github.com/cloudless/cloudless/api"
)

// A module, a key, and what the real minisign signed with it.
const (
	signedModule = "hello\n"
	signerKey    = "RWSnjAj6nj5yu6HxQKT7kwi+7I+/kB9TGf7wempgJmo8UIFBMXNgaFPT"
	signature    = "untrusted comment: signature from minisign secret key\n" +
		"RUSnjAj6nj5yu1y1wBirtaAp3Efs2RXfoILvU8t3EnHcaLA8Bpef47yS0eEa4YYs0snFrQPY1Cvh7GE98p78335j3AixdQE8DQk=\n" +
		"trusted comment: trusted\n" +
		"WQil0z7aYaebItAtjr7Z+SIZftUkvdiLjIi/gwuuTAej9hAFjBCNbgvv8dwP49hjOw3RQb7KajEbMcB/wYVABw==\n"
)

// Security 17: what a node would refuse at each start is refused at apply, and at plan, with the same
// reason; a module that is signed and one of a namespace without a policy are taken.
func TestAPolicyIsCheckedAtApplyAndPlan(t *testing.T) {
	t.Parallel()
	s := newCluster(t, 1).servers[0]
	good, err := upload(t, s, signedModule)
	if err != nil {
		t.Fatal(err)
	}
	other, err := upload(t, s, "another module")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutPolicy(t.Context(), admin, api.NamespacePolicy{Namespace: "prod", RequireSignature: []string{"junk"}}); api.CodeOf(err) != api.CodeInvalid {
		t.Error(err)
	}
	p, err := s.PutPolicy(t.Context(), admin, api.NamespacePolicy{Namespace: "prod", RequireSignature: []string{signerKey}})
	if err != nil || p.ModifyIndex == 0 {
		t.Fatal(p, err)
	}
	for name, tt := range map[string]struct{ ns, module, signature, want string }{
		"signed":                     {"prod", good, signature, ""},
		"not signed":                 {"prod", good, "", "no signature"},
		"another module's signature": {"prod", other, signature, "not of this module"},
		"a changed comment":          {"prod", good, strings.Replace(signature, ": trusted\n", ": trustee\n", 1), "trusted comment"},
		"in another namespace":       {"dev", other, "", ""},
	} {
		w := api.Workload{APIVersion: api.APIVersion, Kind: api.KindWorkload, Metadata: api.Metadata{Name: "web", Namespace: tt.ns}}
		w.Spec.Wasm = &api.WasmSpec{Module: tt.module, Signature: tt.signature}
		plan, planned := s.PlanWorkload(t.Context(), w)
		_, applied := s.PutWorkload(t.Context(), admin, w, false, 0)
		for what, err := range map[string]error{"plan": planned, "apply": applied} {
			if tt.want == "" && err != nil || tt.want != "" && (api.CodeOf(err) != api.CodeForbidden || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%s, %s: %v, want %q", what, name, err, tt.want)
			}
		}
		if noted := strings.Contains(strings.Join(plan.Notes, "\n"), "at each start"); planned == nil && noted != (tt.ns == "prod") {
			t.Errorf("%s: notes %q", name, plan.Notes)
		}
	}
	if err := s.DeletePolicy(t.Context(), admin, "prod"); err != nil {
		t.Fatal(err)
	}
	w := api.Workload{APIVersion: api.APIVersion, Kind: api.KindWorkload, Metadata: api.Metadata{Name: "web", Namespace: "prod"}}
	for _, version := range []api.WasmSpec{{Module: other, Signature: signature}, {Module: good, Signature: signature}} {
		w.Spec.Wasm = &version
		if _, err := s.PutWorkload(t.Context(), admin, w, false, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.PutPolicy(t.Context(), admin, p); err != nil {
		t.Fatal(err)
	}
	if _, err := s.RollbackWorkload(t.Context(), admin, "prod", "web", 0, 0); api.CodeOf(err) != api.CodeForbidden || !strings.Contains(err.Error(), "not of this module") {
		t.Errorf("a rollback to what was not signed: %v", err)
	}
	list, err := s.Namespaces(t.Context(), api.ListQuery{})
	if err != nil || len(list.Items) != 2 || list.Items[1].Policy == nil || list.Items[1].Workloads != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	if err := s.DeletePolicy(t.Context(), admin, "prod"); err != nil {
		t.Error(err)
	}
	if n, err := s.Namespace(t.Context(), "prod"); err != nil || n.Policy != nil {
		t.Errorf("%+v, %v", n, err)
	}
	if _, err := s.Namespace(t.Context(), "nowhere"); api.CodeOf(err) != api.CodeNotFound {
		t.Error(err)
	}
}

// What an operator may not apply an operator may not go back to either.
func TestPrivilegesNeedRoleAdmin(t *testing.T) {
	t.Parallel()
	s := newCluster(t, 1).servers[0]
	operator := api.Caller{TokenID: "t-operator", Role: api.RoleOperator}
	w := api.Workload{APIVersion: api.APIVersion, Kind: api.KindWorkload, Metadata: api.Metadata{Name: "web", Namespace: "default"}}
	for _, root := range []bool{true, false} {
		w.Spec.Container = &api.ContainerSpec{Image: "web:1", RunAsRoot: root}
		if _, err := s.PutWorkload(t.Context(), operator, w, false, 0); root != (api.CodeOf(err) == api.CodeForbidden) {
			t.Errorf("an operator applies, as root %t: %v", root, err)
		}
		if _, err := s.PutWorkload(t.Context(), admin, w, false, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, version := range []uint64{0, 1} {
		if _, err := s.RollbackWorkload(t.Context(), operator, "default", "web", version, 0); api.CodeOf(err) != api.CodeForbidden {
			t.Errorf("an operator goes back to root (version %d): %v", version, err)
		}
	}
	if _, err := s.RollbackWorkload(t.Context(), admin, "default", "web", 0, 0); err != nil {
		t.Errorf("an admin goes back: %v", err)
	}
}
