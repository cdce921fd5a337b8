package upkeep

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/erasure"
	"github.com/cloudless/cloudless/chunkstore/gateway"
	"github.com/cloudless/cloudless/chunkstore/place"
	"github.com/cloudless/cloudless/chunkstore/split"
	"github.com/cloudless/cloudless/coordinator/objects"
	"github.com/cloudless/cloudless/internal/run"
)

const (
	maxCold   = 1_024 // chunks that one look keeps to be put into groups; the others are found by the next
	maxFailed = 4     // groups that cannot be made before it is left to the next look
)

// candidate keeps a chunk that may go into a group: one of cold objects alone, that is there.
func (f *findings) candidate(r objects.Ref, c place.Chunk) {
	if r.Cold && !r.Grouped() && r.Bytes >= erasure.MinBytes && len(c.Holders) > 0 && len(f.cold) < maxCold {
		f.cold = append(f.cold, r)
	}
}

// seal puts chunks into groups, while six nodes take chunks: those of similar length together, for parity
// is as long as the longest. It rests as long as it works, so that people are not kept waiting.
func (u *Upkeep) seal(ctx context.Context, f *findings) (sealed int, err error) {
	ready, failed := 0, 0
	for _, m := range f.members {
		if m.State == place.Ready {
			ready++
		}
	}
	slices.SortFunc(f.cold, func(a, b objects.Ref) int { return cmp.Compare(a.Bytes, b.Bytes) })
	for refs := range slices.Chunk(f.cold, erasure.Data) {
		if ready < erasure.Shards || len(refs) < erasure.Data {
			break
		}
		began := time.Now()
		why := u.sealOne(ctx, refs)
		switch {
		case why == nil:
			sealed++
		case api.CodeOf(why) != api.CodeConflict:
			if err, failed = cmp.Or(err, why), failed+1; failed == maxFailed {
				return sealed, err
			}
		}
		if err := u.yield(ctx, time.Since(began)); err != nil {
			return sealed, err
		}
	}
	return sealed, err
}

func (u *Upkeep) sealOne(ctx context.Context, refs []objects.Ref) error {
	var chunks [erasure.Data]split.Chunk
	for i, r := range refs {
		chunks[i] = split.Chunk{Digest: r.Digest, Bytes: int(r.Bytes)}
	}
	ctx, cancel := context.WithTimeout(ctx, groupTimeout(refs[len(refs)-1].Bytes))
	defer cancel()
	return u.cfg.Groups.Seal(ctx, chunks)
}

// groupTimeout is how long it may take to read a group whose longest chunk has so many bytes.
func groupTimeout(bytes int64) time.Duration {
	return askTimeout + time.Duration(erasure.Shards*bytes/slowest)*time.Second
}

// yield lets what is urgent go first, and rests.
func (u *Upkeep) yield(ctx context.Context, pause time.Duration) error {
	select {
	case <-u.hints.due:
		if err := u.mend(ctx); err != nil {
			return err
		}
	default:
	}
	return run.Sleep(ctx, pause)
}

// bring gets chunks onto a node: from another one, or made of their groups.
func (w *wave) bring(ctx context.Context, p pair, tasks []task) (done []string, err error) {
	if p.from != "" {
		return w.u.cfg.Nodes.Copy(ctx, p.to, p.from, digestsOf(tasks)...)
	}
	for _, t := range tasks {
		id, _ := parse(t.Digest)
		within, cancel := context.WithTimeout(ctx, groupTimeout(t.bytes))
		why := w.u.cfg.Groups.Rebuild(within, p.to, split.Chunk{Digest: id, Bytes: int(t.bytes)})
		cancel()
		switch {
		case why == nil:
			done = append(done, t.Digest)
		case errors.Is(why, gateway.ErrGroupLost):
			w.giveUp(t)
		default:
			err = errors.Join(err, why)
		}
	}
	return done, err
}

// giveUp notes that too little is left of a chunk's group: it counts as lost, and is tried at each look.
func (w *wave) giveUp(t task) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.u.gone[t.Digest] && len(w.u.gone) < maxHopeless {
		w.u.gone[t.Digest] = true
		w.u.Look() // so that it is told
	}
}
