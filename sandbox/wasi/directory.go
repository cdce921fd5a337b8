package wasi

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

const (
	direntBytes   = 24
	readdirAtOnce = 256 // names read from the host at a time, and held
	// dots is how many names come before those of the host: . and ..
	dots = 2
)

// directory is an open directory. Paths are resolved in root, which is the directory itself, so none
// leads above it.
type directory struct {
	*os.File // to read it
	root     *os.Root
	volume   *Volume
	readOnly bool
	list     listing
}

// listing is a piece of a directory's names in the host's order.
type listing struct {
	start uint64 // the number of the first of names
	names []string
}

func (d *directory) filetype() filetype { return typeDirectory }
func (d *directory) disk() *os.File     { return d.File }
func (d *directory) isReadOnly() bool   { return d.readOnly }

func (d *directory) close() error {
	err := d.File.Close()
	if d.root != d.volume.root {
		d.volume.leave()
		err = errors.Join(err, d.root.Close())
	}
	return err
}

// subdirectory opens the directory at path, which the caller has opened too, as f.
func (d *directory) subdirectory(path string, f *os.File) (*directory, error) {
	root, err := d.root.OpenRoot(path + "/.") // the dot: never to wait for a FIFO
	if err != nil {
		return nil, err
	}
	sub := &directory{File: f, root: root, volume: d.volume, readOnly: d.readOnly}
	if !sub.isOne() {
		_ = root.Close()
		return nil, eNoent // the path came to mean something else in between
	}
	return sub, nil
}

func (d *directory) isOne() bool {
	a, err := d.root.Stat(".")
	if err != nil {
		return false
	}
	b, err := d.Stat()
	return err == nil && os.SameFile(a, b)
}

// place is a name in an open directory, for the *at system calls that os.Root has not got as preview 1
// wants them. base is one component, and . rather than ..; those calls do not follow it.
type place struct {
	dir   *os.File
	base  string
	slash bool // the path ended in one
	owned bool
}

// place resolves all of a path but its last component.
func (d *directory) place(path string) (place, error) {
	name := strings.TrimRight(path, "/")
	p := place{slash: len(name) < len(path)}
	parent := "."
	p.base = name
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		parent, p.base = name[:i], name[i+1:]
	}
	if p.base == "." || p.base == ".." {
		parent, p.base = name, "."
	}
	if parent == "." {
		p.dir = d.File
		return p, nil
	}
	var err error
	p.dir, err = d.root.OpenFile(parent, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	p.owned = true
	return p, err
}

func (p place) close() {
	if p.owned {
		_ = p.dir.Close()
	}
}

func (p place) fd() int { return int(p.dir.Fd()) }

// stat is what the name itself stands for.
func (p place) stat() (*unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(p.fd(), p.base, &st, unix.AT_SYMLINK_NOFOLLOW)
	return &st, err
}

// mustBeDirectory is an error if the path ended in a slash and stands for something else.
func (p place) mustBeDirectory() error {
	if !p.slash {
		return nil
	}
	st, err := p.stat()
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return eNotdir
	}
	return err
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// fdReaddir gives the names from number cookie on, the last one cut where the buffer ends.
func fdReaddir(w *World, m memory, a args) error {
	dir, err := w.directory(a.u32(0), rightReaddir)
	if err != nil {
		return err
	}
	buf, err := m.view(a.u32(1), a.u32(2))
	if err != nil {
		return err
	}
	used := 0
	for cookie := a.u64(3); used < len(buf); cookie++ {
		if cookie%readdirAtOnce == 0 {
			w.ended()
			w.config.Charge(readdirAtOnce * direntBytes)
		}
		entry, err := dir.entry(cookie)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		used += copy(buf[used:], entry)
	}
	return m.putU32(a.u32(4), uint32(used))
}

// entry is the dirent of the name with a number; empty for one that is gone by now, or that no path of
// preview 1 can name because it is not UTF-8.
func (d *directory) entry(number uint64) ([]byte, error) {
	name, path := ".", "."
	switch number {
	case 0:
	case 1:
		name = ".." // with the directory's own inode, as at the top: what is above is not the guest's to know
	default:
		var err error
		if name, err = d.list.name(d.File, number-dots); err != nil {
			return nil, err
		}
		path = name
	}
	if !utf8.ValidString(name) {
		return nil, nil
	}
	info, err := d.root.Lstat(path)
	if isNotExist(err) && number >= dots {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, eNotsup
	}
	entry := make([]byte, direntBytes, direntBytes+len(name))
	binary.LittleEndian.PutUint64(entry, number+1)
	binary.LittleEndian.PutUint64(entry[8:], st.Ino)
	binary.LittleEndian.PutUint32(entry[16:], uint32(len(name)))
	entry[20] = byte(typeOf(info.Mode()))
	return append(entry, name...), nil
}

// name finds the name with a number. Going back beyond what is held begins anew.
func (l *listing) name(dir *os.File, number uint64) (string, error) {
	if number == 0 || number < l.start {
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return "", err
		}
		*l = listing{}
	}
	for number-l.start >= uint64(len(l.names)) {
		names, err := dir.Readdirnames(readdirAtOnce)
		if err != nil {
			return "", err // io.EOF at the end
		}
		l.start += uint64(len(l.names))
		l.names = names
	}
	return l.names[number-l.start], nil
}
