package chunkstore

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/disk"
)

// What Open finds may be less or more than the index says. Behind the end that the index knows of a
// segment lies what a crash left: torn records, and whole ones whose commit it cut off. The whole ones
// are taken up, which is always right, as a digest names its bytes; torn ones are dead bytes. An index
// that is lost is only the case in which it knows of no end at all. So both are one loop: adopt.
//
// An index that cannot be read is moved aside. With it go the small chunks, which live in it, and all
// pins; both come back from the rest of the cluster, and until they have, nothing is collected.
const (
	asideName   = "index.damaged"
	rebuildName = "REBUILD" // there when the index was found damaged while it was open
	adoptBatch  = 1024
)

// openIndex opens the database, a new one if the old one is damaged.
func (c *Chunks) openIndex() error {
	_, err := c.fs.Stat(c.fs.PathJoin(c.dir, rebuildName))
	if wanted := err == nil; !wanted {
		if err = c.tryIndex(); err == nil || !isDamagedIndex(err) {
			return err
		}
		c.options.Log.Error().Err(err).Str("folder", c.dir).Msg("the index of the chunk store is damaged and is made again from the segments")
	}
	if err := c.moveIndexAside(); err != nil {
		return openError(c.dir, err)
	}
	c.rebuilt = true
	return c.tryIndex()
}

// tryIndex opens the database and reads what is kept in memory.
func (c *Chunks) tryIndex() error {
	full := vfs.OnDiskFull(disk.Ordered(c.fs), c.room.exhausted)
	c.fault = &fault{log: c.options.Log}
	options := indexOptions(full, c.options, c.fault)
	options.EventListener = &pebble.EventListener{DataCorruption: func(info pebble.DataCorruptionInfo) {
		c.fault.set(errors.Join(info.Details, c.requestRebuild()))
	}}
	db, err := pebble.Open(c.fs.PathJoin(c.dir, indexDirName), options)
	if err != nil {
		return openError(c.dir, err)
	}
	c.db = db
	if err := c.loadState(); err != nil {
		return errors.Join(openError(c.dir, err), db.Close())
	}
	return nil
}

func (c *Chunks) loadState() error {
	value, closer, err := c.db.Get(totalsKey)
	switch {
	case err == nil:
		c.totals, err = decodeTotals(value)
		err = errors.Join(err, closer.Close())
	case errors.Is(err, pebble.ErrNotFound):
		c.newIndex, err = true, nil
	}
	if err != nil {
		return err
	}
	it, err := c.db.NewIter(under([]byte{segmentKeys}))
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var s segment
		s, err = decodeSegment(it.Value())
		c.segments[binary.BigEndian.Uint64(it.Key()[1:])] = s
		c.written += s.size
	}
	return errors.Join(err, it.Close())
}

// moveIndexAside keeps one damaged index for people to look at.
func (c *Chunks) moveIndexAside() error {
	c.totals, c.segments, c.written = totals{}, map[uint64]segment{}, 0
	index, aside := c.fs.PathJoin(c.dir, indexDirName), c.fs.PathJoin(c.dir, asideName)
	if _, err := c.fs.Stat(index); err == nil {
		if err := errors.Join(c.fs.RemoveAll(aside), c.fs.Rename(index, aside)); err != nil {
			return err
		}
	}
	if err := c.fs.Remove(c.fs.PathJoin(c.dir, rebuildName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return disk.SyncDir(c.fs, c.dir)
}

// requestRebuild has the next Open make the index again. Until then nothing is written to it: Pebble
// cannot compact what it cannot read, and would wait for that in the end.
func (c *Chunks) requestRebuild() error {
	f, err := c.fs.Create(c.fs.PathJoin(c.dir, rebuildName), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), disk.SyncDir(c.fs, c.dir))
}

// recover opens the last segment for writing and takes up what the index does not know.
func (c *Chunks) recover() error {
	sizes, err := c.segmentSizes()
	if err != nil {
		return openError(c.dir, err)
	}
	if err := c.markIndex(len(sizes) > 0); err != nil {
		return openError(c.dir, err)
	}
	if err := c.openLast(sizes); err != nil {
		return openError(c.dir, err)
	}
	ids := make([]uint64, 0, len(sizes))
	for id := range sizes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		if err := c.adopt(id, sizes); err != nil {
			return err
		}
	}
	return c.forgetMissing(sizes)
}

// markIndex writes to a new index that it is one. When there are segments already it was made again.
func (c *Chunks) markIndex(segments bool) error {
	if !c.newIndex {
		return nil
	}
	b := c.db.NewBatch()
	err := b.Set(totalsKey, c.totals.encode(), nil)
	if c.rebuilt || segments {
		err = errors.Join(err, b.Set(holdKey, nil, nil))
	}
	return errors.Join(err, b.Commit(pebble.Sync))
}

// segmentSizes are the lengths of the segment files.
func (c *Chunks) segmentSizes() (map[uint64]int64, error) {
	names, err := c.fs.List(c.segmentDir)
	if err != nil {
		return nil, err
	}
	saved, err := c.fs.List(c.fs.PathJoin(c.dir, quarantineDirName))
	if err != nil {
		return nil, err
	}
	c.savedBad = len(saved)
	sizes := map[uint64]int64{}
	for _, name := range names {
		id, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		info, err := c.fs.Stat(c.fs.PathJoin(c.segmentDir, name))
		if err != nil {
			return nil, err
		}
		sizes[id] = info.Size()
	}
	return sizes, nil
}

// openLast opens the newest segment for appending. One that is shorter than the index says has lost
// something: it stays as it is, and a new one is begun.
func (c *Chunks) openLast(sizes map[uint64]int64) (err error) {
	last := uint64(1)
	for id := range sizes {
		last = max(last, id)
	}
	for id := range c.segments {
		last = max(last, id)
	}
	if sizes[last] < c.segments[last].size {
		last++
	}
	c.writer, err = openWriter(c.fs, c.segmentDir, last, c.segments[last].size)
	return err
}

// found is a record that adopt came upon.
type found struct {
	key key
	e   entry
}

// adopt takes up the whole records behind what the index knows of a segment.
func (c *Chunks) adopt(id uint64, sizes map[uint64]int64) error {
	known, end := c.state(id).size, sizes[id]
	if end <= known {
		return nil
	}
	buf := GetBuffer(MaxChunkBytes)
	defer PutBuffer(buf)
	var batch []found
	var adopted int
	flush := func() error {
		err := c.submit(&request{stage: func(g *group) error {
			adopted += g.adopt(batch, sizes)
			return nil
		}})
		batch = batch[:0]
		return err
	}
	err := c.readers.read(id, func(file vfs.File) error {
		if err := file.Sync(); err != nil { // who was killed may have left it in the kernel's memory
			return err
		}
		return scan(file, known, end, func(at int64, h head) (bool, error) {
			if !intact(file, at, h, (*buf)[:0]) {
				return false, nil
			}
			batch = append(batch, found{h.key, entry{codec: h.codec, raw: h.raw, stored: h.stored, segment: id, offset: at}})
			if len(batch) < adoptBatch {
				return true, nil
			}
			return true, flush()
		})
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return openError(c.dir, err)
	}
	c.options.Log.Info().Str("segment", segmentName(id)).Int("chunks", adopted).Int64("bytes", end-known).Msg("the end of a segment was not in the index; whole chunks in it were taken up")
	return c.submit(&request{stage: func(g *group) error {
		if id == c.writer.id {
			c.writer.end = end // from here on it is appended to
			return nil
		}
		s := g.segment(id)
		s.size = end
		g.segments[id] = s
		return nil
	}})
}

// intact reads a record and compares its checksum and its digest.
func intact(file vfs.File, at int64, h head, buf []byte) bool {
	data, err := loadBody(file, at+headBytes, h, buf)
	return err == nil && key(sha256.Sum256(data)) == h.key
}

// adopt says where chunks are that the index does not know, or thinks to be in a segment that is gone.
func (g *group) adopt(batch []found, sizes map[uint64]int64) (adopted int) {
	for _, f := range batch {
		e, ok := g.entry(f.key)
		if ok && !e.inline {
			_, ok = sizes[e.segment]
		}
		if !ok {
			g.setEntry(f.key, f.e)
			adopted++
		}
	}
	return adopted
}

// forgetMissing drops segments whose file a compaction had removed when it was cut off.
func (c *Chunks) forgetMissing(sizes map[uint64]int64) error {
	return c.submit(&request{stage: func(g *group) error {
		for id, s := range c.segments {
			if _, there := sizes[id]; !there && s.live == 0 && id != c.writer.id {
				g.segments[id] = segment{gone: true}
			}
		}
		return nil
	}})
}

// isDamagedIndex tells an index that cannot be read from one that cannot be opened just now.
func isDamagedIndex(err error) bool {
	return pebble.IsCorruptionError(err) || errors.Is(err, errIndex) || errors.Is(err, os.ErrNotExist)
}

// lockedHere is Pebble's one lock error without an errno: this process has the folder open already.
const lockedHere = "lock held by current process"

func openError(dir string, err error) error {
	switch {
	case errors.Is(err, syscall.EAGAIN), strings.Contains(err.Error(), lockedHere):
		return api.Errorf(api.CodeConflict, "the chunk store in %s is in use by another process: %w", dir, err).
			WithHint("stop the other agent, or give this one a --data-dir of its own")
	case vfs.IsNoSpaceError(err):
		return api.Errorf(api.CodeNoRoom, "the chunk store in %s cannot be opened on a full disk: %w", dir, err).
			WithHint("free some space on its disk; nothing acknowledged is lost")
	}
	return api.Errorf(api.CodeInternal, "the chunk store in %s cannot be opened: %w", dir, err).
		WithHint("check the rights of the data folder and its disk; nothing was changed")
}
