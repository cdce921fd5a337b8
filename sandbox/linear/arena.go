// Package linear holds the linear memories of wasm guests: memory that never moves, that costs what
// is touched, and that can be put back to an image of itself after each request.
//
//   - An Arena has the memories of a process: it reserves address space for them, uses it again, and
//     bounds what all of them hold together.
//   - A Region is the memory of one instance. Its whole limit is reserved when it is made, without a
//     byte behind it; Grow makes a part of it usable. So growing copies nothing, and no slice of it
//     is ever left behind.
//   - An Image is what a region held at one time: a sealed file in memory, which regions map
//     privately. They share its pages until they write to them.
//   - Restore puts the image back. The kernel's page table knows which pages a region has written to,
//     and only these are copied; see restore.go.
//   - A Budget bounds what several instances hold, an Account is the part of one of them.
//
// An Arena and a Budget may be used by many goroutines; a Region, an Image that is being closed and an
// Account by one at a time.
package linear

import (
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// maxRegions bounds the regions of an arena. Each has up to three mappings (an image, what is behind
	// it, and what is not usable), and Linux gives a process 65,530 unless told otherwise
	// (vm.max_map_count).
	maxRegions = 12_000
	// maxFree bounds the reservations that are kept for the next region of their size.
	maxFree = 64
)

// maxReserved bounds the address space of an arena: half of what a process of 32 bits has, and more
// than enough for maxRegions of 4 GiB with 64.
const maxReserved uint64 = 1 << (30 + (bits.UintSize/64)*16)

// pageBytes is the size of the machine's pages; that of wasm is a multiple of it.
var pageBytes = uint64(unix.Getpagesize())

func pageUp(n uint64) uint64 { return (n + pageBytes - 1) &^ (pageBytes - 1) }

// Arena makes regions.
type Arena struct {
	pages  pagemap
	budget *Budget

	mu       sync.Mutex
	closed   bool
	regions  int
	reserved uint64 // address space, of the free ones too
	free     []span // the one freed last is last
}

// span is reserved address space. The last page can never be accessed.
type span struct {
	base   unsafe.Pointer
	size   uint64
	usable uint64 // bytes from the start, whole pages, that can be accessed; of a free span they are zero
	shared bool   // some of them are an image's
}

// NewArena makes an arena whose regions may hold limit bytes together.
func NewArena(limit uint64) *Arena {
	return &Arena{pages: openPagemap(), budget: NewBudget(limit)}
}

// Usage is what an arena has given out.
type Usage struct {
	Regions  int
	Reserved uint64 // bytes of address space
	Held     uint64 // bytes that regions have grown to
}

// Usage counts.
func (a *Arena) Usage() Usage {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Usage{Regions: a.regions, Reserved: a.reserved, Held: a.budget.Used()}
}

// Region reserves address space for limit bytes. What the region grows to is taken from the owner's
// account; nil is one without a bound. The account stays the caller's to close.
func (a *Arena) Region(limit uint64, owner *Account) (*Region, error) {
	s, err := a.take(limit)
	if err != nil {
		return nil, err
	}
	return &Region{arena: a, span: s, limit: limit, owner: owner, held: a.budget.Open(0, 0)}, nil
}

// Restored makes a region that begins as the image. An engine that makes an instance writes the module's
// data into it; Trim then puts the image back and shares its pages again.
func (a *Arena) Restored(im *Image, limit uint64, owner *Account) (*Region, error) {
	r, err := a.Region(limit, owner)
	if err != nil {
		return nil, err
	}
	if err := r.Restore(im); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Close gives the address space back. All regions must have been closed before.
func (a *Arena) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closed:
		return nil
	case a.regions > 0:
		return fmt.Errorf("linear memory: %d regions are still open", a.regions)
	}
	a.closed = true
	errs := []error{a.pages.close()}
	for _, s := range a.free {
		errs = append(errs, a.unmap(s))
	}
	a.free = nil
	return errors.Join(errs...)
}

// take finds a free span for limit bytes, or reserves one.
func (a *Arena) take(limit uint64) (span, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closed:
		return span{}, errors.New("linear memory: the arena is closed")
	case a.regions >= maxRegions:
		return span{}, fmt.Errorf("linear memory: %d regions are open, the most that a process may have", maxRegions)
	case limit > maxReserved-pageBytes:
		return span{}, fmt.Errorf("linear memory: %d bytes are more than can be reserved (%d)", limit, maxReserved-pageBytes)
	}
	size := pageUp(limit) + pageBytes
	for i := len(a.free) - 1; i >= 0; i-- {
		if s := a.free[i]; s.size == size {
			a.free = append(a.free[:i], a.free[i+1:]...)
			a.regions++
			return s, nil
		}
	}
	return a.reserve(size)
}

// reserve asks the kernel for address space, and frees what is kept when there is too little.
func (a *Arena) reserve(size uint64) (span, error) {
	for len(a.free) > 0 && size > maxReserved-a.reserved {
		s := a.free[0]
		a.free = a.free[1:]
		if err := a.unmap(s); err != nil {
			return span{}, err
		}
	}
	if size > maxReserved-a.reserved {
		return span{}, fmt.Errorf("linear memory: %d bytes of address space are reserved, and %d more would pass the limit of %d", a.reserved, size, maxReserved)
	}
	base, err := unix.MmapPtr(-1, 0, nil, uintptr(size), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return span{}, fmt.Errorf("linear memory: reserve %d bytes of address space: %w", size, err)
	}
	a.reserved += size
	a.regions++
	return span{base: base, size: size}, nil
}

// put takes a span back and keeps it if its contents are dropped; the one kept longest makes room.
func (a *Arena) put(s span, dropped bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.regions--
	if !dropped {
		return a.unmap(s)
	}
	a.free = append(a.free, s)
	if len(a.free) <= maxFree {
		return nil
	}
	oldest := a.free[0]
	a.free = a.free[1:]
	return a.unmap(oldest)
}

// unmap gives a span back to the kernel; a.mu is held.
func (a *Arena) unmap(s span) error {
	if err := unix.MunmapPtr(s.base, uintptr(s.size)); err != nil {
		return fmt.Errorf("linear memory: give back %d bytes of address space: %w", s.size, err)
	}
	a.reserved -= s.size
	return nil
}
