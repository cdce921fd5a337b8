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
	answer, err := m.Read(ctx, meta.Query{Groups: [][]byte{c.Digest[:]}})
	if err != nil {
		return nil, err
	}
	return groupIn(answer.Groups, c), nil
}

// groupIn is that of the groups in which the chunk is; nil if there is none.
func groupIn(groups []*meta.Group, c split.Chunk) *meta.Group {
	for _, g := range groups {
		if g.Shard(c.Digest) >= 0 {
			return g
		}
	}
	return nil
}

// reconstruct makes a chunk of the others of its group that come first. It knows by the digest that it is
// the right one.
func (g *Gateway) reconstruct(ctx context.Context, group *meta.Group, c split.Chunk) (*buffer, error) {
	if err := g.coding.Acquire(ctx, 1); err != nil {
		return nil, cutOff(ctx)
	}
	defer g.coding.Release(1)
	missing := group.Shard(c.Digest)
	others, err := g.others(ctx, group, missing)
	defer func() {
		for _, buf := range others {
			buf.drop()
		}
	}()
	if err != nil {
		return nil, err
	}
	var shards [erasure.Shards][]byte
	for i, buf := range others {
		if buf != nil {
			shards[i] = buf.bytes
		}
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

// shardGot is what came of a chunk of a group.
type shardGot struct {
	at  int
	buf *buffer
	err error
}

// others reads as many chunks of a group as are needed to make the missing one, side by side. Where one
// fails, or takes longer than its node mostly does, one more is read. Those that came are given back,
// whatever the error. Each is asked of one node at a time, so that no more is in memory than the group.
func (g *Gateway) others(ctx context.Context, group *meta.Group, missing int) (out [erasure.Shards]*buffer, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan shardGot, erasure.Shards)
	have, running, at := 0, 0, 0
	hedge := time.NewTimer(hedgeMost)
	defer hedge.Stop()
	next := func() {
		if at == missing {
			at++
		}
		if at < erasure.Shards {
			hedge.Reset(g.askShard(ctx, group, at, answers))
			at, running = at+1, running+1
		}
	}
	for range erasure.Data {
		next()
	}
	for have < erasure.Data && running > 0 {
		select {
		case a := <-answers:
			if running--; a.err == nil {
				out[a.at], have = a.buf, have+1
				continue
			}
			g.cfg.Log.Debug().Err(a.err).Msg("a chunk of a group cannot be read")
			next()
		case <-hedge.C:
			next()
		case <-ctx.Done():
			g.discardShards(running, answers)
			return out, cutOff(ctx)
		}
	}
	g.discardShards(running, answers)
	switch {
	case ctx.Err() != nil:
		return out, cutOff(ctx)
	case have < erasure.Data:
		return out, api.Errorf(api.CodeUnavailable, "%w: %d, and %d are needed", ErrGroupLost, have, erasure.Data).
			WithHint("bring back the nodes that have them: 'cloudless node list' shows them")
	}
	return out, nil
}

// askShard reads one chunk of a group, and says how long that may take before another is read.
func (g *Gateway) askShard(ctx context.Context, group *meta.Group, at int, answers chan<- shardGot) time.Duration {
	s := group.Shards[at]
	f := g.shard(split.Chunk{Digest: [sha256.Size]byte(s.Digest), Bytes: s.Bytes}, group)
	f.most = 1
	a := shardGot{at: at, err: errEnded}
	g.spawn("read a chunk of a group", func(context.Context) { a.buf, a.err = f.race(ctx) }, func() { answers <- a })
	if len(f.order) == 0 {
		return hedgeFirst
	}
	return g.tempos.patience(f.order[0])
}

// discardShards gives back what comes in vain.
func (g *Gateway) discardShards(running int, answers <-chan shardGot) {
	if running == 0 {
		return
	}
	g.spawn("discard chunks of a group", func(context.Context) {}, func() {
		for range running {
			(<-answers).buf.drop()
		}
	})
}

// shard looks for a chunk as one of a group, nil if it is in none yet.
func (g *Gateway) shard(c split.Chunk, group *meta.Group) *fetching {
	f := g.fetching(shardOf, c)
	if f.locate(); group != nil {
		f.join(group)
	}
	return f
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
	if f.likely = slices.IndexFunc(f.order, func(id string) bool { return rank(id) == 2 }); f.likely < 0 {
		f.likely = len(f.order)
	}
}

// errNoGroup is why a chunk cannot be made of others.
var errNoGroup = errors.New("it is in no group")

// rebuild makes the chunk of the others of its group, which is asked for if it is not known.
func (f *fetching) rebuild(ctx context.Context, group *meta.Group) (buf *buffer, err error) {
	if group == nil {
		within, cancel := context.WithTimeout(ctx, groupTime)
		defer cancel()
		if group, err = groupOf(within, f.g.Meta(), f.chunk); err != nil {
			f.g.cfg.Log.Debug().Err(err).Str("chunk", f.digest).Msg("nobody says in which group a chunk is")
			return nil, err
		}
	}
	if group == nil {
		return nil, errNoGroup
	}
	return f.g.reconstruct(ctx, group, f.chunk)
}

// groupBook knows in which groups the chunks of an object are. It asks for many at once, beginning with the
// one that is read, and once: when nobody answers they are looked for as chunks of none. It is for one
// reader.
type groupBook struct {
	g        *Gateway
	chunks   []split.Chunk
	from, to int // those that were asked for
	groups   []*meta.Group
}

// of is the group of a chunk; nil if it is in none, or nobody says.
func (b *groupBook) of(ctx context.Context, i int) *meta.Group {
	if i < b.from || i >= b.to {
		b.ask(ctx, i)
	}
	return groupIn(b.groups, b.chunks[i])
}

func (b *groupBook) ask(ctx context.Context, from int) {
	ctx, cancel := context.WithTimeout(ctx, groupTime)
	defer cancel()
	b.from, b.to, b.groups = from, min(from+meta.MaxGroups, len(b.chunks)), nil
	var q meta.Query
	for i := b.from; i < b.to; i++ {
		if b.chunks[i].Bytes >= erasure.MinBytes {
			q.Groups = append(q.Groups, b.chunks[i].Digest[:])
		}
	}
	answer, err := b.g.cfg.Meta.Read(ctx, q)
	if err != nil {
		b.g.cfg.Log.Debug().Err(err).Int("chunks", len(q.Groups)).Msg("nobody says in which groups chunks are")
		return
	}
	b.groups = answer.Groups
}
