package upkeep

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore"
)

const (
	// collectInterval is between two passes, pressedInterval when there is little room left.
	collectInterval = time.Hour
	pressedInterval = time.Minute
	// pressedRest bounds what passes cost when there is little room: one rests this many times as long
	// as the last one took.
	pressedRest = 10
	// pressedPercent is from how much of its capacity on a store is short of room.
	pressedPercent = 90
	// heldPercent is how much of a store one pass may remove without being held; of a small store any
	// pass may remove leastHeld, or nothing could ever be deleted there within a day.
	heldPercent = 10
	leastHeld   = 64 << 20
	// askTimeout bounds one question to the coordinators.
	askTimeout = 20 * time.Second
)

// Collect makes a pass whenever one is due or asked for, and ends pins when asked to; it ends with ctx.
func (k *Keeper) Collect(ctx context.Context) error {
	ended, took := time.Now(), time.Duration(0)
	tick := time.NewTicker(pressedInterval)
	defer tick.Stop()
	for {
		anyway, asked := false, false
		select {
		case <-ctx.Done():
			return nil
		case anyway = <-k.collectNow:
			asked = true
		case <-k.pinsNow:
			if err := k.dropPins(ctx); err != nil && ctx.Err() == nil {
				k.cfg.Log.Warn().Err(err).Msg("pins of ended uploads could not be removed; it will be tried again")
			}
			continue
		case <-tick.C:
		}
		if began := time.Now(); asked || k.due(began.Sub(ended), took) {
			if err := k.collect(ctx, anyway); err != nil && ctx.Err() == nil {
				k.cfg.Log.Warn().Err(err).Msg("not all was collected; trying again")
			}
			ended = time.Now()
			took = ended.Sub(began)
		}
	}
}

// due tells whether the next pass is, so long after the last, which took so long itself.
func (k *Keeper) due(since, took time.Duration) bool {
	return since >= collectInterval || since >= pressedRest*took && k.pressed()
}

func (k *Keeper) pressed() bool {
	s := k.cfg.Chunks.Stats()
	return s.Full || k.cfg.DiskFull() || s.UsedBytes*100 >= k.cfg.Capacity*pressedPercent
}

// collect is one pass: pins of uploads that have ended, chunks that nobody needs, segments that are dead.
func (k *Keeper) collect(ctx context.Context, anyway bool) error {
	if err := k.dropPins(ctx); err != nil {
		return err
	}
	now := time.Now()
	r, err := k.cfg.Chunks.Collect(ctx, chunkstore.Collection{
		Now: now, Confirm: k.unreferenced, MaxBytes: bound(k.cfg.Chunks.Stats().StoredBytes), Held: now.Before(k.cfg.HeldUntil()), Anyway: anyway,
	})
	if err != nil {
		return err
	}
	held := int64(0)
	if r.Held {
		held = r.Bytes
	}
	if k.held.Swap(held) == 0 && held > 0 {
		k.cfg.Tell(api.EventCollectionHeld, api.SeverityWarning, fmt.Sprintf(
			"%d chunks of %d bytes on this node are referred to by nobody; they are kept for a day, or until 'cloudless storage collect --anyway'", r.Unreferenced, r.Bytes))
	}
	c, err := k.cfg.Chunks.Compact(ctx)
	if r.Deleted > 0 || c.Freed > 0 {
		k.cfg.Log.Info().Int("chunks", r.Deleted).Int64("freed", c.Freed).Msg("chunks collected")
	}
	return err
}

// bound is how many bytes a pass may remove of a store.
func bound(stored int64) int64 { return max(stored*heldPercent/100, leastHeld) }

// dropPins ends the pins of upload sessions that have ended. A session that pins is older than the
// question whether it lives, so one that does not live then will not come to life.
func (k *Keeper) dropPins(ctx context.Context) error {
	for behind := ""; ; {
		owners, err := k.cfg.Chunks.PinOwners(behind, meta.MaxAsked)
		if err != nil || len(owners) == 0 {
			return err
		}
		behind = owners[len(owners)-1]
		if err := k.dropPinsOf(ctx, owners); err != nil {
			return err
		}
	}
}

func (k *Keeper) dropPinsOf(ctx context.Context, owners []string) error {
	ended := map[string]string{} // owners by their sessions
	var ids []string
	for _, owner := range owners {
		if id, ok := k.cfg.Session(owner); ok {
			ended[id] = owner
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	answer, err := k.ask(ctx, meta.Query{Sessions: ids})
	if err != nil {
		return err
	}
	for _, id := range answer.Sessions {
		delete(ended, id)
	}
	for _, owner := range ended {
		if err := k.cfg.Chunks.Unref(ctx, owner); err != nil {
			return err
		}
	}
	return nil
}

// unreferenced asks the coordinators to which of the chunks nobody refers.
func (k *Keeper) unreferenced(ctx context.Context, digests []string) ([]string, error) {
	q := meta.Query{Unreferenced: make([][]byte, 0, len(digests))}
	for _, d := range digests {
		sum, err := chunkstore.ParseDigest(d)
		if err != nil {
			return nil, err
		}
		q.Unreferenced = append(q.Unreferenced, sum[:])
	}
	answer, err := k.ask(ctx, q)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(answer.Chunks))
	for _, sum := range answer.Chunks {
		if len(sum) != sha256.Size {
			return nil, api.Errorf(api.CodeInternal, "the coordinators named a chunk by %d bytes", len(sum))
		}
		out = append(out, chunkstore.Digest([sha256.Size]byte(sum)))
	}
	return out, nil
}

func (k *Keeper) ask(ctx context.Context, q meta.Query) (*meta.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return k.cfg.Ask(ctx, q)
}
