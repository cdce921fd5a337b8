package gateway

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/internal/run"
)

// How long the metadata is asked again when nothing was sent: longer than an election takes.
const (
	metaPatience = 15 * time.Second
	metaPauseMin = 50 * time.Millisecond
	metaPauseMax = time.Second
)

// Meta is the metadata itself, for lists, deletes, copies and buckets. It is patient: what was not sent is
// sent again.
func (g *Gateway) Meta() Meta { return patient{g.cfg.Meta} }

// patient asks again for as long as nothing was sent.
type patient struct{ meta Meta }

func (p patient) Apply(ctx context.Context, cmds ...meta.Command) (*meta.Results, error) {
	cmds = slices.Clone(cmds)
	return again(ctx, func(ctx context.Context) (*meta.Results, error) {
		now := time.Now()
		for i := range cmds {
			cmds[i].At = now
		}
		return p.meta.Apply(ctx, cmds...)
	})
}

func (p patient) Read(ctx context.Context, q meta.Query) (*meta.Answer, error) {
	return again(ctx, func(ctx context.Context) (*meta.Answer, error) { return p.meta.Read(ctx, q) })
}

// again calls f until it succeeds, fails for another reason than that nothing was sent, or has been
// tried for long enough.
func again[T any](ctx context.Context, f func(context.Context) (T, error)) (T, error) {
	end := time.Now().Add(metaPatience)
	for pause := metaPauseMin; ; pause = min(2*pause, metaPauseMax) {
		v, err := f(ctx)
		if !errors.Is(err, meta.ErrNotSent) || time.Now().Add(pause).After(end) {
			return v, err
		}
		if run.Sleep(ctx, pause/2+rand.N(pause/2)) != nil {
			return v, err
		}
	}
}

// apply asks for one change. A refusal is an error too.
func (g *Gateway) apply(ctx context.Context, c meta.Command) (meta.Result, error) {
	results, err := g.Meta().Apply(ctx, c)
	if err != nil {
		return meta.Result{}, err
	}
	return results.First()
}

// read asks a question, which may be repeated whatever became of it.
func (g *Gateway) read(ctx context.Context, q meta.Query) (*meta.Answer, error) {
	return g.Meta().Read(ctx, q)
}

// ambiguous tells an error after which nobody knows whether anything has happened from one that is certain.
func ambiguous(err error) bool {
	if err == nil || errors.Is(err, meta.ErrNotSent) {
		return false
	}
	switch api.CodeOf(err) {
	case api.CodeUnavailable, api.CodeTimeout, api.CodeInternal:
		return true
	}
	return false
}

// bucketAge is how old a bucket's settings may be for a chunk that is put by itself. What is changed
// of them holds for what is put later.
const bucketAge = 10 * time.Second

// bucketCache remembers buckets, as many as there may be.
type bucketCache struct {
	mu    sync.Mutex
	known map[string]cachedBucket
}

type cachedBucket struct {
	bucket *api.Bucket
	at     time.Time
}

func (c *bucketCache) get(name string) *api.Bucket {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k, ok := c.known[name]; ok && time.Since(k.at) < bucketAge {
		return k.bucket
	}
	return nil
}

func (c *bucketCache) set(b *api.Bucket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= api.MaxBuckets {
		c.known = map[string]cachedBucket{}
	}
	c.known[b.Name] = cachedBucket{b, time.Now()}
}

// bucket gives a bucket's settings.
func (g *Gateway) bucket(ctx context.Context, name string) (*api.Bucket, error) {
	if b := g.buckets.get(name); b != nil {
		return b, nil
	}
	answer, err := g.read(ctx, meta.Query{Bucket: name})
	if err != nil {
		return nil, err
	}
	g.buckets.set(answer.Bucket)
	return answer.Bucket, nil
}
