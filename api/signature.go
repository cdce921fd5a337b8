package api

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Signature is one in minisign's format: of a file or of its BLAKE2b hash, and of a comment.
// internal/minisign verifies it.
type Signature struct {
	KeyID          uint64
	Hashed         bool // the file's BLAKE2b-512 hash was signed ("ED"), not the file ("Ed")
	File           [ed25519.SignatureSize]byte
	TrustedComment string
	Comment        [ed25519.SignatureSize]byte // of File and TrustedComment
}

// PublicKey is one of minisign's.
type PublicKey struct {
	ID  uint64 // chosen with the key; tells keys apart and proves nothing
	Key ed25519.PublicKey
}

// The parts of minisign's texts.
const (
	untrustedPrefix = "untrusted comment: "
	trustedPrefix   = "trusted comment: "
	plainAlgorithm  = "Ed"
	hashedAlgorithm = "ED"
	keyIDBytes      = 8
)

// KeyName is how minisign writes a key's id: hexadecimal without leading zeros.
func KeyName(id uint64) string { return fmt.Sprintf("%X", id) }

// ParseSignature reads the text of a .minisig file.
func ParseSignature(text string) (Signature, error) {
	var s Signature
	if len(text) > MaxSignatureBytes {
		return s, fmt.Errorf("is %d bytes, at most %d are allowed", len(text), MaxSignatureBytes)
	}
	lines := strings.Split(strings.TrimRight(text, "\r\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], "\r")
	}
	if len(lines) != 4 || !strings.HasPrefix(lines[0], untrustedPrefix) {
		return s, errors.New("is not the text of a .minisig file: two comments with a signature behind each, four lines")
	}
	comment, ok := strings.CutPrefix(lines[2], trustedPrefix)
	if !ok {
		return s, fmt.Errorf("has no %q on its third line", trustedPrefix)
	}
	raw, err := decodeParts(lines[1], ed25519.SignatureSize)
	if err != nil {
		return s, fmt.Errorf("has a damaged second line: %w", err)
	}
	global, err := base64.StdEncoding.DecodeString(lines[3])
	if err != nil || len(global) != ed25519.SignatureSize {
		return s, errors.New("has a damaged fourth line: it is not 64 bytes in base64")
	}
	s.Hashed, s.KeyID, s.TrustedComment = raw.algorithm == hashedAlgorithm, raw.id, comment
	copy(s.File[:], raw.rest)
	copy(s.Comment[:], global)
	return s, nil
}

// ParsePublicKey reads a key as minisign prints it: the second line of a .pub file.
func ParsePublicKey(text string) (PublicKey, error) {
	raw, err := decodeParts(text, ed25519.PublicKeySize)
	if err == nil && raw.algorithm != plainAlgorithm {
		err = fmt.Errorf("it is of algorithm %q", raw.algorithm)
	}
	if err != nil {
		return PublicKey{}, fmt.Errorf("%.80q is not a public key of minisign: %w", text, err)
	}
	return PublicKey{ID: raw.id, Key: ed25519.PublicKey(raw.rest)}, nil
}

type parts struct {
	algorithm string
	id        uint64
	rest      []byte
}

// decodeParts reads what keys and signatures begin with: two letters and the key's id.
func decodeParts(text string, size int) (parts, error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return parts{}, errors.New("it is not base64")
	}
	head := len(plainAlgorithm) + keyIDBytes
	if len(raw) != head+size {
		return parts{}, fmt.Errorf("it has %d bytes, not %d", len(raw), head+size)
	}
	p := parts{string(raw[:2]), binary.LittleEndian.Uint64(raw[2:head]), raw[head:]}
	if p.algorithm != plainAlgorithm && p.algorithm != hashedAlgorithm {
		return parts{}, fmt.Errorf("it is of algorithm %q, not Ed or ED", p.algorithm)
	}
	return p, nil
}
