package agent

import (
	"runtime"
	"slices"
	"testing"
	"time"
)

// TestOnlyTheBusyMayKeepGarbage goes through collections a second apart.
func TestOnlyTheBusyMayKeepGarbage(t *testing.T) {
	const mb = 1 << 20
	at := time.Now()
	g := garbage{since: at}
	total := uint64(0)
	turn := func(bytes, live uint64) int {
		at, total = at.Add(time.Second), total+bytes
		return g.collected(at, heap{allocated: total, live: live})
	}
	want := func(when string, want, got int) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d %%, want %d", when, got, want)
		}
	}
	for range 2 * busyTurns {
		want("idle", usualGarbage, turn(busyRate-1, 8*mb))
	}
	for range busyTurns - 1 {
		want("not busy for long", usualGarbage, turn(busyRate, 8*mb))
	}
	want("busy", 300, turn(busyRate, 8*mb))
	want("busy, with little", 3100, turn(2*busyRate, mb))
	want("busy, with just less than half", 101, turn(busyRate, 2*busyHeap/4-mb/8))
	want("busy, with half", usualGarbage, turn(busyRate, busyHeap/2))
	want("busy, with more than all", usualGarbage, turn(busyRate, 2*busyHeap))
	want("busy, with nothing known of", usualGarbage, turn(busyRate, 0))
	want("idle again", usualGarbage, turn(busyRate-1, 8*mb))
	want("busy again, not for long", usualGarbage, turn(busyRate, 8*mb))
}

// TestEachCollectionIsAskedAfter, the first, and those that come later; what does not change is not set.
func TestEachCollectionIsAskedAfter(t *testing.T) {
	asked, answer := make(chan heap), make(chan int)
	var set []int
	afterCollections(usualGarbage, func(h heap) int {
		select {
		case asked <- h:
			return <-answer
		case <-t.Context().Done():
			return usualGarbage
		}
	}, func(percent int) int {
		set = append(set, percent)
		return 0
	})
	var before heap
	for _, percent := range []int{usualGarbage, 300, 300, usualGarbage, usualGarbage} {
		h := collect(asked)
		if h.live == 0 || h.allocated < before.allocated || h.percent == 0 {
			t.Errorf("told %+v after %+v", h, before)
		}
		before = h
		answer <- percent
	}
	collect(asked) // so that what was set last is seen
	answer <- usualGarbage
	if want := []int{300, usualGarbage}; !slices.Equal(set, want) {
		t.Errorf("set %v, want %v", set, want)
	}
}

// collect collects until somebody is asked after it.
func collect(asked <-chan heap) heap {
	for {
		runtime.GC()
		select {
		case h := <-asked:
			return h
		default:
			runtime.Gosched()
		}
	}
}
