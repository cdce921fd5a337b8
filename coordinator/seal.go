package coordinator

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
	"github.com/cloudless/cloudless/internal/datadir"
)

// The sealing key encrypts secrets that the state keeps and that must be had again in plain. The state has
// its id alone; the key is in the coordinators' folders, and goes from one to another as a CA's does.

const (
	suffixSeal = ".seal"
	sealBytes  = 32 // AES-256
)

func sealID(key []byte) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:16])
}

// holdSeal keeps a sealing key, on the disk first.
func (s *Server) holdSeal(id string, key []byte) error {
	if len(key) != sealBytes || sealID(key) != id {
		return api.Errorf(api.CodeInvalid, "the sealing key is not %s", id)
	}
	if err := errors.Join(datadir.Make(s.path(dirKeys)), datadir.WriteFile(s.keyPath(id, suffixSeal), key)); err != nil {
		return err
	}
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	s.keys.seals[id] = key
	return nil
}

func (s *Server) heldSeal(id string) ([]byte, bool) {
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	key, ok := s.keys.seals[id]
	return key, ok
}

// sealHeld is the id of the cluster's sealing key, "" while this coordinator has not got it.
func (s *Server) sealHeld() string {
	id := s.store.View().Meta().SealKey
	if _, ok := s.heldSeal(id); !ok {
		return ""
	}
	return id
}

// ensureSealKey makes the cluster's sealing key, once. The leader does so. A key that was made when the
// entry of its id failed is used, for nobody knows what became of the entry.
func (s *Server) ensureSealKey(ctx context.Context) error {
	if s.store.View().Meta().SealKey != "" {
		return nil
	}
	id := s.anySeal()
	if id == "" {
		key := make([]byte, sealBytes)
		rand.Read(key) // never fails
		id = sealID(key)
		if err := s.holdSeal(id, key); err != nil {
			return err
		}
	}
	_, _, err := s.propose(ctx, state.Command{SetSealKey: &state.ByID{ID: id}})
	return err
}

func (s *Server) anySeal() string {
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	for id := range s.keys.seals {
		return id
	}
	return ""
}

// takeSealKey gets the sealing key from another coordinator.
func (s *Server) takeSealKey(ctx context.Context, id string) error {
	if _, ok := s.heldSeal(id); ok || id == "" {
		return nil
	}
	return s.fetchKeys(ctx, "sealing key "+id, func(keys api.PeerKeys) (bool, error) {
		key, ok := keys.Seals[id]
		if !ok {
			return false, nil
		}
		return true, s.holdSeal(id, key)
	})
}

// sealKeyIsSafe tells that more than half of the coordinators hold the sealing key on their disks, so
// that what is sealed with it can be read for as long as there is a cluster.
func (s *Server) sealKeyIsSafe(ctx context.Context, id string) error {
	if err := s.takeSealKey(ctx, id); err != nil {
		return err
	}
	all, holders := 1, 1 // this one, whose row may be still to come
	for _, m := range s.members() {
		if m.ID == s.id.ID {
			continue
		}
		all++
		var info api.PeerInfo
		rctx, cancel := context.WithTimeout(ctx, followTimeout)
		err := s.peerCall(rctx, m.ID, http.MethodGet, api.PathPeerInfo, nil, &info)
		cancel()
		if err == nil && info.Seal == id {
			holders++
		}
	}
	if 2*holders <= all {
		return api.Errorf(api.CodeUnavailable, "%d of %d coordinators hold the key that seals secrets, more than half must", holders, all).
			WithHint("wait a moment; if it stays so, see that the coordinators reach each other")
	}
	return nil
}

// seal encrypts a secret for a row, to which it is bound: in another row it cannot be opened.
func seal(key []byte, row, secret string) ([]byte, error) {
	aead, err := aeadOf(key)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce) // never fails
	return aead.Seal(nonce, nonce, []byte(secret), []byte(row)), nil
}

func unseal(key []byte, row string, data []byte) (string, error) {
	aead, err := aeadOf(key)
	if err != nil {
		return "", err
	}
	if len(data) < aead.NonceSize() {
		return "", errors.New("a sealed secret is cut short")
	}
	plain, err := aead.Open(nil, data[:aead.NonceSize()], data[aead.NonceSize():], []byte(row))
	if err != nil {
		return "", fmt.Errorf("open the secret of %s: %w", row, err)
	}
	return string(plain), nil
}

func aeadOf(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
