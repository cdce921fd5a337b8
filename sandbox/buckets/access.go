// Package buckets is what one replica's guest may do with the cluster's buckets: small values by key, with
// compare-and-set, and blobs as streams. It knows no engine: sandbox/wasm binds it to the functions kv_* and
// blob_* of module cl, whose contract is docs/GUEST-STORAGE.md.
//
// An Access is a replica's; a Call is what one call of its guest has under way. Nothing outlives its call:
// what was not committed by then was never written.
package buckets

import (
	"context"
	"errors"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
)

// Bounds of what guests do.
const (
	MaxValueBytes = 1 << 20     // a value of kv_get and kv_set
	MaxBlobBytes  = 5 << 30     // a blob that is written
	MaxOpen       = 16          // blobs open in one call
	MaxStreams    = 64          // blobs open in one replica
	MaxOperations = 32          // operations of one replica at the same time; more of them wait
	MaxEntries    = 1_000       // in one page of a list
	ETagBytes     = 64          // what an ETag has room for in a guest's memory
	opTimeout     = time.Minute // of one operation that moves no more than a value
)

// Access is one replica's way to the buckets that its manifest grants.
type Access struct {
	store   sandbox.Storage
	granted map[string]string // access by bucket
	group   *run.Group        // what is being written
	places  chan struct{}     // one for each operation under way
	streams chan struct{}     // one for each open blob
}

// New makes the way to what a manifest grants.
func New(store sandbox.Storage, grants []api.BucketGrant) *Access {
	a := &Access{
		store: store, granted: map[string]string{}, group: run.New(context.Background()),
		places: make(chan struct{}, MaxOperations), streams: make(chan struct{}, MaxStreams),
	}
	for _, g := range grants {
		a.granted[g.Bucket] = g.Access
	}
	return a
}

// Close ends what is being written. No call may come after it.
func (a *Access) Close() error { return a.group.Close() }

// may refuses what is not granted.
func (a *Access) may(bucket string, write bool) error {
	access, ok := a.granted[bucket]
	switch {
	case !ok:
		return refuse(ErrnoAccess, "no entry of spec.buckets names bucket %.80q", bucket)
	case write && access != api.AccessReadWrite:
		return refuse(ErrnoAccess, "spec.buckets grants bucket %s to be read only", bucket)
	}
	return nil
}

// Call is what one call of a guest has under way. A guest makes one call at a time, so there is no lock.
// Errors are of type *sandbox.Refusal.
type Call struct {
	*Access
	ctx  context.Context
	open [MaxOpen]*blob
}

// Begin begins a call that ends with ctx.
func (a *Access) Begin(ctx context.Context) *Call { return &Call{Access: a, ctx: ctx} }

// do runs one operation on a key when there is a place for it, and says what went wrong in a guest's terms.
func (c *Call) do(bucket, key string, write bool, f func(ctx context.Context) error) error {
	if err := c.may(bucket, write); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.ctx, opTimeout)
	defer cancel()
	select {
	case c.places <- struct{}{}:
	case <-ctx.Done():
		return c.explain(bucket, key, ctx.Err())
	}
	defer func() { <-c.places }()
	return c.explain(bucket, key, f(ctx))
}

// checkKey refuses what is no key before anybody is asked.
func checkKey(key string) error {
	if err := api.CheckObjectKey(key); err != nil {
		return refuse(ErrnoInvalid, "%s", err.Message)
	}
	return nil
}

// explain gives an error its number, and names what it is about unless the guest asked for that answer.
func (c *Call) explain(bucket, key string, err error) error {
	var known *sandbox.Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	case c.ctx.Err() != nil:
		return refuse(ErrnoEnded, "the call that it belongs to has ended")
	case errors.Is(err, context.DeadlineExceeded):
		return refuse(ErrnoTimeout, "%s/%.80q: no answer within %s", bucket, key, opTimeout)
	}
	errno, ok := errnos[api.CodeOf(err)]
	switch {
	case !ok:
		errno = ErrnoFault
	case errno == ErrnoAbsent || errno == ErrnoStale:
		return &sandbox.Refusal{Errno: errno}
	}
	return refuse(errno, "%s/%.80q: %v", bucket, key, err)
}
