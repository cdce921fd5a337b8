package split

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"iter"
	"math"
	"strconv"

	"github.com/cloudless/cloudless/api"
)

const (
	// MaxChunkBytes is the largest chunk that a manifest may name.
	MaxChunkBytes = 4 << 20
	// MaxChunks bounds a manifest, and with it what decoding one may take: 4 TiB in large chunks.
	MaxChunks = 1 << 20

	digestPrefix = "sha256:"
)

// Chunk is one part of an object.
type Chunk struct {
	Digest [sha256.Size]byte
	Bytes  int
}

// Name is the digest as it is written everywhere else.
func (c Chunk) Name() string { return digestPrefix + hex.EncodeToString(c.Digest[:]) }

// Manifest is an object as the chunks that make it up, in their order.
type Manifest struct {
	Chunks []Chunk
	// ETag is what S3 shows: the MD5 of a plain upload, MD5 of MD5s and the number of parts of a
	// multipart one.
	MD5   [md5.Size]byte
	Parts int // 0: a plain upload
	// Ends is, for each part, how many chunks there are up to its end; nil where that was not kept.
	Ends []int
	// SHA256 is that of the whole object, zero where nobody has computed it.
	SHA256 [sha256.Size]byte
}

// Size is the length of the object.
func (m *Manifest) Size() (n int64) {
	for _, c := range m.Chunks {
		n += int64(c.Bytes)
	}
	return n
}

// ETag is what S3 shows for the object, without quotes.
func (m *Manifest) ETag() string {
	tag := hex.EncodeToString(m.MD5[:])
	if m.Parts == 0 {
		return tag
	}
	return tag + "-" + strconv.Itoa(m.Parts)
}

// PartSizes are the lengths of the parts of which the object was made; nil for a plain upload, and where
// their ends were not kept.
func (m *Manifest) PartSizes() []int64 {
	if m.Ends == nil {
		return nil
	}
	sizes, i := make([]int64, len(m.Ends)), 0
	for part, end := range m.Ends {
		for ; i < end; i++ {
			sizes[part] += int64(m.Chunks[i].Bytes)
		}
	}
	return sizes
}

// Piece is the part of a chunk that lies in a range.
type Piece struct {
	Chunk
	Index    int // of the chunk in the object
	From, To int // bytes of the chunk
}

// Range gives the pieces of n bytes of the object from offset on, as far as there are any.
func (m *Manifest) Range(offset, n int64) iter.Seq[Piece] {
	return func(yield func(Piece) bool) {
		if offset < 0 || n <= 0 {
			return
		}
		var start int64
		for i, c := range m.Chunks {
			from, to := max(0, offset-start), min(int64(c.Bytes), offset-start+min(n, math.MaxInt64-offset))
			start += int64(c.Bytes)
			if to <= 0 {
				return
			}
			if from < to && !yield(Piece{Chunk: c, Index: i, From: int(from), To: int(to)}) {
				return
			}
		}
	}
}

// manifestMagic or partsMagic begins an encoded manifest. The rest: number of chunks, parts, MD5, SHA-256,
// with partsMagic how many chunks each part has, and for each chunk its length and digest; then the CRC32C
// of all before. Numbers are uvarints in as few bytes as they need, so that equal manifests are equal bytes.
const (
	manifestMagic = "CLM1"
	partsMagic    = "CLM2"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode gives the bytes of a manifest.
func (m *Manifest) Encode() []byte {
	b := make([]byte, 0, len(manifestMagic)+16+md5.Size+sha256.Size+len(m.Ends)*3+len(m.Chunks)*(sha256.Size+3)+4)
	if m.Ends == nil {
		b = append(b, manifestMagic...)
	} else {
		b = append(b, partsMagic...)
	}
	b = binary.AppendUvarint(b, uint64(len(m.Chunks)))
	b = binary.AppendUvarint(b, uint64(m.Parts))
	b = append(b, m.MD5[:]...)
	b = append(b, m.SHA256[:]...)
	start := 0
	for _, end := range m.Ends {
		b = binary.AppendUvarint(b, uint64(end-start))
		start = end
	}
	for _, c := range m.Chunks {
		b = binary.AppendUvarint(b, uint64(c.Bytes))
		b = append(b, c.Digest[:]...)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// Decode reads the bytes of a manifest. It takes only what Encode gives.
func Decode(b []byte) (*Manifest, error) {
	body := len(b) - 4
	if body < len(manifestMagic) || string(b[:4]) != manifestMagic && string(b[:4]) != partsMagic {
		return nil, damaged("it does not begin as one")
	}
	if crc32.Checksum(b[:body], castagnoli) != binary.BigEndian.Uint32(b[body:]) {
		return nil, damaged("its checksum is another")
	}
	d := decoder{b: b[4:body]}
	count, parts := d.number(MaxChunks), d.number(maxParts)
	m := &Manifest{Parts: parts}
	d.bytes(m.MD5[:])
	d.bytes(m.SHA256[:])
	if string(b[:4]) == partsMagic {
		m.Ends = d.ends(parts, count)
	}
	if d.failed || count*(sha256.Size+1) > len(d.b) { // before room is made for them
		return nil, damaged("it is cut short")
	}
	m.Chunks = make([]Chunk, count)
	for i := range m.Chunks {
		c := &m.Chunks[i]
		c.Bytes = d.number(MaxChunkBytes)
		d.bytes(c.Digest[:])
		d.failed = d.failed || c.Bytes == 0
	}
	if d.failed || len(d.b) > 0 || !bytes.Equal(m.Encode(), b) {
		return nil, damaged("its chunks cannot be read")
	}
	return m, nil
}

// maxParts is S3's limit of a multipart upload.
const maxParts = 10_000

func damaged(why string) error {
	return api.Errorf(api.CodeInternal, "the manifest of an object is damaged: %s", why).
		WithHint("restore the object's metadata from a backup")
}

// decoder reads fields one after the other and remembers that one failed.
type decoder struct {
	b      []byte
	failed bool
}

func (d *decoder) number(limit int) int {
	x, n := binary.Uvarint(d.b)
	if n <= 0 || x > uint64(limit) {
		d.failed = true
		return 0
	}
	d.b = d.b[n:]
	return int(x)
}

// ends reads how many of all chunks each part has. An object in parts has at least one, and they are all of it.
func (d *decoder) ends(parts, all int) []int {
	ends, end := make([]int, parts), 0
	for i := range ends {
		end += d.number(all - end)
		ends[i] = end
	}
	d.failed = d.failed || parts == 0 || end != all
	return ends
}

func (d *decoder) bytes(out []byte) {
	if len(d.b) < len(out) {
		d.failed = true
		return
	}
	d.b = d.b[copy(out, d.b):]
}
