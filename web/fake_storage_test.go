package web

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore/split"
)

// modified is when every object of the tests was put.
var modified = time.Date(2026, 11, 24, 10, 0, 0, 500, time.UTC)

// store is an object store in maps.
type store struct {
	buckets  map[string]api.Bucket
	objects  map[string]stored // by bucket/key
	sessions map[string]string // their bucket
	chunks   map[string][]byte
	uploads  []api.Upload    // by key and id
	trouble  error           // of every put, after its body was read
	done     func(err error) // told of each put what reading its body gave
	backup   func(context.Context, io.Writer) error
	breaks   bool // reads end early
	asked    []string
	restored []byte
}

type stored struct {
	api.Object
	data []byte
}

func newStore() *store {
	s := &store{buckets: map[string]api.Bucket{}, objects: map[string]stored{}, sessions: map[string]string{}, chunks: map[string][]byte{}}
	b := api.Bucket{Name: "photos", CreateIndex: 2, ModifyIndex: 3}
	b.Default()
	s.buckets["photos"] = b
	s.keep(api.ObjectPut{Bucket: "photos", Key: "a/b", ObjectHead: api.ObjectHead{ContentType: "text/plain", Metadata: map[string]string{"owner": "ann"}}}, []byte("hello, world"))
	s.keep(api.ObjectPut{Bucket: "photos", Key: "plain"}, []byte("abc"))
	s.sessions["s-1"] = "photos"
	for _, id := range []string{"one", "two"} {
		s.uploads = append(s.uploads, api.Upload{Bucket: "photos", Key: "a/b", ID: id, ObjectHead: api.ObjectHead{ContentType: "text/plain"}, Started: modified})
	}
	return s
}

func (s *store) keep(p api.ObjectPut, data []byte) *api.Object {
	tag, sum := md5.Sum(data), sha256.Sum256(data)
	o := api.Object{Bucket: p.Bucket, Key: p.Key, Size: int64(len(data)), ETag: hex.EncodeToString(tag[:]), SHA256: hex.EncodeToString(sum[:]),
		ObjectHead: p.ObjectHead, Modified: modified, Index: 7}
	s.objects[p.Bucket+"/"+p.Key] = stored{o, data}
	return &o
}

func (s *store) Buckets(context.Context, api.ListQuery) (l api.List[api.BucketView], err error) {
	for _, name := range slices.Sorted(maps.Keys(s.buckets)) {
		l.Items = append(l.Items, api.BucketView{Bucket: s.buckets[name]})
	}
	return l, nil
}

func (s *store) Bucket(_ context.Context, name string) (api.BucketView, error) {
	b, found := s.buckets[name]
	if !found {
		return api.BucketView{}, api.Errorf(api.CodeNotFound, "there is no bucket %s", name)
	}
	return api.BucketView{Bucket: b}, nil
}

func (s *store) PutBucket(_ context.Context, _ api.Caller, b api.Bucket, mode PutMode, ifMatch uint64) (api.BucketView, error) {
	old, exists := s.buckets[b.Name]
	if exists && mode == PutCreate || ifMatch != 0 && ifMatch != old.ModifyIndex {
		return api.BucketView{}, api.Errorf(api.CodeConflict, "the bucket is there")
	}
	b.Default()
	b.CreateIndex, b.ModifyIndex = max(old.CreateIndex, 1), 9
	if !exists {
		b.CreateIndex = b.ModifyIndex
	}
	s.buckets[b.Name] = b
	return api.BucketView{Bucket: b}, nil
}

func (s *store) DeleteBucket(ctx context.Context, _ api.Caller, name string, ifMatch uint64) error {
	b, err := s.Bucket(ctx, name)
	if err == nil && ifMatch != 0 && ifMatch != b.ModifyIndex {
		return api.Errorf(api.CodeConflict, "the bucket has changed")
	}
	delete(s.buckets, name)
	return err
}

func (s *store) Objects(_ context.Context, q meta.List) (*meta.Page, uint64, error) {
	page := &meta.Page{}
	for _, at := range slices.Sorted(maps.Keys(s.objects)) {
		o := s.objects[at].Object
		if o.Bucket != q.Bucket || !strings.HasPrefix(o.Key, q.Prefix) || o.Key <= q.After {
			continue
		}
		if len(page.Objects) == q.Limit {
			page.Cursor = page.Objects[q.Limit-1].Key
			break
		}
		page.Objects = append(page.Objects, &o)
	}
	return page, 7, nil
}

func (s *store) find(bucket, key string) (stored, error) {
	o, found := s.objects[bucket+"/"+key]
	if !found {
		return o, api.Errorf(api.CodeNotFound, "there is no object %s in %s", key, bucket)
	}
	return o, nil
}

func (s *store) Object(_ context.Context, bucket, key string) (*api.Object, error) {
	o, err := s.find(bucket, key)
	return &o.Object, err
}

func (s *store) OpenObject(_ context.Context, bucket, key string) (ObjectReader, error) {
	o, err := s.find(bucket, key)
	if err != nil {
		return nil, err
	}
	return opened{o, s.breaks}, nil
}

type opened struct {
	stored
	breaks bool
}

func (o opened) Object() *api.Object { return &o.stored.Object }

func (o opened) Range(_ context.Context, offset, n int64) io.ReadCloser {
	part := o.data[min(offset, int64(len(o.data))):min(offset+n, int64(len(o.data)))]
	if o.breaks {
		return io.NopCloser(io.MultiReader(strings.NewReader(string(part[:len(part)/2])), brokenReader{}))
	}
	return io.NopCloser(strings.NewReader(string(part)))
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) {
	return 0, api.Errorf(api.CodeUnavailable, "no node that has the chunk answers")
}

func (s *store) PutObject(_ context.Context, _ api.Caller, p api.ObjectPut, r io.Reader) (*api.Object, error) {
	data, err := io.ReadAll(r)
	if s.done != nil {
		s.done(err)
	}
	if err != nil {
		return nil, err
	}
	if s.trouble != nil {
		return nil, s.trouble
	}
	old, exists := s.objects[p.Bucket+"/"+p.Key]
	if exists && p.IfAbsent || p.IfMatch != "" && (!exists || p.IfMatch != "*" && p.IfMatch != old.ETag) {
		return nil, api.Errorf(api.CodeConflict, "the object is not the one that was named").WithReason(api.ReasonPrecondition)
	}
	return s.keep(p, data), nil
}

func (s *store) DeleteObject(_ context.Context, _ api.Caller, bucket, key, ifMatch string) error {
	o, exists := s.objects[bucket+"/"+key]
	if ifMatch != "" && (!exists || ifMatch != o.ETag) {
		return api.Errorf(api.CodeConflict, "the object is another").WithReason(api.ReasonPrecondition)
	}
	delete(s.objects, bucket+"/"+key)
	return nil
}

func (s *store) CopyObject(_ context.Context, _ api.Caller, cp meta.Copy) (*api.Object, error) {
	o, err := s.find(cp.FromBucket, cp.FromKey)
	if err != nil {
		return nil, err
	}
	p := api.ObjectPut{Bucket: cp.Bucket, Key: cp.Key, ObjectHead: o.ObjectHead}
	if cp.Head != nil {
		p.ObjectHead = *cp.Head
	}
	return s.keep(p, o.data), nil
}

func (s *store) OpenUpload(_ context.Context, _ api.Caller, bucket string) (*api.UploadSession, error) {
	s.sessions["s-2"] = bucket
	return &api.UploadSession{ID: "s-2", Bucket: bucket, Expires: modified.Add(api.SessionLifetime)}, nil
}

func (s *store) MissingChunks(_ context.Context, session string, digests []string) (missing []string, err error) {
	for _, d := range digests {
		if _, has := s.chunks[d]; !has {
			missing = append(missing, d)
		}
	}
	return missing, nil
}

func (s *store) PutChunk(_ context.Context, session, bucket, digest string, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err == nil {
		s.chunks[digest] = data
	}
	return err
}

func (s *store) CommitUpload(_ context.Context, _ api.Caller, session string, p api.ObjectPut, manifest []byte) (*api.Object, error) {
	m, err := split.Decode(manifest)
	if err != nil {
		return nil, err
	}
	var data []byte
	for _, c := range m.Chunks {
		data = append(data, s.chunks[c.Name()]...)
	}
	return s.keep(p, data), nil
}

func (s *store) Uploads(_ context.Context, q meta.Uploads) (out []*api.Upload, index uint64, err error) {
	for _, u := range s.uploads {
		if u.Bucket == q.Bucket && strings.HasPrefix(u.Key, q.Prefix) && u.Key+u.ID > q.After.Key+q.After.ID && len(out) < q.Limit {
			out = append(out, &u)
		}
	}
	return out, 7, nil
}

func (s *store) AbortUpload(_ context.Context, _ api.Caller, ref meta.UploadRef) error {
	is := func(u api.Upload) bool { return meta.UploadRef{Bucket: u.Bucket, Key: u.Key, ID: u.ID} == ref }
	if !slices.ContainsFunc(s.uploads, is) {
		return api.Errorf(api.CodeNotFound, "there is no upload %s", ref.ID)
	}
	s.uploads = slices.DeleteFunc(s.uploads, is)
	return nil
}

func (s *store) StorageReport(context.Context) (api.StorageReport, error) {
	r := api.StorageReport{Nodes: []api.StorageNode{{StoreMember: api.StoreMember{ID: "n-1", Name: "one", State: api.StoreReady, Weight: 1}}}}
	r.Sum()
	return r, nil
}

func (s *store) ask(what string) error {
	s.asked = append(s.asked, what)
	return nil
}

func (s *store) ScrubStorage(_ context.Context, _ api.Caller, node string) error {
	return s.ask("scrub " + node)
}
func (s *store) RepairStorage(context.Context, api.Caller) error { return s.ask("repair") }
func (s *store) CollectStorage(_ context.Context, _ api.Caller, anyway bool) error {
	if anyway {
		return s.ask("collect anyway")
	}
	return s.ask("collect")
}

func (s *store) BackupStorage(ctx context.Context, w io.Writer) error {
	if s.backup != nil {
		return s.backup(ctx, w)
	}
	_, err := io.WriteString(w, "a backup")
	return err
}

func (s *store) RestoreStorage(_ context.Context, _ api.Caller, r io.Reader) (err error) {
	s.restored, err = io.ReadAll(r)
	return err
}
