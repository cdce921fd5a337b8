package coordinator

import (
	"context"
	"time"

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
	for run.Sleep(ctx, gaugeInterval) == nil {
		s.setGauges(s.store.View())
	}
	return nil
}

func (s *Server) setGauges(v state.View) {
	m := s.tel()
	m.RaftAppliedIndex.Set(float64(s.raft.AppliedIndex()))
	m.RaftLogEntries.Raise(float64(s.raft.LastIndex()))
	nodes := map[string]float64{}
	for _, n := range v.Nodes() {
		nodes[string(n.Effective())]++
		d := s.describeNode(v, n).Status
		m.NodeReliability.Set(d.Reliability, n.Name)
		m.NodeCapacity.Set(float64(n.Capacity.CPU)/1000, n.Name, "cpu")
		m.NodeCapacity.Set(float64(n.Capacity.Memory), n.Name, "memory")
		m.NodeUsage.Set(float64(d.Usage.CPU)/1000, n.Name, "cpu")
		m.NodeUsage.Set(float64(d.Usage.Memory), n.Name, "memory")
		if n.Capacity.Memory > 0 {
			m.NodeFragmentUtilization.Set(float64(d.Allocated.Memory)/float64(n.Capacity.Memory), n.Name)
		}
	}
	m.NodesByState.Replace(samples(nodes))
	phases := map[string]float64{}
	for _, w := range v.Workloads() {
		d := v.Describe(w).Status
		phases[string(d.Phase)]++
		m.WorkloadReplicasDesired.Set(float64(d.Desired), w.Metadata.Namespace, w.Metadata.Name)
		m.WorkloadReplicasReady.Set(float64(d.Ready), w.Metadata.Namespace, w.Metadata.Name)
	}
	m.WorkloadsByPhase.Replace(samples(phases))
}

func samples(counts map[string]float64) []telemetry.Sample {
	var out []telemetry.Sample
	for _, k := range sortedKeys(counts) {
		out = append(out, telemetry.Sample{Labels: []string{k}, Value: counts[k]})
	}
	return out
}

func boolFloat(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
