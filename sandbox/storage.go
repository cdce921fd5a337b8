package sandbox

import (
	"context"
	"io"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
)

// Storage is the cluster's buckets as one node reaches them, whole: who may reach what is for the caller
// to judge. Errors carry codes of api: CodeNotFound (no such bucket or object), CodeConflict (a condition
// does not hold), CodeUnavailable (too few coordinators or nodes answer), CodeNoRoom (a quota, or full
// disks). A change that ended with another error, or with the end of its context, may have happened.
type Storage interface {
	// Stat describes an object, without its bytes.
	Stat(ctx context.Context, bucket, key string) (*api.Object, error)
	// Open reads length bytes from offset on, or what there is of them; a length below 0 reads to the end.
	// The bytes are those of the object that is described, whatever takes its place meanwhile.
	Open(ctx context.Context, bucket, key string, offset, length int64) (*api.Object, io.ReadCloser, error)
	// Put makes or replaces an object of what r gives until io.EOF; any other error of it makes nothing.
	// size is how much that will be, -1 if that is not known. r is not used after the return.
	Put(ctx context.Context, bucket, key string, c meta.Condition, size int64, r io.Reader) (*api.Object, error)
	// Delete removes an object; one that is not there is gone already, unless ifMatch names its ETag.
	Delete(ctx context.Context, bucket, key, ifMatch string) error
	// List gives a page of a bucket.
	List(ctx context.Context, q meta.List) (*meta.Page, error)
}
