package upkeep

import (
	"context"
	"sort"

	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/chunkstore/place"
	"github.com/cloudless/cloudless/coordinator/objects"
)

// pageChunks is how many chunks are looked at in one step, and asked for from a node at once.
const pageChunks = 1_000

// survey looks at all chunks.
func (u *Upkeep) survey(ctx context.Context) (*findings, error) {
	c := u.begin()
	f := newFindings(c)
	f.gone = u.gone
	streams := make([]stream, len(c.members))
	var after [32]byte
	for {
		refs, err := u.cfg.Refs.Referenced(after, pageChunks)
		if err != nil {
			return nil, err
		}
		if len(refs) == 0 {
			break
		}
		after = refs[len(refs)-1].Digest
		last := refs[len(refs)-1].Name()
		err = u.ask(ctx, c, func(ctx context.Context, i int) error {
			return streams[i].fill(ctx, u.cfg.Nodes, c.members[i].ID, last)
		})
		if err != nil {
			return nil, err
		}
		f.take(refs, holdings(refs, c.members, streams))
		u.state.looked(len(refs))
	}
	return f, nil
}

// stream is a node's chunks, in the order of digests, from where the look is.
type stream struct {
	chunks []chunkstore.ChunkInfo // not looked at yet
	ended  bool
	after  string // what was asked for last
}

// fill reads on until the stream has all that the node has up to a digest.
func (s *stream) fill(ctx context.Context, nodes Nodes, node, last string) error {
	for !s.ended && (len(s.chunks) == 0 || s.chunks[len(s.chunks)-1].Digest < last) {
		page, err := nodes.List(ctx, node, s.after, pageChunks)
		if err != nil {
			return err
		}
		if s.ended = len(page) < pageChunks; len(page) > 0 {
			s.after = page[len(page)-1].Digest
		}
		s.chunks = append(s.chunks, page...)
	}
	return nil
}

// take removes from the stream what it has up to a digest, and tells whether that one is among it.
func (s *stream) take(digest string) bool {
	n := sort.Search(len(s.chunks), func(i int) bool { return s.chunks[i].Digest >= digest })
	found := n < len(s.chunks) && s.chunks[n].Digest == digest
	if found {
		n++
	}
	s.chunks = s.chunks[n:]
	return found
}

// holdings says which members have which of the chunks. Both refs and streams are in the order of
// digests; what nothing names is passed over, for it is the node's own affair (see chunkstore.Collect).
func holdings(refs []objects.Ref, members []place.Member, streams []stream) []place.Chunk {
	out := make([]place.Chunk, len(refs))
	for i, r := range refs {
		out[i] = chunkOf(r)
		for n := range streams {
			if members[n].State != place.Lost && streams[n].take(out[i].Digest) {
				out[i].Holders = append(out[i].Holders, members[n].ID)
			}
		}
	}
	return out
}

// chunkOf is a chunk that nobody has yet, as place knows it.
func chunkOf(r objects.Ref) place.Chunk {
	c := place.Chunk{Digest: r.Name(), R: r.R}
	if r.Grouped() {
		c.Group, c.Shard = meta.GroupName(r.Group), r.Shard
	}
	return c
}
