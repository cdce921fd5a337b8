package fake

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/sandbox"
)

// Storage is buckets in memory. A bucket is there once it was made.
type Storage struct {
	// Before is asked before each operation on a bucket and key; an error is the operation's. It may wait.
	Before func(ctx context.Context, op, bucket, key string) error

	mu      sync.Mutex
	index   uint64
	buckets map[string]map[string]*api.Object // with their bytes inline
}

var _ sandbox.Storage = (*Storage)(nil)

// NewStorage makes empty buckets.
func NewStorage(buckets ...string) *Storage {
	s := &Storage{buckets: map[string]map[string]*api.Object{}}
	for _, b := range buckets {
		s.buckets[b] = map[string]*api.Object{}
	}
	return s
}

func (s *Storage) before(ctx context.Context, op, bucket, key string) error {
	if s.Before != nil {
		if err := s.Before(ctx, op, bucket, key); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// find is an object as a list shows it, and its bytes.
func (s *Storage) find(bucket, key string) (*api.Object, []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.buckets[bucket][key]
	if o == nil {
		return nil, nil, api.Errorf(api.CodeNotFound, "bucket %s has no object %q", bucket, key)
	}
	return bare(o), o.Inline, nil
}

func bare(o *api.Object) *api.Object {
	c := *o
	c.Inline = nil
	return &c
}

// Stat implements sandbox.Storage.
func (s *Storage) Stat(ctx context.Context, bucket, key string) (*api.Object, error) {
	if err := s.before(ctx, "stat", bucket, key); err != nil {
		return nil, err
	}
	o, _, err := s.find(bucket, key)
	return o, err
}

// Open implements sandbox.Storage.
func (s *Storage) Open(ctx context.Context, bucket, key string, offset, length int64) (*api.Object, io.ReadCloser, error) {
	if err := s.before(ctx, "open", bucket, key); err != nil {
		return nil, nil, err
	}
	o, data, err := s.find(bucket, key)
	if err != nil {
		return nil, nil, err
	}
	data = data[min(offset, int64(len(data))):]
	if length >= 0 {
		data = data[:min(length, int64(len(data)))]
	}
	return o, io.NopCloser(bytes.NewReader(data)), nil
}

// Put implements sandbox.Storage.
func (s *Storage) Put(ctx context.Context, bucket, key string, c meta.Condition, _ int64, r io.Reader) (*api.Object, error) {
	if err := s.before(ctx, "put", bucket, key); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.buckets[bucket]
	if !ok {
		return nil, api.Errorf(api.CodeNotFound, "there is no bucket %q", bucket)
	}
	old := b[key]
	switch {
	case c.IfAbsent && old != nil:
		return nil, api.Errorf(api.CodeConflict, "object %s/%q exists already", bucket, key)
	case c.IfMatch != "" && old == nil:
		return nil, api.Errorf(api.CodeNotFound, "bucket %s has no object %q", bucket, key)
	case c.IfMatch != "" && c.IfMatch != "*" && c.IfMatch != old.ETag:
		return nil, api.Errorf(api.CodeConflict, "object %s/%q has changed", bucket, key)
	}
	sum := md5.Sum(data)
	s.index++
	b[key] = &api.Object{
		Bucket: bucket, Key: key, Size: int64(len(data)), ETag: hex.EncodeToString(sum[:]), Modified: time.Now().UTC(), Index: s.index, Inline: data,
	}
	return bare(b[key]), nil
}

// Delete implements sandbox.Storage.
func (s *Storage) Delete(ctx context.Context, bucket, key, ifMatch string) error {
	if err := s.before(ctx, "delete", bucket, key); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.buckets[bucket][key]
	switch {
	case old == nil && ifMatch != "":
		return api.Errorf(api.CodeNotFound, "bucket %s has no object %q", bucket, key)
	case old != nil && ifMatch != "" && ifMatch != old.ETag:
		return api.Errorf(api.CodeConflict, "object %s/%q has changed", bucket, key)
	}
	delete(s.buckets[bucket], key)
	return nil
}

// List implements sandbox.Storage; it knows no delimiter.
func (s *Storage) List(ctx context.Context, q meta.List) (*meta.Page, error) {
	if err := s.before(ctx, "list", q.Bucket, q.Prefix); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.buckets[q.Bucket]
	if !ok {
		return nil, api.Errorf(api.CodeNotFound, "there is no bucket %q", q.Bucket)
	}
	page := &meta.Page{}
	for key, o := range b {
		if strings.HasPrefix(key, q.Prefix) && key > q.After {
			page.Objects = append(page.Objects, bare(o))
		}
	}
	slices.SortFunc(page.Objects, func(a, b *api.Object) int { return strings.Compare(a.Key, b.Key) })
	if limit := q.Limit; limit > 0 && len(page.Objects) > limit {
		page.Objects = page.Objects[:limit]
		page.Cursor = page.Objects[limit-1].Key
	}
	return page, nil
}
