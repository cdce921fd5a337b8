package coordinator

import (
	"context"
	"net/http"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/reconcile"
	"github.com/cloudless/cloudless/coordinator/state"
	"github.com/cloudless/cloudless/internal/gossip"
	"github.com/cloudless/cloudless/internal/pki"
)

// advance goes on to the next phase of a rotation, if it may.
func (s *Server) advance(ctx context.Context, v state.View, r api.Rotation) {
	next, forced, ok := reconcile.NextPhase(r, s.rotationSignals(ctx, v, r), time.Now())
	if !ok {
		return
	}
	cmd := state.Command{AdvanceRotation: &state.AdvanceRotation{Kind: r.Kind, New: r.New, Phase: next, Forced: forced}}
	if _, _, err := s.propose(ctx, cmd); err != nil {
		s.log.Debug().Err(err).Msg("rotation not carried on yet")
	}
}

// rotationSignals counts who has not taken up the phase.
func (s *Server) rotationSignals(ctx context.Context, v state.View, r api.Rotation) reconcile.RotationSignals {
	out := reconcile.RotationSignals{Holds: s.holds(r.Kind, r.New)}
	for _, m := range v.Members() {
		taken, reached := s.trust.Load().index, true
		if m.ID != s.id.ID {
			var info api.PeerInfo
			rctx, cancel := context.WithTimeout(ctx, time.Second)
			reached = s.peerCall(rctx, m.ID, http.MethodGet, api.PathPeerInfo, nil, &info) == nil
			taken = info.Trust
			cancel()
		}
		count(&out, taken >= r.Index, reached)
	}
	for _, n := range v.Nodes() {
		if n.Liveness == api.NodeLeft {
			continue
		}
		sig := s.signals.get(n.ID)
		count(&out, sig.heartbeat.TrustIndex >= r.Index, sig.Session)
	}
	return out
}

func count(s *reconcile.RotationSignals, taken, reached bool) {
	switch {
	case taken:
	case reached:
		s.Behind++
	default:
		s.Absent++
	}
}

// Rotate begins to replace a key of the cluster. The key is made here and kept on this disk; the
// others fetch it from here over mTLS, and only its hash is in the state.
func (s *Server) Rotate(ctx context.Context, c api.Caller, req api.RotationRequest) (api.Rotation, error) {
	r := api.Rotation{Kind: req.Kind, Deadline: req.Deadline}
	if req.Deadline < 0 || req.Deadline.D() > api.MaxRotationDeadline {
		return r, api.Errorf(api.CodeInvalid, "deadline: %s is not between 0 and %s", req.Deadline.D(), api.MaxRotationDeadline)
	}
	if req.Overlap != nil {
		r.Overlap = *req.Overlap
	}
	if r.Overlap < 0 {
		return r, api.Errorf(api.CodeInvalid, "overlap: %s is less than 0", r.Overlap.D())
	}
	if last, ok := s.store.View().Rotation(req.Kind); ok && last.Phase != api.PhaseDone {
		return r, api.Errorf(api.CodeConflict, "a rotation of the %s key is under way (%s)", r.Kind, last.Phase).WithHint("see 'cloudless cluster rotations'")
	}
	s.rotateMu.Lock()
	defer s.rotateMu.Unlock()
	var err error
	switch req.Kind {
	case api.RotateCA:
		err = s.newCA(&r, req.Overlap == nil)
	case api.RotateGossip:
		err = s.newGossipKey(&r)
	default:
		return r, api.Errorf(api.CodeInvalid, "kind: %q is not ca or gossip", req.Kind)
	}
	if err != nil {
		return r, err
	}
	if _, _, err := s.propose(ctx, state.Command{By: &c, StartRotation: &r}); err != nil {
		return r, err // the key that was made is forgotten with the next one
	}
	if row, ok := s.store.View().Rotation(r.Kind); ok {
		return *row, nil
	}
	return r, nil
}

func (s *Server) newCA(r *api.Rotation, usual bool) error {
	old := s.trust.Load().issuer
	fresh, err := pki.NewCA(s.id.ClusterID, time.Now())
	if err != nil {
		return err
	}
	if r.Deadline == 0 {
		r.Deadline = api.Duration(api.LeafLifetime)
	}
	if usual {
		r.Overlap = api.Duration(api.DefaultCAOverlap)
	}
	r.Old, r.OldCert, r.New, r.NewCert = old.Hash(), string(old.CertPEM()), fresh.Hash(), string(fresh.CertPEM())
	return s.holdCA(r.New, api.CAKey{Cert: r.NewCert, Key: string(fresh.KeyPEM())})
}

func (s *Server) newGossipKey(r *api.Rotation) error {
	old, err := gossip.ParseKey(s.trust.Load().gossip[0])
	if err != nil {
		return err
	}
	fresh := gossip.NewKey()
	if r.Deadline == 0 {
		r.Deadline = api.Duration(api.DefaultGossipDeadline)
	}
	r.Old, r.New = gossip.KeyID(old), gossip.KeyID(fresh)
	return s.holdGossip(r.New, gossip.FormatKey(fresh))
}

// Rotations lists the last rotation of each key.
func (s *Server) Rotations(context.Context) (api.List[api.Rotation], error) {
	v := s.store.View()
	index, _ := v.Mark(state.MarkRotations)
	out := api.List[api.Rotation]{Items: []api.Rotation{}, Index: index}
	for _, r := range v.Rotations() {
		out.Items = append(out.Items, *r)
	}
	return out, nil
}

// CAPEM is the certificates that clients are to trust: two while the CA is rotated.
func (s *Server) CAPEM() []byte { return s.trust.Load().bundle }
