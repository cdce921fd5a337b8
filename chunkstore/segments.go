package chunkstore

import (
	"container/list"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/cloudless/cloudless/internal/disk"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Segments are the append-only files of the larger chunks, one after the other by number. Only the
// last is written to, and only by whoever holds Chunks.committing.
const (
	segmentBytes  = 256 << 20
	segmentSuffix = ".seg"
	// maxReaders is how many segments are kept open for reading.
	maxReaders = 64
)

func segmentName(id uint64) string { return fmt.Sprintf("%016x%s", id, segmentSuffix) }

func parseSegmentName(name string) (uint64, bool) {
	hex, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok {
		return 0, false
	}
	id, err := strconv.ParseUint(hex, 16, 64)
	return id, err == nil && segmentName(id) == name
}

// writer is the segment that is appended to.
type writer struct {
	id    uint64
	file  vfs.File
	end   int64 // where the next record goes; behind it may be bytes of a write that failed
	dirty bool  // something is not synced yet
}

// openWriter opens a segment for appending at end, or makes it.
func openWriter(fs vfs.FS, dir string, id uint64, end int64) (*writer, error) {
	file, err := fs.OpenReadWrite(fs.PathJoin(dir, segmentName(id)), vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	if err := disk.SyncDir(fs, dir); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &writer{id: id, file: file, end: end}, nil
}

// append writes a record and says where. Nothing is synced, but the disk begins with it while the next record
// is on its way.
func (w *writer) append(h head, stored []byte) (int64, error) {
	w.dirty = true
	var b [headBytes]byte
	if _, err := w.file.WriteAt(h.append(b[:0]), w.end); err != nil {
		return 0, err
	}
	if _, err := w.file.WriteAt(stored, w.end+headBytes); err != nil {
		return 0, err
	}
	disk.StartWriting(w.file, w.end, h.bytes())
	offset := w.end
	w.end += h.bytes()
	return offset, nil
}

func (w *writer) sync() error {
	if !w.dirty {
		return nil
	}
	err := w.file.SyncData()
	w.dirty = err != nil
	return err
}

func (w *writer) close() error {
	if w == nil {
		return nil
	}
	return w.file.Close()
}

// makeDir makes a folder in one that is there, so that a power cut does not take it back.
func makeDir(fs vfs.FS, dir string) error {
	return errors.Join(fs.MkdirAll(dir, 0o700), disk.SyncDir(fs, fs.PathDir(dir)))
}

// readers keeps the files of the segments that were read last open. A file that is removed stays
// readable for whoever has it.
type readers struct {
	fs  vfs.FS
	dir string

	mu    sync.Mutex
	open  map[uint64]*list.Element // of *reader
	order list.List                // the least recently used first
}

type reader struct {
	id   uint64
	file vfs.File
	uses int // by those who read now, and one by the cache
}

func newReaders(fs vfs.FS, dir string) *readers {
	return &readers{fs: fs, dir: dir, open: map[uint64]*list.Element{}}
}

// read calls f with the segment's file.
func (r *readers) read(id uint64, f func(vfs.File) error) error {
	file, err := r.acquire(id)
	if err != nil {
		return err
	}
	return errors.Join(f(file.file), r.release(file))
}

func (r *readers) acquire(id uint64) (*reader, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.open[id]; ok {
		r.order.MoveToBack(e)
		file := e.Value.(*reader)
		file.uses++
		return file, nil
	}
	f, err := r.fs.Open(r.fs.PathJoin(r.dir, segmentName(id)), vfs.RandomReadsOption)
	if err != nil {
		return nil, err
	}
	file := &reader{id: id, file: f, uses: 2}
	r.open[id] = r.order.PushBack(file)
	if r.order.Len() > maxReaders {
		err = r.drop(r.order.Front())
	}
	return file, err
}

func (r *readers) release(file *reader) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return file.done()
}

// done needs mu.
func (f *reader) done() error {
	if f.uses--; f.uses > 0 {
		return nil
	}
	return f.file.Close()
}

// drop needs mu.
func (r *readers) drop(e *list.Element) error {
	file := r.order.Remove(e).(*reader)
	delete(r.open, file.id)
	return file.done()
}

// remove deletes a segment's file; one that is gone is no error.
func (r *readers) remove(id uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var err error
	if e, ok := r.open[id]; ok {
		err = r.drop(e)
	}
	if gone := r.fs.Remove(r.fs.PathJoin(r.dir, segmentName(id))); gone != nil && !errors.Is(gone, os.ErrNotExist) {
		return errors.Join(err, gone)
	}
	return errors.Join(err, disk.SyncDir(r.fs, r.dir))
}

func (r *readers) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var err error
	for r.order.Len() > 0 {
		err = errors.Join(err, r.drop(r.order.Front()))
	}
	return err
}
