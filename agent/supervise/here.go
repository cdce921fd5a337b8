package supervise

import (
	"context"
	"iter"
	"maps"
	"slices"

	"github.com/cloudless/cloudless/agent/converge"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// Local is every replica as converge looks at it.
func (s *Supervisor) Local() map[string]converge.Replica {
	s.mu.RLock()
	defer s.mu.RUnlock()
	local := make(map[string]converge.Replica, len(s.replicas))
	for id, r := range s.replicas {
		local[id] = converge.Replica{Assignment: r.assignment, State: r.status().State}
	}
	return local
}

// Len is the number of replicas.
func (s *Supervisor) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.replicas)
}

// Each goes through all replicas. The supervisor waits meanwhile: whoever asks it something in the loop
// waits for ever. The assignments may be kept, and not changed.
func (s *Supervisor) Each() iter.Seq2[*api.Assignment, api.ReplicaState] {
	return func(yield func(*api.Assignment, api.ReplicaState) bool) {
		s.mu.RLock()
		defer s.mu.RUnlock()
		for _, r := range s.replicas {
			if !yield(&r.assignment, r.status().State) {
				return
			}
		}
	}
}

// Prepared names the workload versions that are prepared, or being so (see api.VersionKey).
func (s *Supervisor) Prepared() map[string]bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	asked := make(map[string]bool, len(s.prepared))
	for key := range s.prepared {
		asked[key] = true
	}
	return asked
}

// Reports is the full report: every replica with its assignment, in the order of the ids.
func (s *Supervisor) Reports() []api.ReplicaReport {
	s.mu.RLock()
	defer s.mu.RUnlock()
	reports := make([]api.ReplicaReport, 0, len(s.replicas))
	for _, id := range slices.Sorted(maps.Keys(s.replicas)) {
		rep := s.replicas[id].status()
		a := s.replicas[id].assignment
		rep.Assignment = &a
		reports = append(reports, rep)
	}
	return reports
}

// Endpoint is how to reach a replica; false when it is not here or not ready.
func (s *Supervisor) Endpoint(replicaID string) (sandbox.Endpoint, []api.Port, bool) {
	r := s.replica(replicaID)
	if r == nil {
		return sandbox.Endpoint{}, nil, false
	}
	h, ready := r.running()
	if h == nil || !ready {
		return sandbox.Endpoint{}, nil, false
	}
	return h.Endpoint(), r.spec.Ports, true
}

// Serving is the ready replicas of a workload here. The caller must not change the slice.
func (s *Supervisor) Serving(ns, name string) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.serving[api.Ref{Namespace: ns, Name: name}]
}

// Exec runs a command in a replica.
func (s *Supervisor) Exec(ctx context.Context, id string, req sandbox.ExecRequest) (int, error) {
	h, err := s.handle(id)
	if err != nil {
		return 0, err
	}
	return h.Exec(ctx, req)
}

// Usage is what a replica uses now.
func (s *Supervisor) Usage(ctx context.Context, id string) (sandbox.Usage, error) {
	h, err := s.handle(id)
	if err != nil {
		return sandbox.Usage{}, err
	}
	return h.Usage(ctx)
}

func (s *Supervisor) handle(id string) (sandbox.Handle, error) {
	r := s.replica(id)
	if r == nil {
		return nil, notHere(id)
	}
	h, _ := r.running()
	if h == nil {
		return nil, api.Errorf(api.CodeUnavailable, "replica %s is %s", id, r.status().State).
			WithHint("wait until it runs; cloudless workload describe tells why it does not")
	}
	return h, nil
}

func notHere(id string) error {
	return api.Errorf(api.CodeNotFound, "replica %s is not on this node", id)
}

func (s *Supervisor) replica(id string) *replica {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.replicas[id]
}
