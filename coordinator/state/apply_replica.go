package state

import (
	"fmt"

	"github.com/cloudless/cloudless/api"
)

// placeReplicas adds what is still wanted. A replica of a version that is gone, or on a node that takes no more
// since it was planned, is left out and planned anew.
func (t *tx) placeReplicas(reps []api.Replica) Result {
	var first *api.Replica
	placed, bumped := 0, map[string]bool{}
	for i := range reps {
		r := reps[i]
		if !t.placeable(&r) {
			continue
		}
		r.CreateIndex, r.CreatedAt, r.UpdatedAt = t.index, t.at, t.at
		if r.State == "" {
			r.State = api.ReplicaPlaced
		}
		t.putReplica(r)
		if placed++; first == nil {
			first = &reps[i]
		}
		if !bumped[r.NodeID] {
			bumped[r.NodeID] = true
			t.bumpSet(r.NodeID)
		}
	}
	if placed == 0 {
		return refuse(api.CodeConflict, "none of %d replicas is wanted any more", len(reps))
	}
	t.event(api.EventReplicaPlaced, api.SeverityInfo, "workload/"+first.Workload.String(), "placed %d replicas, the first (%s) on node %s", placed, first.ID, t.nodeName(first.NodeID))
	return Result{}
}

// placeable tells whether what a replica was planned on still holds. That its node has become silent since is no
// reason to plan anew: it mostly comes back.
func (t *tx) placeable(r *api.Replica) bool {
	w, ok := t.Workload(r.Workload)
	n, there := t.Node(r.NodeID)
	open := there && n.Liveness != api.NodeLost && n.Liveness != api.NodeLeft && n.Drain == nil && !n.Cordoned
	_, versionOK := t.Version(r.Workload, r.UID, r.Version)
	_, exists := t.Replica(r.ID)
	return ok && w.Metadata.UID == r.UID && !w.Deleting && versionOK && open && !exists
}

func (t *tx) nodeName(id string) string {
	if n, ok := t.Node(id); ok {
		return n.Name
	}
	return id
}

func (t *tx) putReplica(r api.Replica) {
	r.ModifyIndex = t.index
	t.put(tReplicas, &r)
	t.touch(MarkServices)
}

func (t *tx) dropReplica(r *api.Replica) {
	t.del(tReplicas, r)
	t.touch(MarkServices)
	t.bumpSet(r.NodeID)
}

func (t *tx) stopReplicas(s StopReplicas) Result {
	for _, id := range s.IDs {
		r, ok := t.Replica(id)
		if !ok || r.Desired == api.DesiredStop {
			continue
		}
		c := *r
		c.Desired, c.Reason = api.DesiredStop, s.Reason
		t.putReplica(c)
		t.bumpSet(c.NodeID)
	}
	return Result{}
}

func (t *tx) forgetReplicas(ids []string) Result {
	for _, id := range ids {
		if r, ok := t.Replica(id); ok {
			t.dropReplica(r)
		}
	}
	return Result{}
}

func (t *tx) orphanReplicas(o OrphanReplicas) Result {
	for _, id := range o.IDs {
		r, ok := t.Replica(id)
		if !ok || r.Orphan == o.Orphan {
			continue
		}
		c := *r
		c.Orphan = o.Orphan
		if o.Reason != "" {
			c.Reason = o.Reason
		}
		t.putReplica(c)
		if o.Orphan {
			t.event(api.EventReplicaOrphaned, api.SeverityWarning, "replica/"+id, "replica %s on node %s is given up: %s", id, t.nodeName(r.NodeID), o.Reason)
		} else {
			t.event(api.EventReplicaAdopted, api.SeverityInfo, "replica/"+id, "replica %s on node %s is taken back", id, t.nodeName(r.NodeID))
		}
	}
	return Result{}
}

// reportStatuses takes a node's word for its own replicas, and for no others. Its first full report in an epoch
// also decides on every replica that the tables do not know: it is adopted if its workload still exists, else it
// gets a row that says stop. Later ones do not: a node that was broken into could give itself any workload.
func (t *tx) reportStatuses(s ReportStatuses) Result {
	n, ok := t.Node(s.NodeID)
	if !ok {
		return refuse(api.CodeForbidden, "node %s is not part of the cluster", s.NodeID)
	}
	epoch := t.Meta().Epoch
	if s.Report.Full && s.Report.Epoch != epoch {
		return refuse(api.CodeConflict, "the report is of epoch %d, this is %d", s.Report.Epoch, epoch)
	}
	first := s.Report.Full && n.Epoch != epoch
	for _, rep := range s.Report.Reports {
		t.reportOne(s.NodeID, rep, first)
	}
	if first {
		t.change(s.NodeID, func(n *api.Node) { n.Epoch = epoch })
		t.bumpSet(s.NodeID)
	}
	return Result{}
}

func (t *tx) reportOne(nodeID string, rep api.ReplicaReport, first bool) {
	old, ok := t.Replica(rep.ReplicaID)
	if !ok {
		if first && rep.Assignment != nil && !rep.State.Terminal() {
			t.adopt(nodeID, rep)
		}
		return
	}
	if old.NodeID != nodeID || sameStatus(old, rep) {
		return
	}
	c := *old
	c.State, c.Ready, c.Restarts, c.ExitCode, c.UpdatedAt, c.NextTry = rep.State, rep.Ready, rep.Restarts, rep.ExitCode, rep.At, rep.NextTry
	if rep.Reason != "" || c.Desired == api.DesiredRun {
		c.Reason = rep.Reason
	}
	if c.Desired == api.DesiredStop && c.State.Terminal() {
		t.dropReplica(old)
		t.event(api.EventReplicaStopped, api.SeverityInfo, "replica/"+c.ID, "replica %s stopped on node %s", c.ID, t.nodeName(nodeID))
		return
	}
	t.putReplica(c)
	t.reportEvent(old, &c)
}

func sameStatus(r *api.Replica, rep api.ReplicaReport) bool {
	code := (r.ExitCode == nil) == (rep.ExitCode == nil) && (r.ExitCode == nil || *r.ExitCode == *rep.ExitCode)
	return r.State == rep.State && r.Ready == rep.Ready && r.Restarts == rep.Restarts && r.Reason == rep.Reason && code
}

func (t *tx) reportEvent(old, now *api.Replica) {
	where := fmt.Sprintf("replica %s of %s on node %s", now.ID, now.Workload, t.nodeName(now.NodeID))
	res := "replica/" + now.ID
	switch {
	case now.State == api.ReplicaFailed && old.State != api.ReplicaFailed:
		t.event(api.EventReplicaFailed, api.SeverityError, res, "%s failed: %s", where, now.Reason)
	case now.Restarts > old.Restarts:
		t.event(api.EventReplicaRestarted, api.SeverityWarning, res, "%s restarted (%d): %s", where, now.Restarts, now.Reason)
	case now.Ready && !old.Ready:
		t.event(api.EventReplicaReady, api.SeverityInfo, res, "%s is ready", where)
	case old.Ready && !now.Ready && now.Desired == api.DesiredRun:
		t.event(api.EventReplicaUnready, api.SeverityWarning, res, "%s is not ready: %s", where, now.Reason)
	}
}

// adopt gives a running replica that the tables do not know a row: to run on if its workload is
// still the same, else to be stopped.
func (t *tx) adopt(nodeID string, rep api.ReplicaReport) {
	a := rep.Assignment
	r := api.Replica{
		ID: rep.ReplicaID, Workload: a.Workload, UID: a.UID, Version: a.Version, NodeID: nodeID, Variant: a.Variant,
		Desired: api.DesiredStop, State: rep.State, Ready: rep.Ready, Restarts: rep.Restarts, Reason: rep.Reason,
		CreateIndex: t.index, CreatedAt: t.at, UpdatedAt: rep.At,
	}
	if v, ok := t.Version(a.Workload, a.UID, a.Version); ok {
		r.Desired, r.Reserved = api.DesiredRun, v.Spec.Reserve(a.Variant)
	}
	t.putReplica(r)
	t.bumpSet(nodeID)
	t.event(api.EventReplicaAdopted, api.SeverityInfo, "replica/"+r.ID, "replica %s found running on node %s: %s", r.ID, t.nodeName(nodeID), r.Desired)
}
