package linear

import (
	"bytes"
	"errors"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bits of an entry of /proc/self/pagemap, as Linux has them since 3.5
// (https://docs.kernel.org/admin-guide/mm/pagemap.html).
const (
	entryPresent = 1 << 63
	entrySwapped = 1 << 62
	entryFile    = 1 << 61 // or shared
)

// pagemapEntries are read at a time, as the kernel itself does.
const pagemapEntries = 512

// pagemap tells which pages of a private mapping are no longer the file's: those that were written.
type pagemap struct {
	fd     int  // -1 if the kernel does not tell
	scans  bool // it tells runs of pages, and not each (scan.go)
	faults bool // it counts the faults of a thread (watch.go)
}

// openPagemap tries whether the kernel tells the truth, the quicker way first.
func openPagemap() pagemap {
	fd, err := unix.Open("/proc/self/pagemap", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return pagemap{fd: -1}
	}
	for _, scans := range []bool{true, false} {
		if p := (pagemap{fd: fd, scans: scans}); p.works() {
			p.faults = faultsCounted()
			return p
		}
	}
	_ = pagemap{fd: fd}.close()
	return pagemap{fd: -1}
}

func (p pagemap) close() error {
	if p.fd < 0 {
		return nil
	}
	return unix.Close(p.fd)
}

// works reads one page of an image, writes the other, and asks.
func (p pagemap) works() bool {
	return tried(func(mapped []byte) bool {
		mapped[pageBytes] = mapped[0] + 1
		var told []uint64
		err := p.own(unsafe.Pointer(&mapped[0]), 2, func(from, to uint64) bool { told = append(told, from, to); return true })
		return err == nil && slices.Equal(told, []uint64{1, 2})
	})
}

// tried has f try something on two pages of an image.
func tried(f func(mapped []byte) bool) bool {
	im, err := newImage(bytes.Repeat([]byte{1}, int(2*pageBytes)))
	if err != nil {
		return false
	}
	defer im.Close()
	base, err := im.share(nil)
	if err != nil {
		return false
	}
	defer func() { _ = unix.MunmapPtr(base, uintptr(2*pageBytes)) }() // at worst two pages stay
	return f(unsafe.Slice((*byte)(base), 2*pageBytes))
}

// own calls each with every run of pages, of those from base on, that the mapping has for itself, as
// far as is known: with all of them, if nothing is. It ends when each says so.
func (p pagemap) own(base unsafe.Pointer, pages uint64, each func(from, to uint64) (more bool)) error {
	switch {
	case p.fd < 0:
		each(0, pages)
		return nil
	case p.scans:
		return p.scan(base, pages, each)
	}
	return p.read(base, pages, each)
}

// read is own by the entry of each page.
func (p pagemap) read(base unsafe.Pointer, pages uint64, each func(from, to uint64) (more bool)) error {
	var entries [pagemapEntries]uint64
	first := uint64(uintptr(base)) / pageBytes
	for at := uint64(0); at < pages; at += pagemapEntries {
		n := min(pagemapEntries, pages-at)
		raw := unsafe.Slice((*byte)(unsafe.Pointer(&entries)), n*8)
		got, err := unix.Pread(p.fd, raw, int64((first+at)*8))
		if err != nil {
			return err
		}
		if got < len(raw) {
			return errors.New("the page map ends too early")
		}
		for i := uint64(0); i < n; i++ {
			from := i
			for i < n && private(entries[i]) {
				i++
			}
			if from < i && !each(at+from, at+i) {
				return nil
			}
		}
	}
	return nil
}

func private(entry uint64) bool {
	return entry&(entryPresent|entrySwapped) != 0 && entry&entryFile == 0
}
