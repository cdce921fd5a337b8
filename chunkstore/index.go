package chunkstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"
)

// The index is a Pebble database and the truth of what is stored. Its keys, one letter each and then
// what is named; digests are their 32 bytes, numbers big endian so that they sort:
//
//	c digest             where a chunk is and how it is stored (entry)
//	v digest             the record of a chunk that is kept in the index
//	p digest owner       the chunk is pinned by owner
//	o len(2) owner digest  the same from the owner's side
//	m digest             since when (Unix nanoseconds) a chunk is known to have no pin
//	q digest             the chunk was damaged; why
//	s segment(8)         bytes and live bytes of a segment
//	t                    totals
//	h                    nothing is collected before this time, see Collect
//	l                    nothing is collected before this time, for it would be much
//	x                    the chunk at which Scrub goes on
//	y                    when Scrub came to the end last
const (
	chunkKeys   = 'c'
	valueKeys   = 'v'
	pinKeys     = 'p'
	ownerKeys   = 'o'
	markKeys    = 'm'
	damageKeys  = 'q'
	segmentKeys = 's'
)

var (
	totalsKey = []byte("t")
	holdKey   = []byte("h")
	manyKey   = []byte("l")
	scrubKey  = []byte("x")
	wholeKey  = []byte("y")
)

// indexKey is a letter and what it names.
func indexKey(letter byte, parts ...[]byte) []byte {
	b := make([]byte, 1, 48)
	b[0] = letter
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func ownerKey(owner string) []byte {
	return indexKey(ownerKeys, binary.BigEndian.AppendUint16(nil, uint16(len(owner))), []byte(owner))
}

// parseOwner is the owner whom a key of the owners' side names.
func parseOwner(k []byte) (string, error) {
	if len(k) < 3 || len(k) < 3+int(binary.BigEndian.Uint16(k[1:])) {
		return "", errIndex
	}
	return string(k[3 : 3+int(binary.BigEndian.Uint16(k[1:]))]), nil
}

func segmentKey(id uint64) []byte {
	return indexKey(segmentKeys, binary.BigEndian.AppendUint64(nil, id))
}

// after is the first key that does not begin with prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] != math.MaxUint8 {
			end[i]++
			return end[:i+1]
		}
	}
	return nil
}

func under(prefix []byte) *pebble.IterOptions {
	return &pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)}
}

// entry says where a chunk is.
type entry struct {
	codec       Codec
	raw, stored uint32
	inline      bool   // in the index itself
	segment     uint64 // else here
	offset      int64
}

func (e entry) bytes() int64 { return headBytes + int64(e.stored) }

// inlineFlag is set in an entry's first byte, which else is the codec.
const inlineFlag = 0x80

func (e entry) encode() []byte {
	first := byte(e.codec)
	if e.inline {
		first |= inlineFlag
	}
	return numbers([]byte{first}, uint64(e.raw), uint64(e.stored), e.segment, uint64(e.offset))
}

func decodeEntry(b []byte) (entry, error) {
	if len(b) == 0 {
		return entry{}, errIndex
	}
	n, err := parseNumbers(b[1:], 4)
	if err != nil || n[0] > MaxChunkBytes || n[1] > n[0] || n[3] > math.MaxInt64 {
		return entry{}, errIndex
	}
	return entry{codec: Codec(b[0] &^ inlineFlag), inline: b[0]&inlineFlag != 0, raw: uint32(n[0]), stored: uint32(n[1]), segment: n[2], offset: int64(n[3])}, nil
}

// errIndex is a value of the index that cannot be one: a fault of ours or of the memory, for Pebble
// checks what it reads.
var errIndex = errors.New("a value of the index cannot be read")

// numbers appends each of n in as few bytes as it needs.
func numbers(b []byte, n ...uint64) []byte {
	for _, x := range n {
		b = binary.AppendUvarint(b, x)
	}
	return b
}

func parseNumbers(b []byte, count int) ([]uint64, error) {
	out := make([]uint64, count)
	for i := range out {
		x, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errIndex
		}
		out[i], b = x, b[n:]
	}
	if len(b) > 0 {
		return nil, errIndex
	}
	return out, nil
}

// segment is what the index knows of a segment file.
type segment struct {
	size int64 // bytes written and synced
	live int64 // of them, those of chunks that are here
	gone bool  // the file was removed; never in the index
}

func (s segment) dead() int64 { return s.size - s.live }

func (s segment) encode() []byte { return numbers(nil, uint64(s.size), uint64(s.live)) }

func decodeSegment(b []byte) (segment, error) {
	n, err := parseNumbers(b, 2)
	if err != nil {
		return segment{}, err
	}
	return segment{size: int64(n[0]), live: int64(n[1])}, nil
}

// totals are kept in the index, in the batch that changes them.
type totals struct {
	chunks, raw, stored, inline, damaged int64 // inline: of stored, what is in the index
}

func (t totals) encode() []byte {
	return numbers(nil, uint64(t.chunks), uint64(t.raw), uint64(t.stored), uint64(t.inline), uint64(t.damaged))
}

func decodeTotals(b []byte) (totals, error) {
	n, err := parseNumbers(b, 5)
	if err != nil {
		return totals{}, err
	}
	return totals{int64(n[0]), int64(n[1]), int64(n[2]), int64(n[3]), int64(n[4])}, nil
}

func encodeTime(t time.Time) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(t.UnixNano()))
}

func decodeTime(b []byte) (time.Time, error) {
	if len(b) != 8 {
		return time.Time{}, errIndex
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(b))), nil
}

// What the index may use of the memory. Values of separateBytes or more do not take part in
// compactions: that halves what small chunks cost a card that wears out.
const (
	separateBytes = 4 << 10

	cacheBytes         = 16 << 20
	memTableBytes      = 16 << 20
	openFiles          = 512
	smallCacheBytes    = 1 << 20
	smallMemTableBytes = 2 << 20
	smallOpenFiles     = 128
)

func indexOptions(fs vfs.FS, o Options, f *fault) *pebble.Options {
	p := &pebble.Options{
		FS: fs, Logger: f, Cache: o.Cache,
		FormatMajorVersion: pebble.FormatNewest,
		CacheSize:          cacheBytes,
		MemTableSize:       memTableBytes,
		MaxOpenFiles:       openFiles,
	}
	if o.Small {
		p.CacheSize, p.MemTableSize, p.MaxOpenFiles = smallCacheBytes, smallMemTableBytes, smallOpenFiles
		p.MemTableStopWritesThreshold = 2
		p.CompactionConcurrencyRange = func() (int, int) { return 1, 1 }
	}
	p.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
		return pebble.ValueSeparationPolicy{
			Enabled: true, MinimumSize: separateBytes, MaxBlobReferenceDepth: 10,
			RewriteMinimumAge: time.Minute, TargetGarbageRatio: 0.25,
		}
	}
	return p
}

// fault is Pebble's logger. Pebble reports a disk that fails by a fatal line, after which a program
// is to exit. An agent must not, for what it runs would end with it; so the fault is kept, every
// later write is refused, and reading goes on.
type fault struct {
	log zerolog.Logger
	err atomic.Pointer[error]
}

func (f *fault) get() error {
	if p := f.err.Load(); p != nil {
		return *p
	}
	return nil
}

func (f *fault) set(err error) { f.err.CompareAndSwap(nil, &err) }

// Infof implements pebble.Logger.
func (f *fault) Infof(format string, args ...any) { f.log.Debug().Msgf(format, args...) }

// Errorf implements pebble.Logger.
func (f *fault) Errorf(format string, args ...any) { f.log.Error().Msgf(format, args...) }

// Fatalf implements pebble.Logger.
func (f *fault) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	for _, a := range args {
		if cause, ok := a.(error); ok {
			err = cause // keeps the errno for whoever asks
		}
	}
	f.set(err)
}
