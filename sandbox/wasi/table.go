package wasi

import "slices"

// descriptor is one open thing as the guest sees it. All that changes while it is used is in here, so
// that a copy is enough to put it back (Restore).
type descriptor struct {
	object           object
	base, inheriting rights
	flags            fdflags
	offset           int64  // of a file
	preopen          bool   // it was there from the start
	name             string // of a mount
	kept             bool   // it is in the mark, so closing it closes the number only
}

// object is what descriptors stand for: input, output, file, directory, acceptor, socket.
type object interface {
	filetype() filetype
	close() error
}

// source and sink are the objects that a guest may read and write. wait tells whether to wait if nothing
// can be moved now; if not, that is eAgain.
type (
	source interface {
		read(w *World, d *descriptor, p []byte, wait bool) (int, error)
	}
	sink interface {
		write(w *World, d *descriptor, p []byte, wait bool) (int, error)
	}
)

// get finds an open descriptor.
func (w *World) get(fd uint32) (*descriptor, error) {
	if uint64(fd) >= uint64(len(w.table)) || w.table[fd] == nil {
		return nil, eBadf
	}
	return w.table[fd], nil
}

// file finds an open file that may be used for what needs.
func (w *World) file(fd uint32, needs rights) (*descriptor, *file, error) {
	d, err := w.get(fd)
	if err != nil {
		return nil, nil, err
	}
	switch f := d.object.(type) {
	case *file:
		return d, f, d.check(needs)
	case *directory:
		if needs == rightRead {
			return nil, nil, eIsdir
		}
		return nil, nil, eBadf
	}
	return nil, nil, eSpipe
}

// directory finds an open directory that may be used for what needs.
func (w *World) directory(fd uint32, needs rights) (*directory, error) {
	d, err := w.get(fd)
	if err != nil {
		return nil, err
	}
	dir, ok := d.object.(*directory)
	if !ok {
		return nil, eNotdir
	}
	return dir, d.check(needs)
}

// check tells whether the descriptor's rights allow what needs. Of reading and writing POSIX says that
// the descriptor is bad, and guests expect of truncating by a path what POSIX says of files that they
// may not write.
func (d *descriptor) check(needs rights) error {
	switch missing := needs &^ d.base; {
	case missing == 0:
		return nil
	case missing&(rightRead|rightWrite) != 0:
		return eBadf
	case missing == rightPathSetSize:
		return ePerm
	}
	return eNotcapable
}

// free is the lowest number that is not in use, so long as there may be one more.
func (w *World) free() (uint32, error) {
	if i := slices.Index(w.table, nil); i >= 0 {
		return uint32(i), nil
	}
	if len(w.table) >= w.config.Descriptors {
		return 0, eMfile
	}
	return uint32(len(w.table)), nil
}

// put opens d under a number that free has found.
func (w *World) put(fd uint32, d *descriptor) {
	if int(fd) == len(w.table) {
		w.table = append(w.table, nil)
	}
	w.table[fd] = d
}

// drop takes a number out of use.
func (w *World) drop(fd uint32) error {
	d := w.table[fd]
	w.table[fd] = nil
	if d.kept {
		return nil
	}
	return d.object.close()
}

func fdClose(w *World, _ memory, a args) error {
	if _, err := w.get(a.u32(0)); err != nil {
		return err
	}
	return w.drop(a.u32(0))
}

func fdRenumber(w *World, _ memory, a args) error {
	from, to := a.u32(0), a.u32(1)
	d, err := w.get(from)
	if err != nil {
		return err
	}
	if _, err := w.get(to); err != nil || from == to {
		return err
	}
	err = w.drop(to)
	w.table[to], w.table[from] = d, nil
	return err
}

// saved is a descriptor of the mark, by its number in the list.
type saved struct {
	fd         int
	descriptor *descriptor
	state      descriptor
}

// Mark remembers the table of descriptors as it is now, for Restore.
func (w *World) Mark() {
	w.unmark()
	for fd, d := range w.table {
		if d != nil {
			d.kept = true
			w.marked = append(w.marked, saved{fd, d, *d})
		}
	}
	w.hasMark = true
}

// Changed tells whether other things are open than at the mark, or under other numbers. Go's runtime sets the flags
// of its standard streams, which count for nothing here.
func (w *World) Changed() bool {
	open := 0
	for _, d := range w.table {
		if d != nil {
			open++
		}
	}
	return open != len(w.marked) || slices.ContainsFunc(w.marked, func(s saved) bool {
		return s.fd >= len(w.table) || w.table[s.fd] != s.descriptor
	})
}

// unmark forgets the mark, and closes what was open in it only.
func (w *World) unmark() {
	for _, s := range w.marked {
		s.descriptor.kept = false
		if !slices.Contains(w.table, s.descriptor) {
			_ = s.descriptor.object.close() // the guest was told that it is closed
		}
	}
	w.marked, w.hasMark = nil, false
}

// Restore puts the table back to the mark: what was opened since is closed, what was closed is open
// again, and numbers, rights, flags and offsets are what they were. Contents of files stay as they are.
// False means that it cannot be done and the instance is not to be used again: there is no mark, a
// connection was open in it, or the reader of standard input has not returned yet.
func (w *World) Restore() bool {
	if !w.hasMark || !w.stdin.idle() {
		return false
	}
	for _, s := range w.marked {
		if _, ok := s.descriptor.object.(*socket); ok {
			return false
		}
	}
	for fd, d := range w.table {
		if d != nil {
			_ = w.drop(uint32(fd)) // as when a process ends
		}
	}
	w.table = w.table[:0]
	for _, s := range w.marked {
		for len(w.table) <= s.fd {
			w.table = append(w.table, nil)
		}
		*s.descriptor = s.state
		w.table[s.fd] = s.descriptor
	}
	return true
}
