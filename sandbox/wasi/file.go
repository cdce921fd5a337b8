package wasi

import (
	"errors"
	"io"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// file is an open file. The position is the descriptor's, and the host's file is only used with
// positions given: nothing of it need be put back when an instance is used again.
type file struct {
	*os.File
	volume   *Volume
	node     *node
	readOnly bool
}

func (f *file) filetype() filetype { return typeRegular }
func (f *file) disk() *os.File     { return f.File }
func (f *file) isReadOnly() bool   { return f.readOnly }

func (f *file) close() error { return f.volume.release(f.File, f.node) }

func (f *file) read(_ *World, d *descriptor, p []byte, _ bool) (int, error) {
	n, err := f.readAt(p, d.offset)
	d.offset += int64(n)
	return n, err
}

// readAt is ReadAt; the end of the file is no error.
func (f *file) readAt(p []byte, at int64) (int, error) {
	n, err := f.ReadAt(p, at)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func (f *file) write(_ *World, d *descriptor, p []byte, _ bool) (int, error) {
	n, end, err := f.writeAt(p, d.offset, d.flags)
	if n > 0 {
		d.offset = end
	}
	return n, err
}

// writeAt writes as much of p as the volume has room for, at the end if flags say so, and returns the
// position behind it. Files grow under their node's lock: nobody else of this node appends in between,
// and the volume knows what to charge.
func (f *file) writeAt(p []byte, at int64, flags fdflags) (n int, end int64, err error) {
	f.node.Lock()
	defer f.node.Unlock()
	size, err := f.size()
	if err != nil {
		return 0, at, err
	}
	if flags&flagAppend != 0 {
		at = size
	}
	if at > math.MaxInt64-int64(len(p)) {
		return 0, at, unix.EFBIG
	}
	granted := f.volume.take(at + int64(len(p)) - size)
	room := min(int64(len(p)), size+granted-at)
	if room <= 0 {
		f.volume.give(granted)
		return 0, at, eDquot
	}
	n, err = f.WriteAt(p[:room], at)
	end = at + int64(n)
	if n > 0 {
		granted -= max(end-size, 0)
		err = f.settle(flags)
	}
	f.volume.give(granted)
	return n, end, err
}

// settle makes what was written durable, if flags ask for it.
func (f *file) settle(flags fdflags) error {
	switch {
	case flags&flagSync != 0:
		return f.Sync()
	case flags&flagDsync != 0:
		return datasync(f.File)
	}
	return nil
}

func datasync(f *os.File) error {
	return retry(func() error { return unix.Fdatasync(int(f.Fd())) })
}

// retry repeats a system call that a signal has interrupted; Go's scheduler sends some.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

func (f *file) size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// resize brings the file to the size that target gives for its present one, by change.
func (f *file) resize(target func(size int64) int64, change func(size int64) error) error {
	f.node.Lock()
	defer f.node.Unlock()
	old, err := f.size()
	if err != nil {
		return err
	}
	size := target(old)
	granted := f.volume.take(size - old)
	if granted < size-old {
		err = eDquot
	} else {
		err = change(old)
	}
	if err != nil {
		f.volume.give(granted)
		return err
	}
	f.volume.give(old - size)
	return nil
}

func (f *file) truncate(size int64) error {
	return f.resize(func(int64) int64 { return size }, func(int64) error { return f.Truncate(size) })
}

// allocate makes the file at least end bytes long and sets space aside for [from, end). On a file
// system that cannot set space aside it only makes the file longer.
func (f *file) allocate(from, end int64) error {
	return f.resize(func(size int64) int64 { return max(size, end) }, func(size int64) error {
		err := retry(func() error { return unix.Fallocate(int(f.Fd()), 0, from, end-from) })
		if errors.Is(err, unix.ENOTSUP) && end > size {
			err = f.Truncate(end)
		}
		return err
	})
}

// A file is always ready, at its end too.

func (f *file) readable(d *descriptor) readiness {
	size, err := f.size()
	return readiness{ready: true, err: err, bytes: uint64(max(size-d.offset, 0))}
}

func (f *file) writable(*descriptor) readiness { return readiness{ready: true, bytes: chunkBytes} }
