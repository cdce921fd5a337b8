package meta

import (
	"crypto/sha256"
	"encoding/hex"
)

// ID names the group: it is the digest of the digests of its shards, written as a chunk's is. By it the
// nodes are drawn on which the shards are.
func (g *Group) ID() string { return GroupName(g.Sum()) }

// Sum is the 32 bytes of the id.
func (g *Group) Sum() (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, s := range g.Shards {
		h.Write(s.Digest)
	}
	h.Sum(sum[:0])
	return sum
}

// GroupName writes the bytes of an id.
func GroupName(sum [sha256.Size]byte) string { return "group:" + hex.EncodeToString(sum[:]) }

// Shard is the index of the shard that has a digest; -1 when none has.
func (g *Group) Shard(digest [sha256.Size]byte) int {
	for i, s := range g.Shards {
		if string(s.Digest) == string(digest[:]) {
			return i
		}
	}
	return -1
}
