package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/datadir"
	"github.com/cloudless/cloudless/internal/gossip"
	"github.com/cloudless/cloudless/internal/pki"
)

// Folders and files of keys beside the current ones; all 0600.
const (
	dirKeys         = "keys"           // what a rotation has not retired: HASH.pem and HASH.key, or HASH.gossip; and HASH.seal
	fileGossipRing  = "gossip.keyring" // as Serf keeps it: the key in use first
	suffixCert      = ".pem"
	suffixKey       = ".key"
	suffixGossipKey = ".gossip"
)

// keyring is the keys that this coordinator holds, by their hashes: current ones and those of
// rotations under way. They are on the disk before they are here.
type keyring struct {
	mu     sync.Mutex
	cas    map[string]api.CAKey
	gossip map[string]string
	seals  map[string][]byte
}

// openKeyring begins with what the files say; the state may know of rotations since (keepTrust).
func (s *Server) openKeyring(ca *pki.CA, bundle []byte) error {
	s.keys = &keyring{cas: map[string]api.CAKey{}, gossip: map[string]string{}, seals: map[string][]byte{}}
	s.keys.cas[ca.Hash()] = api.CAKey{Cert: string(ca.CertPEM()), Key: string(ca.KeyPEM())}
	key, err := gossip.ParseKey(s.id.GossipKey)
	if err != nil {
		return err
	}
	s.keys.gossip[gossip.KeyID(key)] = s.id.GossipKey
	files, err := fs.Glob(os.DirFS(s.path(dirKeys)), "*")
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := s.loadKey(filepath.Join(s.path(dirKeys), f)); err != nil {
			return fmt.Errorf("%s of %s is damaged: %w", f, s.path(dirKeys), err)
		}
	}
	s.trust.Store(&trust{issuer: ca, front: ca, bundle: bundle, gossip: s.keptRing()})
	return nil
}

// keptRing is the gossip keys of the last run, the one in use first.
func (s *Server) keptRing() []string {
	var ring []string
	data, err := os.ReadFile(s.path(fileGossipRing))
	if err != nil || json.Unmarshal(data, &ring) != nil || len(ring) == 0 || ring[0] != s.id.GossipKey {
		return []string{s.id.GossipKey}
	}
	return ring
}

func (s *Server) loadKey(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	base := filepath.Base(file)
	hash := base[:len(base)-len(filepath.Ext(base))]
	switch filepath.Ext(base) {
	case suffixGossipKey:
		s.keys.gossip[hash] = string(data)
	case suffixSeal:
		if len(data) != sealBytes || sealID(data) != hash {
			return errors.New("it is not the key of its name")
		}
		s.keys.seals[hash] = data
	case suffixKey:
		cert, err := os.ReadFile(s.keyPath(hash, suffixCert))
		if errors.Is(err, fs.ErrNotExist) { // it is written first and removed first: a crash left the rest of a retired key
			return os.Remove(file)
		}
		if err != nil {
			return err
		}
		if _, err := pki.LoadCA(cert, data); err != nil {
			return err
		}
		s.keys.cas[hash] = api.CAKey{Cert: string(cert), Key: string(data)}
	}
	return nil
}

func (s *Server) keyPath(hash, suffix string) string {
	return filepath.Join(s.path(dirKeys), hash+suffix)
}

// holdCA and holdGossip keep a key, on the disk first.
func (s *Server) holdCA(hash string, k api.CAKey) error {
	ca, err := pki.LoadCA([]byte(k.Cert), []byte(k.Key))
	if err != nil {
		return err
	}
	if ca.Hash() != hash || ca.ClusterID() != s.id.ClusterID {
		return api.Errorf(api.CodeInvalid, "the CA is not %s of this cluster", hash)
	}
	err = errors.Join(datadir.Make(s.path(dirKeys)), datadir.WriteFile(s.keyPath(hash, suffixCert), []byte(k.Cert)), datadir.WriteFile(s.keyPath(hash, suffixKey), []byte(k.Key)))
	if err != nil {
		return err
	}
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	s.keys.cas[hash] = k
	return nil
}

func (s *Server) holdGossip(hash, text string) error {
	key, err := gossip.ParseKey(text)
	if err != nil {
		return err
	}
	if gossip.KeyID(key) != hash {
		return api.Errorf(api.CodeInvalid, "the gossip key is not %s", hash)
	}
	if err := errors.Join(datadir.Make(s.path(dirKeys)), datadir.WriteFile(s.keyPath(hash, suffixGossipKey), []byte(text))); err != nil {
		return err
	}
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	s.keys.gossip[hash] = text
	return nil
}

// dropKey forgets a key that was retired.
func (s *Server) dropKey(hash string) {
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	delete(s.keys.cas, hash)
	delete(s.keys.gossip, hash)
	for _, suffix := range []string{suffixCert, suffixKey, suffixGossipKey} {
		if err := os.Remove(s.keyPath(hash, suffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.log.Error().Err(err).Msg("a retired key is still on the disk")
		}
	}
}

func (s *Server) holds(kind api.RotationKind, hash string) bool {
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	if kind == api.RotateCA {
		return s.keys.cas[hash].Key != ""
	}
	return s.keys.gossip[hash] != ""
}

// handlePeerKeys gives the keys to another coordinator, which has the right to all of them.
func (s *Server) handlePeerKeys(w http.ResponseWriter, _ *http.Request) {
	s.keys.mu.Lock()
	keys := api.PeerKeys{CAs: maps.Clone(s.keys.cas), Gossip: maps.Clone(s.keys.gossip), Seals: maps.Clone(s.keys.seals)}
	s.keys.mu.Unlock()
	writeJSON(w, http.StatusOK, keys)
}

// fetchKey asks the other coordinators for a key that a rotation names.
func (s *Server) fetchKey(ctx context.Context, kind api.RotationKind, hash string) error {
	if hash == "" || s.holds(kind, hash) {
		return nil
	}
	return s.fetchKeys(ctx, fmt.Sprintf("%s key %.12s", kind, hash), func(keys api.PeerKeys) (bool, error) {
		if k, ok := keys.CAs[hash]; ok {
			return true, s.holdCA(hash, k)
		}
		if k, ok := keys.Gossip[hash]; ok {
			return true, s.holdGossip(hash, k)
		}
		return false, nil
	})
}

// fetchKeys shows take the keys of the other coordinators, one after the other, until it has what it wants.
func (s *Server) fetchKeys(ctx context.Context, what string, take func(api.PeerKeys) (bool, error)) error {
	last := error(api.Errorf(api.CodeUnavailable, "no coordinator has the %s", what))
	for _, m := range s.members() {
		if m.ID == s.id.ID {
			continue
		}
		var keys api.PeerKeys
		rctx, cancel := context.WithTimeout(ctx, followTimeout)
		err := s.peerCall(rctx, m.ID, http.MethodGet, api.PathPeerKeys, nil, &keys)
		cancel()
		if err == nil {
			if done, err := take(keys); done {
				return err
			}
		}
		last = errors.Join(last, err)
	}
	return last
}
