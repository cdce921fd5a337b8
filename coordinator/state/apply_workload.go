package state

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/cloudless/cloudless/api"
)

func (t *tx) putWorkload(p PutWorkload) Result {
	w := p.Workload
	w.Status = nil
	old, exists := t.Workload(w.Ref())
	switch {
	case exists && old.Deleting:
		return Result{Err: api.Errorf(api.CodeConflict, "workload %s is being deleted", w.Ref()).WithHint("wait until it is gone: 'cloudless workload wait %s --for deleted'", w.Metadata.Name)}
	case exists && p.Create:
		return Result{Err: api.Errorf(api.CodeConflict, "workload %s exists", w.Ref()).WithHint("use 'cloudless workload apply' to change it")}
	case p.IfMatch != 0 && (!exists || old.Metadata.ModifyIndex != p.IfMatch):
		return Result{Err: changed(w.Ref(), p.IfMatch)}
	case !exists && len(t.Workloads()) >= api.MaxWorkloads:
		return refuse(api.CodeTooLarge, "there are %d workloads already", api.MaxWorkloads)
	}
	if err := t.checkClaims(&w); err != nil {
		return Result{Err: err}
	}
	if exists {
		return t.updateWorkload(old, w, api.EventWorkloadUpdated, "updated")
	}
	m := &w.Metadata
	m.UID, m.Version, m.CreatedAt, m.CreateIndex = p.UID, 1, &t.at, t.index
	row := &Workload{Workload: w, Template: 1}
	t.putWorkloadRow(row)
	t.putVersion(row)
	t.event(api.EventWorkloadCreated, api.SeverityInfo, "workload/"+w.Ref().String(), "created with %d replicas", w.Spec.Count())
	return t.wrote(row, "created")
}

func (t *tx) putWorkloadRow(w *Workload) {
	w.Metadata.ModifyIndex = t.index
	t.put(tWorkloads, w)
	t.touch(MarkServices)
	t.tellSuccessor(w.Ref())
}

// tellSuccessor begins a new generation for every node that has to prepare the workload's new version.
func (t *tx) tellSuccessor(ref api.Ref) {
	told := map[string]bool{}
	for _, r := range t.ReplicasOf(ref) {
		if _, ok := t.successor(r); ok && !told[r.NodeID] {
			told[r.NodeID] = true
			t.bumpSet(r.NodeID)
		}
	}
}

func (t *tx) wrote(w *Workload, outcome string) Result {
	return Result{Write: &api.WriteResult{Workload: w.Workload, Outcome: outcome, Index: t.index}}
}

// updateWorkload gives a workload a new spec, as a new version; the same content changes nothing.
func (t *tx) updateWorkload(old *Workload, w api.Workload, event, outcome string) Result {
	same := equalJSON(old.Spec, w.Spec)
	if same && maps.Equal(old.Metadata.Labels, w.Metadata.Labels) {
		return t.wrote(old, "unchanged")
	}
	row := *old
	row.Metadata.Labels, row.Spec = w.Metadata.Labels, w.Spec
	if !same {
		row.Metadata.Version++
		if Replaces(old.Spec, w.Spec) {
			row.Template = row.Metadata.Version
		}
		t.putVersion(&row)
	}
	t.putWorkloadRow(&row)
	t.event(event, api.SeverityInfo, "workload/"+w.Ref().String(), "%s to version %d", outcome, row.Metadata.Version)
	return t.wrote(&row, outcome)
}

// Replaces tells whether going from one spec to another makes replicas be replaced.
func Replaces(old, now api.WorkloadSpec) bool {
	return !equalJSON(withoutCount(old), withoutCount(now))
}

// withoutCount is the part of a spec that, when it changes, makes replicas be replaced.
func withoutCount(s api.WorkloadSpec) api.WorkloadSpec {
	s.Replicas, s.Priority, s.Rollout, s.Hosts = nil, 0, api.Rollout{}, nil
	return s
}

func equalJSON(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// putVersion keeps the current spec in the history and drops what is too old and used by no replica.
func (t *tx) putVersion(w *Workload) {
	ref := w.Ref()
	t.put(tVersions, &Version{ref, w.Metadata.UID, w.Metadata.Version, t.at, w.Spec})
	used := map[string]bool{}
	for _, r := range t.ReplicasOf(ref) {
		used[versionKey(ref, r.UID, r.Version)] = true
	}
	rows := t.Versions(ref)
	for i, v := range rows {
		old := v.UID != w.Metadata.UID || i < len(rows)-api.MaxHistory
		if old && !used[versionKey(ref, v.UID, v.Version)] {
			t.del(tVersions, v)
		}
	}
}

// checkClaims refuses hosts and published ports that another workload has, artifacts that the cluster
// does not hold, and what the namespace's policy does not admit by the manifest alone.
func (t *tx) checkClaims(w *api.Workload) *api.Error {
	if p, ok := t.Policy(w.Metadata.Namespace); ok {
		if err := p.Refuses(&w.Spec); err != nil {
			return err
		}
	}
	for _, other := range t.Workloads() {
		if other.Ref() == w.Ref() || other.Deleting {
			continue
		}
		for _, h := range w.Spec.Hosts {
			if slices.Contains(other.Spec.Hosts, h) {
				return api.Errorf(api.CodeConflict, "spec.hosts: %q is claimed by workload %s", h, other.Ref())
			}
		}
		for i, p := range w.Spec.Ports {
			if p.Publish != 0 && slices.ContainsFunc(other.Spec.Ports, func(o api.Port) bool { return o.Publish == p.Publish }) {
				return api.Errorf(api.CodeConflict, "spec.ports[%d].publish: port %d is published by workload %s", i, p.Publish, other.Ref()).WithHint("choose another number with 'publish:'")
			}
		}
	}
	for _, v := range []api.Variant{api.VariantWasm, api.VariantContainer} {
		if d, ok := w.Spec.Digest(v); ok {
			if _, held := t.Artifact(d); !held {
				return api.Errorf(api.CodeNotFound, "artifact %s is not in the cluster's store", d).WithHint("upload it first: 'cloudless workload run FILE' and 'apply -f' do so by themselves")
			}
		}
	}
	return nil
}

// changed refuses a write that was meant for another state of a workload.
func changed(r api.Ref, ifMatch uint64) *api.Error {
	return api.Errorf(api.CodeConflict, "workload %s has changed: its modifyIndex is not %d", r, ifMatch).WithHint("read it again and decide anew")
}

// editable finds a workload that is not being deleted and, unless ifMatch is 0, has that index.
func (t *tx) editable(r api.Ref, ifMatch uint64) (*Workload, *api.Error) {
	w, ok := t.Workload(r)
	switch {
	case !ok || w.Deleting:
		return nil, noWorkload(r)
	case ifMatch != 0 && w.Metadata.ModifyIndex != ifMatch:
		return nil, changed(r, ifMatch)
	}
	return w, nil
}

func (t *tx) scaleWorkload(s ScaleWorkload) Result {
	old, err := t.editable(s.Ref, s.IfMatch)
	if err != nil {
		return Result{Err: err}
	}
	w := old.Workload
	n := s.Replicas
	w.Spec.Replicas = &n
	if m := w.Spec.Rollout.MinAvailable; m != nil && *m > n {
		return refuse(api.CodeInvalid, "spec.rollout.minAvailable is %d: it cannot be more than the number of replicas (%d)", *m, n)
	}
	return t.updateWorkload(old, w, api.EventWorkloadScaled, "scaled")
}

func (t *tx) restartWorkload(b ByRef) Result {
	old, err := t.editable(b.Ref, b.IfMatch)
	if err != nil {
		return Result{Err: err}
	}
	row := *old
	row.Metadata.Version++
	row.Template = row.Metadata.Version
	t.putVersion(&row)
	t.putWorkloadRow(&row)
	t.event(api.EventWorkloadRestarted, api.SeverityInfo, "workload/"+b.Ref.String(), "restarted as version %d", row.Metadata.Version)
	return t.wrote(&row, "restarted")
}

func (t *tx) rollbackWorkload(b RollbackWork) Result {
	old, err := t.editable(b.Ref, b.IfMatch)
	if err != nil {
		return Result{Err: err}
	}
	want := b.Version
	if want == 0 {
		want = old.Metadata.Version - 1
	}
	v, ok := t.Version(b.Ref, old.Metadata.UID, want)
	if !ok || want == old.Metadata.Version {
		return Result{Err: api.Errorf(api.CodeNotFound, "workload %s has no earlier version %d", b.Ref, want).WithHint("see 'cloudless workload history %s'", b.Ref.Name)}
	}
	w := old.Workload
	w.Spec = v.Spec
	if err := t.checkClaims(&w); err != nil {
		return Result{Err: err}
	}
	return t.updateWorkload(old, w, api.EventWorkloadUpdated, fmt.Sprintf("rolled back to %d", want))
}

func noWorkload(r api.Ref) *api.Error {
	return api.Errorf(api.CodeNotFound, "no workload %s", r).WithHint("see 'cloudless workload list'")
}

func (t *tx) deleteWorkload(b ByRef) Result {
	old, ok := t.Workload(b.Ref)
	switch {
	case !ok:
		return Result{Err: noWorkload(b.Ref)}
	case old.Deleting:
		return t.wrote(old, "deleting")
	case b.IfMatch != 0 && old.Metadata.ModifyIndex != b.IfMatch:
		return Result{Err: changed(b.Ref, b.IfMatch)}
	}
	row := *old
	row.Deleting = true
	t.putWorkloadRow(&row)
	t.event(api.EventWorkloadDeleted, api.SeverityInfo, "workload/"+b.Ref.String(), "deleted; its replicas are being stopped")
	return t.wrote(&row, "deleted")
}

func (t *tx) removeWorkload(r api.Ref) Result {
	w, ok := t.Workload(r)
	if !ok || !w.Deleting {
		return refuse(api.CodeConflict, "workload %s is not being deleted", r)
	}
	for _, rep := range t.ReplicasOf(r) {
		// What is to be stopped on a lost node keeps its row, but not the name: the node is told when it returns.
		if n, ok := t.Node(rep.NodeID); rep.Desired != api.DesiredStop || !ok || n.Liveness != api.NodeLost {
			return refuse(api.CodeConflict, "workload %s still has replicas", r)
		}
	}
	for _, v := range t.Versions(r) {
		t.del(tVersions, v)
	}
	t.del(tWorkloads, w)
	t.touch(MarkServices)
	t.event(api.EventWorkloadRemoved, api.SeverityInfo, "workload/"+r.String(), "all replicas are gone")
	return Result{}
}

func (t *tx) noteUnplaced(n NoteUnplaced) Result {
	old, ok := t.Workload(n.Ref)
	if !ok || old.Unplaced == n.Missing && old.Message == n.Message {
		return refuse(api.CodeConflict, "nothing new about workload %s", n.Ref)
	}
	row := *old
	row.Unplaced, row.Message, row.Refusal = n.Missing, n.Message, n.Decision
	t.put(tWorkloads, &row) // not a change of the workload: ModifyIndex stays
	if n.Missing > 0 {
		t.event(api.EventWorkloadUnplaced, api.SeverityWarning, "workload/"+n.Ref.String(), "%d replicas found no node: %s", n.Missing, n.Message)
	}
	return Result{}
}
