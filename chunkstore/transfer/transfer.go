// Package transfer moves chunks between nodes: a Client, which is how everybody reaches the chunks of a
// node by its id, and a Server, which is what a node serves on its port under api.ALPNChunks. It is
// HTTP/1.1, a connection for each request under way, on which a chunk is its plain bytes.
//
//	POST /chunks/v1/put?owner=&codec=   frames of chunks; all or none are stored
//	GET  /chunks/v1/get/{hex}           the bytes; Range goes on where a transfer broke off
//	POST /chunks/v1/fetch               digests → of each its record, or why not: for another node to keep
//	POST /chunks/v1/ref?owner=          digests → those that are not here; the others are pinned
//	POST /chunks/v1/has                 digests → those that are not here
//
// and, for those who look after the whole store (Server.Maintains):
//
//	POST /chunks/v1/unref?owner=        digests, or none for all of the owner's
//	POST /chunks/v1/drop                digests → those that somebody pins, and which are kept
//	GET  /chunks/v1/list?after=&limit=  a page of what is here
//	POST /chunks/v1/copy?from=          digests → what became of each, as soon as it was pulled from that node
//
// Digests are 32 bytes each, in requests and in answers. Both ends verify: a node believes the digest of
// what it is sent, and a client that of what it is given. Nothing here has a time limit for the whole,
// for links may be slow; what makes no progress for stallTime is given up.
package transfer

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"net"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
)

const (
	pathPut   = "/chunks/v1/put"
	pathGet   = "/chunks/v1/get/"
	pathFetch = "/chunks/v1/fetch"
	pathRef   = "/chunks/v1/ref"
	pathUnref = "/chunks/v1/unref"
	pathHas   = "/chunks/v1/has"
	pathDrop  = "/chunks/v1/drop"
	pathList  = "/chunks/v1/list"
	pathCopy  = "/chunks/v1/copy"

	// headerDamaged marks the answer of a node that has the chunk, but damaged.
	headerDamaged = "Cloudless-Damaged"
)

const (
	// stallTime is how long a transfer may make no progress.
	stallTime = 20 * time.Second
	// maxBatch is how many bytes of chunks, with their frames, one put may carry: what the smallest
	// board takes at once. A larger one is several requests.
	maxBatch = 2 * chunkstore.MaxChunkBytes
	// maxDigests is how many digests a request may name.
	maxDigests = 4096

	sumBytes   = sha256.Size
	frameBytes = sumBytes + 4 // digest, length
)

// frames gives chunks as they are sent, without copying them, and how many bytes that is.
func frames(chunks []chunkstore.Chunk) (net.Buffers, int64, error) {
	out, size := make(net.Buffers, 0, 2*len(chunks)), int64(0)
	for _, c := range chunks {
		sum, err := chunkstore.ParseDigest(c.Digest)
		if err != nil {
			return nil, 0, err
		}
		head := binary.BigEndian.AppendUint32(append(make([]byte, 0, frameBytes), sum[:]...), uint32(len(c.Data)))
		out = append(out, head, c.Data)
		size += int64(len(head) + len(c.Data))
	}
	return out, size, nil
}

// readFrame reads the head of a frame; io.EOF when there is none.
func readFrame(r io.Reader) (digest string, bytes int, err error) {
	var head [frameBytes]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", 0, err
	}
	n := binary.BigEndian.Uint32(head[sumBytes:])
	if n == 0 || n > chunkstore.MaxChunkBytes {
		return "", 0, api.Errorf(api.CodeTooLarge, "a chunk of %d bytes; one has 1 to %d", n, chunkstore.MaxChunkBytes)
	}
	return chunkstore.Digest([sumBytes]byte(head[:sumBytes])), int(n), nil
}

// encodeDigests gives the bytes of digests.
func encodeDigests(digests []string) ([]byte, error) {
	out := make([]byte, 0, len(digests)*sumBytes)
	for _, d := range digests {
		sum, err := chunkstore.ParseDigest(d)
		if err != nil {
			return nil, err
		}
		out = append(out, sum[:]...)
	}
	return out, nil
}

func decodeDigests(b []byte) ([]string, error) {
	if len(b)%sumBytes != 0 || len(b) > maxDigests*sumBytes {
		return nil, api.Errorf(api.CodeInvalid, "%d bytes are not up to %d digests", len(b), maxDigests)
	}
	out := make([]string, 0, len(b)/sumBytes)
	for ; len(b) > 0; b = b[sumBytes:] {
		out = append(out, chunkstore.Digest([sumBytes]byte(b[:sumBytes])))
	}
	return out, nil
}

// A row of a list: digest, bytes, stored bytes, codec.
const rowBytes = sumBytes + 4 + 4 + 1

func appendRow(b []byte, c chunkstore.ChunkInfo) []byte {
	sum, _ := chunkstore.ParseDigest(c.Digest) // it comes from the store
	b = append(b, sum[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(c.Bytes))
	b = binary.BigEndian.AppendUint32(b, uint32(c.StoredBytes))
	return append(b, byte(c.Codec))
}

func decodeRows(b []byte) ([]chunkstore.ChunkInfo, error) {
	if len(b)%rowBytes != 0 {
		return nil, api.Errorf(api.CodeInternal, "%d bytes are no list of chunks", len(b))
	}
	out := make([]chunkstore.ChunkInfo, 0, len(b)/rowBytes)
	for ; len(b) > 0; b = b[rowBytes:] {
		out = append(out, chunkstore.ChunkInfo{
			Digest:      chunkstore.Digest([sumBytes]byte(b[:sumBytes])),
			Bytes:       int64(binary.BigEndian.Uint32(b[sumBytes:])),
			StoredBytes: int64(binary.BigEndian.Uint32(b[sumBytes+4:])),
			Codec:       chunkstore.Codec(b[rowBytes-1]),
		})
	}
	return out, nil
}

// What became of a chunk that was to be copied.
const (
	copyDone   = 'd'
	copyFailed = 'f'
	copyBusy   = 'b' // of none yet

	outcomeBytes = 3 // one of them, and how long what is said of it is
	maxWhy       = 500
)
