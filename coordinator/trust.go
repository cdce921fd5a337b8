package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
	"github.com/cloudless/cloudless/internal/datadir"
	"github.com/cloudless/cloudless/internal/gossip"
	"github.com/cloudless/cloudless/internal/pki"
	"github.com/cloudless/cloudless/internal/run"
)

// trustRetry is how soon a rotation that could not be taken up is tried again, and how often the
// gossip keyring is compared with what it is to be.
const trustRetry = time.Second

// trust is what this coordinator believes and signs with at one moment. It does not change.
type trust struct {
	index  uint64 // of the newest rotation in it
	issuer *pki.CA
	front  *pki.CA // signs what is seen by those who know one CA only: people and joiners
	bundle []byte  // the CAs that are trusted, the issuer first
	gossip []string
}

// keepTrust takes up what the rotations in the state say, and again whenever they change, until it
// has succeeded. It ends with the coordinator.
func (s *Server) keepTrust(ctx context.Context) error {
	timer := time.NewTicker(trustRetry)
	defer timer.Stop()
	for ctx.Err() == nil {
		v := s.store.View()
		_, changed := v.Mark(state.MarkRotations)
		if err := errors.Join(s.takeTrust(ctx, v), s.takeSealKey(ctx, v.Meta().SealKey)); err != nil && ctx.Err() == nil {
			s.log.Warn().Err(err).Msg("the keys of the cluster are not taken up yet; trying again")
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
	}
	return nil
}

func (s *Server) takeTrust(ctx context.Context, v state.View) error {
	index, _ := v.Mark(state.MarkRotations)
	if !s.rotateMu.TryLock() { // a key is being made; look again
		return nil
	}
	defer s.rotateMu.Unlock()
	have := s.trust.Load()
	if index > have.index {
		next := *have
		next.index = index
		for _, r := range v.Rotations() {
			if err := s.follow(ctx, r, &next); err != nil {
				return err
			}
		}
		if err := s.useTrust(have, &next); err != nil {
			return err
		}
		s.trust.Store(&next)
		for _, r := range v.Rotations() {
			s.forget(r)
		}
		s.log.Info().Uint64("index", index).Msg("keys of the cluster taken up")
	}
	keys := gossipKeys(s.trust.Load().gossip)
	if s.gossip.SameKeys(keys) {
		return nil
	}
	return s.gossip.SetKeys(keys)
}

// forget drops every key but those that a rotation still names.
func (s *Server) forget(r *api.Rotation) {
	var drop []string
	s.keys.mu.Lock()
	if r.Kind == api.RotateCA {
		for hash := range s.keys.cas {
			drop = append(drop, hash)
		}
	} else {
		for hash := range s.keys.gossip {
			drop = append(drop, hash)
		}
	}
	s.keys.mu.Unlock()
	for _, hash := range drop {
		if hash != r.New && (hash != r.Old || r.Phase == api.PhaseRetire || r.Phase == api.PhaseDone) {
			s.dropKey(hash)
		}
	}
}

// follow puts one rotation into what is to be trusted.
func (s *Server) follow(ctx context.Context, r *api.Rotation, next *trust) error {
	if err := s.fetchKey(ctx, r.Kind, r.New); err != nil {
		return err
	}
	if r.Phase != api.PhaseDone {
		if err := s.fetchKey(ctx, r.Kind, r.Old); err != nil && r.Phase != api.PhaseRetire {
			return err
		}
	}
	if r.Kind == api.RotateGossip {
		next.gossip = s.gossipOrder(r)
		return nil
	}
	fresh, err := s.heldCA(r.New)
	if err != nil {
		return err
	}
	next.issuer, next.front, next.bundle = fresh, fresh, fresh.CertPEM()
	if r.Phase != api.PhaseTrust && r.Phase != api.PhaseUse {
		return nil
	}
	old, err := s.heldCA(r.Old)
	if err != nil {
		return err
	}
	next.front = old
	if r.Phase == api.PhaseUse {
		next.bundle = append(fresh.CertPEM(), old.CertPEM()...)
		return nil
	}
	next.issuer, next.bundle = old, append(old.CertPEM(), fresh.CertPEM()...)
	return nil
}

func (s *Server) gossipOrder(r *api.Rotation) []string {
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	old, fresh := s.keys.gossip[r.Old], s.keys.gossip[r.New]
	switch r.Phase {
	case api.PhaseTrust:
		return []string{old, fresh}
	case api.PhaseUse:
		return []string{fresh, old}
	}
	return []string{fresh}
}

func (s *Server) heldCA(hash string) (*pki.CA, error) {
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	return pki.LoadCA([]byte(s.keys.cas[hash].Cert), []byte(s.keys.cas[hash].Key))
}

// useTrust writes what changed to the disk and takes it up. Connections that are open stay open.
func (s *Server) useTrust(have, next *trust) error {
	ring, err := json.Marshal(next.gossip)
	if err != nil {
		return err
	}
	err = errors.Join(datadir.WriteFile(s.path(fileGossipRing), ring), datadir.WriteFile(s.path(fileGossipKey), []byte(next.gossip[0])))
	if err != nil {
		return err
	}
	if string(next.bundle) == string(have.bundle) && next.front.Hash() == have.front.Hash() && next.issuer.Hash() == s.creds.Issuer() {
		return nil
	}
	// First the CAs of before and after: they fit the certificate and the key, however far these come.
	if err := datadir.WriteFile(s.path(fileCA), slices.Concat(next.bundle, have.bundle)); err != nil {
		return err
	}
	if err := s.issueOwn(next); err != nil {
		return err
	}
	if err := datadir.WriteFile(s.path(fileCAKey), next.issuer.KeyPEM()); err != nil {
		return err
	}
	return datadir.WriteFile(s.path(fileCA), next.bundle)
}

// issueOwn makes this coordinator's certificate by the issuer, and, while people and joiners know
// another CA, a second one for the latter.
func (s *Server) issueOwn(t *trust) error {
	s.certMu.Lock()
	defer s.certMu.Unlock()
	key, csr, err := pki.NewKeyCSR()
	if err != nil {
		return err
	}
	id := s.serverIdentity(s.id.ID)
	cert, err := t.issuer.Issue(csr, id, nil, time.Now(), api.LeafLifetime)
	if err != nil {
		return err
	}
	err = errors.Join(datadir.WriteFile(s.path(fileCert), slices.Concat(cert, key)), s.creds.Update(cert, key, t.bundle))
	if err != nil || t.front.Hash() == t.issuer.Hash() {
		return errors.Join(err, s.creds.ShowJoiners(nil, nil, nil))
	}
	front, err := t.front.Issue(csr, id, nil, time.Now(), api.LeafLifetime)
	if err != nil {
		return err
	}
	return s.creds.ShowJoiners(front, key, t.front.CertPEM())
}

func gossipKeys(texts []string) [][]byte {
	var keys [][]byte
	for _, text := range texts {
		if key, err := gossip.ParseKey(text); err == nil { // each was checked when it came
			keys = append(keys, key)
		}
	}
	return keys
}

// handleTrust tells a node what to believe.
func (s *Server) handleTrust(w http.ResponseWriter, _ *http.Request, _ string) {
	t := s.trust.Load()
	writeJSON(w, http.StatusOK, api.TrustBundle{Index: t.index, CA: string(t.bundle), Issuer: t.issuer.Hash(), GossipKeys: t.gossip})
}

// keepRotations carries rotations on, phase by phase, while this coordinator leads.
func (s *Server) keepRotations(ctx context.Context) error {
	for {
		v := s.store.View()
		_, changed := v.Mark(state.MarkRotations)
		active := false
		for _, r := range v.Rotations() {
			if r.Phase != api.PhaseDone {
				active = true
				s.advance(ctx, v, *r)
			}
		}
		if active {
			if run.Sleep(ctx, trustRetry/4) != nil {
				return nil
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}
