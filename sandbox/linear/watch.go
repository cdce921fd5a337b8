package linear

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// maxOwnRuns bounds the runs of pages that a region keeps in mind as its own, of 8 bytes each.
const maxOwnRuns = 256

// run is pages from one up to another.
type run struct{ from, to uint32 }

// Watch has the next Restore ask the kernel a shorter question. A page becomes a region's own by a fault, and the
// kernel counts those of each thread: if a goroutine that stayed on its thread has had none, then what it has
// written to are pages that were the region's own before, which are known.
//
// Nothing may be written between the Restore or Trim before and Watch. Until the next Restore, or Unwatch, which the
// same goroutine has to call, the goroutine stays on its thread, and nobody else may write to the region.
func (r *Region) Watch() {
	if r.watched || r.image == nil || r.small() || !r.arena.pages.faults { // a closed region has no image
		return
	}
	runtime.LockOSThread()
	r.watched = true
	if r.known {
		r.faults = threadFaults()
	}
}

// Unwatch lets the goroutine leave its thread. It is for before it waits, as a thread that waits for nobody else
// has to be woken, and for a region that is not restored. It may be called at any time.
func (r *Region) Unwatch() {
	if r.watched {
		r.known = false
		r.endWatch()
	}
}

func (r *Region) endWatch() {
	if r.watched {
		r.watched = false
		runtime.UnlockOSThread()
	}
}

// knownStill tells whether the region's own pages are those that are known.
func (r *Region) knownStill() bool { return r.watched && r.known && threadFaults() == r.faults }

// ownsNothing says that no page is the region's own.
func (r *Region) ownsNothing() { r.known, r.own = true, r.own[:0] }

// note keeps a run in mind, if there is room.
func (r *Region) note(from, to uint64) {
	if r.known = r.known && len(r.own) < maxOwnRuns; r.known {
		r.own = append(r.own, run{uint32(from), uint32(to)})
	}
}

// threadFaults is how many faults the calling thread has had (getrusage(2), which cannot fail so).
func threadFaults() int64 {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_THREAD, &u)
	return int64(u.Minflt) + int64(u.Majflt) //nolint:unconvert // narrower on some machines
}

// faultsCounted tries whether the kernel counts when a page that was only read becomes a mapping's own: when the
// program writes to it, and when the kernel does so for the program.
func faultsCounted() bool {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return tried(func(mapped []byte) bool {
		other := mapped[pageBytes:]
		seen := mapped[0] + other[0]
		before := threadFaults()
		mapped[0] = seen
		between := threadFaults()
		n, err := unix.Getrandom(other[:1], 0)
		return err == nil && n == 1 && before < between && between < threadFaults()
	})
}
