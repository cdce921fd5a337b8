package linear

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestBothWaysToAskTheKernelTellTheSame, with more runs than a scan tells at a time, and more pages than
// are read at a time.
func TestBothWaysToAskTheKernelTellTheSame(t *testing.T) {
	scan := openPagemap()
	if !scan.scans {
		t.Skip("this kernel has no PAGEMAP_SCAN")
	}
	defer closeAll(t, pagemapCloser{&scan})
	const pages = pagemapEntries + 100
	im, err := newImage(bytes.Repeat([]byte{1}, int(pages*pageBytes)))
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(t, im)
	base, err := im.share(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.MunmapPtr(base, uintptr(pages*pageBytes)) }()
	mapped := unsafe.Slice((*byte)(base), pages*pageBytes)
	written := map[uint64]bool{}
	random := rand.New(rand.NewPCG(1, 2))
	for range 5 * scanRuns {
		page := random.Uint64N(pages)
		written[page] = true
		mapped[page*pageBytes]++
		_ = mapped[random.Uint64N(pages)*pageBytes] // a page that was only read stays the file's
	}
	for _, p := range []pagemap{scan, {fd: scan.fd}} {
		told := map[uint64]bool{}
		err := p.own(base, pages, func(from, to uint64) bool {
			for page := from; page < to; page++ {
				told[page] = true
			}
			return true
		})
		if err != nil || !maps.Equal(told, written) {
			t.Errorf("scans %t: %d pages of %d are told, %v", p.scans, len(told), len(written), err)
		}
		runs := 0
		if err := p.own(base, pages, func(uint64, uint64) bool { runs++; return runs < 3 }); err != nil || runs != 3 {
			t.Errorf("scans %t: %d runs are told to one who wants three, %v", p.scans, runs, err)
		}
	}
}
