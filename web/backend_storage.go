package web

import (
	"context"
	"io"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
)

// Storage is what the REST API needs of the object store. Reads are as new as every change that was
// answered before them.
type Storage interface {
	// Buckets are listed by name, each with what it holds.
	Buckets(ctx context.Context, q api.ListQuery) (api.List[api.BucketView], error)
	Bucket(ctx context.Context, name string) (api.BucketView, error)
	// PutBucket creates a bucket, or with PutApply brings it to the given settings; an ifMatch other than
	// 0 must be its ModifyIndex.
	PutBucket(ctx context.Context, c api.Caller, b api.Bucket, mode PutMode, ifMatch uint64) (api.BucketView, error)
	// DeleteBucket is a CodeConflict for one that holds anything.
	DeleteBucket(ctx context.Context, c api.Caller, name string, ifMatch uint64) error

	// Objects gives a page of a bucket, and the index up to which it counts.
	Objects(ctx context.Context, q meta.List) (*meta.Page, uint64, error)
	// Object gives an object's row; OpenObject its bytes too.
	Object(ctx context.Context, bucket, key string) (*api.Object, error)
	OpenObject(ctx context.Context, bucket, key string) (ObjectReader, error)
	// PutObject reads r to its end. If r or ctx ends with an error, nothing is changed.
	PutObject(ctx context.Context, c api.Caller, p api.ObjectPut, r io.Reader) (*api.Object, error)
	// DeleteObject is done for an object that is not there, unless ifMatch names it.
	DeleteObject(ctx context.Context, c api.Caller, bucket, key, ifMatch string) error
	CopyObject(ctx context.Context, c api.Caller, cp meta.Copy) (*api.Object, error)

	// OpenUpload begins an upload whose client cuts the object itself. MissingChunks tells which chunks
	// it has to send, and keeps the others for the session; PutChunk takes one; CommitUpload makes the
	// object of them, and ends the session.
	OpenUpload(ctx context.Context, c api.Caller, bucket string) (*api.UploadSession, error)
	MissingChunks(ctx context.Context, session string, digests []string) ([]string, error)
	PutChunk(ctx context.Context, session, bucket, digest string, r io.Reader) error
	CommitUpload(ctx context.Context, c api.Caller, session string, p api.ObjectPut, manifest []byte) (*api.Object, error)

	// Uploads gives a page of a bucket's unfinished multipart uploads, and the index up to which it counts.
	// AbortUpload ends one, and lets go of its parts.
	Uploads(ctx context.Context, q meta.Uploads) ([]*api.Upload, uint64, error)
	AbortUpload(ctx context.Context, c api.Caller, u meta.UploadRef) error

	StorageReport(ctx context.Context) (api.StorageReport, error)
	// ScrubStorage makes a node ("": every node) read all its chunks now; RepairStorage looks for missing
	// copies now; CollectStorage deletes what nobody refers to, even (anyway) if that is being held.
	ScrubStorage(ctx context.Context, c api.Caller, node string) error
	RepairStorage(ctx context.Context, c api.Caller) error
	CollectStorage(ctx context.Context, c api.Caller, anyway bool) error
	// BackupStorage writes the metadata of one moment; RestoreStorage replaces all of it.
	BackupStorage(ctx context.Context, w io.Writer) error
	RestoreStorage(ctx context.Context, c api.Caller, r io.Reader) error
}

// ObjectReader is an object that has been opened: what is read of it is of that one version.
type ObjectReader interface {
	Object() *api.Object
	// Range gives n bytes from offset on, as far as there are any; each read of them has its own deadline.
	Range(ctx context.Context, offset, n int64) io.ReadCloser
}
