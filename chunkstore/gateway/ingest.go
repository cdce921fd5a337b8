package gateway

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"hash"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/chunkstore/split"
)

// window is how many chunks of one object are on their way to the nodes at once. They meet in the
// nodes' group commits, and hide the flush of one behind the sending of the next.
const window = 4

// ingested is an object whose chunks are stored.
type ingested struct {
	manifest *split.Manifest
	lease    *lease
}

// ingest reads an object to its end, which begins with head, and stores its chunks under a session of
// their own. The digest of a chunk is computed while it is on its way, the MD5 of the object meanwhile
// by whoever reads, so that neither waits for the other.
func (g *Gateway) ingest(ctx context.Context, bucket string, s *source, head []byte) (_ *ingested, err error) {
	l := g.lease(ctx, bucket)
	ctx, cancel := context.WithCancel(ctx)
	i := &intake{g: g, ctx: ctx, lease: l, source: s, sum: md5.New(), manifest: &split.Manifest{}, done: make(chan stored, window)}
	defer func() {
		cancel()
		if i.drain(); err != nil {
			l.end()
		}
	}()
	if err := i.run(head); err != nil {
		return nil, err
	}
	i.sum.Sum(i.manifest.MD5[:0])
	if len(i.manifest.Chunks) == 1 { // else it would cost as much again as all the chunks' digests
		i.manifest.SHA256 = i.manifest.Chunks[0].Digest
	}
	return &ingested{i.manifest, l}, nil
}

// intake is one object on its way in.
type intake struct {
	g        *Gateway
	ctx      context.Context
	lease    *lease
	source   *source
	cutter   split.Cutter
	sum      hash.Hash
	manifest *split.Manifest

	inFlight int
	inHand   *buffer // the one that counts against no budget, if it is in flight
	done     chan stored
}

// stored is a chunk that is on its nodes, or is not.
type stored struct {
	index  int
	buffer *buffer // who took it; released already
	digest [sha256.Size]byte
	err    error
}

func (i *intake) run(head []byte) error {
	buf, err := i.first(head)
	for err == nil && buf != nil && len(buf.bytes) > 0 {
		n := i.cutter.Next(buf.bytes)
		i.launch(buf, buf.bytes[:n:n])
		i.sum.Write(buf.bytes[:n])
		buf, err = i.next(buf, n)
	}
	buf.drop()
	for err == nil && i.inFlight > 0 {
		err = i.settle()
	}
	return err
}

// first reads the beginning of the object while the session is opened, which tells how the bucket's
// objects are cut.
func (i *intake) first(head []byte) (*buffer, error) {
	i.cutter = split.CutterFor(i.source.size, i.g.cfg.Small, false)
	buf, err := i.fill(i.hand(), head)
	if err == nil {
		err = i.lease.wait(i.ctx)
	}
	if err != nil {
		return buf, err
	}
	guess := i.most()
	i.cut(i.source.size)
	if i.most() == guess {
		return buf, nil
	}
	defer buf.drop()
	return i.fill(i.hand(), buf.bytes)
}

// cut says how an object of size bytes is cut; -1 is not known.
func (i *intake) cut(size int64) {
	i.cutter = split.CutterFor(size, i.g.cfg.Small, i.lease.bucket.Chunking == api.ChunkingContent)
}

// most is how much of the object the cutter must see.
func (i *intake) most() int {
	if size := i.source.size; size >= 0 {
		return int(min(size, int64(i.cutter.Max())))
	}
	return i.cutter.Max()
}

// fill puts into buf what was read before and what comes next.
func (i *intake) fill(buf *buffer, before []byte) (_ *buffer, err error) {
	buf.bytes, err = i.source.fill(append(buf.bytes, before...), i.most())
	return buf, err
}

// next reads on behind the n bytes of buf that are taken care of.
func (i *intake) next(buf *buffer, n int) (*buffer, error) {
	defer buf.drop()
	if i.source.ended && n == len(buf.bytes) {
		return nil, nil
	}
	if i.source.size < 0 {
		i.cut(i.source.read) // the more of it has come, the larger it is
	}
	next, err := i.room()
	if err != nil {
		return next, err
	}
	return i.fill(next, buf.bytes[n:])
}

// room gives a buffer for the next chunk, when there are few enough in flight and there is memory. One
// chunk in hand it always may have, so no upload waits for another.
func (i *intake) room() (*buffer, error) {
	for {
		if i.inFlight < window {
			if i.inHand == nil {
				return i.hand(), nil
			}
			if b := i.g.spareBuffer(i.most()); b != nil {
				return b, nil
			}
		}
		if err := i.settle(); err != nil {
			return nil, err
		}
	}
}

func (i *intake) hand() *buffer {
	i.inHand = newBuffer(i.most())
	return i.inHand
}

// launch sends a chunk, which lies in buf, on its way.
func (i *intake) launch(buf *buffer, data []byte) {
	index := len(i.manifest.Chunks)
	i.manifest.Chunks = append(i.manifest.Chunks, split.Chunk{Bytes: len(data)})
	i.inFlight++
	buf.hold()
	s := stored{index: index, buffer: buf, err: errEnded}
	i.g.spawn("store a chunk", func(context.Context) {
		chunk := chunkstore.NewChunk(data)
		s.digest, _ = chunkstore.ParseDigest(chunk.Digest) // it was made just now
		s.err = i.g.spread(i.ctx, i.lease.bucket, i.lease.owner(), chunk, buf)
	}, func() { buf.drop(); i.done <- s })
}

// settle waits for a chunk that is in flight.
func (i *intake) settle() error {
	s := <-i.done
	i.inFlight--
	if s.buffer == i.inHand {
		i.inHand = nil
	}
	i.manifest.Chunks[s.index].Digest = s.digest
	return s.err
}

// drain waits for all that is in flight, which has been told to stop.
func (i *intake) drain() {
	for i.inFlight > 0 {
		_ = i.settle()
	}
}
