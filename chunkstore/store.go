// Package chunkstore keeps bytes by their digest on one node's disk.
//
// Chunks is the store of the object store: chunks up to 4 MiB, pinned by their owners, deduplicated,
// compressed, in segment files with a Pebble index; docs/STORAGE.md says what it promises. Read
// chunks.go first, then commit.go for how a put becomes durable, recover.go for what Open puts right,
// and room.go for full disks. It takes the disk as a vfs.FS, so that power cuts, torn writes, full
// disks and bits that rot are values in its tests.
//
// Files is a Store of whole artifacts (modules and image tarballs), a file per digest. What it stores
// is checked once on its way in and once more before it is first handed out by path: a file that
// rotted is removed and reported as missing, and the caller fetches it again.
package chunkstore

import (
	"context"
	"io"
	"time"
)

// Store keeps artifacts by digest ("sha256:" and 64 hex digits). All methods are safe for concurrent use.
type Store interface {
	// Put stores what r gives once it has the digest, durably, and returns its size. Its errors:
	// CodeUnsupMedia when the bytes are not the digest's, CodeNoRoom on a full disk, CodeTooLarge over
	// api.MaxArtifactBytes. A failed Put leaves nothing behind.
	Put(ctx context.Context, digest string, r io.Reader) (size int64, err error)
	// Open gives the bytes and their number; CodeNotFound when they are not here.
	Open(digest string) (io.ReadSeekCloser, int64, error)
	// Path is a local file with the verified bytes; CodeNotFound when they are not here.
	Path(digest string) (string, error)
	// Has tells whether the digest is here.
	Has(digest string) bool
	// List is everything that is here, in the order of the digests.
	List() ([]Info, error)
	// Delete removes a digest; one that is not here is no error.
	Delete(digest string) error
}

// Info is one stored artifact.
type Info struct {
	Digest string
	Size   int64
	Used   time.Time // last put, opened or asked for by path
}
