package wasi

import (
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pathCharge is what a path is charged: to resolve one takes about as long as to move so many bytes.
const pathCharge = 16 << 10

// lookupFollow makes a path's last component be followed if it is a symbolic link.
const lookupFollow = 1

// The flags of set_times.
const (
	timesAtim = 1 << iota
	timesAtimNow
	timesMtim
	timesMtimNow

	timesAll = 1<<iota - 1
)

// named finds the directory and path that a function's parameters name: descriptor, pointer, length.
func (w *World) named(m memory, fd, ptr, length uint32, needs rights) (*directory, string, error) {
	dir, err := w.directory(fd, needs)
	if err != nil {
		return nil, "", err
	}
	w.config.Charge(pathCharge)
	name, err := m.path(ptr, length)
	return dir, name, err
}

// changing is named for functions that change the directory.
func (w *World) changing(m memory, fd, ptr, length uint32, needs rights) (*directory, string, error) {
	dir, name, err := w.named(m, fd, ptr, length, needs)
	if err == nil && dir.readOnly {
		err = eRofs
	}
	return dir, name, err
}

func pathCreateDirectory(w *World, m memory, a args) error {
	dir, name, err := w.changing(m, a.u32(0), a.u32(1), a.u32(2), rightCreateDirectory)
	if err != nil {
		return err
	}
	return dir.volume.add(func() error { return dir.root.Mkdir(name, newDirectoryMode) })
}

func pathFilestatGet(w *World, m memory, a args) error {
	dir, name, err := w.named(m, a.u32(0), a.u32(2), a.u32(3), rightPathFilestatGet)
	if err != nil {
		return err
	}
	look := dir.root.Lstat
	switch a.u32(1) {
	case 0:
	case lookupFollow:
		look = dir.root.Stat
	default:
		return eInval
	}
	info, err := look(name)
	if err != nil {
		return err
	}
	return m.putFileInfo(a.u32(4), info)
}

// timestamp is one of the two times that set_times sets; zero: it stays.
func timestamp(ns uint64, set, setNow bool, now time.Time) (time.Time, error) {
	switch {
	case set && setNow, set && int64(ns) < 0:
		return time.Time{}, eInval
	case set:
		return time.Unix(0, int64(ns)), nil
	case setNow:
		return now, nil
	}
	return time.Time{}, nil
}

// timestamps reads the last three parameters of set_times, which begin at a[i].
func (w *World) timestamps(a args, i int) (atime, mtime time.Time, err error) {
	flags, now := a.u32(i+2), w.config.Wall()
	if flags&^timesAll != 0 {
		return atime, mtime, eInval
	}
	if atime, err = timestamp(a.u64(i), flags&timesAtim != 0, flags&timesAtimNow != 0, now); err == nil {
		mtime, err = timestamp(a.u64(i+1), flags&timesMtim != 0, flags&timesMtimNow != 0, now)
	}
	return atime, mtime, err
}

// timespecs is both times as the system takes them.
func timespecs(atime, mtime time.Time) []unix.Timespec {
	all := make([]unix.Timespec, 2)
	for i, t := range []time.Time{atime, mtime} {
		if t.IsZero() {
			all[i].Nsec = unix.UTIME_OMIT
		} else {
			all[i] = unix.NsecToTimespec(t.UnixNano())
		}
	}
	return all
}

func pathFilestatSetTimes(w *World, m memory, a args) error {
	dir, name, err := w.changing(m, a.u32(0), a.u32(2), a.u32(3), rightPathSetTimes)
	if err != nil {
		return err
	}
	atime, mtime, err := w.timestamps(a, 4)
	if err != nil {
		return err
	}
	switch a.u32(1) {
	case 0:
		return dir.at(name, func(p place) error {
			if err := p.mustBeDirectory(); err != nil {
				return err
			}
			return unix.UtimesNanoAt(p.fd(), p.base, timespecs(atime, mtime), unix.AT_SYMLINK_NOFOLLOW)
		})
	case lookupFollow:
		return dir.root.Chtimes(name, atime, mtime)
	}
	return eInval
}

// at runs do with the place of a path.
func (d *directory) at(name string, do func(place) error) error {
	p, err := d.place(name)
	if err != nil {
		return err
	}
	defer p.close()
	return do(p)
}

// between runs do with the places of two paths of one volume.
func between(from *directory, fromPath string, to *directory, toPath string, do func(from, to place) error) error {
	if from.volume != to.volume {
		return eXdev
	}
	return from.at(fromPath, func(f place) error {
		return to.at(toPath, func(t place) error { return do(f, t) })
	})
}

func pathLink(w *World, m memory, a args) error {
	from, fromPath, err := w.named(m, a.u32(0), a.u32(2), a.u32(3), rightLinkSource)
	if err != nil {
		return err
	}
	to, toPath, err := w.changing(m, a.u32(4), a.u32(5), a.u32(6), rightLinkTarget)
	if err != nil {
		return err
	}
	if a.u32(1) != 0 { // to follow a link is what no other implementation does either
		return eInval
	}
	if from.readOnly {
		return eRofs
	}
	return between(from, fromPath, to, toPath, func(f, t place) error {
		if err := f.mustBeDirectory(); err != nil {
			return err
		}
		if err := t.mustBeDirectory(); err != nil {
			return err
		}
		return to.volume.add(func() error { return unix.Linkat(f.fd(), f.base, t.fd(), t.base, 0) })
	})
}

func pathRename(w *World, m memory, a args) error {
	from, fromPath, err := w.changing(m, a.u32(0), a.u32(1), a.u32(2), rightRenameSource)
	if err != nil {
		return err
	}
	to, toPath, err := w.changing(m, a.u32(3), a.u32(4), a.u32(5), rightRenameTarget)
	if err != nil {
		return err
	}
	return between(from, fromPath, to, toPath, func(f, t place) error {
		f.slash = f.slash || t.slash // either says that a directory is moved
		if err := f.mustBeDirectory(); err != nil {
			return err
		}
		return to.volume.rename(f, t)
	})
}

func pathReadlink(w *World, m memory, a args) error {
	dir, name, err := w.named(m, a.u32(0), a.u32(1), a.u32(2), rightReadlink)
	if err != nil {
		return err
	}
	buf, err := m.view(a.u32(3), a.u32(4))
	if err != nil {
		return err
	}
	target, err := dir.root.Readlink(name)
	if err != nil {
		return err
	}
	return m.putU32(a.u32(5), uint32(copy(buf, target)))
}

func pathSymlink(w *World, m memory, a args) error {
	target, err := m.path(a.u32(0), a.u32(1))
	if err != nil {
		return err
	}
	dir, name, err := w.changing(m, a.u32(2), a.u32(3), a.u32(4), rightSymlink)
	if err != nil {
		return err
	}
	if leaves(name, target) {
		return ePerm
	}
	return dir.volume.add(func() error { return dir.root.Symlink(target, name) })
}

// leaves tells whether a link at name to target leads above the directory that name begins in, as far
// as the names tell. Links on the way may lead elsewhere, but os.Root sees to it wherever a link is
// followed; to refuse here keeps links out of volumes that would mislead whoever else looks at them.
func leaves(name, target string) bool {
	depth := strings.Count(path.Clean(name), "/")
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return true
			}
		default:
			depth++
		}
	}
	return false
}

func pathUnlinkFile(w *World, m memory, a args) error {
	dir, name, err := w.changing(m, a.u32(0), a.u32(1), a.u32(2), rightUnlink)
	if err != nil {
		return err
	}
	return dir.at(name, func(p place) error {
		if err := p.mustBeDirectory(); err != nil {
			return err
		}
		return dir.volume.remove(p, func() error { return unix.Unlinkat(p.fd(), p.base, 0) })
	})
}

func pathRemoveDirectory(w *World, m memory, a args) error {
	dir, name, err := w.changing(m, a.u32(0), a.u32(1), a.u32(2), rightRemoveDirectory)
	if err != nil {
		return err
	}
	return dir.at(name, func(p place) error {
		return dir.volume.remove(p, func() error { return unix.Unlinkat(p.fd(), p.base, unix.AT_REMOVEDIR) })
	})
}

// setTimes sets the times of an open file. The system has a call for it, the packages at hand have not:
// so the file is named by its descriptor.
func setTimes(f *os.File, atime, mtime time.Time) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), timespecs(atime, mtime), 0)
}
