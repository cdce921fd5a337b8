package chunkstore

import (
	"crypto/sha256"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cloudless/cloudless/api"
)

// A packed chunk is the record of one: its head and its stored bytes. That is how a node gives a chunk
// to another one that is to keep it, so that nobody compresses it once more, and it stays as small as
// the one who put it wanted it to be.

// PackedHead is how long the head of a packed chunk is.
const PackedHead = headBytes

// PackedBytes is how many bytes follow the head of a packed chunk.
func PackedBytes(head [PackedHead]byte) (int, error) {
	h, err := decodeHead(head[:])
	return int(h.stored), err
}

// Pack appends a chunk to buf as it is stored; its checksum was compared. Its errors are those of Get.
func (c *Chunks) Pack(digest string, buf []byte) ([]byte, error) {
	k, err := c.begin(digest)
	if err != nil {
		return nil, err
	}
	defer c.leave()
	return c.find(k, func(e entry) ([]byte, error) { return c.loadRecord(k, e, buf) })
}

// loadRecord appends a checked record to buf.
func (c *Chunks) loadRecord(k key, e entry, buf []byte) ([]byte, error) {
	start := len(buf)
	buf, err := c.readRecord(k, e, buf)
	if err != nil {
		return nil, err
	}
	h, err := decodeHead(buf[start:])
	switch {
	case err != nil:
		return nil, err
	case h.key != k:
		return nil, fmt.Errorf("%w: it is of another chunk", errHead)
	}
	return buf, h.check(buf[start+headBytes:])
}

func (c *Chunks) readRecord(k key, e entry, buf []byte) ([]byte, error) {
	if e.inline {
		value, closer, err := c.db.Get(indexKey(valueKeys, k[:]))
		if err != nil {
			return nil, err
		}
		return append(buf, value...), closer.Close()
	}
	n := headBytes + int(e.stored)
	buf = grow(buf, n)
	into := buf[len(buf) : len(buf)+n]
	return buf[:len(buf)+n], c.readers.read(e.segment, func(file vfs.File) error { return readFull(file, into, e.offset) })
}

// Unpack makes a chunk of a packed one, whose bytes must not change before it is put. It has the digest
// that it says; the error is CodeUnsupMedia if the bytes are others.
func Unpack(packed []byte) (Chunk, error) {
	h, err := decodeHead(packed)
	if err == nil {
		err = h.check(packed[headBytes:])
	}
	var sum key
	if err == nil {
		sum, err = h.digest(packed[headBytes:])
	}
	if err == nil && sum != h.key {
		err = fmt.Errorf("the bytes are %s, announced was %s", sum, h.key)
	}
	if err != nil {
		return Chunk{}, api.Errorf(api.CodeUnsupMedia, "a packed chunk was changed on its way: %w", err).WithHint("send it again")
	}
	return Chunk{Digest: h.key.String(), packed: &packing{h, packed[headBytes:]}}, nil
}

// packing is a chunk as it is to be stored, which is known to have its digest.
type packing struct {
	head head
	body []byte
}

// record is the chunk on its way to the disk; nil when it is not packed.
func (p *packing) record() *record {
	if p == nil {
		return nil
	}
	return &record{key: p.head.key, raw: int(p.head.raw), data: p.body, codec: p.head.codec, body: p.body, sum: p.head.sum, summed: true}
}

// digest is that of the chunk in checked stored bytes.
func (h head) digest(stored []byte) (key, error) {
	if h.codec == Raw {
		return sha256.Sum256(stored), nil
	}
	buf := GetBuffer(int(h.raw))
	defer PutBuffer(buf)
	data, err := h.open((*buf)[:0], stored)
	return sha256.Sum256(data), err
}
