package linear

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// zeros is a page of nothing, of the largest size that a machine has.
var zeros [64 << 10]byte

// Image is what a region held. It never changes; pages that were zero cost nothing until a region reads them.
type Image struct {
	fd     int
	size   uint64
	view   []byte       // read-only, whole pages
	empty  []bool       // of each page whether it was zero
	users  atomic.Int32 // the owner, and the regions that share its pages
	closed atomic.Bool  // by its owner
}

// Image keeps what the region holds now.
func (r *Region) Image() (*Image, error) {
	im, err := newImage(r.Bytes())
	if err != nil {
		return nil, fmt.Errorf("linear memory: make an image of %d bytes: %w", r.size, err)
	}
	return im, nil
}

func newImage(content []byte) (*Image, error) {
	fd, err := memfd()
	if err != nil {
		return nil, err
	}
	im := &Image{fd: fd, size: uint64(len(content))}
	im.users.Store(1)
	if err := im.fill(content); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return im, nil
}

// memfd makes a file in memory that can be sealed and cannot be executed, which older kernels do not know.
func memfd() (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("linear", flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate("linear", flags)
	}
	return fd, err
}

// fill writes what is not zero, seals the file and maps it.
func (im *Image) fill(content []byte) error {
	length := pageUp(im.size)
	im.empty = make([]bool, length/pageBytes)
	if err := unix.Ftruncate(im.fd, int64(length)); err != nil {
		return err
	}
	for from := uint64(0); from < im.size; from += pageBytes {
		page := content[from:min(from+pageBytes, im.size)]
		if bytes.Equal(page, zeros[:len(page)]) {
			im.empty[from/pageBytes] = true
			continue
		}
		if n, err := unix.Pwrite(im.fd, page, int64(from)); err != nil || n < len(page) {
			return errors.Join(err, fmt.Errorf("%d of %d bytes were written", n, len(page)))
		}
	}
	if _, err := unix.FcntlInt(uintptr(im.fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE); err != nil {
		return err
	}
	if length == 0 {
		return nil
	}
	base, err := unix.MmapPtr(im.fd, 0, nil, uintptr(length), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	im.view = unsafe.Slice((*byte)(base), length)
	return nil
}

// share maps the image so that its pages are shared until they are written to: at an address, or at any.
func (im *Image) share(at unsafe.Pointer) (unsafe.Pointer, error) {
	flags := unix.MAP_PRIVATE | unix.MAP_NORESERVE
	if at != nil {
		flags |= unix.MAP_FIXED
	}
	return unix.MmapPtr(im.fd, 0, at, uintptr(len(im.view)), unix.PROT_READ|unix.PROT_WRITE, flags)
}

// Size is that of the region when the image was made.
func (im *Image) Size() uint64 { return im.size }

// Bytes are the contents, for reading only.
func (im *Image) Bytes() []byte { return im.view[:im.size:im.size] }

// page is what a page of a region has to hold: its page of the image, and behind it nothing. All that hold
// nothing are one, which stays in the processor's cache.
func (im *Image) page(from uint64) []byte {
	if from < uint64(len(im.view)) && !im.empty[from/pageBytes] {
		return im.view[from : from+pageBytes]
	}
	return zeros[:pageBytes]
}

// Close says that no further region will use the image. Its memory is freed with the last that does.
func (im *Image) Close() error {
	if im.closed.Swap(true) {
		return nil
	}
	return im.release()
}

// hold adds a user; false if the image is gone.
func (im *Image) hold() bool {
	for {
		n := im.users.Load()
		if n == 0 {
			return false
		}
		if im.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (im *Image) release() error {
	if im.users.Add(-1) > 0 {
		return nil
	}
	var err error
	if im.view != nil {
		err = unix.MunmapPtr(unsafe.Pointer(&im.view[0]), uintptr(len(im.view)))
	}
	im.view = nil
	return errors.Join(err, unix.Close(im.fd))
}
