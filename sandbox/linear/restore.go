package linear

import (
	"bytes"
	"errors"
	"fmt"
	"unsafe"
)

// A region that was restored once is a private mapping of the image's file. A page that the guest
// writes to becomes the region's own. Restoring copies the image over the region's own pages and leaves
// them its own: so the pages that every request writes to are copied each time, which is cheaper than
// dropping them and having them fault again, and all others stay shared.
//
// A request that touches more than usual would make all after it pay. So when a region owns more than
// sparePages above twice what a single request touched, all is dropped and learnt anew. Every page that
// is dropped was touched since the last time, so that dropping costs at most a fixed part of touching.
const sparePages = 16

// comparedBytes is the size up to which all pages are compared with the image, since to ask the kernel for
// those that were written takes longer: with a page of wasm twice as long, with two it makes no difference. To
// count faults takes as long as to compare, with a page.
const comparedBytes = 64 << 10

// Restore makes the region hold what the image does, and zeros behind it. What the region has grown
// to stays usable. After an error the region may only be closed.
func (r *Region) Restore(im *Image) error {
	known := r.knownStill()
	r.endWatch()
	switch {
	case r.arena == nil:
		return errors.New("linear memory: the region is closed")
	case r.image != im:
		return r.adopt(im)
	case known:
		for _, own := range r.own {
			r.putBack(uint64(own.from), uint64(own.to))
		}
		return nil
	case r.small():
		r.known = false // what it owns, should it grow
		r.putBack(0, r.pages())
		return nil
	}
	return r.restoreWritten()
}

func (r *Region) small() bool { return r.size <= comparedBytes }

// restoreWritten restores what the kernel says was written to.
func (r *Region) restoreWritten() error {
	own, dear := uint64(0), uint64(0)
	if r.usual > 0 {
		dear = 2*r.usual + sparePages
	}
	r.ownsNothing()
	err := r.arena.pages.own(r.span.base, r.pages(), func(from, to uint64) bool {
		if own += to - from; dear > 0 && own > dear {
			return false
		}
		r.note(from, to)
		r.putBack(from, to)
		return true
	})
	switch {
	case err != nil:
		return fmt.Errorf("linear memory: find what was written: %w", err)
	case dear > 0 && own > dear:
		return r.Trim()
	case r.usual == 0:
		r.usual = own
	}
	return nil
}

// putBack restores pages. One that is as it should be is not written to, as it may be shared.
func (r *Region) putBack(from, to uint64) {
	for at := from * pageBytes; at < to*pageBytes; at += pageBytes {
		page, want := unsafe.Slice((*byte)(r.at(at)), pageBytes), r.image.page(at)
		if !bytes.Equal(page, want) {
			copy(page, want)
		}
	}
}

// Trim restores the region by dropping every page of its own, so that it costs nothing until it is used
// again. A region that was never restored is left alone.
func (r *Region) Trim() error {
	if r.image == nil {
		return nil
	}
	if err := r.drop(); err != nil {
		return err
	}
	r.usual = 0
	r.ownsNothing()
	return nil
}

// adopt maps the image in place of all that the region holds.
func (r *Region) adopt(im *Image) error {
	if !im.hold() {
		return errors.New("linear memory: the image is closed")
	}
	if err := r.remap(im); err != nil {
		return errors.Join(err, im.release())
	}
	err := r.leaveImage()
	r.image, r.usual = im, 0
	r.ownsNothing()
	return err
}

func (r *Region) remap(im *Image) error {
	size := max(r.size, im.size)
	if !r.charge(size) {
		return fmt.Errorf("linear memory: an image of %d bytes does not fit into a region with a limit of %d, or passes its budget", im.size, r.limit)
	}
	if err := r.unmap(); err != nil {
		return err
	}
	if len(im.view) > 0 {
		if _, err := im.share(r.span.base); err != nil {
			return fmt.Errorf("linear memory: map an image of %d bytes: %w", im.size, err)
		}
	}
	r.span.usable, r.span.shared = uint64(len(im.view)), true
	if err := r.commit(pageUp(size)); err != nil {
		return fmt.Errorf("linear memory: commit %d bytes behind an image: %w", size, err)
	}
	r.size = size
	return nil
}

// leaveImage lets go of what the region shared pages with.
func (r *Region) leaveImage() error {
	if r.image == nil {
		return nil
	}
	return r.image.release()
}

func (r *Region) pages() uint64 { return pageUp(r.size) / pageBytes }
