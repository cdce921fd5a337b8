package coordinator

import (
	"context"
	"io"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
)

// errNoStore refuses what needs the object store, of which a coordinator has none yet.
var errNoStore = api.Errorf(api.CodeUnsupported, "the object store is not supported by this version")

// ObjectReader is an object that has been opened.
type ObjectReader interface {
	Object() *api.Object
	Range(ctx context.Context, offset, n int64) io.ReadCloser
}

// Buckets lists buckets by name.
func (s *Server) Buckets(context.Context, api.ListQuery) (api.List[api.BucketView], error) {
	return api.List[api.BucketView]{}, errNoStore
}

// Bucket finds a bucket and what it holds.
func (s *Server) Bucket(context.Context, string) (api.BucketView, error) {
	return api.BucketView{}, errNoStore
}

// PutBucket creates a bucket or, unless create, changes the settings of one that exists.
func (s *Server) PutBucket(_ context.Context, _ api.Caller, _ api.Bucket, create bool, ifMatch uint64) (api.BucketView, error) {
	return api.BucketView{}, errNoStore
}

// DeleteBucket removes an empty bucket.
func (s *Server) DeleteBucket(_ context.Context, _ api.Caller, name string, ifMatch uint64) error {
	return errNoStore
}

// Objects gives a page of a bucket.
func (s *Server) Objects(context.Context, meta.List) (*meta.Page, uint64, error) {
	return nil, 0, errNoStore
}

// Object finds an object's row.
func (s *Server) Object(_ context.Context, bucket, key string) (*api.Object, error) {
	return nil, errNoStore
}

// OpenObject finds an object to read it.
func (s *Server) OpenObject(_ context.Context, bucket, key string) (ObjectReader, error) {
	return nil, errNoStore
}

// PutObject stores what r gives.
func (s *Server) PutObject(context.Context, api.Caller, api.ObjectPut, io.Reader) (*api.Object, error) {
	return nil, errNoStore
}

// DeleteObject removes an object.
func (s *Server) DeleteObject(_ context.Context, _ api.Caller, bucket, key, ifMatch string) error {
	return errNoStore
}

// CopyObject makes another object of the same bytes.
func (s *Server) CopyObject(context.Context, api.Caller, meta.Copy) (*api.Object, error) {
	return nil, errNoStore
}

// OpenUpload begins an upload in chunks.
func (s *Server) OpenUpload(_ context.Context, _ api.Caller, bucket string) (*api.UploadSession, error) {
	return nil, errNoStore
}

// MissingChunks tells which chunks are to be sent.
func (s *Server) MissingChunks(_ context.Context, session string, digests []string) ([]string, error) {
	return nil, errNoStore
}

// PutChunk stores a chunk for an upload.
func (s *Server) PutChunk(_ context.Context, session, bucket, digest string, r io.Reader) error {
	return errNoStore
}

// CommitUpload makes an object of the chunks of an upload.
func (s *Server) CommitUpload(_ context.Context, _ api.Caller, session string, _ api.ObjectPut, manifest []byte) (*api.Object, error) {
	return nil, errNoStore
}

// StorageReport tells how the object store fares.
func (s *Server) StorageReport(context.Context) (api.StorageReport, error) {
	return api.StorageReport{}, errNoStore
}

// ScrubStorage makes nodes read all their chunks.
func (s *Server) ScrubStorage(_ context.Context, _ api.Caller, node string) error { return errNoStore }

// RepairStorage looks for missing copies.
func (s *Server) RepairStorage(context.Context, api.Caller) error { return errNoStore }

// CollectStorage deletes chunks that nobody refers to.
func (s *Server) CollectStorage(_ context.Context, _ api.Caller, anyway bool) error {
	return errNoStore
}

// BackupStorage writes the object store's metadata.
func (s *Server) BackupStorage(context.Context, io.Writer) error { return errNoStore }

// RestoreStorage replaces the object store's metadata.
func (s *Server) RestoreStorage(context.Context, api.Caller, io.Reader) error { return errNoStore }
