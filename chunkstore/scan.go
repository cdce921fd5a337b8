package chunkstore

import (
	"bytes"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// scanBytes is how much is read at once while looking for the next record.
const scanBytes = 64 << 10

// scan calls f with the head of each record that lies whole in file[from:to). What is no head is
// passed over up to the next one, so that damage hides no more than itself. The stored bytes are for f
// to check: it says whether they are to be passed over, for the bytes of a chunk may look like a head, and
// then others may lie in what it says that it has.
func scan(file vfs.File, from, to int64, f func(at int64, h head) (pass bool, err error)) error {
	for at := from; at+headBytes <= to; {
		h, err := readHead(file, at)
		pass := false
		if err == nil && at+h.bytes() <= to {
			if pass, err = f(at, h); err != nil {
				return err
			}
		}
		if pass {
			at += h.bytes()
		} else {
			at = nextMagic(file, at+1, to)
		}
	}
	return nil
}

// nextMagic is where the next head may be, to if there is none. What cannot be read is passed over.
func nextMagic(file vfs.File, from, to int64) int64 {
	buf := GetBuffer(scanBytes)
	defer PutBuffer(buf)
	for from < to {
		n, err := file.ReadAt((*buf)[:min(scanBytes, to-from)], from)
		if at := bytes.Index((*buf)[:n], []byte(recordMagic)); at >= 0 {
			return from + int64(at)
		}
		switch {
		case err == io.EOF:
			return to
		case err != nil:
			from += scanBytes
		case n < len(recordMagic):
			return to
		default:
			from += int64(n) - int64(len(recordMagic)) + 1 // it may lie across the border
		}
	}
	return to
}
