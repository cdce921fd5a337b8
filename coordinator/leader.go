package coordinator

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/reconcile"
	"github.com/cloudless/cloudless/coordinator/schedule"
	"github.com/cloudless/cloudless/coordinator/state"
	"github.com/cloudless/cloudless/internal/run"
)

// watchLeadership runs lead while this coordinator leads; it ends with the coordinator.
func (s *Server) watchLeadership(ctx context.Context) error {
	return terms(ctx, s.raft.Leadership(), s.lead)
}

// terms runs lead from each true of changes, which alternate, to the false that follows. It ends with ctx,
// with changes, or with the error of a lead: who cannot do all that leading means must not go on leading.
func terms(ctx context.Context, changes <-chan bool, lead func(context.Context) error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case leads, ok := <-changes:
			if !ok {
				return nil
			}
			if !leads {
				continue
			}
		}
		term := run.New(ctx)
		term.Go("leader", lead)
		select {
		case <-term.Context().Done():
		case <-changes:
		}
		if err := term.Close(); err != nil {
			return err
		}
	}
}

// lead is what leading means. Everything it starts ends with ctx, which ends with the leadership; if one
// part fails, all of it ends.
func (s *Server) lead(ctx context.Context) error {
	s.tel().IsLeader.Set(1)
	defer s.tel().IsLeader.Set(0)
	for s.raft.Barrier(ctx) != nil {
		if run.Sleep(ctx, 50*time.Millisecond) != nil {
			return nil
		}
	}
	for s.ensureFounded(ctx) != nil {
		if run.Sleep(ctx, 100*time.Millisecond) != nil {
			return nil
		}
	}
	s.log.Info().Str("server", s.id.ID).Msg("leading")
	duties := run.New(ctx)
	duties.Go("voters", s.keepVoters)
	duties.Go("rotations", s.keepRotations)
	duties.Go("artifacts", s.keepArtifacts)
	duties.Go("expiry", s.keepExpiry)
	duties.Go("chunks", s.keepChunks)
	duties.Go("plans", s.keepPlans)
	s.recordElection(ctx)
	return duties.Wait()
}

// keepPlans plans after every change of the state and the signals, and carries the plans out. It ends with
// the leadership.
func (s *Server) keepPlans(ctx context.Context) error {
	for {
		v := s.store.View()
		next, err := s.reconcileOnce(ctx, v)
		if err != nil && ctx.Err() == nil {
			s.log.Warn().Err(err).Msg("plan not carried out; trying again")
			next = time.Now().Add(200 * time.Millisecond)
		}
		if !s.awaitChange(ctx, v, next) {
			return nil
		}
	}
}

// ensureFounded writes the first entries of a cluster, once, whatever crash came between.
func (s *Server) ensureFounded(ctx context.Context) error {
	v := s.store.View()
	if v.Meta().ClusterID == "" {
		epoch := max(uint64(time.Now().UnixMilli()), v.Meta().Epoch+1)
		if _, _, err := s.propose(ctx, state.Command{Found: &state.Found{ClusterID: s.id.ClusterID, Epoch: epoch}}); err != nil {
			return err
		}
	}
	if len(s.store.View().Tokens()) == 0 && s.id.Founder {
		if err := s.putAdminToken(ctx); err != nil {
			return err
		}
	}
	return s.ensureSealKey(ctx)
}

func (s *Server) putAdminToken(ctx context.Context) error {
	text, err := os.ReadFile(s.path(fileAdminToken))
	if err != nil {
		return err
	}
	id, secret, err := splitToken(strings.TrimSpace(string(text)))
	if err != nil {
		return err
	}
	_, _, err = s.propose(ctx, state.Command{PutToken: &api.Token{ID: id, Role: api.RoleAdmin, Description: "made when the cluster was founded", Hash: hashSecret(secret)}})
	return err
}

func (s *Server) recordElection(ctx context.Context) {
	s.tel().LeaderElections.Inc()
	e := api.Event{Time: time.Now().UTC(), Type: api.EventLeaderElected, Severity: api.SeverityInfo, Resource: "member/" + s.cfg.Name, Message: "coordinator " + s.cfg.Name + " leads"}
	if _, _, err := s.propose(ctx, state.Command{RecordEvent: &e}); err != nil {
		s.log.Debug().Err(err).Msg("election not recorded")
	}
}

// reconcileOnce plans on a state, and puts the whole plan into the log as one entry.
func (s *Server) reconcileOnce(ctx context.Context, v state.View) (next time.Time, err error) {
	now := time.Now().UTC()
	stocks := s.signals.stocks()
	res := reconcile.Plan(v, reconcile.Signals{
		Nodes: s.signals.all(now), ProcessStart: s.started, Holders: holders(v, stocks), Size: sizes(v), Held: heldOn(stocks), Prepared: preparedOn(stocks), FullDisks: s.signals.fullDisks(),
	}, now)
	s.observePlan(v, res, time.Since(now))
	for _, id := range res.Probe {
		s.probe(id)
	}
	if len(res.Commands) == 0 {
		return res.Next, nil
	}
	applied, err := s.proposeLeading(ctx, state.Command{At: now, Batch: res.Commands})
	if err == nil && applied.Applied == 0 { // the state moved on since; look again, but not at once
		return now.Add(50 * time.Millisecond), nil
	}
	return res.Next, err
}

// holders tells which nodes are known to have an artifact: those that told so, and those with a replica
// that runs it, which may be fetching it. The table is made at the first question, since most plans ask
// none.
func holders(v state.View, stocks map[string]*stock) func(digest string) []string {
	table := sync.OnceValue(func() map[string][]string {
		t := map[string][]string{}
		for _, r := range v.Replicas() {
			if ver, ok := v.Version(r.Workload, r.UID, r.Version); ok {
				if d, ok := ver.Spec.Digest(r.Variant); ok {
					t[d] = append(t[d], r.NodeID)
				}
			}
		}
		return t
	})
	return func(digest string) []string {
		nodes := slices.Clone(table()[digest])
		for id, st := range stocks {
			if st.artifacts[digest] {
				nodes = append(nodes, id)
			}
		}
		slices.Sort(nodes)
		return slices.Compact(nodes)
	}
}

// sizes tells the bytes of an artifact, if they are known.
func sizes(v state.View) func(digest string) int64 {
	return func(digest string) int64 {
		if a, ok := v.Artifact(digest); ok {
			return a.Size
		}
		return 0
	}
}

// heldOn tells what nodes have of a bucket, as each of them told.
func heldOn(stocks map[string]*stock) func(bucket string) schedule.Held {
	return func(bucket string) schedule.Held {
		held := schedule.Held{}
		for id, st := range stocks {
			if n := st.buckets[bucket]; n > 0 {
				held[id] = n
			}
		}
		return held
	}
}

// preparedOn tells which workload versions a node has prepared, as it was told to.
func preparedOn(stocks map[string]*stock) func(nodeID, uid string, version uint64) bool {
	return func(nodeID, uid string, version uint64) bool {
		st, ok := stocks[nodeID]
		return ok && st.prepared[api.VersionKey(uid, version)]
	}
}

// awaitChange blocks until the state is past v, the signals changed, or next has come; false when
// ctx ends. Watching the very state that was planned on, it misses nothing.
func (s *Server) awaitChange(ctx context.Context, v state.View, next time.Time) bool {
	var timer <-chan time.Time
	if !next.IsZero() {
		t := time.NewTimer(max(time.Until(next), time.Millisecond))
		defer t.Stop()
		timer = t.C
	}
	_, nodes := v.Mark(state.MarkNodes)
	_, works := v.Mark(state.MarkWorkloads)
	_, reps := v.Mark(state.MarkReplicas)
	select {
	case <-ctx.Done():
		return false
	case <-nodes:
	case <-works:
	case <-reps:
	case <-s.poke:
	case <-timer:
	}
	return true
}
