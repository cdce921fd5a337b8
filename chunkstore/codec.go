package chunkstore

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Codec is how the bytes of a chunk are stored. The numbers are on disks.
type Codec byte

const (
	S2   Codec = 0 // the default: fast, about half of text
	Zstd Codec = 1 // a third of text, at less than half the speed: for what is rarely read
	Raw  Codec = 2 // as it is; also used when compression saves less than an eighth
)

// minSavedShare is the part of a chunk, one in so many, that compression must save.
const minSavedShare = 8

func (c Codec) known() bool { return c <= Raw }

// String names the codec as it is shown.
func (c Codec) String() string {
	if !c.known() {
		return fmt.Sprintf("codec %d", byte(c))
	}
	return [...]string{"s2", "zstd", "raw"}[c]
}

// zstdWindow bounds the memory of one encoder; chunks are small.
const zstdWindow = 256 << 10

var zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(zstdWindow), zstd.WithEncoderCRC(false))
	if err != nil {
		panic(err) // the options are constants
	}
	return e
})

var zstdDecoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(MaxChunkBytes))
	if err != nil {
		panic(err) // the options are constants
	}
	return d
})

// compress gives the codec that was used, what is to be stored, and the buffer to give back after.
func compress(codec Codec, data []byte) (Codec, []byte, *[]byte) {
	if codec == Raw {
		return Raw, data, nil
	}
	buf := GetBuffer(s2.MaxEncodedLen(len(data)))
	var out []byte
	if codec == Zstd {
		out = zstdEncoder().EncodeAll(data, (*buf)[:0])
	} else {
		out = s2.Encode(*buf, data)
	}
	if len(out) > len(data)-len(data)/minSavedShare {
		PutBuffer(buf)
		return Raw, data, nil
	}
	return codec, out, buf
}

// decompress appends the chunk of raw bytes to buf. It never makes more than MaxChunkBytes, whatever
// the stored bytes say.
func decompress(codec Codec, buf, stored []byte, raw int) ([]byte, error) {
	buf = grow(buf, raw)
	into := buf[len(buf) : len(buf)+raw : len(buf)+raw]
	switch codec {
	case Raw:
		if copy(into, stored) != len(stored) || len(stored) != raw {
			return nil, fmt.Errorf("%w: not %d bytes", errStored, raw)
		}
	case S2:
		if n, err := s2.DecodedLen(stored); err != nil || n != raw {
			return nil, fmt.Errorf("%w: not %d bytes of s2", errStored, raw)
		}
		if _, err := s2.Decode(into, stored); err != nil {
			return nil, fmt.Errorf("%w: %w", errStored, err)
		}
	case Zstd:
		out, err := zstdDecoder().DecodeAll(stored, into[:0])
		if err != nil || len(out) != raw {
			return nil, fmt.Errorf("%w: not %d bytes of zstd: %w", errStored, raw, err)
		}
		copy(into, out) // it is there already, unless the decoder wanted more room for its work
	}
	return buf[:len(buf)+raw], nil
}

// grow makes room for n more bytes.
func grow(buf []byte, n int) []byte {
	if cap(buf)-len(buf) >= n {
		return buf
	}
	return append(make([]byte, 0, len(buf)+n), buf...)
}
