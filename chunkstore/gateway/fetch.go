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

// fetch reads a chunk of o into buf, which it owns, from whoever has it: this node, then the nodes of its
// zone that are to have it, then the others in the chunk's order. It is the one place where a chunk is
// looked for. What it gives is verified; a node that is to have the chunk and has not, or has other
// bytes, is told to Short.
func (g *Gateway) fetch(ctx context.Context, o *api.Object, c split.Chunk, buf *buffer, group func(context.Context) *meta.Group) (*buffer, error) {
	f := g.fetching(o, c)
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
		if known := group(ctx); known != nil { // it is most likely in one, and then on one node
			f.join(known)
		}
	}
	f.remake = true
	return f.race(ctx)
}

func (g *Gateway) fetching(o *api.Object, c split.Chunk) *fetching {
	return &fetching{g: g, chunk: c, digest: c.Name(), object: o, failed: map[string]error{}, most: maxAsked}
}

// locate says in which order the nodes are asked.
func (f *fetching) locate() {
	f.members = f.g.cfg.Members().Members
	f.order = nearest(placed(f.digest, f.members), f.members, f.object.Replicas, f.g.cfg.Zone)
	f.likely = len(f.order)
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
	begun   int      // how many of them have been
	most    int      // that are asked at once
	likely  int      // how many of order come before it is made of its group
	remake  bool     // it is to be, and has not been tried
	failed  map[string]error
	group   *meta.Group // nil: none, or it was not asked for
	home    string      // the node of the group that is to have the chunk when all nodes are well
}

// got is what a node gave, "" for what was made of the group.
type got struct {
	node string
	buf  *buffer
	err  error
}

// get asks one node. A chunk of another length than the manifest says is another chunk.
func (f *fetching) get(ctx context.Context, node string, buf *buffer) error {
	began := time.Now()
	bytes, err := f.g.cfg.Peers.Get(ctx, node, f.digest, buf.bytes[:0])
	if err == nil && len(bytes) != f.chunk.Bytes {
		err = api.Errorf(api.CodeInternal, "chunk %s has %d bytes, its manifest says %d", f.digest, len(bytes), f.chunk.Bytes)
	}
	if err != nil {
		return err
	}
	buf.bytes = bytes
	f.g.tempos.note(node, time.Since(began))
	return nil
}

// race asks one node after the other, the next when one fails or takes too long, and gives the first
// answer. When none that is likely to have the chunk gives it in time, it is made of its group meanwhile.
func (f *fetching) race(ctx context.Context) (*buffer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan got, len(f.order)+1)
	hedge := time.NewTimer(hedgeFirst)
	defer hedge.Stop()
	running := 0
	next := func() {
		if patience := f.ask(ctx, answers, running); patience > 0 {
			running++
			hedge.Reset(patience)
		}
	}
	next()
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
		case <-hedge.C:
			next()
		case <-ctx.Done():
			f.discard(running, answers)
			return nil, cutOff(ctx)
		}
	}
	f.repair()
	return nil, f.lost()
}

// ask asks the next node that was not asked yet, or begins to make the chunk of its group, and says how
// long that may take before somebody else is asked too; 0 when nobody is to be asked now.
func (f *fetching) ask(ctx context.Context, answers chan<- got, running int) time.Duration {
	for f.begun < f.likely || !f.remake && f.begun < len(f.order) {
		node := f.order[f.begun]
		if _, asked := f.failed[node]; asked {
			f.begun++
			continue
		}
		if running >= f.most {
			return 0
		}
		f.begun++
		a := got{node, newBuffer(f.chunk.Bytes), errEnded}
		f.g.spawn("fetch a chunk", func(context.Context) { a.err = f.get(ctx, node, a.buf) }, func() { answers <- a })
		return f.g.tempos.patience(node)
	}
	if !f.remake {
		return 0
	}
	f.remake = false
	a, group := got{err: errEnded}, f.group
	f.g.spawn("make a chunk of its group", func(context.Context) { a.buf, a.err = f.rebuild(ctx, group) }, func() { answers <- a })
	return hedgeMost
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
	if err := f.failed[""]; err != nil && !errors.Is(err, errNoGroup) {
		why = append(why, firstLine(err))
	}
	return api.Errorf(api.CodeUnavailable, "chunk %s cannot be read from any node; %s", f.digest, strings.Join(why, ", ")).
		WithHint("bring back the nodes that have it: 'cloudless node list' shows them")
}
