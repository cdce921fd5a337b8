package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/chunkstore/place"
)

// hedgeAfter is how long the nodes that were chosen may take before another is asked too: one, for where
// all are slow, more copies at once make all of them slower.
const hedgeAfter = 3 * time.Second

// spread stores a chunk, which lies in buf, on the nodes: it returns when as many copies are durable as
// the bucket wants for an acknowledgement. The others go on in the background; what becomes of none is
// told to Short. A node that fails, or takes too long, is replaced by the next in the chunk's order.
func (g *Gateway) spread(ctx context.Context, b *api.Bucket, owner string, c chunkstore.Chunk, buf *buffer) error {
	members := g.cfg.Members().Members
	s := &spreading{
		g: g, members: members, chunk: c, buf: buf,
		options: chunkstore.PutOptions{Owner: owner, Codec: CodecOf(b)},
		order:   place.Order(c.Digest, PlaceMembers(members)),
		failed:  map[string]error{},
	}
	s.want, s.need = WriteCopies(b, len(members))
	if len(s.order) < s.need || s.need == 0 {
		return s.refusal()
	}
	s.results = make(chan copied, len(s.order))
	s.ctx, s.cancel = g.bound(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { s.cancel(context.Cause(ctx)) })
	defer stop()
	if err := s.quorum(ctx); err != nil {
		s.cancel(err)
		return err
	}
	stop()
	s.leave(ctx)
	return nil
}

// spreading is a chunk on its way to the nodes.
type spreading struct {
	g       *Gateway
	ctx     context.Context // of all copies; it outlives the request
	cancel  context.CancelCauseFunc
	members []api.StoreMember
	chunk   chunkstore.Chunk
	buf     *buffer
	options chunkstore.PutOptions
	order   []string // nodes that take chunks, the best first

	want, need int // copies
	begun      int // nodes of order that were asked
	running    int
	durable    int
	failed     map[string]error
	results    chan copied
}

// copied is what became of one copy.
type copied struct {
	node string
	err  error
}

// start sends the chunk to the next node, if there is one.
func (s *spreading) start() {
	if s.begun == len(s.order) {
		return
	}
	node := s.order[s.begun]
	s.begun++
	s.running++
	s.buf.hold()
	r := copied{node, errEnded}
	s.g.spawn("send a chunk", func(context.Context) {
		r.err = s.g.cfg.Peers.Put(s.ctx, node, s.options, s.chunk)
	}, func() { s.buf.drop(); s.results <- r })
}

// quorum returns when enough copies are durable, or cannot become so.
func (s *spreading) quorum(ctx context.Context) error {
	for range s.want {
		s.start()
	}
	hedge := time.NewTimer(hedgeAfter)
	defer hedge.Stop()
	for s.durable < s.need {
		if s.durable+s.running+len(s.order)-s.begun < s.need {
			return s.refusal()
		}
		select {
		case r := <-s.results:
			s.note(r)
			if r.err != nil {
				s.start()
			}
		case <-hedge.C:
			s.start()
		case <-ctx.Done():
			return cutOff(ctx)
		}
	}
	return nil
}

func (s *spreading) note(r copied) {
	s.running--
	if r.err != nil {
		s.failed[r.node] = r.err
		return
	}
	s.durable++
}

// leave lets the copies that are still on their way go on by themselves, as one of the stragglers.
func (s *spreading) leave(ctx context.Context) {
	if s.running == 0 {
		s.cancel(nil)
		s.report()
		return
	}
	x := s.g.stragglers.add(ctx, s.buf.size, func() { s.cancel(errLate) })
	if x == nil {
		s.cancel(errLate)
		s.g.cfg.Short(s.chunk.Digest)
		return
	}
	s.buf.free()
	s.g.spawn("store further copies", func(context.Context) {
		late := time.AfterFunc(stragglerTime, func() { s.cancel(errLate) })
		defer late.Stop()
		for s.running > 0 {
			s.note(<-s.results)
		}
	}, func() {
		s.cancel(nil)
		s.g.stragglers.remove(x)
		s.report()
	})
}

var errLate = errors.New("the copy came too late")

// report tells of a chunk that has fewer copies than it should.
func (s *spreading) report() {
	if s.durable < s.want {
		s.g.cfg.Short(s.chunk.Digest)
	}
}

// refusal says why too few nodes took the chunk.
func (s *spreading) refusal() error {
	var why []string
	var causes []error
	full := len(s.members) > 0
	for _, m := range s.members {
		err, tried := s.failed[m.ID]
		switch {
		case tried:
			full = full && api.CodeOf(err) == api.CodeNoRoom
			causes = append(causes, err)
			why = append(why, fmt.Sprintf("%s: %s", nameOf(m), firstLine(err)))
		case !slices.Contains(s.order, m.ID):
			full = full && m.State == api.StoreFull
			why = append(why, fmt.Sprintf("%s is %s", nameOf(m), m.State))
		}
	}
	code, hint := api.CodeUnavailable, "bring these nodes back, or remove those that are gone for good: 'cloudless node list' shows them"
	switch {
	case len(s.members) == 0:
		return api.Errorf(code, "no node keeps chunks").WithHint("start an agent, or wait until one has joined")
	case full:
		code, hint = api.CodeNoRoom, "delete objects, or add nodes or disks; 'cloudless storage status' shows what of the deleted is still kept"
	}
	e := api.Errorf(code, "%d copies must be durable and %d are; %s", s.need, s.durable, strings.Join(why, ", "))
	e.Err = errors.Join(causes...)
	return e.WithHint("%s", hint)
}

func nameOf(m api.StoreMember) string {
	if m.Name != "" {
		return m.Name
	}
	return m.ID
}

// firstLine is an error's message without its hint.
func firstLine(err error) string {
	line, _, _ := strings.Cut(api.AsError(err).Message, "\n")
	return line
}
