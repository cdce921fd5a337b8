package agent

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// A collection costs what lives, and Go collects when there is as much garbage. An agent lives in 6 MB: at 20,000
// requests a second it was collected every 60 ms, for a tenth of what a request cost. So while garbage comes fast,
// the heap may grow to busyHeap first. Whoever is idle, or busy for a moment only, stays small.
const (
	usualGarbage = 100      // percent of what lives, by Go's own choice
	busyHeap     = 32 << 20 // bytes, with the garbage
	busyRate     = 16 << 20 // bytes of garbage a second
	busyTurns    = 8        // collections in a row that find it come so fast; the start of an agent has fewer
)

// garbage decides how much of it the next collection may find.
type garbage struct {
	since     time.Time // of the last collection
	allocated uint64    // until then, bytes
	turns     int       // collections in a row with garbage at busyRate or more
}

// collected notes a collection, and gives the percentage until the next one.
func (g *garbage) collected(now time.Time, h heap) int {
	rate := float64(h.allocated-g.allocated) / now.Sub(g.since).Seconds()
	g.since, g.allocated = now, h.allocated
	if g.turns++; rate < busyRate {
		g.turns = 0
	}
	if g.turns < busyTurns || h.live == 0 {
		return usualGarbage
	}
	return max(usualGarbage, int(100*busyHeap/h.live)-100)
}

// paceGarbage does so for this process, however many agents it has, until it ends. Whoever sets GOGC has decided.
var paceGarbage = sync.OnceFunc(func() {
	if readHeap().percent == usualGarbage {
		g := &garbage{since: time.Now()}
		afterCollections(usualGarbage, func(h heap) int { return g.collected(time.Now(), h) }, debug.SetGCPercent)
	}
})

// afterCollections asks after each collection, which finds what nobody holds, for the percentage until the next,
// and sets it when it changes: all goroutines stand still meanwhile.
func afterCollections(percent int, next func(heap) int, set func(int) int) {
	runtime.AddCleanup(new([64]byte), func(next func(heap) int) {
		wanted := next(readHeap())
		if wanted != percent {
			set(wanted)
		}
		afterCollections(wanted, next, set)
	}, next)
}

// heap is the process's.
type heap struct {
	allocated uint64 // bytes, since its start
	live      uint64 // bytes that the last collection found
	percent   uint64 // of that may come as garbage before the next
}

func readHeap() heap {
	read := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/gc/gogc:percent"}}
	metrics.Read(read)
	return heap{allocated: read[0].Value.Uint64(), live: read[1].Value.Uint64(), percent: read[2].Value.Uint64()}
}
