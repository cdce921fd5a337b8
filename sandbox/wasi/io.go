package wasi

import (
	"io"
	"math"
)

func fdRead(w *World, m memory, a args) error {
	d, from, err := w.source(a.u32(0))
	if err != nil {
		return err
	}
	n, err := w.buffers(m, a.u32(1), a.u32(2), func(p []byte, first bool) (int, error) {
		return from.read(w, d, p, first && d.flags&flagNonblock == 0)
	})
	return m.putCount(a.u32(3), n, err)
}

func fdWrite(w *World, m memory, a args) error {
	d, to, err := w.sink(a.u32(0))
	if err != nil {
		return err
	}
	n, err := w.buffers(m, a.u32(1), a.u32(2), func(p []byte, _ bool) (int, error) {
		return to.write(w, d, p, d.flags&flagNonblock == 0)
	})
	return m.putCount(a.u32(3), n, err)
}

// source finds a descriptor that may be read.
func (w *World) source(fd uint32) (*descriptor, source, error) {
	d, err := w.get(fd)
	if err != nil {
		return nil, nil, err
	}
	if _, ok := d.object.(*directory); ok {
		return nil, nil, eIsdir
	}
	from, ok := d.object.(source)
	if !ok {
		return nil, nil, eBadf
	}
	return d, from, d.check(rightRead)
}

// sink finds a descriptor that may be written.
func (w *World) sink(fd uint32) (*descriptor, sink, error) {
	d, err := w.get(fd)
	if err != nil {
		return nil, nil, err
	}
	to, ok := d.object.(sink)
	if !ok {
		return nil, nil, eBadf
	}
	return d, to, d.check(rightWrite)
}

// putCount tells how much was moved, unless that failed.
func (m memory) putCount(ptr, n uint32, err error) error {
	if err != nil {
		return err
	}
	return m.putU32(ptr, n)
}

func fdPread(w *World, m memory, a args) error {
	at, err := position(a.u64(3))
	if err != nil {
		return err
	}
	_, f, err := w.file(a.u32(0), rightRead)
	if err != nil {
		return err
	}
	n, err := w.buffers(m, a.u32(1), a.u32(2), func(p []byte, _ bool) (int, error) {
		n, err := f.readAt(p, at)
		at += int64(n)
		return n, err
	})
	return m.putCount(a.u32(4), n, err)
}

// fdPwrite writes where it is told, on a descriptor that appends too, as POSIX has it.
func fdPwrite(w *World, m memory, a args) error {
	at, err := position(a.u64(3))
	if err != nil {
		return err
	}
	d, f, err := w.file(a.u32(0), rightWrite)
	if err != nil {
		return err
	}
	n, err := w.buffers(m, a.u32(1), a.u32(2), func(p []byte, _ bool) (n int, err error) {
		n, at, err = f.writeAt(p, at, d.flags&^flagAppend)
		return n, err
	})
	return m.putCount(a.u32(4), n, err)
}

// position is a position in a file, or a length.
func position(v uint64) (int64, error) {
	if v > math.MaxInt64 {
		return 0, eInval
	}
	return int64(v), nil
}

func fdSeek(w *World, m memory, a args) error {
	needs := rightSeek
	if a.u64(1) == 0 && a.u32(2) == io.SeekCurrent {
		needs = rightTell
	}
	d, f, err := w.file(a.u32(0), 0)
	if err != nil {
		return err
	}
	if !d.base.has(needs) && !d.base.has(rightSeek) { // the right to seek is one to tell, too
		return eNotcapable
	}
	base := int64(0)
	switch a.u32(2) {
	case io.SeekStart:
	case io.SeekCurrent:
		base = d.offset
	case io.SeekEnd:
		if base, err = f.size(); err != nil {
			return err
		}
	default:
		return eInval
	}
	to := base + int64(a.u64(1))
	if to < 0 { // past what an int64 holds, too: base is not negative
		return eInval
	}
	if err := m.putU64(a.u32(3), uint64(to)); err != nil {
		return err
	}
	d.offset = to
	return nil
}

func fdTell(w *World, m memory, a args) error {
	d, _, err := w.file(a.u32(0), 0)
	if err != nil {
		return err
	}
	if d.base&(rightTell|rightSeek) == 0 {
		return eNotcapable
	}
	return m.putU64(a.u32(1), uint64(d.offset))
}

// fdAdvise checks the advice and takes no notice of it: to read ahead for a guest is work that it would
// not pay for.
func fdAdvise(w *World, _ memory, a args) error {
	const advices = 6
	if _, _, err := w.file(a.u32(0), rightAdvise); err != nil {
		return err
	}
	if _, _, err := extent(a.u64(1), a.u64(2)); err != nil || a.u32(3) >= advices {
		return eInval
	}
	return nil
}

// extent is a part of a file, by its ends.
func extent(offset, length uint64) (from, end int64, err error) {
	if offset > math.MaxInt64 || length > math.MaxInt64-offset {
		return 0, 0, eInval
	}
	return int64(offset), int64(offset + length), nil
}

func fdAllocate(w *World, _ memory, a args) error {
	_, f, err := w.file(a.u32(0), rightAllocate)
	if err != nil {
		return err
	}
	from, end, err := extent(a.u64(1), a.u64(2))
	if err != nil || from == end {
		return eInval
	}
	return f.allocate(from, end)
}

func fdSync(w *World, _ memory, a args) error {
	f, err := w.onDisk(a.u32(0), rightSync)
	if err != nil {
		return err
	}
	return f.disk().Sync()
}

func fdDatasync(w *World, _ memory, a args) error {
	f, err := w.onDisk(a.u32(0), rightDatasync)
	if err != nil {
		return err
	}
	return datasync(f.disk())
}

// onDisk finds a file or directory.
func (w *World) onDisk(fd uint32, needs rights) (onDisk, error) {
	d, err := w.get(fd)
	if err != nil {
		return nil, err
	}
	f, ok := d.object.(onDisk)
	if !ok {
		return nil, eInval
	}
	return f, d.check(needs)
}

func fdFilestatSetSize(w *World, _ memory, a args) error {
	_, f, err := w.file(a.u32(0), rightSetSize)
	if err != nil {
		return err
	}
	size, err := position(a.u64(1))
	if err != nil {
		return err
	}
	return f.truncate(size)
}

func fdFilestatSetTimes(w *World, _ memory, a args) error {
	f, err := w.onDisk(a.u32(0), rightSetTimes)
	if err != nil {
		return err
	}
	atime, mtime, err := w.timestamps(a, 1)
	if err != nil {
		return err
	}
	if f.isReadOnly() {
		return eRofs
	}
	return setTimes(f.disk(), atime, mtime)
}
