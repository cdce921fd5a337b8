package gossip

import (
	"crypto/rand"
	"encoding/base64"
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
