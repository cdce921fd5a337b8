package chunkstore

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// maxDeadPercent is how much of a segment may be dead before it is compacted.
	maxDeadPercent = 40
	// moveBytes is how much a compaction moves in one commit, and the memory that it needs.
	moveBytes = MaxChunkBytes
)

// CompactReport says what a compaction has done.
type CompactReport struct {
	Segments int   // removed
	Moved    int64 // bytes of chunks that live on elsewhere
	Freed    int64 // bytes that the disk has more
	Skipped  int   // segments that were left for want of room, or because they are damaged or gone
}

// Compact removes the segments of which over 40 percent are dead, the emptiest first, and moves what
// lives in them. On a full disk it uses the reserve for that, as each segment frees more than it takes.
func (c *Chunks) Compact(ctx context.Context) (CompactReport, error) {
	if err := c.enter(); err != nil {
		return CompactReport{}, err
	}
	defer c.leave()
	c.compacting.Lock()
	defer c.compacting.Unlock()
	var report CompactReport
	if err := c.sealIfDead(); err != nil {
		return report, err
	}
	for _, id := range c.worthCompacting() {
		before := report.Moved
		size, done, err := c.compactSegment(ctx, id, &report)
		if err != nil {
			return report, err
		}
		if !done {
			report.Skipped++
			continue
		}
		report.Segments++
		report.Freed += size - (report.Moved - before)
	}
	c.room.settle()
	return report, nil
}

func (s segment) worthCompacting() bool { return s.dead()*100 > s.size*maxDeadPercent }

// sealIfDead ends the last segment when it is worth compacting itself.
func (c *Chunks) sealIfDead() error {
	return c.submit(&request{
		store: func(g *group) error {
			s := c.segments[c.writer.id]
			if s.size > c.options.SegmentBytes/8 && s.worthCompacting() {
				if _, err := g.rotate(); err != nil {
					return writeError(c.dir, err)
				}
			}
			return nil
		},
		stage: func(*group) error { return nil },
	})
}

// worthCompacting lists segments that nothing is appended to any more. Nothing is committed meanwhile, or
// a segment begun just now could be taken for one that has ended.
func (c *Chunks) worthCompacting() []uint64 {
	c.committing.Lock()
	defer c.committing.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	var ids []uint64
	for id, s := range c.segments {
		if id != c.writer.id && s.worthCompacting() {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b uint64) int {
		return cmp.Or(cmp.Compare(c.segments[a].live, c.segments[b].live), cmp.Compare(a, b))
	})
	return ids
}

// compactSegment moves what lives in a segment and removes it, and returns its size.
func (c *Chunks) compactSegment(ctx context.Context, id uint64, report *CompactReport) (size int64, done bool, err error) {
	s := c.state(id)
	if !c.room.have(s.live + c.room.least()) {
		return 0, false, nil
	}
	if s.live > 0 {
		m := &mover{c: c, ctx: ctx, from: id, buf: make([]byte, 0, min(moveBytes, s.live))}
		err = c.readers.read(id, func(file vfs.File) error {
			err := m.run(file, s.size)
			if err == nil && c.state(id).live > 0 { // what is dead may have hidden it
				m.warily = true
				err = m.run(file, s.size)
			}
			return err
		})
		report.Moved += m.moved
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, false, err
		}
	}
	if c.state(id).live > 0 {
		c.options.Log.Warn().Str("segment", segmentName(id)).Msg("a segment cannot be compacted before a scrub has found which chunks in it are damaged")
		return 0, false, nil
	}
	if err := c.readers.remove(id); err != nil {
		return 0, false, writeError(c.dir, err)
	}
	return s.size, true, c.submit(&request{stage: func(g *group) error {
		g.segments[id] = segment{gone: true}
		return nil
	}})
}

func (c *Chunks) state(id uint64) segment {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.segments[id]
}

// mover copies live records to the last segment, as they are stored.
type mover struct {
	c     *Chunks
	ctx   context.Context
	from  uint64
	buf   []byte // stored bytes of what waits
	moves []move
	moved int64

	warily bool // only what lives is passed over
}

type move struct {
	head   head
	stored []byte
	was    entry
	now    entry
}

func (m *mover) run(file vfs.File, size int64) error {
	err := scan(file, 0, size, func(at int64, h head) (bool, error) { return m.add(file, at, h) })
	if err != nil {
		return err
	}
	return m.flush()
}

// add takes a record up if it lives.
func (m *mover) add(file vfs.File, at int64, h head) (pass bool, err error) {
	e, err := m.c.lookup(h.key)
	if err != nil || e.inline || e.segment != m.from || e.offset != at {
		return !m.warily, m.ctx.Err() // gone, moved, or here once more
	}
	if err := m.c.options.Pace(m.ctx, h.bytes()); err != nil {
		return false, err
	}
	n := int(h.stored)
	if len(m.buf)+n > cap(m.buf) {
		if err := m.flush(); err != nil {
			return false, err
		}
	}
	m.buf = grow(m.buf, n)
	stored := m.buf[len(m.buf) : len(m.buf)+n]
	if err := errors.Join(readFull(file, stored, at+headBytes), h.check(stored)); err != nil {
		_ = m.c.condemn(h.key, e, err) // it cannot be moved
		return true, nil
	}
	m.buf = m.buf[:len(m.buf)+n]
	m.moves = append(m.moves, move{head: h, stored: stored, was: e})
	return true, nil
}

// flush writes what waits. A chunk that was deleted or moved meanwhile leaves its copy dead.
func (m *mover) flush() error {
	if len(m.moves) == 0 {
		return nil
	}
	err := m.c.submit(&request{
		bytes: int64(len(m.buf)),
		store: func(g *group) (err error) {
			for i := range m.moves {
				mv := &m.moves[i]
				mv.now = mv.was
				if mv.now.segment, mv.now.offset, err = g.append(mv.head, mv.stored); err != nil {
					return writeError(g.c.dir, err)
				}
			}
			return nil
		},
		stage: func(g *group) error {
			for _, mv := range m.moves {
				if e, ok := g.entry(mv.head.key); ok && e == mv.was {
					g.setEntry(mv.head.key, mv.now)
				}
			}
			return nil
		},
	})
	m.moved += int64(len(m.buf)) + headBytes*int64(len(m.moves))
	m.buf, m.moves = m.buf[:0], m.moves[:0]
	return err
}
