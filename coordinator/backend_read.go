package coordinator

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/schedule"
	"github.com/cloudless/cloudless/coordinator/state"
)

// Index is the index of the local state.
func (s *Server) Index() uint64 { return s.store.View().Index() }

// WriteState writes the local state, and the object store's rows, as snapshots hold them. Coordinators that
// have applied the same log write the same bytes.
func (s *Server) WriteState(w io.Writer) error {
	v := s.objects.View()
	return errors.Join(s.store.View().Write(w), v.Backup(w), v.Close())
}

// Wait blocks until a table has changed past index, or ctx ends.
func (s *Server) Wait(ctx context.Context, table string, index uint64) error {
	if table == tableAcks {
		return s.waitAcks(ctx, index)
	}
	for {
		have, changed := s.store.View().Mark(table)
		if have > index {
			return nil
		}
		var own <-chan struct{}
		if table == state.MarkEvents {
			own = s.events.next()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-own:
			return nil
		}
	}
}

// tableAcks is not in the state: what nodes have acknowledged of the endpoint table.
const tableAcks = "acks"

// waitAcks blocks until no connected ready node routes by a table older than index, or ctx ends.
func (s *Server) waitAcks(ctx context.Context, index uint64) error {
	for {
		acked := s.signals.acked()
		v := s.store.View()
		if len(s.behind(v, index)) == 0 {
			return nil
		}
		_, nodes := v.Mark(state.MarkNodes)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-acked:
		case <-nodes:
		}
	}
}

// Ready is nil when this coordinator knows a leader and has a state.
func (s *Server) Ready(context.Context) error {
	switch {
	case s.raft.LeaderID() == "":
		return api.Errorf(api.CodeUnavailable, "there is no leader").WithHint("a majority of the coordinators must be up and reach each other")
	case s.store.View().Meta().ClusterID == "":
		return api.Errorf(api.CodeUnavailable, "the state has not been read yet")
	case len(s.store.View().Tokens()) == 0:
		return api.Errorf(api.CodeUnavailable, "the cluster is still being founded")
	}
	return nil
}

// Members lists the coordinators.
func (s *Server) Members(context.Context) ([]api.Member, error) { return s.membersNow(), nil }

// page cuts a list, sorted by key, to the query's limit, and says where the next page begins.
func page[T any](items []T, key func(T) string, q api.ListQuery, index uint64) api.List[T] {
	slices.SortStableFunc(items, func(a, b T) int { return cmp.Compare(key(a), key(b)) })
	if q.Cursor != "" {
		i, _ := slices.BinarySearchFunc(items, q.Cursor, func(item T, cursor string) int { return cmp.Compare(key(item), cursor) })
		items = items[i:]
	}
	limit := q.Limit
	if limit <= 0 {
		limit = api.DefaultListLimit
	}
	out := api.List[T]{Items: items, Index: index}
	if len(items) > limit {
		out.Items, out.Cursor = items[:limit], key(items[limit])
	}
	if out.Items == nil {
		out.Items = []T{}
	}
	return out
}

func hasLabels(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

// Workloads lists workloads with their status.
func (s *Server) Workloads(_ context.Context, q api.ListQuery) (api.List[api.Workload], error) {
	v := s.store.View()
	works, _ := v.Mark(state.MarkWorkloads)
	reps, _ := v.Mark(state.MarkReplicas)
	var items []api.Workload
	for _, w := range v.Workloads() {
		if (q.Namespace == "" || w.Metadata.Namespace == q.Namespace) && hasLabels(w.Metadata.Labels, q.Label) {
			items = append(items, v.Describe(w))
		}
	}
	return page(items, func(w api.Workload) string { return w.Metadata.Namespace + "/" + w.Metadata.Name }, q, max(works, reps)), nil
}

func (s *Server) find(v state.View, ns, name string) (*state.Workload, error) {
	w, ok := v.Workload(api.Ref{Namespace: ns, Name: name})
	if !ok {
		return nil, api.Errorf(api.CodeNotFound, "no workload %s/%s", ns, name).WithHint("see 'cloudless workload list'")
	}
	return w, nil
}

// Workload finds one workload.
func (s *Server) Workload(_ context.Context, ns, name string) (api.Workload, error) {
	v := s.store.View()
	w, err := s.find(v, ns, name)
	if err != nil {
		return api.Workload{}, err
	}
	return v.Describe(w), nil
}

// History lists a workload's versions, newest first.
func (s *Server) History(_ context.Context, ns, name string) (api.List[api.WorkloadVersion], error) {
	v := s.store.View()
	w, err := s.find(v, ns, name)
	if err != nil {
		return api.List[api.WorkloadVersion]{}, err
	}
	h := api.List[api.WorkloadVersion]{Index: v.Index()}
	for _, ver := range slices.Backward(v.Versions(w.Ref())) {
		if ver.UID == w.Metadata.UID {
			h.Items = append(h.Items, api.WorkloadVersion{Version: ver.Version, CreatedAt: ver.At, Spec: ver.Spec, Current: ver.Version == w.Metadata.Version})
		}
	}
	return h, nil
}

// Settled tells how far a change has been taken up.
func (s *Server) Settled(_ context.Context, ns, name string) (api.Settled, error) {
	v := s.store.View()
	reps, _ := v.Mark(state.MarkReplicas)
	works, _ := v.Mark(state.MarkWorkloads)
	out := api.Settled{Index: max(reps, works)}
	ref := api.Ref{Namespace: ns, Name: name}
	need, _ := v.Mark(state.MarkServices) // of a workload that is gone: the table as it is now
	if w, ok := v.Workload(ref); ok {
		d := v.Describe(w)
		out.Workload = &d
		need = w.Metadata.ModifyIndex
		for _, r := range v.ReplicasOf(ref) {
			need = max(need, r.ModifyIndex)
		}
		out.Ready = settledPhase(w, d.Status)
	}
	out.EndpointIndex = need
	out.Slow = s.behind(v, need)
	out.Routed = len(out.Slow) == 0
	return out, nil
}

// settledPhase tells whether a change has got to where its author wants it: a job to its good end, for
// one that runs may still fail; anything else, a server that is not to be started again among it, to running.
func settledPhase(w *state.Workload, st *api.WorkloadStatus) bool {
	if w.Spec.IsJob() && !w.Spec.ServesHTTP() && len(w.Spec.Ports) == 0 {
		return st.Phase == api.PhaseComplete
	}
	return st.Phase == api.PhaseComplete || st.Phase == api.PhaseRunning && !w.Deleting
}

// behind names the connected ready nodes that route by an older endpoint table.
func (s *Server) behind(v state.View, index uint64) []string {
	var slow []string
	for _, n := range v.Nodes() {
		sig := s.signals.get(n.ID)
		if n.Liveness == api.NodeReady && sig.Session && sig.endpointIndex < index {
			slow = append(slow, n.Name)
		}
	}
	return slow
}

// Nodes lists the nodes with what this coordinator knows of them at the moment.
func (s *Server) Nodes(ctx context.Context, q api.ListQuery) (api.List[api.Node], error) {
	v := s.store.View()
	index, _ := v.Mark(state.MarkNodes)
	chunks := s.upkeepReport(ctx)
	var items []api.Node
	for _, n := range v.Nodes() {
		labels := map[string]string{"region": n.Region, "zone": n.Zone, "name": n.Name, "arch": n.Arch, "state": string(n.Effective())}
		for k, val := range n.Labels {
			labels[k] = val
		}
		if hasLabels(labels, q.Label) {
			items = append(items, withStore(s.describeNode(v, n), chunks))
		}
	}
	return page(items, func(n api.Node) string { return n.Name + "/" + n.ID }, q, index), nil
}

func (s *Server) describeNode(v state.View, n *api.Node) api.Node {
	out := *n
	sig := s.signals.get(n.ID)
	st := &api.NodeStatus{
		Allocated: v.Allocated(n.ID), Usage: sig.heartbeat.Usage, Connected: sig.Session, Gossip: sig.Gossip,
		EndpointIndex: sig.endpointIndex, Reliability: schedule.Reliability(n, time.Now()), DiskFull: sig.heartbeat.DiskFull, ChunkStore: sig.heartbeat.Store,
	}
	for _, r := range v.ReplicasOn(n.ID) {
		if !r.State.Terminal() {
			st.Replicas++
		}
	}
	if !sig.LastHeartbeat.IsZero() {
		st.LastHeartbeat = &sig.LastHeartbeat
	}
	if rtt, ok := s.gossip.RTT(s.id.ID, n.ID); ok {
		st.RTTMillis = float64(rtt.Microseconds()) / 1000
	}
	out.State, out.Status = n.Effective(), st
	return out
}

func (s *Server) findNode(v state.View, idOrName string) (*api.Node, error) {
	n, ok := v.NodeNamed(idOrName)
	if !ok {
		return nil, api.Errorf(api.CodeNotFound, "no node %s", idOrName).WithHint("see 'cloudless node list'")
	}
	return n, nil
}

// Node finds one node by id or name.
func (s *Server) Node(ctx context.Context, idOrName string) (api.Node, error) {
	v := s.store.View()
	n, err := s.findNode(v, idOrName)
	if err != nil {
		return api.Node{}, err
	}
	return withStore(s.describeNode(v, n), s.upkeepReport(ctx)), nil
}

// Services lists what the ingress routes to.
func (s *Server) Services(_ context.Context, q api.ListQuery) (api.List[api.Service], error) {
	t := s.store.View().Endpoints()
	items := slices.DeleteFunc(t.Services, func(sv api.Service) bool { return q.Namespace != "" && sv.Namespace != q.Namespace })
	return page(items, func(sv api.Service) string { return sv.Namespace + "/" + sv.Name }, q, t.Index), nil
}

// Endpoints lists every replica that the ingress knows.
func (s *Server) Endpoints(_ context.Context, q api.ListQuery) (api.List[api.Endpoint], error) {
	t := s.store.View().Endpoints()
	var items []api.Endpoint
	for _, sv := range t.Services {
		if q.Namespace == "" || sv.Namespace == q.Namespace {
			items = append(items, sv.Endpoints...)
		}
	}
	return page(items, func(e api.Endpoint) string { return strings.Join([]string{e.Namespace, e.Service, e.ReplicaID}, "/") }, q, t.Index), nil
}

// Usage lists what replicas use, as their nodes measured last. Of a node that is silent nothing is told.
func (s *Server) Usage(_ context.Context, q api.ListQuery) (api.List[api.ReplicaUsage], error) {
	v := s.store.View()
	var items []api.ReplicaUsage
	for _, n := range v.Nodes() {
		sig := s.signals.get(n.ID)
		if !sig.Session {
			continue
		}
		for _, u := range sig.usage {
			r, ok := v.Replica(u.ReplicaID)
			if !ok || r.NodeID != n.ID || q.Namespace != "" && r.Workload.Namespace != q.Namespace {
				continue
			}
			u.Namespace, u.Workload, u.Node = r.Workload.Namespace, r.Workload.Name, n.Name
			items = append(items, u)
		}
	}
	return page(items, func(u api.ReplicaUsage) string { return u.Namespace + "/" + u.Workload + "/" + u.ReplicaID }, q, v.Index()), nil
}

// Status sums the cluster up.
func (s *Server) Status(ctx context.Context) (api.ClusterStatus, error) {
	v := s.store.View()
	meta := v.Meta()
	st := api.ClusterStatus{
		ClusterID: meta.ClusterID, Epoch: meta.Epoch, Index: v.Index(), Coordinators: s.membersNow(), Nodes: map[string]int{"total": 0},
		Workloads: map[string]int{"total": 0}, Replicas: map[string]int{"desired": 0, "ready": 0}, Storage: s.storageStatus(ctx),
	}
	for _, m := range st.Coordinators {
		if m.Leader {
			st.Leader = m.Name
		}
		if !m.Healthy {
			st.Warnings = append(st.Warnings, "coordinator "+m.Name+" does not answer")
		}
	}
	for _, n := range v.Nodes() {
		st.Nodes["total"]++
		st.Nodes[string(n.Effective())]++
	}
	for _, w := range v.Workloads() {
		d := v.Describe(w).Status
		st.Workloads["total"]++
		st.Workloads[string(d.Phase)]++
		st.Replicas["desired"] += d.Desired
		st.Replicas["ready"] += d.Ready
	}
	for _, a := range v.Artifacts() {
		st.Storage.Artifacts++
		st.Storage.Bytes += a.Size
	}
	return st, nil
}
