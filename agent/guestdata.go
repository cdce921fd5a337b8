package agent

import (
	"context"
	"io"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore/gateway"
	"github.com/cloudless/cloudless/sandbox"
)

// Bounds of what guests and volumes write through one node.
const (
	maxGuestStreams = 64      // objects of unknown size under way: each has a chunk in memory
	uncheckedBytes  = 4 << 20 // of one before its bucket's quota is asked for
)

// guestData is the cluster's buckets for what runs on this node, guests and volumes alike.
type guestData struct {
	gateway func() *gateway.Gateway // nil before the store is open
	streams chan struct{}
}

var _ sandbox.Storage = (*guestData)(nil)

func newGuestData(gateway func() *gateway.Gateway) *guestData {
	return &guestData{gateway: gateway, streams: make(chan struct{}, maxGuestStreams)}
}

// reach is the gateway, once there is one.
func (d *guestData) reach() (*gateway.Gateway, error) {
	if g := d.gateway(); g != nil {
		return g, nil
	}
	return nil, api.Errorf(api.CodeUnavailable, "this node does not reach the object store yet")
}

// Stat implements sandbox.Storage.
func (d *guestData) Stat(ctx context.Context, bucket, key string) (*api.Object, error) {
	g, err := d.reach()
	if err != nil {
		return nil, err
	}
	return g.Stat(ctx, bucket, key)
}

// Open implements sandbox.Storage.
func (d *guestData) Open(ctx context.Context, bucket, key string, offset, length int64) (*api.Object, io.ReadCloser, error) {
	g, err := d.reach()
	if err != nil {
		return nil, nil, err
	}
	r, err := g.Open(ctx, bucket, key)
	if err != nil {
		return nil, nil, err
	}
	return r.Object(), r.Range(ctx, offset, length), nil
}

// Put implements sandbox.Storage. What is too large for its bucket is refused on the way, not when all of
// it has been stored.
func (d *guestData) Put(ctx context.Context, bucket, key string, c meta.Condition, size int64, r io.Reader) (*api.Object, error) {
	g, err := d.reach()
	if err != nil {
		return nil, err
	}
	if size < 0 {
		select {
		case d.streams <- struct{}{}:
			defer func() { <-d.streams }()
		default:
			return nil, api.Errorf(api.CodeRateLimited, "this node writes %d objects for guests and volumes already", maxGuestStreams)
		}
		r = &bounded{Reader: r, room: uncheckedBytes, quota: func() (int64, error) { return quotaOf(ctx, g, bucket) }}
	}
	return g.Put(ctx, gateway.PutObject{Bucket: bucket, Key: key, Condition: c, Size: size}, r)
}

// quotaOf is what a bucket may hold in all; 0: anything.
func quotaOf(ctx context.Context, g *gateway.Gateway, bucket string) (int64, error) {
	answer, err := g.Meta().Read(ctx, meta.Query{Bucket: bucket})
	if err != nil {
		return 0, err
	}
	return int64(answer.Bucket.Quota), nil
}

// bounded is an object on its way in. After room bytes it asks for the quota, once, and fails beyond it.
type bounded struct {
	io.Reader
	read, room int64
	quota      func() (int64, error)
	asked      bool
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.read += int64(n)
	if b.room == 0 || b.read <= b.room {
		return n, err
	}
	if !b.asked {
		b.asked = true
		quota, err := b.quota()
		if err != nil {
			return 0, err
		}
		b.room = quota
	}
	if b.room > 0 && b.read > b.room {
		return 0, api.Errorf(api.CodeNoRoom, "the object is larger than its bucket's quota of %s", api.Bytes(b.room)).
			WithHint("raise the quota, or write less")
	}
	return n, err
}

// Delete implements sandbox.Storage.
func (d *guestData) Delete(ctx context.Context, bucket, key, ifMatch string) error {
	g, err := d.reach()
	if err != nil {
		return err
	}
	results, err := g.Meta().Apply(ctx, meta.Command{At: time.Now().UTC(), Delete: &meta.Delete{Bucket: bucket, Key: key, IfMatch: ifMatch}})
	if err == nil {
		_, err = results.First()
	}
	return err
}

// List implements sandbox.Storage.
func (d *guestData) List(ctx context.Context, q meta.List) (*meta.Page, error) {
	g, err := d.reach()
	if err != nil {
		return nil, err
	}
	answer, err := g.Meta().Read(ctx, meta.Query{List: &q})
	if err != nil {
		return nil, err
	}
	return answer.Page, nil
}
