package linear

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unsafe"
)

const kib, mib = 1 << 10, 1 << 20

func newArena(t testing.TB) *Arena {
	t.Helper()
	a := NewArena(math.MaxUint64)
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// open makes a region that has grown to size.
func open(t testing.TB, a *Arena, limit, size uint64, owner *Account) *Region {
	t.Helper()
	r, err := a.Region(limit, owner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(t, r) })
	if r.Grow(size) == nil {
		t.Fatalf("it does not grow to %d", size)
	}
	return r
}

type closer interface{ Close() error }

func closeAll[C closer](t testing.TB, all ...C) {
	t.Helper()
	for _, c := range all {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func imageOf(t testing.TB, r *Region) *Image {
	t.Helper()
	im, err := r.Image()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(t, im) })
	return im
}

// both runs a test with the kernel's page map, and without it as on a system that has no /proc.
func both(t *testing.T, f func(t *testing.T, a *Arena)) {
	t.Run("page map", func(t *testing.T) {
		a := newArena(t)
		if a.pages.fd < 0 {
			t.Skip("this kernel does not tell what was written")
		}
		f(t, a)
	})
	t.Run("comparing", func(t *testing.T) {
		a := newArena(t)
		closeAll(t, pagemapCloser{&a.pages})
		f(t, a)
	})
}

type pagemapCloser struct{ *pagemap }

func (p pagemapCloser) Close() error {
	err := p.close()
	p.fd = -1
	return err
}

func TestGrowthStopsAtTheLimitAndMovesNothing(t *testing.T) {
	a := newArena(t)
	r := open(t, a, 3*64*kib, 64*kib, nil)
	before := unsafe.SliceData(r.Bytes())
	copy(r.Bytes(), "kept")
	for _, size := range []uint64{3*64*kib - 1, 3 * 64 * kib} {
		if got := r.Grow(size); uint64(len(got)) != size || unsafe.SliceData(got) != before || string(got[:4]) != "kept" {
			t.Fatalf("grown to %d it has %d bytes, or has moved", size, len(got))
		}
	}
	for _, size := range []uint64{3*64*kib + 1, math.MaxUint32, math.MaxUint64} {
		if r.Grow(size) != nil {
			t.Errorf("it grew to %d", size)
		}
	}
	if got := r.Grow(0); len(got) != 3*64*kib {
		t.Errorf("it shrank to %d", len(got))
	}
}

func TestBudgetsBoundAllRegionsTogether(t *testing.T) {
	owner := NewBudget(2 * mib)
	arena := NewArena(3 * mib)
	defer closeAll(t, arena)
	first, second := owner.Open(mib, 0), owner.Open(0, 0)
	if owner.Open(mib+1, 0) != nil {
		t.Error("an account was opened past the budget")
	}
	r, s, other := open(t, arena, 8*mib, 0, first), open(t, arena, 8*mib, 0, second), open(t, arena, 8*mib, 0, nil)
	defer closeAll(t, r, s, other)
	grow := func(r *Region, size uint64, want bool) {
		t.Helper()
		if got := r.Grow(size) != nil; got != want {
			t.Errorf("growing to %d: %v, want %v; the owner has %d of %d, the arena %d", size, got, want, owner.Used(), owner.Limit(), arena.Usage().Held)
		}
	}
	grow(r, mib, true)     // was reserved ahead
	grow(s, mib+1, false)  // past the owner's
	grow(s, mib, true)     // just all of it
	grow(other, mib, true) // just all of the arena's
	grow(other, mib+1, false)
	if owner.Used() != 2*mib || arena.Usage().Held != 3*mib {
		t.Errorf("refused growth has changed what is held: %d, %d", owner.Used(), arena.Usage().Held)
	}
	closeAll(t, r)
	first.Close()
	grow(s, 2*mib, true)
	closeAll(t, s, other)
	second.Close()
	if owner.Used() != 0 || arena.Usage().Held != 0 || arena.Usage().Regions != 0 {
		t.Errorf("closed regions hold %d, %+v", owner.Used(), arena.Usage())
	}
}

func TestWhatAnInstanceHasBesideItsMemoryIsOfItsBudget(t *testing.T) {
	owner := NewBudget(4 * kib)
	account := owner.Open(kib, 0)
	beside := func(n uint64, want bool, used uint64) {
		t.Helper()
		if got := account.Beside(n); got != want || owner.Used() != used || account.Held() != kib {
			t.Errorf("%d beside: %v, want %v; %d are used, want %d, and %d held", n, got, want, owner.Used(), used, account.Held())
		}
	}
	beside(3*kib, true, 4*kib)
	beside(3*kib+1, false, 4*kib)
	beside(kib, true, 2*kib)
	if account.Cover(3*kib + 1); owner.Used() != 2*kib {
		t.Errorf("%d are used, though there was no room to cover more", owner.Used())
	}
	beside(0, true, kib)
	beside(kib, true, 2*kib)
	account.Close()
	if owner.Used() != 0 {
		t.Errorf("a closed account holds %d", owner.Used())
	}
}

func TestRefusedByTheArenaTheOwnerHasItBack(t *testing.T) {
	arena, owner := NewArena(mib), NewBudget(8*mib)
	defer closeAll(t, arena)
	account := owner.Open(64*kib, 0)
	r := open(t, arena, 8*mib, 64*kib, account)
	defer closeAll(t, r)
	if r.Grow(2*mib) != nil || account.Held() != 64*kib || owner.Used() != 64*kib {
		t.Errorf("the account holds %d, the owner %d", account.Held(), owner.Used())
	}
}

func TestTheNextOwnerFindsZeros(t *testing.T) {
	both(t, func(t *testing.T, a *Arena) {
		secret := bytes.Repeat([]byte("secret!!"), 64*kib/8)
		var bases []unsafe.Pointer
		for round := range 4 {
			r := open(t, a, mib, 256*kib, nil)
			bases = append(bases, r.span.base)
			if round == 2 { // and from an image
				if err := r.Restore(imageOf(t, r)); err != nil {
					t.Fatal(err)
				}
			}
			if !allZero(r.Grow(512 * kib)) {
				t.Fatal("a region shows what its address held before")
			}
			for at := 0; at < 512*kib; at += len(secret) {
				copy(r.Bytes()[at:], secret)
			}
			closeAll(t, r)
		}
		if bases[0] != bases[1] || bases[2] != bases[3] {
			t.Error("address space is not used again")
		}
	})
}

// TestAFailedRestoreLeavesNothingToTheNextOwner closes a region as it is when the kernel has mapped the
// image and refuses the memory behind it.
func TestAFailedRestoreLeavesNothingToTheNextOwner(t *testing.T) {
	a := newArena(t)
	first := open(t, a, mib, 64*kib, nil)
	copy(first.Bytes(), "secret")
	im := imageOf(t, first)
	r := open(t, a, mib, 0, nil)
	base := r.span.base
	if err := r.remap(im); err != nil {
		t.Fatal(err)
	}
	closeAll(t, r)
	if next := open(t, a, mib, 64*kib, nil); next.span.base != base || !allZero(next.Bytes()) {
		t.Errorf("the next owner is elsewhere, or finds %q", next.Bytes()[:8])
	}
}

func allZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), len(zeros))
		if !bytes.Equal(b[:n], zeros[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}

func TestRestoreDropsAllThatARequestLeft(t *testing.T) {
	both(t, func(t *testing.T, a *Arena) {
		r := open(t, a, 4*mib, 128*kib, nil)
		copy(r.Bytes()[70*kib:], "state")
		im := imageOf(t, r)
		want := bytes.Clone(r.Bytes())
		for round := range 5 {
			r.Grow(128*kib + uint64(round)*64*kib)
			for at := 0; at < len(r.Bytes()); at += 8 * kib {
				r.Bytes()[at] = byte(round + 1)
			}
			if err := r.Restore(im); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(r.Bytes()[:128*kib], want) || !allZero(r.Bytes()[128*kib:]) {
				t.Fatalf("round %d leaves something behind", round)
			}
		}
	})
}

// TestRestoreFindsEachPageOfSmallAndLargeRegions writes to one page after the other, where pages are compared
// and where the kernel tells of them.
func TestRestoreFindsEachPageOfSmallAndLargeRegions(t *testing.T) {
	both(t, func(t *testing.T, a *Arena) {
		for _, size := range []uint64{pageBytes, comparedBytes - pageBytes, comparedBytes, comparedBytes + pageBytes} {
			r := open(t, a, mib, size, nil)
			copy(r.Bytes()[size/2:], "state")
			im, want := imageOf(t, r), bytes.Clone(r.Bytes())
			for at := uint64(0); at < size; at += pageBytes {
				r.Bytes()[at+pageBytes-1]++
				if err := r.Restore(im); err != nil || !bytes.Equal(r.Bytes(), want) {
					t.Errorf("of %d bytes the page at %d is not as it was: %v", size, at, err)
				}
			}
		}
	})
}

func TestInstancesOfAnImageDoNotSeeEachOther(t *testing.T) {
	a := newArena(t)
	first := open(t, a, mib, 128*kib, nil)
	copy(first.Bytes(), "image")
	im := imageOf(t, first)
	var regions [3]*Region
	for i := range regions {
		r, err := a.Restored(im, mib, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer closeAll(t, r)
		regions[i] = r
		r.Bytes()[0] = byte('0' + i)
	}
	for i, r := range regions {
		if got := string(r.Bytes()[:5]); got != string(rune('0'+i))+"mage" {
			t.Errorf("region %d holds %q", i, got)
		}
	}
	if string(im.Bytes()[:5]) != "image" {
		t.Error("the image has changed")
	}
}

func TestAnImageLivesAsLongAsARegionUsesIt(t *testing.T) {
	a := newArena(t)
	im, err := open(t, a, mib, 64*kib, nil).Image()
	if err != nil {
		t.Fatal(err)
	}
	r, err := a.Restored(im, mib, nil)
	if err != nil {
		t.Fatal(err)
	}
	closeAll(t, im, im)
	r.Bytes()[5] = 5
	if err := r.Restore(im); err != nil || r.Bytes()[5] != 0 {
		t.Error("the image is gone before its region:", err)
	}
	closeAll(t, r)
	if _, err := a.Restored(im, mib, nil); err == nil || !strings.Contains(err.Error(), "the image is closed") {
		t.Error("a closed image makes a region:", err)
	}
}

func TestAnImageThatDoesNotFitIsRefused(t *testing.T) {
	a := newArena(t)
	im := imageOf(t, open(t, a, mib, 128*kib, nil))
	before := a.Usage().Regions
	for _, c := range []struct {
		limit  uint64
		budget uint64
		fits   bool
	}{{128 * kib, 128 * kib, true}, {128*kib - 1, mib, false}, {mib, 128*kib - 1, false}} {
		account := NewBudget(c.budget).Open(0, 0)
		r, err := a.Restored(im, c.limit, account)
		if (err == nil) != c.fits {
			t.Errorf("limit %d, budget %d: %v", c.limit, c.budget, err)
		}
		if err == nil {
			closeAll(t, r)
		}
	}
	if got := a.Usage().Regions; got != before {
		t.Errorf("%d regions are open, there were %d", got, before)
	}
}

// TestWhatIsIdleSharesItsPages looks at what the kernel counts.
func TestWhatIsIdleSharesItsPages(t *testing.T) {
	a := newArena(t)
	if a.pages.fd < 0 {
		t.Skip("this kernel does not tell what was written")
	}
	r := open(t, a, 16*mib, 3*mib, nil)
	for i := range r.Bytes() {
		r.Bytes()[i] = byte(i)
	}
	im := imageOf(t, r)
	own := func() (pages uint64) {
		if err := a.pages.own(r.span.base, r.pages(), func(from, to uint64) bool { pages += to - from; return true }); err != nil {
			t.Fatal(err)
		}
		return pages
	}
	if got := own(); got*pageBytes != 3*mib {
		t.Errorf("%d pages are its own before", got)
	}
	request := func(pages int) {
		for p := range pages {
			r.Bytes()[uint64(p)*pageBytes]++
		}
		if err := r.Restore(im); err != nil {
			t.Fatal(err)
		}
	}
	request(0)
	for _, c := range []struct{ touched, own int }{
		{4, 4}, {2, 4}, {4 + 4 + sparePages, 4 + 4 + sparePages}, // up to twice the usual and some more
		{4 + 4 + sparePages + 1, 0}, // one page more, and all is dropped
		{3, 3},
	} {
		request(c.touched)
		if got := own(); got != uint64(c.own) {
			t.Errorf("after %d pages %d are its own, want %d", c.touched, got, c.own)
		}
	}
	if err := r.Trim(); err != nil || own() != 0 || !bytes.Equal(r.Bytes(), im.Bytes()) {
		t.Errorf("trimmed it has %d pages, %v", own(), err)
	}
}

func TestZeroPagesOfAnImageCostNothing(t *testing.T) {
	r := open(t, newArena(t), 64*mib, 64*mib, nil)
	r.Bytes()[40*mib] = 1
	im := imageOf(t, r)
	if got := blocks(t, im.fd) * 512; got > 64*kib {
		t.Errorf("an image with one page that is not zero takes %d bytes", got)
	}
}

// TestGrowingNeedsNoMoreThanTheSize bounds the peak, which a copy while growing would double.
func TestGrowingNeedsNoMoreThanTheSize(t *testing.T) {
	const size = 128 * mib
	r := open(t, newArena(t), size, 0, nil)
	resetPeak(t)
	before := status(t, "VmHWM:")
	for at := uint64(0); at < size; at += mib {
		for p := at; p < at+mib; p += pageBytes {
			r.Grow(at + mib)[p] = 1
		}
	}
	if got := status(t, "VmHWM:") - before; got > size+8*mib {
		t.Errorf("growing to %d took %d", size, got)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	count := func() (fds, maps int) {
		return entries(t, "/proc/self/fd"), lines(t, "/proc/self/maps", "memfd:linear")
	}
	fds, maps := count()
	for range 3 {
		a := NewArena(math.MaxUint64)
		var all []*Region
		for i := range 2 * maxFree {
			r := open(t, a, uint64(i+1)*64*kib, 64*kib, nil)
			im := imageOf(t, r)
			copied, err := a.Restored(im, mib, nil)
			if err != nil {
				t.Fatal(err)
			}
			closeAll(t, im)
			all = append(all, r, copied)
		}
		if err := a.Close(); err == nil || !strings.Contains(err.Error(), "256 regions are still open") {
			t.Error("an arena with open regions closes:", err)
		}
		closeAll(t, all...)
		if n := len(a.free); n != maxFree {
			t.Errorf("%d spans are kept, want %d", n, maxFree)
		}
		closeAll(t, a, a)
		if a.reserved != 0 {
			t.Errorf("%d bytes stay reserved", a.reserved)
		}
		if _, err := a.Region(mib, nil); err == nil {
			t.Error("a closed arena makes regions")
		}
	}
	if f, m := count(); f != fds || m != maps {
		t.Errorf("%d descriptors and %d mappings, there were %d and %d", f, m, fds, maps)
	}
}

func TestAddressSpaceIsBounded(t *testing.T) {
	a := newArena(t)
	if _, err := a.Region(maxReserved, nil); err == nil {
		t.Error("more was reserved than may be")
	}
	a.reserved = maxReserved - mib
	for _, c := range []struct {
		limit uint64
		ok    bool
	}{{mib - pageBytes, true}, {mib, false}} {
		r, err := a.Region(c.limit, nil)
		if (err == nil) != c.ok {
			t.Errorf("%d bytes: %v", c.limit, err)
		}
		if err == nil {
			closeAll(t, r)
		}
	}
	// what is kept for the next region of its size makes room for one of another
	closeAll(t, open(t, a, mib-pageBytes, 0, nil))
	closeAll(t, open(t, a, 64*kib, 0, nil))
	if len(a.free) != 1 || a.free[0].size != 64*kib+pageBytes {
		t.Errorf("%d spans are kept", len(a.free))
	}
	a.reserved -= maxReserved - mib
}

func TestThousandsOfRegionsFitAndNotMore(t *testing.T) {
	a := newArena(t)
	r := open(t, a, 64*kib, 32*kib, nil)
	im := imageOf(t, r)
	all := []*Region{r}
	for len(all) < maxRegions {
		r, err := a.Restored(im, 64*kib, nil)
		if err != nil {
			t.Fatalf("after %d: %v", len(all), err)
		}
		r.Grow(64 * kib) // a mapping of its own
		all = append(all, r)
	}
	if _, err := a.Region(mib, nil); err == nil || !strings.Contains(err.Error(), "the most") {
		t.Error("one more than the limit:", err)
	}
	closeAll(t, all...)
}

func TestRegionsOfManyGoroutines(t *testing.T) {
	a, budget := newArena(t), NewBudget(64*mib)
	im := imageOf(t, open(t, a, mib, 256*kib, nil))
	var wait sync.WaitGroup
	for g := range 8 {
		wait.Go(func() {
			for range 50 {
				account := budget.Open(0, 0)
				r, err := a.Restored(im, mib, account)
				if err != nil {
					t.Error(err)
					return
				}
				for range 4 {
					r.Grow(512 * kib)[300*kib] = byte(g)
					if err := r.Restore(im); err != nil || !allZero(r.Bytes()) {
						t.Error("not restored", err)
					}
				}
				closeAll(t, r)
				account.Close()
			}
		})
	}
	wait.Wait()
	if budget.Used() != 0 {
		t.Errorf("%d bytes are still held", budget.Used())
	}
}

func entries(t *testing.T, dir string) int {
	t.Helper()
	names, err := filepath.Glob(dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func lines(t *testing.T, file, with string) (n int) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(data), with)
}
