package coordinator

import (
	"context"
	"errors"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/reconcile"
	"github.com/cloudless/cloudless/coordinator/state"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/internal/telemetry"
)

// gaugeInterval is how often gauges of the state are set.
const gaugeInterval = 2 * time.Second

func (s *Server) tel() *telemetry.Metrics { return s.cfg.Tel.Metrics }

// observePlan counts what a plan decided.
func (s *Server) observePlan(v state.View, res reconcile.Result, took time.Duration) {
	m := s.tel()
	m.SchedulingDuration.Observe(took.Seconds())
	missing := 0
	for _, c := range res.Commands {
		switch {
		case c.PlaceReplicas != nil:
			for _, r := range c.PlaceReplicas.Replicas {
				m.SchedulingDecisions.Inc("placed")
				if len(r.Decision.Best) > 0 {
					m.PlacementScore.Observe(r.Decision.Best[0].Total)
				}
			}
		case c.NoteUnplaced != nil && c.NoteUnplaced.Missing > 0:
			m.SchedulingDecisions.Add(float64(c.NoteUnplaced.Missing), "no_room")
		case c.OrphanReplicas != nil && c.OrphanReplicas.Orphan:
			m.ReschedulingOperations.Add(float64(len(c.OrphanReplicas.IDs)), "node_lost")
		}
	}
	for _, w := range v.Workloads() {
		missing += w.Unplaced
	}
	m.SchedulingQueueDepth.Set(float64(missing))
}

// keepGauges sets the gauges that mirror the state; it ends with the coordinator.
func (s *Server) keepGauges(ctx context.Context) error {
	young := births{looked: time.Now(), waiting: map[string]bool{}}
	for run.Sleep(ctx, gaugeInterval) == nil {
		v := s.store.View()
		all := described(v)
		s.setGauges(v, all)
		took := young.look(all, time.Now())
		if !s.raft.IsLeader() {
			continue // one coordinator counts
		}
		for _, d := range took {
			s.tel().WorkloadCreationDuration.Observe(d.Seconds())
		}
	}
	return nil
}

func described(v state.View) []api.Workload {
	var all []api.Workload
	for _, w := range v.Workloads() {
		all = append(all, v.Describe(w))
	}
	return all
}

// births finds how long new workloads took to become ready for the first time.
type births struct {
	looked  time.Time       // when it looked last: what was created before and is not waiting is not new
	waiting map[string]bool // uids of new workloads that were not ready yet
}

// look takes in all workloads as they are now.
func (b *births) look(all []api.Workload, now time.Time) (took []time.Duration) {
	waiting := map[string]bool{}
	for _, w := range all {
		created := w.Metadata.CreatedAt
		if created == nil || !b.waiting[w.Metadata.UID] && created.Before(b.looked) {
			continue
		}
		switch st := w.Status; {
		case st.Phase == api.PhaseComplete, st.Phase == api.PhaseFailed, st.Phase == api.PhaseDeleting:
		case st.Desired == 0 || st.Ready < st.Desired:
			waiting[w.Metadata.UID] = true
		default:
			took = append(took, lastReady(st.Replicas).Sub(*created))
		}
	}
	b.looked, b.waiting = now, waiting
	return took
}

func lastReady(replicas []api.ReplicaStatus) (last time.Time) {
	for _, r := range replicas {
		if r.Ready && r.Since.After(last) {
			last = r.Since
		}
	}
	return last
}

func (s *Server) setGauges(v state.View, all []api.Workload) {
	m := s.tel()
	m.RaftAppliedIndex.Set(float64(s.raft.AppliedIndex()))
	m.RaftLogEntries.Raise(float64(s.raft.LastIndex()))
	s.setNodeGauges(v)
	s.setWorkloadGauges(all)
	s.setObjectGauge()
}

// setObjectGauge counts the objects of each bucket. If rows cannot be read the gauge stays: whoever reads
// them next says so.
func (s *Server) setObjectGauge() {
	v := s.objects.View()
	list, err := listBuckets(v, api.ListQuery{})
	if err = errors.Join(err, v.Close()); err != nil {
		return
	}
	var counts []telemetry.Sample
	for _, b := range list.Items {
		counts = append(counts, sample(float64(b.Usage.Objects), b.Name))
	}
	s.tel().Objects.Replace(counts)
}

// setNodeGauges sets all series of a gauge as one step, so that those of nodes that are gone go too.
func (s *Server) setNodeGauges(v state.View) {
	m, states := s.tel(), zeros(api.NodeStates)
	var reliability, capacity, usage, reserved []telemetry.Sample
	for _, n := range v.Nodes() {
		states[string(n.Effective())]++
		d := s.describeNode(v, n).Status
		reliability = append(reliability, sample(d.Reliability, n.Name))
		capacity = append(capacity, sample(float64(n.Capacity.CPU)/1000, n.Name, "cpu"), sample(float64(n.Capacity.Memory), n.Name, "memory"))
		usage = append(usage, sample(float64(d.Usage.CPU)/1000, n.Name, "cpu"), sample(float64(d.Usage.Memory), n.Name, "memory"))
		if n.Capacity.Memory > 0 {
			reserved = append(reserved, sample(float64(d.Allocated.Memory)/float64(n.Capacity.Memory), n.Name))
		}
	}
	m.NodesByState.Replace(samples(states))
	m.NodeReliability.Replace(reliability)
	m.NodeCapacity.Replace(capacity)
	m.NodeUsage.Replace(usage)
	m.NodeFragmentUtilization.Replace(reserved)
}

func (s *Server) setWorkloadGauges(all []api.Workload) {
	m, phases := s.tel(), zeros(api.Phases)
	var desired, ready []telemetry.Sample
	for _, w := range all {
		d := w.Status
		phases[string(d.Phase)]++
		desired = append(desired, sample(float64(d.Desired), w.Metadata.Namespace, w.Metadata.Name))
		ready = append(ready, sample(float64(d.Ready), w.Metadata.Namespace, w.Metadata.Name))
	}
	m.WorkloadsByPhase.Replace(samples(phases))
	m.WorkloadReplicasDesired.Replace(desired)
	m.WorkloadReplicasReady.Replace(ready)
}

func sample(v float64, labels ...string) telemetry.Sample {
	return telemetry.Sample{Labels: labels, Value: v}
}

// zeros counts nothing of each: what there is none of is told as 0.
func zeros[T ~string](names []T) map[string]float64 {
	counts := map[string]float64{}
	for _, n := range names {
		counts[string(n)] = 0
	}
	return counts
}

func samples(counts map[string]float64) []telemetry.Sample {
	var out []telemetry.Sample
	for _, k := range sortedKeys(counts) {
		out = append(out, sample(counts[k], k))
	}
	return out
}
