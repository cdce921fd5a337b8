// Package s3 is the S3 door of an agent: the part of Amazon's S3 API that its clients use, over the
// cluster's object store. It checks signatures with the day's key of an access key, which the
// coordinators derive and tell; it never has a secret.
//
// A request goes through it in this order: route.go finds bucket, key and operation; sign.go and access.go
// find who signed it and what that key may do; body.go and chunked.go give its bytes, checked as they are
// read; then the operation, each named as in S3's reference, asks the backend; errors.go says what failed
// in S3's own words. What is not built is refused as NotImplemented, never ignored.
//
//	bucket.go list.go lifecycle.go cors.go fixed.go      buckets
//	read.go attributes.go write.go copy.go tagging.go    objects
//	multipart.go uploads.go                             uploads in parts
//	form.go policy.go                                   forms of browsers
package s3

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore/gateway"
)

// Limits of the door; those of requests are S3's.
const (
	MaxPutBytes      = 5 << 30 // one put or part
	MaxListKeys      = 1_000
	MaxDeleteKeys    = 1_000
	MaxDocumentBytes = 4 << 20 // an XML body; the longest is that of 10,000 parts
	MaxRequests      = 256     // served at one time; each holds a chunk or two
	idleTimeout      = time.Minute
	busyTimeout      = 20 * time.Second // a request waits for its turn
	defaultRegion    = "us-east-1"
	ownerID          = "cloudless"
)

// Backend is the object store. A gateway is one.
type Backend interface {
	Put(ctx context.Context, p gateway.PutObject, r io.Reader) (*api.Object, error)
	PutPart(ctx context.Context, ref meta.UploadRef, number int, size int64, r io.Reader) (*api.Part, error)
	Stat(ctx context.Context, bucket, key string) (*api.Object, error)
	Open(ctx context.Context, bucket, key string) (*gateway.Reader, error)
	Meta() gateway.Meta
}

// Keys tells what an access key gives for a day and region. api.CodeUnauthorized: it is not good.
type Keys interface {
	Key(ctx context.Context, r api.SigningKeyRequest) (*api.SigningKey, error)
}

// Config is what a door needs. Of Domains each gives buckets host names: BUCKET.DOMAIN.
type Config struct {
	Backend Backend
	Keys    Keys
	Domains []string
	Observe func(operation string, status int, took time.Duration)
	Log     zerolog.Logger
}

// door is the handler.
type door struct {
	backend Backend
	keys    *recent[api.SigningKeyRequest, *api.SigningKey]
	buckets *recent[string, *api.Bucket] // their rules of CORS
	ask     Keys
	domains []string
	observe func(string, int, time.Duration)
	log     zerolog.Logger
	turns   *semaphore.Weighted
}

// New makes the handler of a door.
func New(c Config) http.Handler {
	d := &door{
		backend: c.Backend, ask: c.Keys, domains: byLength(c.Domains), observe: c.Observe, log: c.Log, turns: semaphore.NewWeighted(MaxRequests),
		keys: newRecent[api.SigningKeyRequest, *api.SigningKey](), buckets: newRecent[string, *api.Bucket](),
	}
	if d.observe == nil {
		d.observe = func(string, int, time.Duration) {}
	}
	return d
}

// ServeHTTP serves one request.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := newCall(d, w, r)
	defer func() { d.observe(c.operation, c.status, time.Since(c.began)) }()
	if err := d.serve(c); err != nil {
		c.fail(err)
	}
}

func (d *door) serve(c *call) error {
	if err := c.route(d.domains); err != nil {
		return err
	}
	if err := d.takeTurn(c); err != nil {
		return err
	}
	defer d.turns.Release(1)
	if c.r.Method == http.MethodOptions {
		return c.preflight()
	}
	c.allowOrigin()
	if c.isForm() {
		return c.postObject()
	}
	if err := c.authenticate(); err != nil {
		return err
	}
	op, err := c.find()
	if err != nil {
		return err
	}
	if err := c.permit(op.write); err != nil {
		return err
	}
	return op.run(c)
}

// takeTurn waits for one of the places. When the door is as full as it may be for long, the client is
// told to come again.
func (d *door) takeTurn(c *call) error {
	ctx, cancel := context.WithTimeout(c.ctx(), busyTimeout)
	defer cancel()
	if d.turns.Acquire(ctx, 1) != nil {
		return refuse("SlowDown", "%d requests are served at this node, no more are", MaxRequests)
	}
	return nil
}
