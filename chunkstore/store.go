// Package chunkstore keeps artifacts (modules and image tarballs) by their digest on the local disk.
//
// A digest names its bytes, so what is stored is checked once on its way in and once more before it
// is first handed out by path: a file that rotted is removed and reported as missing, and the caller
// fetches it again. Whoever needs artifacts depends on Store; Files is a file per digest.
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
