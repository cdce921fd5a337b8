package state

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/cloudless/cloudless/api"
)

// Assignments is what a node is told: every replica bound to it, with the specs they share, and what
// is to be prepared for those that will be replaced.
func (v View) Assignments(nodeID string) *api.AssignmentSet {
	gen, _ := v.Set(nodeID)
	meta := v.Meta()
	set := &api.AssignmentSet{NodeID: nodeID, Epoch: meta.Epoch, Generation: gen, Assignments: []api.Assignment{}, Specs: []api.AssignedSpec{}}
	if n, ok := v.Node(nodeID); ok {
		set.Reported = n.Epoch == meta.Epoch
	}
	seen := map[string]bool{}
	for _, r := range v.ReplicasOn(nodeID) {
		if p, ok := v.Policy(r.Workload.Namespace); ok && !seen["policy "+p.Namespace] {
			seen["policy "+p.Namespace] = true
			set.Policies = append(set.Policies, *p)
		}
		if next, ok := v.successor(r); ok && !seen["next "+next.Ref.String()] {
			seen["next "+next.Ref.String()] = true
			set.Prepare = append(set.Prepare, api.AssignedSpec{Workload: next.Ref, UID: next.UID, Version: next.Version, Spec: next.Spec})
		}
		set.Assignments = append(set.Assignments, api.Assignment{
			ReplicaID: r.ID, Workload: r.Workload, UID: r.UID, Version: r.Version, Variant: r.Variant, Desired: r.Desired,
		})
		key := versionKey(r.Workload, r.UID, r.Version)
		if ver, ok := v.Version(r.Workload, r.UID, r.Version); ok && !seen[key] {
			seen[key] = true
			set.Specs = append(set.Specs, api.AssignedSpec{Workload: ver.Ref, UID: ver.UID, Version: ver.Version, Spec: ver.Spec})
		}
	}
	return set
}

// successor is the version that is to take the place of an old replica. Its node prepares it while the
// old one serves.
func (v View) successor(r *api.Replica) (*Version, bool) {
	w, ok := v.Workload(r.Workload)
	if !ok || w.Deleting || w.Metadata.UID != r.UID || r.Version >= w.Template || r.Desired != api.DesiredRun || r.State.Terminal() {
		return nil, false
	}
	return v.Version(r.Workload, r.UID, w.Metadata.Version)
}

// HostsOf lists the names by which the ingress knows a workload.
func HostsOf(w *api.Workload) []string {
	hosts := []string{w.Metadata.Name + "." + w.Metadata.Namespace + ".localhost"}
	if w.Metadata.Namespace == api.DefaultNamespace {
		hosts = append(hosts, w.Metadata.Name+".localhost")
	}
	return append(hosts, w.Spec.Hosts...)
}

// Endpoints is the table that every ingress routes by.
func (v View) Endpoints() *api.EndpointTable {
	index, _ := v.Mark(MarkServices)
	t := &api.EndpointTable{Epoch: v.Meta().Epoch, Index: index, Services: []api.Service{}, Nodes: map[string]api.NodePeer{}}
	nodes := map[string]*api.Node{}
	for _, n := range v.Nodes() {
		nodes[n.ID] = n
		t.Nodes[n.ID] = api.NodePeer{Name: n.Name, Addr: n.Addr.Node, Region: n.Region, Zone: n.Zone, State: n.Effective()}
	}
	for _, r := range v.Revocations() {
		t.Revoked = append(t.Revoked, r.ID)
	}
	for _, w := range v.Workloads() {
		if w.Deleting || !w.Spec.ServesHTTP() && len(w.Spec.Ports) == 0 {
			continue
		}
		t.Services = append(t.Services, v.service(w, nodes))
	}
	return t
}

func (v View) service(w *Workload, nodes map[string]*api.Node) api.Service {
	s := api.Service{Namespace: w.Metadata.Namespace, Name: w.Metadata.Name, Ports: w.Spec.Ports, Endpoints: []api.Endpoint{}}
	if w.Spec.ServesHTTP() {
		s.Hosts = HostsOf(&w.Workload)
	}
	for _, r := range v.ReplicasOf(w.Ref()) {
		n, ok := nodes[r.NodeID]
		if !ok || r.Desired != api.DesiredRun {
			continue // an ingress sends nothing to what is not listed, even on its own node
		}
		s.Endpoints = append(s.Endpoints, api.Endpoint{
			ReplicaID: r.ID, Namespace: s.Namespace, Service: s.Name, NodeID: n.ID, Node: n.Name, Zone: n.Zone, Region: n.Region,
			Ready:   r.Ready && n.Liveness != api.NodeLost && n.Liveness != api.NodeLeft,
			Suspect: n.Liveness == api.NodeSuspect, Weight: 1, Variant: r.Variant,
		})
	}
	return s
}

// Describe is a workload with its status.
func (v View) Describe(w *Workload) api.Workload {
	out := w.Workload
	st := &api.WorkloadStatus{Desired: w.Spec.Count(), Message: w.Message, Replicas: []api.ReplicaStatus{}}
	reps := v.ReplicasOf(w.Ref())
	slices.SortFunc(reps, func(a, b *api.Replica) int {
		return cmp.Or(cmp.Compare(a.CreateIndex, b.CreateIndex), cmp.Compare(a.ID, b.ID))
	})
	for _, r := range reps {
		st.Replicas = append(st.Replicas, api.ReplicaStatus{
			ID: r.ID, Node: v.nodeNameOf(r.NodeID), NodeID: r.NodeID, Variant: r.Variant, Version: r.Version, State: r.State,
			Ready: r.Ready, Restarts: r.Restarts, Reason: r.Reason, ExitCode: r.ExitCode, Orphan: r.Orphan, Since: r.UpdatedAt, NextTry: r.NextTry,
		})
	}
	st.Phase, st.Ready = phase(w, reps)
	if st.Message == "" {
		st.Message = trouble(reps)
	}
	out.Status = st
	return out
}

func (v View) nodeNameOf(id string) string {
	if n, ok := v.Node(id); ok {
		return n.Name
	}
	return id
}

// phase sums replicas up; ready counts those that are ready and meant to run.
func phase(w *Workload, reps []*api.Replica) (p api.Phase, ready int) {
	var live, done, failed, old int
	for _, r := range reps {
		if r.Desired != api.DesiredRun || r.Orphan {
			continue
		}
		live++
		if r.Ready {
			ready++
		}
		switch {
		case r.State == api.ReplicaComplete:
			done++
		case r.State == api.ReplicaFailed:
			failed++
		case r.Version < w.Template:
			old++
		}
	}
	want := w.Spec.Count()
	switch {
	case w.Deleting:
		return api.PhaseDeleting, ready
	case want > 0 && done >= want:
		return api.PhaseComplete, ready
	case failed > 0 && failed+done >= want:
		return api.PhaseFailed, ready
	case old > 0:
		return api.PhaseUpdating, ready
	case ready >= want:
		return api.PhaseRunning, ready
	case ready == 0:
		return api.PhasePending, ready
	}
	return api.PhaseDegraded, ready
}

// trouble is the reason of the first replica that has one and is not ready.
func trouble(reps []*api.Replica) string {
	for _, r := range reps {
		if r.Desired == api.DesiredRun && !r.Ready && r.Reason != "" && r.State != api.ReplicaComplete {
			return fmt.Sprintf("replica %s: %s", r.ID, r.Reason)
		}
	}
	return ""
}
