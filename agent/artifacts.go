package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
)

// Bounds of the artifact cache.
const (
	fetchTimeout  = 10 * time.Minute
	cacheBytes    = 8 << 30 // beyond this the least used goes, but nothing that an assignment names
	cacheInterval = 5 * time.Minute
)

// fetch gives the local, verified file of an artifact: from the cache, or from the object store. Concurrent
// fetches of one digest share one download.
func (a *Agent) fetch(ctx context.Context, digest string) (string, error) {
	if a.artifacts.Has(digest) {
		return a.artifacts.Path(digest)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	release, err := a.downloads.lock(ctx, digest)
	if err != nil {
		return "", err
	}
	defer release()
	if !a.artifacts.Has(digest) {
		if err := a.download(ctx, digest); err != nil {
			return "", err
		}
	}
	return a.artifacts.Path(digest)
}

func (a *Agent) download(ctx context.Context, digest string) error {
	r, err := a.gateway.Open(ctx, api.ArtifactBucket, api.ArtifactKey(digest))
	if err != nil {
		return fmt.Errorf("artifact %s: %w", digest, err)
	}
	body := r.Range(ctx, 0, -1)
	_, err = a.artifacts.Put(ctx, digest, body)
	return errors.Join(err, body.Close())
}

// keepCache bounds what is kept so that starts are quick: artifacts, and what the drivers made of
// them. What an assignment names stays. It ends with the agent.
func (a *Agent) keepCache(ctx context.Context) error {
	for run.Sleep(ctx, cacheInterval) == nil {
		kept, err := a.ledger.Set()
		if err != nil {
			a.log.Warn().Err(err).Msg("assignments not read; nothing is trimmed")
			continue
		}
		var set *api.AssignmentSet
		if kept != nil {
			set = &kept.AssignmentSet
		}
		a.trim(ctx, named(set))
	}
	return nil
}

// named is every digest and image reference that a set names.
func named(set *api.AssignmentSet) map[string]bool {
	keep := map[string]bool{}
	if set == nil {
		return keep
	}
	for _, s := range slices.Concat(set.Specs, set.Prepare) {
		if s.Spec.Container != nil {
			keep[s.Spec.Container.Image] = true
		}
		if d, ok := s.Spec.Digest(api.VariantWasm); ok {
			keep[d] = true
		}
	}
	return keep
}

func (a *Agent) trim(ctx context.Context, keep map[string]bool) {
	if freed, err := a.artifacts.Evict(keep, cacheBytes); err != nil {
		a.log.Warn().Err(err).Msg("artifact cache not trimmed")
	} else if freed > 0 {
		a.log.Info().Int64("bytes", freed).Msg("artifact cache trimmed")
	}
	for v, d := range a.drivers {
		if t, ok := d.(sandbox.Trimmer); ok {
			if err := t.Trim(ctx, keep); err != nil {
				a.log.Warn().Err(err).Str("variant", string(v)).Msg("not trimmed")
			}
		}
	}
}

// downloads is what is being fetched: one download of a digest at a time. The zero value has none.
type downloads struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // by digest; closed at the end of its download
}

// lock waits until nobody else fetches the digest.
func (d *downloads) lock(ctx context.Context, digest string) (release func(), err error) {
	for {
		busy, mine := d.begin(digest)
		if mine {
			return func() { d.end(digest) }, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-busy:
		}
	}
}

// begin takes the digest, unless another has it: then busy is closed when that one has done.
func (d *downloads) begin(digest string) (busy <-chan struct{}, mine bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if busy, taken := d.busy[digest]; taken {
		return busy, false
	}
	if d.busy == nil {
		d.busy = map[string]chan struct{}{}
	}
	d.busy[digest] = make(chan struct{})
	return nil, true
}

func (d *downloads) end(digest string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.busy[digest])
	delete(d.busy, digest)
}
