package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/chunkstore/erasure"
	"github.com/cloudless/cloudless/chunkstore/place"
	"github.com/cloudless/cloudless/chunkstore/split"
)

const (
	// groupTime is how long the coordinators may take to say in which group a chunk is.
	groupTime = 5 * time.Second
	// groupsAtOnce is how many groups are in memory, of up to 24 MiB each; on small boards it is one.
	groupsAtOnce = 2
)

// ErrGroupLost is the cause when a chunk cannot be made of its group, because more than two of it cannot be read.
var ErrGroupLost = errors.New("too few other chunks of its group can be read")

// shardOf is by what terms a chunk of a group is read, whatever object it is of.
var shardOf = &api.Object{Terms: api.Terms{Replicas: 1, Class: api.ClassCold}}

// Seal makes a group of chunks of cold objects: it stores what is computed of them, each on its node,
// and has the metadata name the six. From then on one copy of each is enough. Its session pins what is
// stored until then.
func (g *Gateway) Seal(ctx context.Context, chunks [erasure.Data]split.Chunk) (err error) {
	if err := g.coding.Acquire(ctx, 1); err != nil {
		return cutOff(ctx)
	}
	defer g.coding.Release(1)
	l, err := g.groupLease(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			l.end()
			return
		}
		l.stop()
	}()
	group, parity, err := g.encode(ctx, chunks)
	if err != nil {
		return err
	}
	if err := l.wait(ctx); err != nil {
		return err
	}
	for i, p := range parity {
		node := place.Seat(group.ID(), erasure.Data+i, PlaceMembers(g.cfg.Members().Members))
		if err := g.cfg.Peers.Put(ctx, node, chunkstore.PutOptions{Owner: l.owner(), Codec: chunkstore.Raw}, p); err != nil {
			return err
		}
	}
	_, err = g.apply(ctx, meta.Command{SealGroup: &meta.SealGroup{Session: l.session.ID, Group: *group}})
	return err
}

// groupLease opens a session in the first bucket there is: it names no chunk, so the bucket's settings
// do not matter.
func (g *Gateway) groupLease(ctx context.Context) (*lease, error) {
	answer, err := g.read(ctx, meta.Query{Buckets: true})
	if err != nil {
		return nil, err
	}
	if len(answer.Buckets) == 0 {
		return nil, api.Errorf(api.CodeConflict, "there is no bucket, and so no chunk of one")
	}
	return g.lease(ctx, answer.Buckets[0].Name), nil
}

// encode reads the chunks and computes the parity.
func (g *Gateway) encode(ctx context.Context, chunks [erasure.Data]split.Chunk) (*meta.Group, []chunkstore.Chunk, error) {
	group := &meta.Group{}
	var data [erasure.Data][]byte
	for i, c := range chunks {
		buf, err := g.shard(c, nil).race(ctx)
		if err != nil {
			return nil, nil, err
		}
		defer buf.drop()
		data[i] = buf.bytes
		group.Shards = append(group.Shards, meta.Shard{Digest: c.Digest[:], Bytes: c.Bytes})
	}
	var out []chunkstore.Chunk
	for _, p := range erasure.Encode(data) {
		sum := sha256.Sum256(p)
		group.Shards = append(group.Shards, meta.Shard{Digest: sum[:], Bytes: len(p)})
		out = append(out, chunkstore.NewChunk(p))
	}
	return group, out, nil
}

// Rebuild makes a chunk of the others of its group, and stores it on a node.
func (g *Gateway) Rebuild(ctx context.Context, node string, c split.Chunk) error {
	group, err := groupOf(ctx, g.Meta(), c)
	if err != nil {
		return err
	}
	if group == nil {
		return api.Errorf(api.CodeNotFound, "chunk %s is in no group", c.Name())
	}
	buf, err := g.reconstruct(ctx, group, c)
	if err != nil {
		return err
	}
	defer buf.drop()
	return g.cfg.Peers.Put(ctx, node, chunkstore.PutOptions{Codec: chunkstore.Raw}, chunkstore.Chunk{Digest: c.Name(), Data: buf.bytes})
}

func groupOf(ctx context.Context, m Meta, c split.Chunk) (*meta.Group, error) {
	answer, err := m.Read(ctx, meta.Query{Group: c.Digest[:]})
	if err != nil {
		return nil, err
	}
	return answer.Group, nil
}

// reconstruct makes a chunk of the first of the others that can be read. It knows by the digest that it
// is the right one.
func (g *Gateway) reconstruct(ctx context.Context, group *meta.Group, c split.Chunk) (*buffer, error) {
	if err := g.coding.Acquire(ctx, 1); err != nil {
		return nil, cutOff(ctx)
	}
	defer g.coding.Release(1)
	var shards [erasure.Shards][]byte
	have, missing := 0, group.Shard(c.Digest)
	for i, s := range group.Shards {
		if i == missing || have == erasure.Data {
			continue
		}
		buf, err := g.shard(split.Chunk{Digest: [sha256.Size]byte(s.Digest), Bytes: s.Bytes}, group).race(ctx)
		if ctx.Err() != nil {
			return nil, cutOff(ctx)
		}
		if err != nil {
			g.cfg.Log.Debug().Err(err).Msg("a chunk of a group cannot be read")
			continue
		}
		defer buf.drop()
		shards[i] = buf.bytes
		have++
	}
	if have < erasure.Data {
		return nil, api.Errorf(api.CodeUnavailable, "%w: %d, and %d are needed", ErrGroupLost, have, erasure.Data).
			WithHint("bring back the nodes that have them: 'cloudless node list' shows them")
	}
	data, err := erasure.Rebuild(shards, missing, c.Bytes)
	if err == nil && sha256.Sum256(data) != c.Digest {
		err = chunkstore.ErrCorrupt
	}
	if err != nil {
		return nil, api.Errorf(api.CodeInternal, "chunk %s does not come out of its group: %w", c.Name(), err)
	}
	out := newBuffer(len(data))
	out.bytes = append(out.bytes, data...)
	return out, nil
}

// shard looks for a chunk as one of a group, nil if it is in none yet.
func (g *Gateway) shard(c split.Chunk, group *meta.Group) *fetching {
	f := &fetching{g: g, chunk: c, digest: c.Name(), object: shardOf, failed: map[string]error{}}
	if f.locate(); group != nil {
		f.join(group)
	}
	return f
}

// findGroup asks in which group the chunk is. When nobody says it is looked for as one of none.
func (f *fetching) findGroup(ctx context.Context, m Meta) {
	within, cancel := context.WithTimeout(ctx, groupTime)
	defer cancel()
	group, err := groupOf(within, m, f.chunk)
	if err != nil {
		f.g.cfg.Log.Debug().Err(err).Str("chunk", f.digest).Msg("nobody says in which group a chunk is")
		return
	}
	if group != nil {
		f.join(group)
	}
}

// join has the chunk looked for first where it is as one of a group: at home, then where it is while
// that node is not well.
func (f *fetching) join(group *meta.Group) {
	f.group = group
	shard := group.Shard(f.chunk.Digest)
	f.home = place.Seat(group.ID(), shard, allReady(f.members))
	seat := place.Seat(group.ID(), shard, PlaceMembers(f.members))
	lost := func(m api.StoreMember) bool { return m.ID == f.home && m.State == api.StoreLost }
	rank := func(id string) int {
		switch {
		case id == f.home && !slices.ContainsFunc(f.members, lost):
			return 0
		case id == seat:
			return 1
		}
		return 2 // and a home that is lost stays where nearest put it, at the end
	}
	slices.SortStableFunc(f.order, func(a, b string) int { return rank(a) - rank(b) })
}

// rebuild makes a chunk that nobody gave of the others of its group; none is the error if it has none.
func (f *fetching) rebuild(ctx context.Context, none error) (*buffer, error) {
	if f.group == nil {
		f.findGroup(ctx, f.g.Meta())
	}
	if f.group == nil {
		return nil, none
	}
	buf, err := f.g.reconstruct(ctx, f.group, f.chunk)
	if err != nil {
		return nil, api.Errorf(api.CodeUnavailable, "%s; %s", firstLine(none), firstLine(err)).WithHint("%s", api.AsError(none).Hint)
	}
	return buf, nil
}
