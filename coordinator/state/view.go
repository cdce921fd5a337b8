package state

import (
	"cmp"
	"slices"

	"github.com/hashicorp/go-memdb"

	"github.com/cloudless/cloudless/api"
)

// View reads one consistent state. Rows are shared and must not be changed. The zero View is not usable.
type View struct {
	txn *memdb.Txn
}

func first[T any](v View, table, index, key string) (*T, bool) {
	row, err := v.txn.First(table, index, key)
	if err != nil || row == nil {
		return nil, false
	}
	return row.(*T), true
}

func all[T any](v View, table, index string, key ...any) []*T {
	it, err := v.txn.Get(table, index, key...)
	if err != nil {
		return nil
	}
	var rows []*T
	for row := it.Next(); row != nil; row = it.Next() {
		rows = append(rows, row.(*T))
	}
	return rows
}

// Meta is the cluster's row; its zero value before founding.
func (v View) Meta() Meta {
	if m, ok := first[Meta](v, tMeta, "id", "meta"); ok {
		return *m
	}
	return Meta{}
}

// Mark is the index of the last change of a table, and a channel that is closed at the next one.
func (v View) Mark(name string) (uint64, <-chan struct{}) {
	ch, row, err := v.txn.FirstWatch(tMarks, "id", name)
	if err != nil || row == nil {
		return 0, ch
	}
	return row.(*Mark).Index, ch
}

// Index is the highest index of any table.
func (v View) Index() uint64 {
	var index uint64
	for _, m := range all[Mark](v, tMarks, "id") {
		if m.Name != eventsKept {
			index = max(index, m.Index)
		}
	}
	return index
}

// number is a number that is kept beside the marks.
func (v View) number(name string) uint64 {
	if m, ok := first[Mark](v, tMarks, "id", name); ok {
		return m.Index
	}
	return 0
}

// EventsDropped is the index up to which events are no longer kept, at least in part; 0: all are.
func (v View) EventsDropped() uint64 { return v.number(eventsDropped) }

// Members lists the coordinators by id.
func (v View) Members() []*api.Member { return all[api.Member](v, tMembers, "id") }

// Member finds a coordinator by id.
func (v View) Member(id string) (*api.Member, bool) {
	return first[api.Member](v, tMembers, "id", id)
}

// Nodes lists the nodes by id.
func (v View) Nodes() []*api.Node { return all[api.Node](v, tNodes, "id") }

// Node finds a node by id.
func (v View) Node(id string) (*api.Node, bool) { return first[api.Node](v, tNodes, "id", id) }

// NodeNamed finds a node by id, else by name; a node that left yields its name.
func (v View) NodeNamed(idOrName string) (*api.Node, bool) {
	if n, ok := v.Node(idOrName); ok {
		return n, true
	}
	var found *api.Node
	for _, n := range all[api.Node](v, tNodes, "name", idOrName) {
		if found == nil || found.Liveness == api.NodeLeft {
			found = n
		}
	}
	return found, found != nil
}

// Set is the generation of a node's assignments, and a channel that is closed at the next change.
func (v View) Set(nodeID string) (uint64, <-chan struct{}) {
	ch, row, err := v.txn.FirstWatch(tSets, "id", nodeID)
	if err != nil || row == nil {
		return 0, ch
	}
	return row.(*NodeSet).Generation, ch
}

// Workloads lists the workloads by namespace and name.
func (v View) Workloads() []*Workload { return all[Workload](v, tWorkloads, "id") }

// Workload finds a workload.
func (v View) Workload(r api.Ref) (*Workload, bool) {
	return first[Workload](v, tWorkloads, "id", r.String())
}

// Versions lists the specs that a workload has had, oldest first, those of an earlier workload of
// the same name included.
func (v View) Versions(r api.Ref) []*Version {
	return all[Version](v, tVersions, "workload", r.String())
}

// Version finds one spec.
func (v View) Version(r api.Ref, uid string, version uint64) (*Version, bool) {
	return first[Version](v, tVersions, "id", versionKey(r, uid, version))
}

// Replicas lists all replicas by id.
func (v View) Replicas() []*api.Replica { return all[api.Replica](v, tReplicas, "id") }

// ReplicasOf lists a workload's replicas.
func (v View) ReplicasOf(r api.Ref) []*api.Replica {
	return all[api.Replica](v, tReplicas, "workload", r.String())
}

// ReplicasOn lists a node's replicas.
func (v View) ReplicasOn(nodeID string) []*api.Replica {
	return all[api.Replica](v, tReplicas, "node", nodeID)
}

// Replica finds a replica.
func (v View) Replica(id string) (*api.Replica, bool) {
	return first[api.Replica](v, tReplicas, "id", id)
}

// Tokens lists the tokens, hashes included.
func (v View) Tokens() []*api.Token { return all[api.Token](v, tTokens, "id") }

// Token finds a token.
func (v View) Token(id string) (*api.Token, bool) { return first[api.Token](v, tTokens, "id", id) }

// Policies lists what namespaces demand, by namespace.
func (v View) Policies() []*api.NamespacePolicy { return all[api.NamespacePolicy](v, tPolicies, "id") }

// Policy is what a namespace demands, if it demands anything.
func (v View) Policy(ns string) (*api.NamespacePolicy, bool) {
	return first[api.NamespacePolicy](v, tPolicies, "id", ns)
}

// Artifacts lists what the cluster's store holds.
func (v View) Artifacts() []*api.Artifact { return all[api.Artifact](v, tArtifacts, "id") }

// NamedArtifacts are the digests that any version of a workload names.
func (v View) NamedArtifacts() map[string]bool {
	named := map[string]bool{}
	for _, ver := range all[Version](v, tVersions, "id") {
		for _, variant := range []api.Variant{api.VariantWasm, api.VariantContainer} {
			if d, ok := ver.Spec.Digest(variant); ok {
				named[d] = true
			}
		}
	}
	return named
}

// Artifact finds an artifact.
func (v View) Artifact(digest string) (*api.Artifact, bool) {
	return first[api.Artifact](v, tArtifacts, "id", digest)
}

// Answer finds the remembered answer to an idempotency key.
func (v View) Answer(key string) (*Answer, bool) { return first[Answer](v, tAnswers, "id", key) }

// Revocations lists the members that were taken out and whose certificates may still be good, oldest first.
func (v View) Revocations() []*Revoked { return all[Revoked](v, tRevoked, "age") }

// Revocation finds a member that was taken out.
func (v View) Revocation(id string) (*Revoked, bool) { return first[Revoked](v, tRevoked, "id", id) }

// Events lists the events that match, oldest first; with a limit, the newest ones.
func (v View) Events(q api.EventQuery) []*api.Event {
	it, err := v.txn.GetReverse(tEvents, "id")
	if err != nil {
		return nil
	}
	var rows []*api.Event
	for row := it.Next(); row != nil; row = it.Next() {
		e := row.(*api.Event)
		if q.After > 0 && e.Index <= q.After || q.Limit > 0 && len(rows) >= q.Limit {
			break
		}
		if q.Match(e) {
			rows = append(rows, e)
		}
	}
	slices.Reverse(rows)
	return rows
}

// Live lists the workload's replicas that count towards its wish: meant to run, not orphaned. Oldest first.
func (v View) Live(r api.Ref) []*api.Replica {
	var live []*api.Replica
	for _, rep := range v.ReplicasOf(r) {
		if rep.Desired == api.DesiredRun && !rep.Orphan {
			live = append(live, rep)
		}
	}
	slices.SortFunc(live, func(a, b *api.Replica) int {
		return cmp.Or(cmp.Compare(a.CreateIndex, b.CreateIndex), cmp.Compare(a.ID, b.ID))
	})
	return live
}

// Allocated is what replicas reserve on a node: everything that runs or may still run there.
func (v View) Allocated(nodeID string) api.Reserved {
	var sum api.Reserved
	for _, r := range v.ReplicasOn(nodeID) {
		if !r.State.Terminal() {
			sum = sum.Add(r.Reserved)
		}
	}
	return sum
}
