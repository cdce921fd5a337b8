package upkeep

import (
	"context"
	"time"

	"github.com/cloudless/cloudless/chunkstore"
)

const (
	// scrubInterval is between two steps, scrubSteps how many a whole pass takes: ten days, so that one
	// that is held up by people's work still ends within the 14 that are promised.
	scrubInterval = 10 * time.Minute
	scrubSteps    = int64(10 * 24 * time.Hour / scrubInterval)
	// scrubBite is how much is read between two notes of where a scrub without pauses is.
	scrubBite = 256 << 20
	// maxRetold is how many damaged chunks are told again after each step.
	maxRetold = 1000
)

// Scrub reads a part of the store in each interval; it ends with ctx.
func (k *Keeper) Scrub(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.scrubNow:
			k.scrubWhole(ctx)
		case <-time.After(scrubInterval):
			k.scrubPart(ctx)
		}
		k.retell()
	}
}

// share is how much one step reads of a store: at least a chunk, as every scrub does.
func share(stored int64) int64 { return stored/scrubSteps + 1 }

func (k *Keeper) scrubPart(ctx context.Context) {
	if s := k.cfg.Chunks.Stats(); s.Chunks > 0 {
		k.scrub(ctx, chunkstore.Scrubbing{MaxBytes: share(s.StoredBytes)})
	}
}

// scrubWhole reads everything from the first chunk on. It ends at the last one, or with an error or ctx.
func (k *Keeper) scrubWhole(ctx context.Context) {
	whole, ok := k.scrub(ctx, chunkstore.Scrubbing{MaxBytes: scrubBite, Restart: true})
	for ok && !whole {
		whole, ok = k.scrub(ctx, chunkstore.Scrubbing{MaxBytes: scrubBite})
	}
}

func (k *Keeper) scrub(ctx context.Context, o chunkstore.Scrubbing) (whole, ok bool) {
	o.Now = time.Now()
	r, err := k.cfg.Chunks.Scrub(ctx, o)
	if err != nil {
		if ctx.Err() == nil {
			k.cfg.Log.Warn().Err(err).Msg("chunks not scrubbed; trying again")
		}
		return false, false
	}
	if r.Wrapped {
		k.scrubbed.Store(&o.Now)
	}
	return r.Wrapped, true
}

// retell names the damaged chunks again: whoever was told before may have forgotten it.
func (k *Keeper) retell() {
	damaged, err := k.cfg.Chunks.Damaged("", maxRetold)
	if err != nil {
		k.cfg.Log.Warn().Err(err).Msg("damaged chunks not listed")
		return
	}
	if len(damaged) > 0 {
		k.cfg.Damaged(damaged...)
	}
}
