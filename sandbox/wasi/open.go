package wasi

import (
	"encoding/binary"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The flags of path_open.
const (
	openCreate = 1 << iota
	openDirectory
	openExclusive
	openTruncate

	openAll = 1<<iota - 1
)

// opening is what path_open is asked for.
type opening struct {
	path             string
	follow           bool
	flags            uint32
	base, inheriting rights
	fdflags          fdflags
}

func pathOpen(w *World, m memory, a args) error {
	o, err := openingOf(a)
	if err != nil {
		return err
	}
	dir, path, err := w.named(m, a.u32(0), a.u32(2), a.u32(3), o.needs())
	if err != nil {
		return err
	}
	o.path = path
	if parent := w.table[a.u32(0)]; !parent.inheriting.has(o.base | o.inheriting) {
		return eNotcapable
	}
	result, err := m.view(a.u32(8), 4) // looked at first: nothing is made that the guest cannot be told of
	if err != nil {
		return err
	}
	fd, err := w.free()
	if err != nil {
		return err
	}
	d, err := dir.openAs(o)
	if err != nil {
		return err
	}
	w.put(fd, d)
	binary.LittleEndian.PutUint32(result, fd)
	return nil
}

func openingOf(a args) (opening, error) {
	o := opening{
		follow: a.u32(1)&lookupFollow != 0, flags: a.u32(4), fdflags: fdflags(a.u32(7)),
		base: rights(a.u64(5)) & allRights, inheriting: rights(a.u64(6)) & allRights, // more may come to be
	}
	if a.u32(1)&^lookupFollow != 0 || o.flags&^openAll != 0 || a.u32(7)&^allFlags != 0 {
		return o, eInval
	}
	if o.has(openDirectory) && o.has(openCreate) {
		return o, eInval
	}
	return o, nil
}

func (o opening) has(flag uint32) bool { return o.flags&flag != 0 }

// needs are the rights that the directory must have.
func (o opening) needs() rights {
	needs := rightOpen
	if o.has(openCreate) {
		needs |= rightCreateFile
	}
	if o.has(openTruncate) {
		needs |= rightPathSetSize
	}
	return needs
}

// writes tells whether the host's file must be open for writing.
func (o opening) writes() bool { return o.base.has(rightWrite) || o.has(openTruncate) }

// hostFlags are the host's flags for it. Nothing is waited for (a FIFO), and no terminal taken over.
func (o opening) hostFlags() int {
	flags := syscall.O_NONBLOCK | syscall.O_NOCTTY
	switch {
	case o.writes() && o.base.has(rightRead):
		flags |= os.O_RDWR
	case o.writes():
		flags |= os.O_WRONLY
	}
	if o.has(openDirectory) {
		flags |= syscall.O_DIRECTORY
	}
	return flags
}

// create is how the host is to make the file, 0 if it is not.
func (o opening) create() int {
	switch {
	case !o.has(openCreate):
		return 0
	case o.has(openExclusive):
		return os.O_CREATE | os.O_EXCL
	}
	return os.O_CREATE
}

// openAs opens a file or directory.
func (d *directory) openAs(o opening) (*descriptor, error) {
	if d.readOnly && o.writes() {
		return nil, eRofs
	}
	if strings.HasSuffix(o.path, "/") {
		if o.has(openCreate) {
			return nil, eIsdir
		}
		o.flags, o.follow = o.flags|openDirectory, true // what stands before a slash is followed
	}
	flags := o.hostFlags()
	open := func(more int) (*os.File, error) { return d.root.OpenFile(o.path, flags|more, newFileMode) }
	if !o.follow {
		p, err := d.place(o.path)
		if err != nil {
			return nil, err
		}
		defer p.close()
		open = func(more int) (*os.File, error) { return p.open(flags | more) }
	}
	f, n, err := d.volume.openFile(o.create(), d.readOnly, open)
	if err != nil {
		return nil, err
	}
	return d.descriptor(o, f, n)
}

// open opens the name itself, and fails if it is a symbolic link.
func (p place) open(flags int) (*os.File, error) {
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Openat(p.fd(), p.base, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, newFileMode)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), p.base), nil
}

// descriptor makes a descriptor of what was opened, and closes that on failure.
func (d *directory) descriptor(o opening, host *os.File, n *node) (*descriptor, error) {
	made := &descriptor{inheriting: o.inheriting, flags: o.fdflags}
	if n == nil {
		sub, err := d.subdirectory(o.path, host)
		if err != nil {
			_ = host.Close()
			d.volume.leave()
			return nil, err
		}
		made.object, made.base = sub, o.base&directoryRights
		return made, nil
	}
	f := &file{File: host, volume: d.volume, node: n, readOnly: d.readOnly}
	if o.has(openTruncate) {
		if err := f.truncate(0); err != nil {
			_ = f.close()
			return nil, err
		}
	}
	made.object, made.base = f, o.base&fileRights
	if !o.writes() {
		made.base &^= writeRights
	}
	return made, nil
}
