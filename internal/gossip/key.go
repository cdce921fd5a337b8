package gossip

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/cloudless/cloudless/api"
)

// keyBytes makes it AES-256.
const keyBytes = 32

// NewKey makes a random key.
func NewKey() []byte {
	key := make([]byte, keyBytes)
	rand.Read(key) // never fails (crypto/rand)
	return key
}

// FormatKey writes a key as it stands in D/gossip.key and after `serf agent -encrypt`: base64.
func FormatKey(key []byte) string { return base64.StdEncoding.EncodeToString(key) }

// ParseKey reads what FormatKey wrote; white space round it is dropped.
func ParseKey(s string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s))
	if err != nil || len(key) != keyBytes {
		return nil, api.Errorf(api.CodeInvalid, "the gossip key is not %d bytes in base64", keyBytes).
			WithHint("copy gossip.key from the data folder of a coordinator")
	}
	return key, nil
}

// KeyID is a name for a key that gives nothing of it away.
func KeyID(key []byte) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:])
}

// SetKeys makes keys the keyring: all are read, the first is written with. Members whose keyrings
// have one key in common that each reads understand each other, so keys are replaced in three steps:
// everybody reads the new one, everybody writes it, everybody forgets the old one. Serf could spread
// a new key by itself, but under the old one: whoever has that would learn the new one too.
func (g *Gossip) SetKeys(keys [][]byte) error {
	if len(keys) == 0 {
		return api.Errorf(api.CodeInvalid, "the gossip needs a key")
	}
	var errs []error
	for _, key := range keys {
		errs = append(errs, g.ring.AddKey(key))
	}
	errs = append(errs, g.ring.UseKey(keys[0]))
	if err := errors.Join(errs...); err != nil {
		return api.Errorf(api.CodeInvalid, "the gossip keys cannot be used: %w", err)
	}
	for _, old := range g.ring.GetKeys() {
		if !slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, old) }) {
			errs = append(errs, g.ring.RemoveKey(old))
		}
	}
	return errors.Join(errs...)
}

// SameKeys tells whether the keyring is just keys, the first in use. Whoever has the gossip key can
// ask members to change their keyrings by Serf's own commands; that is undone when it is noticed.
func (g *Gossip) SameKeys(keys [][]byte) bool {
	have := g.ring.GetKeys()
	if len(have) != len(keys) || !bytes.Equal(g.ring.GetPrimaryKey(), keys[0]) {
		return false
	}
	for _, key := range keys {
		if !slices.ContainsFunc(have, func(k []byte) bool { return bytes.Equal(k, key) }) {
			return false
		}
	}
	return true
}
