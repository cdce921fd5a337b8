package api

import (
	"crypto/rand"
	"encoding/base32"
	"strings"
)

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewID returns prefix, "-" and 50 random bits as 10 letters and digits. Ids are never used again.
func NewID(prefix string) string {
	var b [10]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return prefix + "-" + EncodeID(b[:])[:10]
}

// NewSecret returns 256 random bits as text that is safe in headers and file names.
func NewSecret() string {
	var b [32]byte
	rand.Read(b[:])
	return EncodeID(b[:])
}

// EncodeID writes bytes in lower-case base32, as ids are written.
func EncodeID(b []byte) string { return strings.ToLower(idEncoding.EncodeToString(b)) }
