package upkeep

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
)

// progress is what people are told: the report, events and metrics.
type progress struct {
	cfg Config

	mu     sync.Mutex
	report api.StorageUpkeep
	rate   rate
	lost   []string // names of the members that cannot be reached
	told   told
}

// told is what events have said.
type told struct {
	short   bool
	lost    int64
	drained map[string]bool
}

func newProgress(c Config, now time.Time) *progress {
	return &progress{cfg: c, report: api.StorageUpkeep{Since: now}, told: told{drained: map[string]bool{}}}
}

func (p *progress) update(f func(r *api.StorageUpkeep)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.report)
	p.judge(time.Now())
}

// show copies the report.
func (p *progress) show(now time.Time) api.StorageUpkeep {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.report
	r.Rate = p.rate.of(now)
	r.Nodes, r.LostSome = slices.Clone(r.Nodes), slices.Clone(r.LostSome)
	return r
}

// begin and looked tell of a look at all chunks under way.
func (p *progress) begin() {
	p.update(func(r *api.StorageUpkeep) { r.Looking, r.Looked, r.NextAt = true, 0, time.Time{} })
}

func (p *progress) looked(chunks int) {
	p.update(func(r *api.StorageUpkeep) { r.Looked += int64(chunks) })
}

// found takes what a look at all chunks has found, in place of what was known.
func (p *progress) found(f *findings, now time.Time) {
	p.update(func(r *api.StorageUpkeep) {
		r.LookedAt, r.Looking = now, false
		r.Chunks, r.Bytes, r.Awaited, r.Nodes = f.chunks, f.bytes, f.awaited, f.shown()
		r.Short, r.Missing, r.Stuck, r.Misplaced = f.short, f.missing, f.stuck, f.misplaced
		r.Lost, r.LostSome = f.lost, f.lostSome
		r.Waiting = int64(len(f.work.tasks))
		p.lost = f.unreachable()
		p.tellDrained()
	})
}

// hinted adds what a look at some chunks has found.
func (p *progress) hinted(f *findings) {
	p.update(func(r *api.StorageUpkeep) {
		r.Short, r.Missing, r.Stuck = r.Short+f.short, r.Missing+f.missing, r.Stuck+f.stuck
		r.Lost += f.lost
		r.LostSome = append(r.LostSome, f.lostSome...)
		r.LostSome = r.LostSome[:min(len(r.LostSome), maxLostShown)]
		p.lost = f.unreachable()
	})
}

func (p *progress) waiting(tasks int) {
	p.update(func(r *api.StorageUpkeep) { r.Waiting = int64(tasks) })
}

func (p *progress) copying(more int) {
	p.update(func(r *api.StorageUpkeep) { r.Copying += int64(more) })
}

// made counts a copy.
func (p *progress) made(t task, to string) {
	operation := "move"
	p.update(func(r *api.StorageUpkeep) {
		if r.BytesDone += t.bytes; t.Missing() > 0 {
			operation = "copy"
			r.Copied++
		} else {
			r.Moved++
		}
		p.rate.add(t.bytes, time.Now())
		if n := nodeOf(r, to); n != nil {
			n.Chunks, n.Bytes, n.Gain = n.Chunks+1, n.Bytes+t.bytes, max(0, n.Gain-1)
		}
	})
	p.cfg.Tel.RepairOperations.Inc(operation, "ok")
}

// complete counts a chunk that has the copies which could be made.
func (p *progress) complete(t task) {
	p.update(func(r *api.StorageUpkeep) {
		made := min(len(t.Copy), t.Missing())
		r.Missing = max(0, r.Missing-int64(made))
		switch {
		case t.Missing() == 0 && len(t.Drop) == 0:
			r.Misplaced = max(0, r.Misplaced-1)
		case t.Missing() > 0 && made == t.Missing():
			r.Short = max(0, r.Short-1)
		}
	})
}

func (p *progress) failed(t task) {
	operation := "move"
	if t.Missing() > 0 {
		operation = "copy"
	}
	p.update(func(r *api.StorageUpkeep) { r.Failed++ })
	p.cfg.Tel.RepairOperations.Inc(operation, "error")
}

// dropped counts copies that are gone from a node, and those that could not be removed.
func (p *progress) dropped(node string, gone []task, failed int) {
	p.update(func(r *api.StorageUpkeep) {
		r.Dropped += int64(len(gone))
		r.Failed += int64(failed)
		n := nodeOf(r, node)
		for _, t := range gone {
			if n != nil {
				n.Chunks, n.Bytes = max(0, n.Chunks-1), max(0, n.Bytes-t.bytes)
				n.Lose, n.LoseBytes = max(0, n.Lose-1), max(0, n.LoseBytes-t.bytes)
			}
		}
	})
	p.cfg.Tel.RepairOperations.Add(float64(len(gone)), "drop", "ok")
	p.cfg.Tel.RepairOperations.Add(float64(failed), "drop", "error")
}

// tidied counts a chunk of which all is gone that was too much.
func (p *progress) tidied(t task) {
	if t.Missing() == 0 {
		p.update(func(r *api.StorageUpkeep) { r.Misplaced = max(0, r.Misplaced-1) })
	}
}

func nodeOf(r *api.StorageUpkeep, id string) *api.NodeUpkeep {
	i := slices.IndexFunc(r.Nodes, func(n api.NodeUpkeep) bool { return n.Node == id })
	if i < 0 {
		return nil
	}
	return &r.Nodes[i]
}

// resting tells when the next look is, and why it is so soon.
func (p *progress) resting(trouble error, next time.Time) {
	p.update(func(r *api.StorageUpkeep) {
		r.Looking, r.Waiting, r.Trouble, r.NextAt = false, 0, "", next
		if trouble != nil {
			r.Trouble = trouble.Error()
		}
	})
}

// tick is called every second.
func (p *progress) tick(now time.Time) {
	p.update(func(r *api.StorageUpkeep) {
		lag := 0.0
		if !r.ShortAt.IsZero() {
			lag = now.Sub(r.ShortAt).Seconds()
		}
		p.cfg.Tel.ReplicationLag.Set(lag)
	})
}

// judge tells by events what has changed for people. That a chunk is short for a moment, as while it is
// written, is no event; but that it is because a node is lost is one at once.
func (p *progress) judge(now time.Time) {
	r := &p.report
	switch {
	case r.Short == 0:
		r.ShortAt = time.Time{}
	case r.ShortAt.IsZero():
		r.ShortAt = now
	}
	if r.Short > 0 && !p.told.short && (len(p.lost) > 0 || now.Sub(r.ShortAt) >= tellAfter) {
		p.told.short = true
		p.cfg.Event(api.EventStoreShort, api.SeverityWarning, "storage", shortMessage(r, p.lost))
	}
	if r.Lost > p.told.lost {
		p.cfg.Event(api.EventChunkLost, api.SeverityError, "storage", fmt.Sprintf("%d chunks are on no node that can be reached, such as %s; objects with them cannot be read until a node with a copy comes back", r.Lost, r.LostSome[0]))
	}
	if r.Short == 0 && r.Lost == 0 && (p.told.short || p.told.lost > 0) {
		p.told.short = false
		p.cfg.Event(api.EventStoreRepaired, api.SeverityInfo, "storage", fmt.Sprintf("every chunk has all its copies again; %d were made since this leader began", r.Copied))
	}
	p.told.lost = r.Lost
}

func shortMessage(r *api.StorageUpkeep, lost []string) string {
	text := fmt.Sprintf("%d chunks have fewer copies than they are to have; %d copies are to be made", r.Short, r.Missing)
	if len(lost) > 0 {
		text += fmt.Sprintf("; nodes that cannot be reached: %v", lost)
	}
	if r.Stuck > 0 {
		text += fmt.Sprintf("; for %d chunks no other node has room", r.Stuck)
	}
	return text
}

// tellDrained tells of nodes that nothing needs any more, once while they drain.
func (p *progress) tellDrained() {
	for _, n := range p.report.Nodes {
		if n.SafeToRemove && !p.told.drained[n.Node] {
			p.cfg.Event(api.EventStoreDrained, api.SeverityInfo, "node/"+n.Name, "no chunk needs node "+n.Name+" any more: it is safe to remove as far as the object store goes")
		}
		if p.told.drained[n.Node] = n.SafeToRemove; !n.SafeToRemove {
			delete(p.told.drained, n.Node)
		}
	}
}

// rateWindow is over which time a rate is measured.
const rateWindow = 5 * time.Second

// rate is how many bytes there were of late: in the window that runs, and in the one before.
type rate struct {
	began        time.Time
	bytes, older int64
}

func (r *rate) turn(now time.Time) {
	switch since := now.Sub(r.began); {
	case since >= 2*rateWindow:
		r.began, r.bytes, r.older = now, 0, 0
	case since >= rateWindow:
		r.began, r.bytes, r.older = r.began.Add(rateWindow), 0, r.bytes
	}
}

func (r *rate) add(bytes int64, now time.Time) {
	r.turn(now)
	r.bytes += bytes
}

// of weighs the older window by how much of it is within one window from now.
func (r *rate) of(now time.Time) int64 {
	r.turn(now)
	part := float64(now.Sub(r.began)) / float64(rateWindow)
	return int64((float64(r.bytes) + float64(r.older)*(1-part)) / rateWindow.Seconds())
}
