package wasi

import (
	"encoding/binary"
	"io/fs"
	"os"
	"syscall"
)

const (
	fdstatBytes   = 24
	filestatBytes = 64
	prestatBytes  = 8
)

// The tags of a prestat. Preview 1 knows directories only; C libraries and Go pass over other tags and
// go on to the next descriptor, which they do not when there is none.
const (
	prestatDirectory = 0
	prestatListener  = 1
)

func fdFdstatGet(w *World, m memory, a args) error {
	d, err := w.get(a.u32(0))
	if err != nil {
		return err
	}
	p, err := m.view(a.u32(1), fdstatBytes)
	if err != nil {
		return err
	}
	clear(p)
	p[0] = byte(d.object.filetype())
	binary.LittleEndian.PutUint16(p[2:], uint16(d.flags))
	binary.LittleEndian.PutUint64(p[8:], uint64(d.base))
	binary.LittleEndian.PutUint64(p[16:], uint64(d.inheriting))
	return nil
}

func fdFdstatSetFlags(w *World, _ memory, a args) error {
	d, err := w.get(a.u32(0))
	if err != nil {
		return err
	}
	flags := a.u32(1)
	if flags&^allFlags != 0 {
		return eInval
	}
	if err := d.check(rightSetFlags); err != nil {
		return err
	}
	d.flags = fdflags(flags)
	return nil
}

func fdFdstatSetRights(w *World, _ memory, a args) error {
	d, err := w.get(a.u32(0))
	if err != nil {
		return err
	}
	base, inheriting := rights(a.u64(1)), rights(a.u64(2))
	if !d.base.has(base) || !d.inheriting.has(inheriting) {
		return eNotcapable
	}
	d.base, d.inheriting = base, inheriting
	return nil
}

func fdPrestatGet(w *World, m memory, a args) error {
	d, err := w.preopened(a.u32(0))
	if err != nil {
		return err
	}
	p, err := m.view(a.u32(1), prestatBytes)
	if err != nil {
		return err
	}
	clear(p)
	p[0] = prestatDirectory
	if _, ok := d.object.(*directory); !ok {
		p[0] = prestatListener
	}
	binary.LittleEndian.PutUint32(p[4:], uint32(len(d.name)))
	return nil
}

func fdPrestatDirName(w *World, m memory, a args) error {
	d, err := w.preopened(a.u32(0))
	if err != nil {
		return err
	}
	if a.u32(2) < uint32(len(d.name)) {
		return eNametoolong
	}
	p, err := m.view(a.u32(1), uint32(len(d.name)))
	copy(p, d.name)
	return err
}

func (w *World) preopened(fd uint32) (*descriptor, error) {
	d, err := w.get(fd)
	if err == nil && !d.preopen {
		return nil, eBadf
	}
	return d, err
}

// onDisk are the objects that have an os.File.
type onDisk interface {
	disk() *os.File
	isReadOnly() bool // its mount is
}

func fdFilestatGet(w *World, m memory, a args) error {
	d, err := w.get(a.u32(0))
	if err != nil {
		return err
	}
	if err := d.check(rightFilestatGet); err != nil {
		return err
	}
	f, ok := d.object.(onDisk)
	if !ok {
		return m.putFilestat(a.u32(1), d.object.filetype(), &syscall.Stat_t{})
	}
	info, err := f.disk().Stat()
	if err != nil {
		return err
	}
	return m.putFileInfo(a.u32(1), info)
}

func (m memory) putFileInfo(ptr uint32, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return eNotsup
	}
	return m.putFilestat(ptr, typeOf(info.Mode()), st)
}

func (m memory) putFilestat(ptr uint32, t filetype, st *syscall.Stat_t) error {
	p, err := m.view(ptr, filestatBytes)
	if err != nil {
		return err
	}
	for i, v := range [...]uint64{
		st.Dev, st.Ino, uint64(t), uint64(st.Nlink), uint64(st.Size), //nolint:unconvert // Nlink differs by platform
		uint64(st.Atim.Nano()), uint64(st.Mtim.Nano()), uint64(st.Ctim.Nano()),
	} {
		binary.LittleEndian.PutUint64(p[8*i:], v)
	}
	return nil
}

func typeOf(mode fs.FileMode) filetype {
	switch {
	case mode.IsRegular():
		return typeRegular
	case mode.IsDir():
		return typeDirectory
	case mode&fs.ModeSymlink != 0:
		return typeSymlink
	case mode&fs.ModeCharDevice != 0:
		return typeCharacterDevice
	case mode&fs.ModeDevice != 0:
		return typeBlockDevice
	case mode&fs.ModeSocket != 0:
		return typeSocketStream
	}
	return typeUnknown
}
