package api

import (
	"encoding/hex"
	"strings"
	"time"
)

// Artifact is a module or an image tarball that the cluster holds, named by its digest.
type Artifact struct {
	Digest      string    `json:"digest"`            // "sha256:" and 64 hex digits
	Size        int64     `json:"size"`              // bytes
	Kind        string    `json:"kind"`              // wasm | oci
	Holders     []string  `json:"holders,omitempty"` // only of one whose bytes are in no bucket: an earlier version kept them on these coordinators
	CreatedAt   time.Time `json:"createdAt,omitzero"`
	CreateIndex uint64    `json:"createIndex,omitempty"`
	ModifyIndex uint64    `json:"modifyIndex,omitempty"`
}

// ArtifactBucket is the cluster's own bucket of artifacts: objects by ArtifactKey.
const ArtifactBucket = "artifacts"

// ArtifactKey is the key of the object that has a digest's bytes.
func ArtifactKey(digest string) string { return strings.TrimPrefix(digest, "sha256:") }

// ArtifactLimit is how large an artifact of a kind may be.
func ArtifactLimit(kind string) int64 {
	if kind == ArtifactWasm {
		return MaxModuleBytes
	}
	return MaxArtifactBytes
}

// Artifact kinds.
const (
	ArtifactWasm = "wasm"
	ArtifactOCI  = "oci"
)

// IsDigest tells whether s is "sha256:" and 64 lower-case hex digits.
func IsDigest(s string) bool {
	h, ok := strings.CutPrefix(s, "sha256:")
	if !ok || len(h) != 64 || strings.ToLower(h) != h {
		return false
	}
	_, err := hex.DecodeString(h)
	return err == nil
}
