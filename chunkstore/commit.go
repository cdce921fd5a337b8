package chunkstore

import (
	"errors"
	"fmt"
	"maps"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cloudless/cloudless/api"
)

// commit makes a group durable. It needs committing.
func (c *Chunks) commit(requests []*request) {
	g := c.newGroup()
	err := g.run(requests)
	if err == nil {
		g.publish()
	} else {
		g.undo()
	}
	for _, r := range requests {
		if r.err == nil {
			r.err = err
		}
		r.done = true
	}
}

// group is what one commit changes. Reading through it shows what earlier requests of the group wrote.
type group struct {
	c        *Chunks
	batch    *pebble.Batch
	placed   map[key]entry      // chunks that the group stores
	segments map[uint64]segment // those that change, as they will be
	totals   totals
	hits     int64 // chunks that were there already
	err      error // why nothing of the group can be committed
}

func (c *Chunks) newGroup() *group {
	return &group{c: c, batch: c.db.NewIndexedBatch(), placed: map[key]entry{}, segments: map[uint64]segment{}, totals: c.totals}
}

func (g *group) run(requests []*request) error {
	if err := g.c.fault.get(); err != nil {
		return errors.Join(brokenError(g.c.dir, err), g.batch.Close())
	}
	for _, r := range requests {
		if r.store != nil && g.err == nil {
			r.err = r.store(g)
		}
	}
	g.sync()
	// Those that store come first. They have found out what is here already, and nothing of that may go
	// before it is pinned.
	g.stage(requests, true)
	g.stage(requests, false)
	return g.write()
}

func (g *group) stage(requests []*request, storing bool) {
	for _, r := range requests {
		if r.err == nil && g.err == nil && (r.store != nil) == storing {
			r.err = r.stage(g)
		}
	}
}

// sync makes durable what was appended. After a flush that failed nobody knows what is on the disk,
// so nothing more is written to that segment.
func (g *group) sync() {
	if err := g.c.writer.sync(); err != nil {
		g.c.abandoned = true
		g.fail(writeError(g.c.dir, err))
	}
}

// keep stores a record that is not here yet.
func (g *group) keep(rec *record) error {
	if _, ok := g.placed[rec.key]; ok {
		return nil
	}
	if _, ok := g.entry(rec.key); ok {
		return nil
	}
	if err := g.place(rec); err != nil {
		return writeError(g.c.dir, err)
	}
	return nil
}

func (g *group) place(rec *record) (err error) {
	h := rec.encode()
	e := entry{codec: h.codec, raw: h.raw, stored: h.stored, inline: rec.inline()}
	if !e.inline {
		e.segment, e.offset, err = g.append(h, rec.body)
	}
	if err == nil {
		g.placed[rec.key] = e
	}
	return err
}

// append writes a record at the end of the last segment, or of a new one when that is full.
func (g *group) append(h head, stored []byte) (segment uint64, offset int64, err error) {
	w := g.c.writer
	if g.c.abandoned || w.end > 0 && w.end+h.bytes() > g.c.options.SegmentBytes {
		if w, err = g.rotate(); err != nil {
			return 0, 0, err
		}
	}
	offset, err = w.append(h, stored)
	return w.id, offset, err
}

func (g *group) rotate() (*writer, error) {
	full := g.c.writer
	if !g.c.abandoned {
		if g.sync(); g.err != nil {
			return nil, g.err
		}
	}
	next, err := openWriter(g.c.fs, g.c.segmentDir, full.id+1, 0)
	if err != nil {
		return nil, err
	}
	g.noteEnd(full)
	g.c.writer, g.c.abandoned = next, false
	return next, full.close()
}

// noteEnd records how far a segment is written.
func (g *group) noteEnd(w *writer) {
	if s := g.segment(w.id); s.size != w.end {
		s.size = w.end
		g.segments[w.id] = s
	}
}

// write commits the batch. Pebble panics on some faults of the disk and reports others to its logger.
func (g *group) write() (err error) {
	defer func() {
		if p := recover(); p != nil {
			g.c.fault.set(fmt.Errorf("%v", p))
		}
		if f := g.c.fault.get(); f != nil {
			err = brokenError(g.c.dir, f)
		}
	}()
	g.noteEnd(g.c.writer)
	if g.err == nil && g.batch.Empty() && len(g.segments) == 0 {
		return g.batch.Close()
	}
	for id, s := range g.segments {
		if s.gone {
			g.delete(segmentKey(id))
		} else {
			g.set(segmentKey(id), s.encode())
		}
	}
	g.set(totalsKey, g.totals.encode())
	if g.err != nil {
		return errors.Join(g.err, g.batch.Close())
	}
	if err := g.batch.Commit(pebble.Sync); err != nil {
		return brokenError(g.c.dir, err)
	}
	return g.batch.Close()
}

// publish makes the group's changes those of the store.
func (g *group) publish() {
	g.c.mu.Lock()
	defer g.c.mu.Unlock()
	for id, s := range g.segments {
		g.c.written += s.size - g.c.segments[id].size
	}
	maps.Copy(g.c.segments, g.segments)
	maps.DeleteFunc(g.c.segments, func(_ uint64, s segment) bool { return s.gone })
	g.c.totals = g.totals
	g.c.hits += g.hits
}

// undo forgets what a failed group has appended: the next one writes over it. What could not be flushed stays
// as dead bytes, or it would be taken up when the store is opened again.
func (g *group) undo() {
	w := g.c.writer
	if g.c.abandoned {
		return
	}
	w.end = g.c.segments[w.id].size
	w.dirty = true
}

// segment is the state of a segment as the group has changed it.
func (g *group) segment(id uint64) segment {
	if s, ok := g.segments[id]; ok {
		return s
	}
	return g.c.segments[id]
}

// read is a value of the index; false when there is none.
func (g *group) read(k []byte) ([]byte, bool) {
	value, closer, err := g.batch.Get(k)
	if err != nil {
		if !errors.Is(err, pebble.ErrNotFound) {
			g.unreadable(err)
		}
		return nil, false
	}
	out := append([]byte(nil), value...)
	g.unreadable(closer.Close())
	return out, true
}

func (g *group) set(k, value []byte) { g.unreadable(g.batch.Set(k, value, nil)) }
func (g *group) delete(k []byte)     { g.unreadable(g.batch.Delete(k, nil)) }

// unreadable keeps a failure of the index, if there is one.
func (g *group) unreadable(err error) {
	if err != nil {
		g.fail(damagedIndex(g.c.dir, err))
	}
}

func (g *group) fail(err error) {
	if g.err == nil {
		g.err = err
	}
}

func (g *group) entry(k key) (entry, bool) {
	b, ok := g.read(indexKey(chunkKeys, k[:]))
	if !ok {
		return entry{}, false
	}
	e, err := decodeEntry(b)
	g.unreadable(err)
	return e, err == nil
}

// setEntry says where a chunk is now.
func (g *group) setEntry(k key, e entry) {
	g.dropEntry(k)
	g.set(indexKey(chunkKeys, k[:]), e.encode())
	g.count(e, 1)
	g.heal(k)
}

// dropEntry forgets where a chunk is, if it is here. Its bytes in a segment are dead from then on.
func (g *group) dropEntry(k key) {
	e, ok := g.entry(k)
	if !ok {
		return
	}
	g.delete(indexKey(chunkKeys, k[:]))
	if e.inline {
		g.delete(indexKey(valueKeys, k[:]))
	}
	g.count(e, -1)
}

// count adds a chunk to the totals and to its segment, or takes it away.
func (g *group) count(e entry, sign int64) {
	g.totals.chunks += sign
	g.totals.raw += sign * int64(e.raw)
	g.totals.stored += sign * e.bytes()
	if e.inline {
		g.totals.inline += sign * e.bytes()
		return
	}
	s := g.segment(e.segment)
	s.live += sign * e.bytes()
	g.segments[e.segment] = s
}

// pinned tells whether somebody pins the chunk.
func (g *group) pinned(k key) bool {
	it, err := g.batch.NewIter(under(indexKey(pinKeys, k[:])))
	if err != nil {
		g.unreadable(err)
		return true
	}
	pinned := it.First()
	g.unreadable(it.Close())
	return pinned || g.err != nil
}

// pin keeps a chunk for owner. Who pins it already writes nothing.
func (g *group) pin(owner string, k key) {
	pin := indexKey(pinKeys, k[:], []byte(owner))
	if _, ok := g.read(pin); ok {
		return
	}
	g.set(pin, nil)
	g.set(append(ownerKey(owner), k[:]...), nil)
	g.unmark(k)
}

func (g *group) unpin(owner string, k key) {
	g.delete(indexKey(pinKeys, k[:], []byte(owner)))
	g.delete(append(ownerKey(owner), k[:]...))
}

func writeError(dir string, err error) error {
	if vfs.IsNoSpaceError(err) {
		return fullError("its disk has no room left in %s", dir)
	}
	return api.Errorf(api.CodeInternal, "the chunk store in %s cannot be written: %w", dir, err).
		WithHint("check the disk; nothing acknowledged is lost")
}

func brokenError(dir string, err error) error {
	code := api.CodeUnavailable
	if vfs.IsNoSpaceError(err) {
		code = api.CodeNoRoom
	}
	return api.Errorf(code, "the chunk store in %s accepts no changes since a write failed: %w", dir, err).
		WithHint("check the disk and restart the agent; nothing acknowledged is lost, and reading goes on")
}

func damagedIndex(dir string, err error) error {
	return api.Errorf(api.CodeInternal, "the index of the chunk store in %s cannot be read: %w", dir, err).
		WithHint("restart the agent: the index is made again from the segments, and the rest comes from other nodes")
}
