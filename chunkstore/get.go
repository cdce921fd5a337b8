package chunkstore

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cloudless/cloudless/api"
)

// ErrCorrupt is the cause when a chunk is stored here but damaged. What is left of it has been moved
// aside; whoever needs it takes it from another node, and a Put of it makes all well.
var ErrCorrupt = errors.New("its stored bytes are damaged")

// Get appends a chunk to buf and returns it; its checksum was compared. A chunk that is not here is
// CodeNotFound; of one that is damaged ErrCorrupt is the cause.
func (c *Chunks) Get(digest string, buf []byte) ([]byte, error) {
	k, err := c.begin(digest)
	if err != nil {
		return nil, err
	}
	defer c.leave()
	return c.get(k, buf, nil)
}

// GetRange appends bytes of a chunk, from offset on, at most n. All of the chunk is read, so that its
// checksum can be compared.
func (c *Chunks) GetRange(digest string, offset, n int64, buf []byte) ([]byte, error) {
	if offset < 0 || n < 0 {
		return nil, api.Errorf(api.CodeInvalid, "a range of %d bytes from %d", n, offset)
	}
	start := len(buf)
	buf, err := c.Get(digest, buf)
	if err != nil {
		return nil, err
	}
	chunk := buf[start:]
	chunk = chunk[min(offset, int64(len(chunk))):]
	chunk = chunk[:min(n, int64(len(chunk)))]
	return buf[:start+copy(buf[start:], chunk)], nil
}

// Has tells whether a chunk is here and not known to be damaged.
func (c *Chunks) Has(digest string) (bool, error) {
	k, err := c.begin(digest)
	if err != nil {
		return false, err
	}
	defer c.leave()
	return c.has(k)
}

// Stat tells how a chunk is stored; its errors are those of Get.
func (c *Chunks) Stat(digest string) (ChunkInfo, error) {
	k, err := c.begin(digest)
	if err != nil {
		return ChunkInfo{}, err
	}
	defer c.leave()
	e, err := c.lookup(k)
	return e.info(k), err
}

func (c *Chunks) has(k key) (bool, error) {
	_, err := c.lookup(k)
	if api.CodeOf(err) == api.CodeNotFound || errors.Is(err, ErrCorrupt) {
		return false, nil
	}
	return err == nil, err
}

// get reads a chunk. A further check may be made of it.
func (c *Chunks) get(k key, buf []byte, check func([]byte) error) ([]byte, error) {
	return c.find(k, func(e entry) ([]byte, error) {
		out, err := c.load(k, e, buf)
		if err == nil && check != nil {
			err = check(out[len(buf):])
		}
		return out, err
	})
}

// find reads a chunk where it is. A compaction may move it meanwhile: then it is looked up again. What
// fails where it is, is damaged.
func (c *Chunks) find(k key, load func(entry) ([]byte, error)) ([]byte, error) {
	e, err := c.lookup(k)
	for err == nil {
		out, failed := load(e)
		if failed == nil {
			return out, nil
		}
		was := e
		if e, err = c.lookup(k); err == nil && e == was {
			return nil, c.condemn(k, e, failed)
		}
	}
	return nil, err
}

// lookup says where a chunk is.
func (c *Chunks) lookup(k key) (entry, error) {
	value, closer, err := c.db.Get(indexKey(chunkKeys, k[:]))
	if errors.Is(err, pebble.ErrNotFound) {
		return entry{}, c.absent(k)
	}
	if err != nil {
		return entry{}, c.unreadable(err)
	}
	e, err := decodeEntry(value)
	if err = errors.Join(err, closer.Close()); err != nil {
		return entry{}, c.unreadable(err)
	}
	return e, nil
}

// absent tells a chunk that was damaged from one that never was here.
func (c *Chunks) absent(k key) error {
	why, closer, err := c.db.Get(indexKey(damageKeys, k[:]))
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return api.Errorf(api.CodeNotFound, "chunk %s is not stored here", k)
	case err != nil:
		return c.unreadable(err)
	}
	return errors.Join(corruptError(k, string(why)), closer.Close())
}

func corruptError(k key, why string) error {
	e := api.Errorf(api.CodeInternal, "chunk %s is damaged on this node: %s", k, why)
	e.Err = ErrCorrupt
	return e.WithHint("take it from another node and put it here again")
}

// load reads and checks a record, and appends its chunk to buf.
func (c *Chunks) load(k key, e entry, buf []byte) ([]byte, error) {
	if e.inline {
		return c.loadValue(k, buf)
	}
	var out []byte
	err := c.readers.read(e.segment, func(file vfs.File) (err error) {
		var h head
		if h, err = readHead(file, e.offset); err != nil {
			return err
		}
		if h.key != k || h.codec != e.codec || h.raw != e.raw || h.stored != e.stored {
			return fmt.Errorf("%w: it is of another chunk", errHead)
		}
		out, err = loadBody(file, e.offset+headBytes, h, buf)
		return err
	})
	return out, err
}

// loadBody reads the stored bytes behind a head. Those that are the chunk go straight into buf.
func loadBody(file vfs.File, offset int64, h head, buf []byte) ([]byte, error) {
	if h.codec == Raw {
		buf = grow(buf, int(h.raw))
		body := buf[len(buf) : len(buf)+int(h.raw)]
		if err := errors.Join(readFull(file, body, offset), h.check(body)); err != nil {
			return nil, err
		}
		return buf[:len(buf)+len(body)], nil
	}
	stored := GetBuffer(int(h.stored))
	defer PutBuffer(stored)
	if err := readFull(file, *stored, offset); err != nil {
		return nil, err
	}
	if err := h.check(*stored); err != nil {
		return nil, err
	}
	return h.open(buf, *stored)
}

func (c *Chunks) loadValue(k key, buf []byte) ([]byte, error) {
	value, closer, err := c.db.Get(indexKey(valueKeys, k[:]))
	if err != nil {
		return nil, err
	}
	h, err := decodeHead(value)
	if err == nil && h.key != k {
		err = fmt.Errorf("%w: it is of another chunk", errHead)
	}
	if err == nil {
		err = h.check(value[headBytes:])
	}
	var out []byte
	if err == nil {
		out, err = h.open(buf, value[headBytes:])
	}
	return out, errors.Join(err, closer.Close())
}

func readHead(file vfs.File, offset int64) (head, error) {
	var b [headBytes]byte
	if err := readFull(file, b[:], offset); err != nil {
		return head{}, err
	}
	return decodeHead(b[:])
}

// readFull fills p. That the file ends before is the damage of a disk that lost what it had synced.
func readFull(file vfs.File, p []byte, offset int64) error {
	n, err := file.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// isDamage tells a stored chunk that cannot be read from a process that cannot read just now.
func isDamage(err error) bool {
	var path *os.PathError
	if errors.As(err, &path) && path.Op == "open" {
		return errors.Is(err, os.ErrNotExist)
	}
	return true
}

// unreadable is the error of an index that cannot be read. Pebble has told already when it is damaged;
// a value that makes no sense is told here.
func (c *Chunks) unreadable(err error) error {
	if code := api.CodeOf(err); code != api.CodeInternal {
		return err // it is no failure of the index
	}
	if errors.Is(err, errIndex) {
		c.fault.set(errors.Join(err, c.requestRebuild()))
	}
	return damagedIndex(c.dir, err)
}
