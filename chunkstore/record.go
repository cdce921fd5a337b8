package chunkstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A record is a chunk as it lies on the disk: a head and the stored bytes. It describes itself, so
// that an index which is lost can be made again from the segments.
//
//	 0  magic   "CLR1"
//	 4  codec   1 byte, then 3 bytes of zero
//	 8  raw     bytes of the chunk, little endian as all numbers here
//	12  stored  bytes that follow the head
//	16  digest  32 bytes
//	48  CRC32C  of the stored bytes
//	52  CRC32C  of the head up to here
const (
	recordMagic = "CLR1"
	headBytes   = 56

	// MaxChunkBytes is the largest chunk that the store takes.
	MaxChunkBytes = 4 << 20
	// inlineBytes is up to where a chunk's record is a value in the index and not in a segment.
	inlineBytes = 64 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	errHead   = errors.New("the head of the record is damaged")
	errStored = errors.New("the stored bytes do not have their checksum")
	errDigest = errors.New("the bytes do not have their digest")
)

// head is the decoded first part of a record.
type head struct {
	codec       Codec
	raw, stored uint32
	key         key
	sum         uint32 // of the stored bytes
}

// record is a chunk on its way to the disk.
type record struct {
	key   key
	raw   int    // bytes of the chunk; 0 until encode
	data  []byte // what the caller has of it: the chunk, or what is stored
	codec Codec  // asked for, then used
	body  []byte // what is stored; nil until encode
	sum   uint32 // its checksum
	from  *[]byte

	summed bool // the key was computed from the chunk
}

// bytes is the room that a record takes.
func (h head) bytes() int64 { return headBytes + int64(h.stored) }

func (h head) append(b []byte) []byte {
	start := len(b)
	b = append(b, recordMagic...)
	b = append(b, byte(h.codec), 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, h.raw)
	b = binary.LittleEndian.AppendUint32(b, h.stored)
	b = append(b, h.key[:]...)
	b = binary.LittleEndian.AppendUint32(b, h.sum)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// decodeHead reads the head at the start of b.
func decodeHead(b []byte) (head, error) {
	if len(b) < headBytes || string(b[:4]) != recordMagic {
		return head{}, errHead
	}
	if crc32.Checksum(b[:52], castagnoli) != binary.LittleEndian.Uint32(b[52:]) {
		return head{}, errHead
	}
	h := head{codec: Codec(b[4]), raw: binary.LittleEndian.Uint32(b[8:]), stored: binary.LittleEndian.Uint32(b[12:]), sum: binary.LittleEndian.Uint32(b[48:])}
	copy(h.key[:], b[16:])
	if !h.codec.known() || b[5]|b[6]|b[7] != 0 || h.raw == 0 || h.raw > MaxChunkBytes || h.stored > h.raw || h.codec == Raw && h.stored != h.raw {
		return head{}, fmt.Errorf("%w: it says %d bytes of %d with codec %d", errHead, h.stored, h.raw, b[4])
	}
	return h, nil
}

// check compares the stored bytes with the head.
func (h head) check(stored []byte) error {
	if len(stored) != int(h.stored) || crc32.Checksum(stored, castagnoli) != h.sum {
		return errStored
	}
	return nil
}

// open gives the chunk of checked stored bytes, appended to buf.
func (h head) open(buf, stored []byte) ([]byte, error) {
	return decompress(h.codec, buf, stored, int(h.raw))
}

// encode compresses the chunk and makes its head, unless that is done already.
func (r *record) encode() head {
	if r.body == nil {
		r.raw = len(r.data)
		r.codec, r.body, r.from = compress(r.codec, r.data)
		r.sum = crc32.Checksum(r.body, castagnoli)
	}
	return head{codec: r.codec, raw: uint32(r.raw), stored: uint32(len(r.body)), key: r.key, sum: r.sum}
}

// release gives back what encode took.
func (r *record) release() {
	PutBuffer(r.from)
	r.body, r.from = nil, nil
}

// inline tells whether the record is to be a value in the index. The chunk decides, not what is left
// of it when compressed, so that everybody can tell.
func (r *record) inline() bool { return r.raw <= inlineBytes }
