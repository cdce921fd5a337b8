package chunkstore

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/cloudless/cloudless/api"
)

// key is a digest as the index and the records hold it.
type key [sha256.Size]byte

func parseDigest(digest string) (k key, err error) {
	if !api.IsDigest(digest) {
		return k, api.Errorf(api.CodeInvalid, "%q is not a digest", digest).
			WithHint("write sha256: and 64 lower-case hex digits")
	}
	_, err = hex.Decode(k[:], []byte(strings.TrimPrefix(digest, digestPrefix)))
	return k, err
}

// ParseDigest gives the bytes that a digest names.
func ParseDigest(digest string) ([sha256.Size]byte, error) { return parseDigest(digest) }

// Digest is how the digest with these bytes is written.
func Digest(sum [sha256.Size]byte) string { return key(sum).String() }

func parseDigests(digests []string) ([]key, error) {
	keys := make([]key, len(digests))
	for i, d := range digests {
		k, err := parseDigest(d)
		if err != nil {
			return nil, err
		}
		keys[i] = k
	}
	return keys, nil
}

func (k key) String() string { return digestPrefix + hex.EncodeToString(k[:]) }

// DigestOf is the digest by which data is stored.
func DigestOf(data []byte) string { return key(sha256.Sum256(data)).String() }
