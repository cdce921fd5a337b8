package coordinator

import (
	"context"
	"errors"
	"io"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore/gateway"
	"github.com/cloudless/cloudless/chunkstore/split"
	"github.com/cloudless/cloudless/coordinator/objects"
)

// Buckets lists buckets by name.
func (s *Server) Buckets(ctx context.Context, q api.ListQuery) (api.List[api.BucketView], error) {
	if err := s.fresh(ctx); err != nil {
		return api.List[api.BucketView]{}, err
	}
	v := s.objects.View()
	list, err := listBuckets(v, q)
	return list, errors.Join(err, v.Close())
}

func listBuckets(v *objects.View, q api.ListQuery) (api.List[api.BucketView], error) {
	out := api.List[api.BucketView]{Items: []api.BucketView{}, Index: v.Index()}
	all, err := objects.Buckets(v)
	if err != nil {
		return out, err
	}
	for _, b := range all {
		if b.Name <= q.Cursor {
			continue
		}
		if q.Limit > 0 && len(out.Items) == q.Limit {
			out.Cursor = out.Items[q.Limit-1].Name
			break
		}
		used, err := objects.Usage(v, b.Name)
		if err != nil {
			return out, err
		}
		out.Items = append(out.Items, api.BucketView{Bucket: *b, Usage: used})
	}
	return out, nil
}

// Bucket finds a bucket and what it holds.
func (s *Server) Bucket(ctx context.Context, name string) (api.BucketView, error) {
	a, err := s.readMeta(ctx, meta.Query{Bucket: name})
	if err != nil {
		return api.BucketView{}, err
	}
	return api.BucketView{Bucket: *a.Bucket, Usage: *a.Usage}, nil
}

// PutBucket creates a bucket or, unless create, brings the one of that name to the settings.
func (s *Server) PutBucket(ctx context.Context, _ api.Caller, b api.Bucket, create bool, ifMatch uint64) (api.BucketView, error) {
	if err := own(b.Name); err != nil {
		return api.BucketView{}, err
	}
	cmd := meta.Command{UpdateBucket: &meta.UpdateBucket{Bucket: b, IfMatch: ifMatch}}
	if create {
		cmd = meta.Command{CreateBucket: &b}
	}
	_, err := s.applyOne(ctx, cmd)
	if !create && ifMatch == 0 && api.CodeOf(err) == api.CodeNotFound {
		_, err = s.applyOne(ctx, meta.Command{CreateBucket: &b})
	}
	if err != nil {
		return api.BucketView{}, err
	}
	return s.Bucket(ctx, b.Name)
}

// applyOne applies one command; its refusal is the error.
func (s *Server) applyOne(ctx context.Context, cmd meta.Command) (meta.Result, error) {
	res, err := s.applyMeta(ctx, cmd)
	if err != nil {
		return meta.Result{}, err
	}
	return res.First()
}

// own refuses to change what the cluster keeps for itself.
func own(bucket string) *api.Error {
	if bucket != api.ArtifactBucket {
		return nil
	}
	return api.Errorf(api.CodeForbidden, "bucket %s is the cluster's own: it holds what workloads run", bucket).
		WithHint("use another bucket; 'cloudless workload run FILE' stores modules and images")
}

// DeleteBucket removes an empty bucket.
func (s *Server) DeleteBucket(ctx context.Context, _ api.Caller, name string, ifMatch uint64) error {
	if err := own(name); err != nil {
		return err
	}
	_, err := s.applyOne(ctx, meta.Command{DeleteBucket: &meta.DeleteBucket{Name: name, IfMatch: ifMatch}})
	return err
}

// Objects gives a page of a bucket.
func (s *Server) Objects(ctx context.Context, q meta.List) (*meta.Page, uint64, error) {
	a, err := s.readMeta(ctx, meta.Query{List: &q})
	if err != nil {
		return nil, 0, err
	}
	return a.Page, a.Index, nil
}

// Object finds an object's row.
func (s *Server) Object(ctx context.Context, bucket, key string) (*api.Object, error) {
	a, err := s.readMeta(ctx, meta.Query{Object: &meta.ObjectRef{Bucket: bucket, Key: key}})
	if err != nil {
		return nil, err
	}
	return a.Object, nil
}

// OpenObject finds an object to read it.
func (s *Server) OpenObject(ctx context.Context, bucket, key string) (*gateway.Reader, error) {
	return s.gateway.Open(ctx, bucket, key)
}

// PutObject stores what r gives.
func (s *Server) PutObject(ctx context.Context, _ api.Caller, p api.ObjectPut, r io.Reader) (*api.Object, error) {
	if err := own(p.Bucket); err != nil {
		return nil, err
	}
	return s.gateway.Put(ctx, putOf(p), r)
}

func putOf(p api.ObjectPut) gateway.PutObject {
	return gateway.PutObject{
		Bucket: p.Bucket, Key: p.Key, Size: p.Size,
		Head: p.ObjectHead, Condition: meta.Condition{IfAbsent: p.IfAbsent, IfMatch: p.IfMatch},
	}
}

// DeleteObject removes an object.
func (s *Server) DeleteObject(ctx context.Context, _ api.Caller, bucket, key, ifMatch string) error {
	if err := own(bucket); err != nil {
		return err
	}
	_, err := s.applyOne(ctx, meta.Command{Delete: &meta.Delete{Bucket: bucket, Key: key, IfMatch: ifMatch}})
	return err
}

// CopyObject makes another object of the same bytes.
func (s *Server) CopyObject(ctx context.Context, _ api.Caller, c meta.Copy) (*api.Object, error) {
	if err := own(c.Bucket); err != nil {
		return nil, err
	}
	res, err := s.applyOne(ctx, meta.Command{Copy: &c})
	return res.Object, err
}

// Uploads gives a page of a bucket's unfinished multipart uploads.
func (s *Server) Uploads(ctx context.Context, q meta.Uploads) ([]*api.Upload, uint64, error) {
	if _, err := s.Bucket(ctx, q.Bucket); err != nil {
		return nil, 0, err
	}
	a, err := s.readMeta(ctx, meta.Query{Uploads: &q})
	if err != nil {
		return nil, 0, err
	}
	return a.Uploads, a.Index, nil
}

// AbortUpload ends a multipart upload.
func (s *Server) AbortUpload(ctx context.Context, _ api.Caller, u meta.UploadRef) error {
	_, err := s.applyOne(ctx, meta.Command{AbortUpload: &u})
	return err
}

// OpenUpload begins an upload in chunks.
func (s *Server) OpenUpload(ctx context.Context, _ api.Caller, bucket string) (*api.UploadSession, error) {
	return s.gateway.Begin(ctx, bucket)
}

// MissingChunks tells which chunks are to be sent.
func (s *Server) MissingChunks(ctx context.Context, session string, digests []string) ([]string, error) {
	return s.gateway.Missing(ctx, session, digests)
}

// PutChunk stores a chunk for an upload.
func (s *Server) PutChunk(ctx context.Context, session, bucket, digest string, r io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(r, split.MaxChunkBytes+1)) // one byte more is one that is too large
	if err != nil {
		return err
	}
	return s.gateway.PutChunk(ctx, session, bucket, digest, data)
}

// CommitUpload makes an object of the chunks of an upload.
func (s *Server) CommitUpload(ctx context.Context, _ api.Caller, session string, p api.ObjectPut, manifest []byte) (*api.Object, error) {
	if err := own(p.Bucket); err != nil {
		return nil, err
	}
	m, err := split.Decode(manifest)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "the manifest cannot be read: %w", err)
	}
	return s.gateway.Commit(ctx, session, putOf(p), m)
}
