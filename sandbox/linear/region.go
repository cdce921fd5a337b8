package linear

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Region is one linear memory. It lies at the same address from its first byte to Close.
type Region struct {
	arena *Arena
	span  span
	limit uint64
	owner *Account // the caller's
	held  *Account // the arena's

	size  uint64 // what is usable
	image *Image // what the pages are shared with; nil if with nothing

	usual uint64 // pages that the first request touched since all were dropped; 0: not known

	own     []run // pages that are the region's own, if that is known
	known   bool
	watched bool  // by a goroutine that stays on its thread
	faults  int64 // which that thread had had when own was known
}

// Bytes are the whole of the region. The slice must not be used after Close.
func (r *Region) Bytes() []byte { return unsafe.Slice((*byte)(r.span.base), r.size) }

// Grow makes size bytes usable, what is new being zero, and returns all of the region: a region never
// shrinks. Past the limit, past a budget, or when the kernel refuses, it returns nil and changes nothing.
func (r *Region) Grow(size uint64) []byte {
	if size <= r.size && r.arena != nil {
		return r.Bytes()
	}
	had := r.owner.Held()
	if !r.charge(size) || r.commit(pageUp(size)) != nil {
		r.owner.shrink(had)
		r.held.shrink(r.size)
		return nil
	}
	r.size = size
	return r.Bytes()
}

// charge takes what size bytes need from the budgets. If it fails, one of them may have been charged.
func (r *Region) charge(size uint64) bool {
	return size <= r.limit && r.owner.Cover(size) && r.held.Cover(size)
}

func (r *Region) at(offset uint64) unsafe.Pointer { return unsafe.Add(r.span.base, offset) }

// commit makes the bytes up to an offset usable, as far as they are not. Large pages would make a guest
// that touches a few bytes here and there hold megabytes.
func (r *Region) commit(to uint64) error {
	if to <= r.span.usable {
		return nil
	}
	part := unsafe.Slice((*byte)(r.at(r.span.usable)), to-r.span.usable)
	if err := unix.Mprotect(part, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return err
	}
	_ = unix.Madvise(part, unix.MADV_NOHUGEPAGE) // a kernel without large pages knows no such advice
	r.span.usable = to
	return nil
}

// Close drops the contents and gives the address space back; the next owner finds only zeros. It may
// be called more than once.
func (r *Region) Close() error {
	if r.arena == nil {
		return nil
	}
	drop := r.drop
	if r.span.shared { // the next owner has nothing to do with it
		drop = r.unmap
	}
	dropped := drop()
	err := errors.Join(dropped, r.arena.put(r.span, dropped == nil), r.leaveImage())
	r.held.Close()
	r.arena, r.image, r.span, r.size, r.limit = nil, nil, span{}, 0, 0
	return err
}

// drop gives all pages of the region's own back to the kernel. What is read next is the image, or zeros.
func (r *Region) drop() error {
	if r.span.usable == 0 {
		return nil
	}
	if err := unix.Madvise(unsafe.Slice((*byte)(r.span.base), r.span.usable), unix.MADV_DONTNEED); err != nil {
		return fmt.Errorf("linear memory: drop %d bytes: %w", r.span.usable, err)
	}
	return nil
}

// unmap puts untouched address space in place of all that was usable.
func (r *Region) unmap() error {
	if r.span.usable == 0 {
		return nil
	}
	flags := unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE | unix.MAP_FIXED
	if _, err := unix.MmapPtr(-1, 0, r.span.base, uintptr(r.span.usable), unix.PROT_NONE, flags); err != nil {
		return fmt.Errorf("linear memory: drop %d bytes: %w", r.span.usable, err)
	}
	r.span.usable, r.span.shared = 0, false
	return nil
}
