package linear

import (
	"errors"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// PAGEMAP_SCAN of Linux 6.7, for the file /proc/self/pagemap
// (https://docs.kernel.org/admin-guide/mm/pagemap.html): the kernel walks the page table and tells runs of
// the pages that are asked for. With a large memory that is several times as quick as reading an entry for
// each page.
const (
	pagemapScan = 0xc0606610 // _IOWR('f', 16, struct pm_scan_arg)

	pageIsFile    = 1 << 2 // categories
	pageIsPresent = 1 << 3
	pageIsSwapped = 1 << 4
)

// scanRuns are told at a time.
const scanRuns = 32

// scanArg is struct pm_scan_arg, pageRegion struct page_region.
type scanArg struct {
	size, flags         uint64
	start, end, walkEnd uint64
	vec, vecLen         uint64
	maxPages            uint64
	inverted, mask      uint64 // of categories: those turned round first, those that must be there then
	anyOf, told         uint64
}

type pageRegion struct{ start, end, _ uint64 } // the last are its categories, which were asked for

// scanner is the memory of a scan, which must not move while the kernel has its address.
type scanner struct {
	arg  scanArg
	runs [scanRuns]pageRegion
}

var scanners = sync.Pool{New: func() any { return &scanner{} }}

// scan is own by runs of pages. The kernel answers at once, unless another thread is changing what is
// mapped: to tell Go's scheduler of the call would cost a fifth of it.
func (p pagemap) scan(base unsafe.Pointer, pages uint64, each func(from, to uint64) (more bool)) error {
	s := scanners.Get().(*scanner)
	defer scanners.Put(s)
	first := uint64(uintptr(base))
	end := first + pages*pageBytes
	for at := first; at < end; at = s.arg.walkEnd {
		s.arg = scanArg{
			size: uint64(unsafe.Sizeof(s.arg)), start: at, end: end,
			vec: uint64(uintptr(unsafe.Pointer(&s.runs))), vecLen: scanRuns,
			inverted: pageIsFile, mask: pageIsFile, anyOf: pageIsPresent | pageIsSwapped,
		}
		n, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(p.fd), pagemapScan, uintptr(unsafe.Pointer(&s.arg)))
		switch {
		case errno != 0:
			return errno
		case s.arg.walkEnd <= at:
			return errors.New("the scan of the page map does not go on")
		}
		for _, run := range s.runs[:n] {
			if !each((run.start-first)/pageBytes, (run.end-first)/pageBytes) {
				return nil
			}
		}
	}
	return nil
}
