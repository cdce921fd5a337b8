package wasi

import (
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// The modes of what guests make. All guests of a volume are one workload's.
const (
	newFileMode      = 0o644
	newDirectoryMode = 0o755
)

// maxOpen bounds what all guests of a volume have open in it, the volume itself left out: each has hundreds of
// descriptors, and the agent not many more for all that it does. A directory takes two of the agent's.
const maxOpen = 1024

// VolumeLimits bounds what guests may put into a volume; 0: no bound.
type VolumeLimits struct {
	Bytes int64 // the lengths of all files together, holes counted
	Names int64 // files, directories, links
}

// Volume is a folder of the host that guests see as a mount. All instances of a workload share one, so
// that its bounds hold for them together. It is safe for concurrent use.
//
// Its counts are right as long as only guests change the folder. What others do moves them by as much,
// until the volume is opened again.
type Volume struct {
	root   *os.Root
	limits VolumeLimits

	// names is held while names come and go: whether one is new, or the last of its file, is then known.
	names sync.Mutex

	mu    sync.Mutex
	used  VolumeLimits
	open  int
	nodes map[inode]*node // of open files
}

// inode is a file's identity on the host, node what the open descriptors of one file share.
type (
	inode struct{ dev, ino uint64 }
	node  struct {
		sync.Mutex
		id   inode
		open int
	}
)

// OpenVolume opens dir as a volume, and counts what is in it if there are limits.
func OpenVolume(dir string, limits VolumeLimits) (*Volume, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	v := &Volume{root: root, limits: limits, nodes: map[inode]*node{}}
	if limits != (VolumeLimits{}) {
		if err := v.measure(); err != nil {
			_ = root.Close()
			return nil, fmt.Errorf("measure the volume %q: %w", dir, err)
		}
	}
	return v, nil
}

// measure counts what is in the volume, each file once however many names it has.
func (v *Volume) measure() error {
	seen := map[inode]bool{}
	return fs.WalkDir(v.root.FS(), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		v.used.Names++
		if !entry.Type().IsRegular() {
			return nil
		}
		info, err := v.root.Lstat(path)
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
			id := inode{st.Dev, st.Ino}
			if seen[id] {
				return nil
			}
			seen[id] = true
		}
		v.used.Bytes += info.Size()
		return nil
	})
}

// Used tells what is in the volume, as far as it is counted (OpenVolume).
func (v *Volume) Used() VolumeLimits {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.used
}

// Close gives the folder back. The guests that have it mounted must be closed before.
func (v *Volume) Close() error { return v.root.Close() }

// enter counts one more that is open, and leave one less.
func (v *Volume) enter() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.open >= maxOpen {
		return false
	}
	v.open++
	return true
}

func (v *Volume) leave() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.open--
}

// top is the volume's top directory for one guest.
func (v *Volume) top(readOnly bool) (*directory, error) {
	f, err := v.root.Open(".")
	if err != nil {
		return nil, err
	}
	return &directory{File: f, root: v.root, volume: v, readOnly: readOnly}, nil
}

// take takes up to n bytes of what is free.
func (v *Volume) take(n int64) int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.limits.Bytes > 0 {
		n = min(n, v.limits.Bytes-v.used.Bytes)
	}
	n = max(n, 0)
	v.used.Bytes += n
	return n
}

// give gives n bytes back, if it is more than 0.
func (v *Volume) give(n int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.used.Bytes -= max(n, 0)
}

func (v *Volume) giveName() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.used.Names--
}

func (v *Volume) takeName() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.limits.Names > 0 && v.used.Names >= v.limits.Names {
		return false
	}
	v.used.Names++
	return true
}

// add makes one new name.
func (v *Volume) add(create func() error) error {
	v.names.Lock()
	defer v.names.Unlock()
	return v.addLocked(create)
}

func (v *Volume) addLocked(create func() error) error {
	if !v.takeName() {
		return eDquot
	}
	err := create()
	if err != nil {
		v.giveName()
	}
	return err
}

// remove takes the name at p away.
func (v *Volume) remove(p place, unlink func() error) error {
	v.names.Lock()
	defer v.names.Unlock()
	st, err := p.stat()
	if err != nil {
		return err
	}
	freed := v.freed(st)
	if err := unlink(); err != nil {
		return err
	}
	v.giveName()
	v.give(freed)
	return nil
}

// rename moves the name at from to to, and takes away what was there.
func (v *Volume) rename(from, to place) error {
	v.names.Lock()
	defer v.names.Unlock()
	source, err := from.stat()
	if err != nil {
		return err
	}
	over, err := to.stat()
	replaces := err == nil && idOf(over) != idOf(source) // two names of one file stay both
	freed := int64(0)
	if replaces {
		freed = v.freed(over)
	}
	if err := unix.Renameat(from.fd(), from.base, to.fd(), to.base); err != nil {
		return err
	}
	if replaces {
		v.giveName()
		v.give(freed)
	}
	return nil
}

// freed is how many bytes go with a name: those of a file that has no other and that no guest has
// open. If one has, they go when it is closed (release).
func (v *Volume) freed(st *unix.Stat_t) int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink > 1 || v.nodes[idOf(st)] != nil {
		return 0
	}
	return st.Size
}

func idOf(st *unix.Stat_t) inode { return inode{st.Dev, st.Ino} }

// openFile opens a file by open, which is given further flags, and makes it first if create says so
// (O_CREATE, O_EXCL). The node is nil for a directory. What is open leaves when it is closed.
func (v *Volume) openFile(create int, readOnly bool, open func(flags int) (*os.File, error)) (f *os.File, n *node, err error) {
	if !v.enter() {
		return nil, nil, eNfile
	}
	defer func() {
		if err != nil {
			v.leave()
		}
	}()
	v.names.Lock()
	defer v.names.Unlock()
	err = syscall.ENOENT
	if create&os.O_EXCL == 0 {
		f, err = open(0)
	}
	if create != 0 && isNotExist(err) {
		if readOnly {
			return nil, nil, eRofs
		}
		err = v.addLocked(func() (err error) {
			f, err = open(create)
			return err
		})
	}
	if err != nil {
		return nil, nil, err
	}
	if n, err = v.acquire(f); err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, n, nil
}

// acquire finds the node of an open file; v.names is held. A mount shows files, directories and
// symbolic links, not what else a folder may hold.
func (v *Volume) acquire(f *os.File) (*node, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return nil, nil
	case unix.S_IFREG:
	default:
		return nil, eNotsup
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	id := idOf(&st)
	n := v.nodes[id]
	if n == nil {
		n = &node{id: id}
		v.nodes[id] = n
	}
	n.open++
	return n, nil
}

// release closes an open file. The last one to close a file that has no name any more frees its bytes.
func (v *Volume) release(f *os.File, n *node) error {
	v.names.Lock()
	defer v.names.Unlock()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		st = unix.Stat_t{Nlink: 1}
	}
	v.mu.Lock()
	v.open--
	if n.open--; n.open == 0 {
		delete(v.nodes, n.id)
		if st.Nlink == 0 {
			v.used.Bytes -= st.Size
		}
	}
	v.mu.Unlock()
	return f.Close()
}
