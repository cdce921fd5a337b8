package state

import (
	"maps"
	"slices"
	"time"

	"github.com/cloudless/cloudless/api"
)

// bumpSet begins a new generation of a node's assignments.
func (t *tx) bumpSet(nodeID string) { t.put(tSets, &NodeSet{nodeID, t.index}) }

func (t *tx) enrolNode(e EnrolNode) Result {
	n := e.Node
	if old, ok := t.NodeNamed(n.Name); ok && old.Liveness != api.NodeLeft {
		return Result{Err: api.Errorf(api.CodeConflict, "a node named %q exists (%s, %s)", n.Name, old.ID, old.Effective()).
			WithHint("choose another --name, or remove the old one with 'cloudless node remove %s'", n.Name)}
	}
	if len(t.Nodes()) >= api.MaxNodes {
		return refuse(api.CodeTooLarge, "the cluster has %d nodes already", api.MaxNodes)
	}
	if err := t.spend(e.TokenID, api.RoleNode, n.Name); err != nil {
		return Result{Err: err}
	}
	n.Liveness, n.JoinedAt, n.ChangedAt = api.NodeJoining, t.at, t.at
	n.CreateIndex = t.index
	n.Epoch = t.Meta().Epoch // one that is new runs nothing that there could be a report of
	t.putNode(n)
	t.bumpSet(n.ID)
	t.event(api.EventNodeJoined, api.SeverityInfo, "node/"+n.Name, "node %s enrolled as %s", n.Name, n.ID)
	return Result{Node: &n}
}

func (t *tx) putNode(n api.Node) {
	n.ModifyIndex = t.index
	n.State = n.Effective()
	n.Status = nil
	t.put(tNodes, &n)
	t.touch(MarkServices)
}

// change copies a node's row, lets f change the copy, and stores it.
func (t *tx) change(id string, f func(n *api.Node)) Result {
	old, ok := t.Node(id)
	if !ok {
		return refuse(api.CodeNotFound, "no node %s", id)
	}
	n := *old
	f(&n)
	t.putNode(n)
	n.State = n.Effective()
	return Result{Node: &n}
}

// registerNode takes what a node says of itself. It is ready from then on: it called by itself. In
// a new epoch it must report first what it runs.
func (t *tx) registerNode(r RegisterNode) Result {
	old, ok := t.Node(r.ID)
	if !ok || old.Liveness == api.NodeLeft {
		return refuse(api.CodeForbidden, "node %s is not part of the cluster any more", r.ID)
	}
	res := t.change(r.ID, func(n *api.Node) {
		i := r.Info
		n.Addr, n.Region, n.Zone, n.Labels, n.Taints = i.Addr, i.Region, i.Zone, maps.Clone(i.Labels), slices.Clone(i.Taints)
		n.Capacity, n.Runtimes, n.Arch, n.OS, n.Version = i.Capacity, i.Runtimes, i.Arch, i.OS, i.Version
		if i.StoreCapacity > 0 { // a node that could not open its store this time is still a member: it has chunks
			n.StoreCapacity = i.StoreCapacity
		}
		if n.Liveness != api.NodeReady {
			n.ChangedAt = t.at
		}
		n.Liveness, n.Reason, n.Goodbye = api.NodeReady, "", ""
		if n.Drain != nil && n.Drain.Self {
			n.Drain = nil
		}
	})
	if old.Liveness != api.NodeReady {
		t.event(api.EventNodeReady, api.SeverityInfo, "node/"+old.Name, "node %s is ready at %s", old.Name, r.Info.Addr.Node)
	}
	return res
}

var livenessEvents = map[api.NodeState]struct {
	typ string
	sev api.Severity
}{
	api.NodeReady:   {api.EventNodeReady, api.SeverityInfo},
	api.NodeSuspect: {api.EventNodeSuspect, api.SeverityWarning},
	api.NodeLost:    {api.EventNodeLost, api.SeverityError},
	api.NodeLeft:    {api.EventNodeLeft, api.SeverityInfo},
}

func (t *tx) setLiveness(s SetLiveness) Result {
	old, ok := t.Node(s.ID)
	if !ok {
		return refuse(api.CodeNotFound, "no node %s", s.ID)
	}
	if old.Liveness == s.Liveness {
		return refuse(api.CodeConflict, "node %s is %s already", s.ID, s.Liveness)
	}
	res := t.change(s.ID, func(n *api.Node) {
		n.Liveness, n.Reason, n.ChangedAt = s.Liveness, s.Reason, t.at
		if s.Liveness == api.NodeLost {
			n.Failures++
		}
	})
	if e, ok := livenessEvents[s.Liveness]; ok {
		t.event(e.typ, e.sev, "node/"+old.Name, "node %s is %s: %s", old.Name, s.Liveness, s.Reason)
	}
	return res
}

func (t *tx) goodbye(g NodeGoodbye) Result {
	return t.change(g.ID, func(n *api.Node) { n.Goodbye, n.ChangedAt = g.Kind, t.at })
}

func (t *tx) cordon(c Cordon) Result {
	res := t.change(c.ID, func(n *api.Node) {
		n.Cordoned = c.Cordoned
		if !c.Cordoned {
			n.Drain = nil
		}
	})
	if res.Err == nil && c.Cordoned {
		t.event(api.EventNodeCordoned, api.SeverityInfo, "node/"+res.Node.Name, "node %s takes no new replicas", res.Node.Name)
	} else if res.Err == nil {
		t.event(api.EventNodeUncordoned, api.SeverityInfo, "node/"+res.Node.Name, "node %s takes new replicas again", res.Node.Name)
	}
	return res
}

// drain empties a node. What somebody has asked for outlasts the node's own stop: that is the drain which goes
// on when both want one, and it leaves the node cordoned.
func (t *tx) drain(d DrainNode) Result {
	self := d.Drain != nil && d.Drain.Self
	if old, ok := t.Node(d.ID); self && ok && old.Drain != nil {
		return Result{Node: old}
	}
	res := t.change(d.ID, func(n *api.Node) {
		n.Drain = d.Drain
		n.Cordoned = n.Cordoned || d.Drain != nil && !self
	})
	if res.Err == nil && d.Drain != nil {
		t.event(api.EventNodeDraining, api.SeverityInfo, "node/"+res.Node.Name, "node %s is being emptied", res.Node.Name)
	}
	return res
}

// removeNode takes a node out for good: its certificate is refused from now on, and its connections
// are cut. Its replicas are replaced like a lost node's; what a job had finished there stays finished.
func (t *tx) removeNode(id string) Result {
	n, ok := t.Node(id)
	if !ok {
		return refuse(api.CodeNotFound, "no node %s", id)
	}
	t.dropNode(n, "removed")
	t.event(api.EventNodeRemoved, api.SeverityWarning, "node/"+n.Name, "node %s was removed", n.Name)
	return Result{}
}

// revokeNode is removeNode for a node that is not trusted any more; people are told so.
func (t *tx) revokeNode(r RevokeNode) Result {
	n, ok := t.Node(r.ID)
	if !ok {
		return refuse(api.CodeNotFound, "no node %s", r.ID)
	}
	t.dropNode(n, "revoked: "+r.Reason)
	t.event(api.EventNodeRevoked, api.SeverityError, "node/"+n.Name, "node %s (%s) was revoked: %s", n.Name, n.ID, r.Reason)
	return Result{}
}

func (t *tx) dropNode(n *api.Node, reason string) {
	for _, r := range t.ReplicasOn(n.ID) {
		if w, ok := t.Workload(r.Workload); !ok || !w.Finished(r) {
			t.dropReplica(r)
		}
	}
	t.del(tNodes, n)
	t.revoke(Revoked{ID: n.ID, Role: api.RoleNode, Name: n.Name, Reason: reason})
}

// revokedFor is how long a revocation is kept: no certificate of the member lives longer, with a day
// for clocks that are wrong.
const revokedFor = api.LeafLifetime + 24*time.Hour

// revoke keeps the member's id among those that nobody talks to, and drops what has aged out of it.
// Beyond MaxRevoked the oldest goes: coordinators refuse it all the same, as they do not know it.
func (t *tx) revoke(r Revoked) {
	r.At, r.Index = t.at, t.index
	t.put(tRevoked, &r)
	t.touch(MarkServices)
	rows := t.Revocations()
	for i, row := range rows {
		if row.At.Add(revokedFor).After(t.at) && len(rows)-i <= api.MaxRevoked {
			break
		}
		t.del(tRevoked, row)
	}
}
