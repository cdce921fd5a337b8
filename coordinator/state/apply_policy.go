package state

import (
	"maps"
	"slices"

	"github.com/cloudless/cloudless/api"
)

// putPolicy sets what a namespace demands. What runs there goes on; each start from now on is judged by
// it, so its nodes are told.
func (t *tx) putPolicy(p api.NamespacePolicy) Result {
	old, known := t.Policy(p.Namespace)
	if !known && len(t.Policies()) >= api.MaxNamespacePolicies {
		return refuse(api.CodeTooLarge, "there are policies of %d namespaces already", api.MaxNamespacePolicies)
	}
	p.CreateIndex, p.ModifyIndex = t.index, t.index
	if known {
		p.CreateIndex = old.CreateIndex
	}
	t.put(tPolicies, &p)
	t.tellNamespace(p.Namespace)
	t.event(api.EventPolicySet, api.SeverityWarning, "namespace/"+p.Namespace, "modules must be signed by one of %d keys", len(p.RequireSignature))
	return Result{}
}

func (t *tx) deletePolicy(ns string) Result {
	p, ok := t.Policy(ns)
	if !ok {
		return refuse(api.CodeNotFound, "namespace %s has no policy", ns)
	}
	t.del(tPolicies, p)
	t.tellNamespace(ns)
	t.event(api.EventPolicyDeleted, api.SeverityWarning, "namespace/"+ns, "modules need no signature any more")
	return Result{}
}

// tellNamespace begins a new generation for every node that runs something of the namespace.
func (t *tx) tellNamespace(ns string) {
	told := map[string]bool{}
	for _, r := range t.Replicas() {
		if r.Workload.Namespace == ns && !told[r.NodeID] {
			told[r.NodeID] = true
			t.bumpSet(r.NodeID)
		}
	}
}

// Namespaces lists those that have workloads or a policy, by name.
func (v View) Namespaces() []api.Namespace {
	rows := map[string]*api.Namespace{}
	row := func(name string) *api.Namespace {
		if rows[name] == nil {
			rows[name] = &api.Namespace{Name: name}
		}
		return rows[name]
	}
	for _, w := range v.Workloads() {
		row(w.Metadata.Namespace).Workloads++
	}
	for _, p := range v.Policies() {
		row(p.Namespace).Policy = p
	}
	list := make([]api.Namespace, 0, len(rows))
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		list = append(list, *rows[name])
	}
	return list
}
