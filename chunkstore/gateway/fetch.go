package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/chunkstore/erasure"
	"github.com/cloudless/cloudless/chunkstore/place"
	"github.com/cloudless/cloudless/chunkstore/split"
)

const (
	// readHedge is how long a node may take to give a chunk before another is asked too.
	readHedge = 2 * time.Second
	// maxAsked is how many are asked at once: where all are slow, more make all of them slower.
	maxAsked = 2
)

// fetch reads a chunk of o into buf, which it owns, from whoever has it: this node, then the nodes of its
// zone that are to have it, then the others in the chunk's order. It is the one place where a chunk is
// looked for. What it gives is verified; a node that is to have the chunk and has not, or has other
// bytes, is told to Short.
func (g *Gateway) fetch(ctx context.Context, o *api.Object, c split.Chunk, buf *buffer) (*buffer, error) {
	f := &fetching{g: g, chunk: c, digest: c.Name(), object: o, failed: map[string]error{}}
	if self := g.cfg.Self; self != "" { // without a goroutine: it is most of what is read where agents serve
		err := f.get(ctx, self, buf)
		if err == nil {
			return buf, nil
		}
		f.failed[self] = err
	}
	buf.drop()
	f.locate()
	if o.Class == api.ClassCold && c.Bytes >= erasure.MinBytes && len(f.members) >= erasure.Shards {
		f.findGroup(ctx, g.cfg.Meta) // it is most likely in one, and then on one node
	}
	got, err := f.race(ctx)
	if err == nil || ctx.Err() != nil {
		return got, err
	}
	return f.rebuild(ctx, err)
}

// locate says in which order the nodes are asked.
func (f *fetching) locate() {
	f.members = f.g.cfg.Members().Members
	f.order = nearest(placed(f.digest, f.members), f.members, f.object.Replicas, f.g.cfg.Zone)
}

// placed are all nodes in the order in which the chunk would go to them if all took chunks, as they did
// when it was put.
func placed(digest string, members []api.StoreMember) []string {
	return place.Order(digest, allReady(members))
}

func allReady(members []api.StoreMember) []place.Member {
	nodes := PlaceMembers(members)
	for i := range nodes {
		nodes[i].State, nodes[i].Weight = place.Ready, max(nodes[i].Weight, 1)
	}
	return nodes
}

// nearest sorts the nodes by how soon they are likely to give the chunk: first those that most likely
// have it, of the own zone before the others, and last those that cannot be reached.
func nearest(placed []string, members []api.StoreMember, replicas int, zone string) []string {
	rank := make(map[string]int, len(members))
	for _, m := range members {
		switch {
		case m.State == api.StoreLost:
			rank[m.ID] = 3
		case !slices.Contains(placed[:place.Copies(replicas, len(placed))], m.ID):
			rank[m.ID] = 2
		case zone == "" || m.Zone != zone:
			rank[m.ID] = 1
		}
	}
	order := slices.Clone(placed)
	slices.SortStableFunc(order, func(a, b string) int { return rank[a] - rank[b] })
	return order
}

// fetching is one chunk that is looked for.
type fetching struct {
	g       *Gateway
	chunk   split.Chunk
	digest  string
	object  *api.Object
	members []api.StoreMember
	order   []string // all nodes, as they are asked
	begun   int
	failed  map[string]error
	group   *meta.Group // nil: none, or it was not asked for
	home    string      // the node of the group that is to have the chunk when all nodes are well
}

// got is what a node gave.
type got struct {
	node string
	buf  *buffer
	err  error
}

// get asks one node. A chunk of another length than the manifest says is another chunk.
func (f *fetching) get(ctx context.Context, node string, buf *buffer) error {
	bytes, err := f.g.cfg.Peers.Get(ctx, node, f.digest, buf.bytes[:0])
	if err == nil && len(bytes) != f.chunk.Bytes {
		err = api.Errorf(api.CodeInternal, "chunk %s has %d bytes, its manifest says %d", f.digest, len(bytes), f.chunk.Bytes)
	}
	if err != nil {
		return err
	}
	buf.bytes = bytes
	return nil
}

// race asks one node after the other, the next when one fails or takes too long, and gives the first
// answer.
func (f *fetching) race(ctx context.Context) (*buffer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan got, len(f.order))
	running := 0
	next := func() {
		if f.ask(ctx, answers) {
			running++
		}
	}
	next()
	hedge := time.NewTimer(readHedge)
	defer hedge.Stop()
	for running > 0 {
		select {
		case a := <-answers:
			running--
			if a.err == nil {
				f.discard(running, answers)
				f.repair()
				return a.buf, nil
			}
			a.buf.drop()
			f.failed[a.node] = a.err
			next()
			hedge.Reset(readHedge)
		case <-hedge.C:
			if running < maxAsked {
				next()
				hedge.Reset(readHedge)
			}
		case <-ctx.Done():
			f.discard(running, answers)
			return nil, cutOff(ctx)
		}
	}
	f.repair()
	return nil, f.lost()
}

// ask asks the next node that was not asked yet; false when there is none.
func (f *fetching) ask(ctx context.Context, answers chan<- got) bool {
	for f.begun < len(f.order) {
		node := f.order[f.begun]
		f.begun++
		if _, asked := f.failed[node]; asked {
			continue
		}
		a := got{node, newBuffer(f.chunk.Bytes), errEnded}
		f.g.spawn("fetch a chunk", func(context.Context) { a.err = f.get(ctx, node, a.buf) }, func() { answers <- a })
		return true
	}
	return false
}

// discard gives back what comes of the nodes that were asked in vain.
func (f *fetching) discard(running int, answers <-chan got) {
	if running == 0 {
		return
	}
	f.g.spawn("discard a chunk", func(context.Context) {}, func() {
		for range running {
			(<-answers).buf.drop()
		}
	})
}

// repair tells of the chunk if a copy is damaged, or if a node has none that is to have one. Copies of
// an object that was put just now may still be on their way.
func (f *fetching) repair() {
	if len(f.failed) == 0 {
		return
	}
	var wanted []string
	if time.Since(f.object.Modified) > stragglerTime {
		wanted = f.wanted()
	}
	for node, err := range f.failed {
		if errors.Is(err, chunkstore.ErrCorrupt) || api.CodeOf(err) == api.CodeNotFound && slices.Contains(wanted, node) {
			f.g.cfg.Short(f.digest)
			return
		}
	}
}

// wanted are the nodes that are to have the chunk. A shard that is not at home, because a node is not
// well, is known to the coordinators.
func (f *fetching) wanted() []string {
	if f.group != nil {
		return []string{f.home}
	}
	return place.Choose(f.digest, PlaceMembers(f.members), f.object.Replicas)
}

// lost is the error when nobody gave the chunk.
func (f *fetching) lost() error {
	var why []string
	for _, m := range f.members {
		if err := f.failed[m.ID]; err != nil {
			why = append(why, fmt.Sprintf("%s: %s", nameOf(m), firstLine(err)))
		}
	}
	return api.Errorf(api.CodeUnavailable, "chunk %s cannot be read from any node; %s", f.digest, strings.Join(why, ", ")).
		WithHint("bring back the nodes that have it: 'cloudless node list' shows them")
}
