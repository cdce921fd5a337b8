package chunkstore

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
)

// ErrFull is the cause of every refusal for want of room.
var ErrFull = errors.New("the store is full")

const (
	reserveName = "RESERVE"
	// reserveBytes are kept for a disk that others have filled to its last byte: they hold the live
	// part of any segment that is worth compacting (154 MiB) and what the index writes meanwhile.
	reserveBytes = 192 << 20
	// headroomBytes stay free for the index's own work while chunks are accepted.
	headroomBytes = 32 << 20
	// roomPoll is how often a write of the index that finds no room at all looks again.
	roomPoll = time.Second
)

// room decides whether chunks are accepted, and keeps a file that can be given up when there is no
// room left, so that deletes, collection and compaction still work.
type room struct {
	fs       vfs.FS // the disk itself, not the one that watches for want of room
	dir      string
	capacity int64
	reserve  int64
	headroom int64

	closing context.Context
	mu      sync.Mutex
	kept    bool // the reserve is there
	cannot  bool // the disk cannot set room aside
	full    bool // chunks are refused until there is room for the reserve again
}

// free is what the disk has left; known is false where the disk cannot tell.
func (r *room) free() (bytes int64, known bool) {
	usage, err := r.fs.GetDiskUsage(r.dir)
	return int64(usage.AvailBytes), err == nil
}

// admit refuses n more bytes when used bytes are stored and there is no room for them.
func (r *room) admit(n, used int64) error {
	if r.capacity > 0 && used+n > r.capacity {
		return fullError("%d bytes of the %d that this store may use are taken", used, r.capacity)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full || !r.kept {
		r.restore()
	}
	free, known := r.free()
	if !known && !r.full {
		return nil
	}
	need := n + r.headroom
	if !r.kept {
		need += r.reserve
	}
	if r.full || free < need {
		return fullError("its disk has %d bytes left", free)
	}
	return nil
}

func fullError(format string, args ...any) error {
	e := api.Errorf(api.CodeNoRoom, "the chunk store is full: "+format, args...)
	e.Err = ErrFull
	return e.WithHint("delete objects, or give the node more room; the store accepts chunks again by itself")
}

// openReserve takes over the reserve of an earlier process.
func (r *room) openReserve() {
	if _, err := r.fs.Stat(r.path()); err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.adoptReserve()
}

// settle makes the reserve, when there is room for it.
func (r *room) settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.restore()
}

// restore makes the reserve again when there is room for it. It needs mu.
func (r *room) restore() {
	free, known := r.free()
	if known && free < r.reserve+r.headroom {
		return
	}
	r.full = false
	if !r.kept && !r.cannot {
		r.adoptReserve()
	}
}

func (r *room) adoptReserve() {
	err := r.makeReserve()
	r.kept = err == nil
	if err != nil {
		_ = r.fs.Remove(r.path()) // a part of it would be counted as the whole
		r.full = vfs.IsNoSpaceError(err)
		r.cannot = !r.full
	}
}

func (r *room) path() string { return r.fs.PathJoin(r.dir, reserveName) }

// makeReserve sets room aside, or does nothing when that was done before. It fails where the disk
// cannot; then as much is left free instead.
func (r *room) makeReserve() error {
	f, err := r.fs.OpenReadWrite(r.path(), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	return errors.Join(f.Preallocate(0, r.reserve), f.Sync(), f.Close())
}

// spend gives up the reserve, if it is there.
func (r *room) spend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.full = true
	if r.kept {
		r.kept = r.fs.Remove(r.path()) != nil
	}
}

// exhausted is called when a write of the index finds no room. Such a write must not fail, for Pebble
// cannot go on after it: so it gives up the reserve, and when that is gone too it waits until somebody
// has made room, or the store closes.
func (r *room) exhausted() {
	for {
		r.spend()
		if free, known := r.free(); !known || free >= r.least() {
			return
		}
		if run.Sleep(r.closing, roomPoll) != nil {
			return
		}
	}
}

// least is the room without which the index cannot go on, nor be opened: Pebble writes then, and
// would wait for ever.
func (r *room) least() int64 { return r.headroom / 8 }

// have tells whether there is room for n bytes of work that frees more than it takes, if need be with
// what the reserve holds.
func (r *room) have(n int64) bool {
	free, known := r.free()
	if known && free < n {
		r.spend()
		free, _ = r.free()
	}
	return !known || free >= n
}
