package state

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
)

// applier applies commands one after the other, and wants each to succeed or to be refused with a code.
type applier struct {
	*Store
	t     *testing.T
	index uint64
}

func (a *applier) do(want api.Code, c Command) {
	a.t.Helper()
	a.index++
	c.At = at
	if res := a.Apply(a.index, c); res.Err != nil && res.Err.Code != want || res.Err == nil && want != "" {
		a.t.Fatalf("%+v: %v, want %q", c, res.Err, want)
	}
}

func demand(ns string, keys ...string) Command {
	return Command{PutPolicy: &api.NamespacePolicy{Namespace: ns, RequireSignature: keys}}
}

// A policy reaches exactly the nodes that run something of its namespace, with a new generation each
// time that it changes; nothing that runs is touched.
func TestAPolicyReachesTheNodesOfItsNamespace(t *testing.T) {
	a := &applier{Store: New(), t: t}
	a.do("", Command{PutToken: &api.Token{ID: "tok", Role: api.RoleNode}})
	a.do("", Command{EnrolNode: &EnrolNode{Node: nodeRow("n1"), TokenID: "tok"}})
	a.do("", Command{EnrolNode: &EnrolNode{Node: nodeRow("n2"), TokenID: "tok"}})
	a.do("", Command{PutWorkload: &PutWorkload{Workload: hello(1), UID: "u-1"}})
	a.do("", Command{PlaceReplicas: &PlaceReplicas{Replicas: []api.Replica{replica("hello-1", "n1")}}})

	before := a.View()
	told := func(step string, n1 bool, keys ...string) {
		t.Helper()
		v := a.View()
		for node, want := range map[string]bool{"n1": n1, "n2": false} {
			old, _ := before.Set(node)
			if now, _ := v.Set(node); (now != old) != want {
				t.Errorf("%s: node %s, generation %d, before %d", step, node, now, old)
			}
		}
		var have []string
		for _, p := range v.Assignments("n1").Policies {
			have = append(have, p.Namespace+": "+strings.Join(p.RequireSignature, " "))
		}
		if d := cmp.Diff(keys, have); d != "" {
			t.Errorf("%s:\n%s", step, d)
		}
		if d := cmp.Diff(before.Assignments("n1").Assignments, v.Assignments("n1").Assignments); d != "" {
			t.Errorf("%s changed what runs:\n%s", step, d)
		}
		before = v
	}
	a.do("", demand("other", "k"))
	told("of another namespace", false)
	a.do("", demand("default", "k1", "k2"))
	told("set", true, "default: k1 k2")
	a.do("", demand("default", "k3"))
	told("set anew", true, "default: k3")
	a.do("", Command{DeletePolicy: &ByID{ID: "default"}})
	told("deleted", true)
	a.do(api.CodeNotFound, Command{DeletePolicy: &ByID{ID: "default"}})
	told("deleted twice", false)
	if d := cmp.Diff([]api.Namespace{{Name: "default", Workloads: 1}, {Name: "other", Policy: mustPolicy(t, a.View(), "other")}}, a.View().Namespaces()); d != "" {
		t.Error(d)
	}
}

func mustPolicy(t *testing.T, v View, ns string) *api.NamespacePolicy {
	t.Helper()
	p, ok := v.Policy(ns)
	if !ok {
		t.Fatalf("namespace %s has no policy", ns)
	}
	return p
}

// What the manifest alone tells is refused wherever a spec becomes the current one, a rollback included.
func TestAPolicyRefusesWhatIsNotSigned(t *testing.T) {
	signed := hello(1)
	signed.Spec.Wasm = &api.WasmSpec{Module: "m.wasm", Mode: api.ModeHTTP, Signature: "a signature; what it is of, nodes tell"}
	image := hello(1)
	image.Spec.Wasm, image.Spec.Container = nil, &api.ContainerSpec{Image: "x"}
	a := &applier{Store: New(), t: t}
	put := func(w api.Workload) Command { return Command{PutWorkload: &PutWorkload{Workload: w, UID: "u-1"}} }
	a.do("", put(hello(1)))
	a.do("", demand("default", "k"))
	a.do(api.CodeForbidden, put(hello(2)))
	a.do(api.CodeForbidden, put(image))
	a.do("", put(signed))
	a.do(api.CodeForbidden, Command{RollbackWork: &RollbackWork{Ref: helloRef, Version: 1}})
	elsewhere := hello(1)
	elsewhere.Metadata.Namespace = "other"
	a.do("", put(elsewhere))
	a.do("", Command{DeletePolicy: &ByID{ID: "default"}})
	a.do("", Command{RollbackWork: &RollbackWork{Ref: helloRef, Version: 1}})
}

func TestPoliciesAreBounded(t *testing.T) {
	a := &applier{Store: New(), t: t}
	for i := range api.MaxNamespacePolicies {
		a.do("", demand(fmt.Sprintf("n%d", i), "k"))
	}
	a.do(api.CodeTooLarge, demand("one-more", "k"))
	a.do("", demand("n0", "k2"))
	if p := mustPolicy(t, a.View(), "n0"); p.CreateIndex != 1 || p.ModifyIndex != a.index {
		t.Errorf("%+v", p)
	}
}
