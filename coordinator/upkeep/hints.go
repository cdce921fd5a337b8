package upkeep

import (
	"context"
	"encoding/hex"
	"strings"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/place"
	"github.com/cloudless/cloudless/coordinator/objects"
)

// What is kept of hints, and looked at of them at once.
const (
	maxHints  = 10_000
	hintBatch = 1_000
	hintPause = 10 * time.Second // before a chunk is looked at again that nothing names yet
)

// hints are chunks that somebody says are short, each once. An upload may tell before it is complete,
// and so before anything names the chunk: such a hint is kept for as long as an upload may take.
type hints struct {
	due chan struct{} // holds one while some are to be looked at

	mu     sync.Mutex
	chunks map[string]hint
}

type hint struct{ came, due time.Time }

func newHints() *hints { return &hints{due: make(chan struct{}, 1), chunks: map[string]hint{}} }

// add is false when there was no room for all.
func (h *hints) add(digests []string, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range digests {
		if _, known := h.chunks[d]; known {
			continue
		}
		if len(h.chunks) == maxHints {
			return false
		}
		h.chunks[d] = hint{now, now}
		h.signal()
	}
	return true
}

func (h *hints) signal() {
	select {
	case h.due <- struct{}{}:
	default:
	}
}

// tick signals when some are to be looked at again.
func (h *hints) tick(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.chunks {
		if !now.Before(c.due) {
			h.signal()
			return
		}
	}
}

// take gives some that are to be looked at. They are kept until they are done or come again.
func (h *hints) take(now time.Time) (out []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for d, c := range h.chunks {
		if now.Before(c.due) {
			continue
		}
		if len(out) == hintBatch {
			h.signal()
			break
		}
		out = append(out, d)
	}
	return out
}

// done forgets hints.
func (h *hints) done(digests []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range digests {
		delete(h.chunks, d)
	}
}

// later keeps hints for another time, unless they have come too long ago.
func (h *hints) later(digests []string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range digests {
		if c := h.chunks[d]; now.Sub(c.came) < api.SessionLifetime {
			h.chunks[d] = hint{c.came, now.Add(hintPause)}
		} else {
			delete(h.chunks, d)
		}
	}
}

// mend looks at chunks that are told to be short, and does for them what is to be done. An error says
// that this could not be: the next look at all chunks sees them.
func (u *Upkeep) mend(ctx context.Context) error {
	digests := u.hints.take(time.Now())
	refs, unnamed, err := u.named(digests)
	u.hints.later(unnamed, time.Now())
	if err != nil || len(refs) == 0 {
		return err
	}
	f := newFindings(u.crew())
	f.gone = u.gone
	chunks, err := u.find(ctx, f.crew, refs)
	if err != nil {
		return err
	}
	f.take(refs, chunks)
	for _, d := range f.hopeless[:max(0, min(len(f.hopeless), maxHopeless-len(u.known)))] {
		u.known[d] = true
	}
	u.state.hinted(f)
	for tasks := f.work.sorted(); len(tasks) > 0 && err == nil; {
		n := cutWave(tasks)
		_, err = u.wave(ctx, keyOf(f.named), tasks[:n])
		tasks = tasks[n:]
	}
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// named parts the chunks that something names from those that nothing does. The hints of the former are
// done: if they cannot be followed, a look at all chunks comes.
func (u *Upkeep) named(digests []string) (refs []objects.Ref, unnamed []string, err error) {
	var done []string
	for _, d := range digests {
		var ref objects.Ref
		if id, ok := parse(d); ok {
			if ref, err = u.cfg.Refs.Reference(id); err != nil {
				return nil, nil, err
			}
		}
		if !ref.Wanted() {
			unnamed = append(unnamed, d)
			continue
		}
		if done = append(done, d); !u.known[d] {
			refs = append(refs, ref)
		}
	}
	u.hints.done(done)
	return refs, unnamed, nil
}

func parse(digest string) (id [32]byte, ok bool) {
	text, ok := strings.CutPrefix(digest, "sha256:")
	if !ok || len(text) != hex.EncodedLen(len(id)) {
		return id, false
	}
	n, err := hex.Decode(id[:], []byte(text))
	return id, err == nil && n == len(id)
}

// find asks who has some chunks.
func (u *Upkeep) find(ctx context.Context, c crew, refs []objects.Ref) ([]place.Chunk, error) {
	out, names := make([]place.Chunk, len(refs)), make([]string, len(refs))
	for i, r := range refs {
		names[i] = r.Name()
		out[i] = chunkOf(r)
	}
	missing := make([]map[string]bool, len(c.members))
	err := u.ask(ctx, c, func(ctx context.Context, i int) error {
		lacks, err := u.cfg.Nodes.Missing(ctx, c.members[i].ID, names...)
		missing[i] = set(lacks)
		return err
	})
	if err != nil {
		return nil, err
	}
	for n, m := range c.members {
		for i := range out {
			if m.State != place.Lost && !missing[n][names[i]] {
				out[i].Holders = append(out[i].Holders, m.ID)
			}
		}
	}
	return out, nil
}

func set(items []string) map[string]bool {
	out := make(map[string]bool, len(items))
	for _, s := range items {
		out[s] = true
	}
	return out
}
