package chunkstore

import (
	"context"
	"crypto/sha256"

	"github.com/cloudless/cloudless/api"
)

// Chunk is bytes with the digest that they are to have.
type Chunk struct {
	Digest string
	Data   []byte

	sum    key      // of Data, if NewChunk has computed it
	packed *packing // in place of Data, if Unpack has made it
}

// NewChunk is a chunk of data with its digest, which Put then need not compute once more. Data must
// not change before it is put.
func NewChunk(data []byte) Chunk {
	sum := key(sha256.Sum256(data))
	return Chunk{Digest: sum.String(), Data: data, sum: sum}
}

// PutOptions say how chunks are put.
type PutOptions struct {
	// Owner pins the chunks, those too that were here already. "" pins nothing: they stay until a
	// collection finds them without a pin twice, with the grace in between.
	Owner string
	Codec Codec
}

// smallestShare is what the smallest chunk takes of the budget.
const smallestShare = 4 << 10

// Put stores chunks and returns when they are on the disk, all or none of them. Concurrent calls
// share their flushes. A chunk that is here already is not written again. Its errors: CodeUnsupMedia
// when bytes do not have their digest, CodeNoRoom with ErrFull when there is no room for them.
//
// It waits while other calls hold all the memory that puts may use, until ctx ends. From then on it
// goes through to its end.
func (c *Chunks) Put(ctx context.Context, o PutOptions, chunks ...Chunk) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.leave()
	records, err := c.records(o, chunks)
	if err != nil || len(records) == 0 {
		return err
	}
	var share, bytes int64
	for _, r := range records {
		share += max(int64(len(r.data)), smallestShare)
		bytes += int64(len(r.data))
	}
	if share > c.options.budget() {
		return api.Errorf(api.CodeTooLarge, "chunks of %d bytes at once are more than %d", share, c.options.budget()).
			WithHint("put fewer at once")
	}
	if err := c.budget.Acquire(ctx, share); err != nil {
		return api.Errorf(api.CodeTimeout, "the chunk store was busy for too long: %w", err).WithHint("try again")
	}
	defer c.budget.Release(share)
	return c.put(o.Owner, records, bytes)
}

// records checks what is put.
func (c *Chunks) records(o PutOptions, chunks []Chunk) ([]*record, error) {
	if err := checkOwner(o.Owner); o.Owner != "" && err != nil {
		return nil, err
	}
	if !o.Codec.known() {
		return nil, api.Errorf(api.CodeInvalid, "there is no %s", o.Codec).WithHint("use s2, zstd or raw")
	}
	records := make([]*record, len(chunks))
	for i, ch := range chunks {
		k, err := parseDigest(ch.Digest)
		if err != nil {
			return nil, err
		}
		if records[i] = ch.packed.record(); records[i] != nil {
			continue
		}
		if len(ch.Data) == 0 || len(ch.Data) > MaxChunkBytes {
			return nil, api.Errorf(api.CodeTooLarge, "chunk %s has %d bytes; one has 1 to %d", ch.Digest, len(ch.Data), MaxChunkBytes)
		}
		records[i] = &record{key: k, data: ch.Data, codec: o.Codec, summed: ch.sum == k}
	}
	return records, nil
}

func (c *Chunks) put(owner string, records []*record, bytes int64) error {
	p, err := c.prepare(records)
	defer p.close()
	most := bytes + headBytes*int64(len(records))
	if err == nil && !(p.running() && c.idle() && c.room.admit(most, c.used()) == nil) {
		err = p.whole()
	}
	if err != nil {
		return err
	}
	return c.submit(&request{
		bytes: bytes,
		store: func(g *group) error { return p.each(g.keep) },
		stage: func(g *group) error { g.stagePut(owner, records); return nil },
	})
}

func (g *group) stagePut(owner string, records []*record) {
	for _, r := range records {
		if _, ok := g.entry(r.key); ok {
			g.hits++
		} else {
			e := g.placed[r.key]
			g.setEntry(r.key, e)
			if e.inline {
				g.set(indexKey(valueKeys, r.key[:]), append(r.encode().append(nil), r.body...))
			}
		}
		if owner != "" {
			g.pin(owner, r.key)
		} else {
			g.unmark(r.key)
		}
	}
}
