package linear

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

// watching gives an arena whose kernel counts faults.
func watching(t testing.TB) *Arena {
	t.Helper()
	a := newArena(t)
	if !a.pages.faults {
		t.Skip("this kernel does not count faults where they are needed")
	}
	return a
}

// TestAWatchedRegionIsRestoredWhole has requests write to pages that were the region's own, to others, and to those
// behind its image, and the kernel write for them.
func TestAWatchedRegionIsRestoredWhole(t *testing.T) {
	a := watching(t)
	for _, size := range []uint64{comparedBytes, comparedBytes + pageBytes, mib} {
		r := open(t, a, 2*mib, size, nil)
		copy(r.Bytes()[size/2:], "state")
		im, want := imageOf(t, r), bytes.Clone(r.Bytes())
		if err := r.Restore(im); err != nil {
			t.Fatal(err)
		}
		for round, page := range []uint64{3, 3, 3, 5, 3, 5, 0, size/pageBytes - 1, size / pageBytes, 3, size / pageBytes} {
			r.Watch()
			if page == size/pageBytes {
				r.Grow(size + 64*kib)
			}
			if round%2 == 0 {
				r.Bytes()[page*pageBytes+7]++
			} else if err := fillByKernel(r.Bytes()[page*pageBytes:][:100]); err != nil {
				t.Fatal(err)
			}
			if err := r.Restore(im); err != nil || !bytes.Equal(r.Bytes()[:size], want) || !allZero(r.Bytes()[size:]) {
				t.Fatalf("of %d bytes, after a request to page %d it is not what it was: %v", size, page, err)
			}
		}
	}
}

// TestWhatIsKnownOfARegionIsAskedOnce looks at when the kernel is asked.
func TestWhatIsKnownOfARegionIsAskedOnce(t *testing.T) {
	a := watching(t)
	r := open(t, a, mib, 128*kib, nil)
	im := imageOf(t, r)
	if err := r.Restore(im); err != nil {
		t.Fatal(err)
	}
	request := func(page uint64, known bool) {
		t.Helper()
		r.Watch()
		r.Bytes()[page*pageBytes]++
		if got := r.knownStill(); got != known {
			t.Errorf("page %d: all is known %t, want %t", page, got, known)
		}
		if err := r.Restore(im); err != nil {
			t.Fatal(err)
		}
	}
	request(3, false)
	request(3, true)
	request(7, false)
	request(3, true)
	request(7, true)
	if err := r.Trim(); err != nil {
		t.Fatal(err)
	}
	request(3, false)
	request(3, true)

	r.Watch()
	r.Bytes()[9*pageBytes]++
	r.Unwatch() // it has waited for something, maybe, and nobody knows on which thread it went on
	if r.knownStill() {
		t.Error("all is known of a region that nobody watches")
	}
	if err := r.Restore(im); err != nil || r.Bytes()[9*pageBytes] != 0 {
		t.Error("what was written before a wait is still there:", err)
	}
	request(9, true) // the kernel was asked after the wait
}

// TestMoreRunsThanAreKeptAreAskedForEachTime writes to every second page.
func TestMoreRunsThanAreKeptAreAskedForEachTime(t *testing.T) {
	a := watching(t)
	for _, runs := range []uint64{maxOwnRuns - 1, maxOwnRuns, maxOwnRuns + 1} {
		r := open(t, a, 16*mib, 8*mib, nil)
		im := imageOf(t, r)
		if err := r.Restore(im); err != nil {
			t.Fatal(err)
		}
		for round := range 3 {
			r.Watch()
			for n := range runs {
				r.Bytes()[2*n*pageBytes]++
			}
			if got, want := r.knownStill(), round > 0 && runs <= maxOwnRuns; got != want {
				t.Errorf("%d runs in round %d: all is known %t, want %t", runs, round, got, want)
			}
			if err := r.Restore(im); err != nil || !allZero(r.Bytes()) {
				t.Fatalf("%d runs are not restored: %v", runs, err)
			}
		}
	}
}

func TestAWatchEnds(t *testing.T) {
	a := watching(t)
	r := open(t, a, mib, 128*kib, nil)
	im := imageOf(t, r)
	for i, end := range []func(){
		func() { _ = r.Restore(im) }, // adopts it
		func() { _ = r.Restore(im) },
		r.Unwatch,
		func() { closeAll(t, r); _ = r.Restore(im) },
		func() { r.Watch(); r.Unwatch() },
	} {
		if r.arena != nil {
			r.Watch()
		}
		if end(); r.watched {
			t.Errorf("after end %d it is still watched", i)
		}
	}
}

// fillByKernel has the kernel write to memory.
func fillByKernel(p []byte) error {
	_, err := unix.Getrandom(p, 0)
	return err
}
