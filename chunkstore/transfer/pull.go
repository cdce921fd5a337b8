package transfer

import (
	"context"
	"net/http"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/internal/run"
)

// What a node takes from others at once when it is told to copy; the next pulls wait. Each holds what is
// stored just now and what is to be next, either no more than pullBytes and a chunk.
const (
	maxPulls  = 4
	pullBytes = chunkstore.MaxChunkBytes
	pullMost  = 256 // chunks that wait to be stored

	smallMaxPulls  = 1
	smallPullBytes = 1 << 20
)

func (s *Server) maxPulls() int64 {
	if s.Small {
		return smallMaxPulls
	}
	return maxPulls
}

func (s *Server) pullBytes() int {
	if s.Small {
		return smallPullBytes
	}
	return pullBytes
}

// copyBeat is how often a node that copies says that it is at it: its pace may make it wait.
const copyBeat = stallTime / 4

func (s *Server) serveCopy(w http.ResponseWriter, r *http.Request) error {
	digests, err := s.digests(w, r)
	if err != nil {
		return err
	}
	from := r.URL.Query().Get("from")
	if from == "" || from == s.Client.Self {
		return api.Errorf(api.CodeInvalid, "a node cannot copy from %q", from)
	}
	absent, err := missing(s.Chunks, digests)
	if err != nil {
		return err
	}
	group := run.New(r.Context())
	defer group.Close()
	outcomes := make(chan []byte)
	group.Go("copy chunks", func(ctx context.Context) error {
		defer close(outcomes)
		return s.pull(ctx, from, digests, absent, outcomes)
	})
	beat := time.NewTicker(copyBeat)
	defer beat.Stop()
	for {
		select {
		case told, more := <-outcomes:
			if !more {
				return nil
			}
			err = say(w, told)
		case <-beat.C:
			err = say(w, outcome(copyBusy, nil))
		}
		if err != nil {
			return nil // who has asked has gone
		}
	}
}

func say(w http.ResponseWriter, b []byte) error {
	if err := send(w, b); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}

// pull is chunks on their way from another node. While some are flushed to the disk the next are
// fetched, so that the slower of both sets the pace; and the slower the disk, the more share a flush.
type pull struct {
	s       *Server
	from    string
	digests []string        // that nothing was said of yet
	lacks   map[string]bool // those that were not here
	next    []packed        // that wait to be stored
	bytes   int             // of next
	ready   chan []packed   // to be stored
}

// pull takes those chunks from another node that are absent here, and tells of each of all, in their order,
// when it is durable or has failed.
func (s *Server) pull(ctx context.Context, from string, digests, absent []string, outcomes chan<- []byte) error {
	if err := s.pulls.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.pulls.Release(1)
	p := &pull{s: s, from: from, digests: digests, lacks: map[string]bool{}, ready: make(chan []packed)}
	for _, d := range absent {
		p.lacks[d] = true
	}
	group := run.New(ctx)
	defer group.Stop()
	fetching, refuse := context.WithCancelCause(group.Context())
	group.Go("fetch chunks", func(ctx context.Context) error {
		defer close(p.ready)
		return p.bring(ctx, fetching, absent)
	})
	group.Go("store chunks", func(ctx context.Context) error {
		for some := range p.ready {
			told, err := p.store(ctx, some)
			if err != nil {
				refuse(err) // there is no sense in fetching what cannot be stored
			}
			select {
			case outcomes <- told:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	return group.Wait()
}

// bring fetches chunks until fetching ends. When the connection breaks, the chunk with which it broke is
// fetched by itself, from where that breaks too. When no answer comes at all, the node is given up.
func (p *pull) bring(ctx, fetching context.Context, absent []string) error {
	fetching = forPull(fetching)
	var end error
	for len(absent) > 0 && end == nil {
		came := 0
		_ = p.s.Client.fetch(fetching, p.from, absent, func(x packed) error { // why it breaks is seen with the next chunk
			came++
			return p.took(ctx, p.right(fetching, x))
		})
		absent = absent[came:]
		if end = context.Cause(fetching); end == nil && len(absent) > 0 {
			x := p.alone(fetching, absent[0])
			_ = p.took(ctx, x) // if it fails, ctx has ended
			absent, end = absent[1:], noAnswer(x.err)
		}
	}
	for _, d := range absent {
		_ = p.took(ctx, packed{digest: d, err: end})
	}
	p.passHere()
	return p.handOver(ctx)
}

// noAnswer is the error, if it is that a node cannot be reached.
func noAnswer(err error) error {
	if code := api.CodeOf(err); err != nil && (code == api.CodeUnavailable || code == api.CodeTimeout) {
		return err
	}
	return nil
}

// alone fetches a chunk by itself.
func (p *pull) alone(ctx context.Context, digest string) packed {
	buf := chunkstore.GetBuffer(chunkstore.MaxChunkBytes)
	data, err := p.s.Client.Get(ctx, p.from, digest, (*buf)[:0])
	if err != nil {
		chunkstore.PutBuffer(buf)
		return packed{digest: digest, err: err}
	}
	*buf = (*buf)[:len(data)]
	return packed{digest: digest, chunk: chunkstore.Chunk{Digest: digest, Data: data}, buf: buf}
}

// right asks once more for a chunk of which other bytes came: the node looks at its own then.
func (p *pull) right(ctx context.Context, x packed) packed {
	if x.err == nil || x.buf == nil {
		return x
	}
	chunkstore.PutBuffer(x.buf)
	return p.alone(ctx, x.digest)
}

// took takes what was fetched. It goes on to be stored when nothing else is, or when it is enough. The
// error is that ctx has ended.
func (p *pull) took(ctx context.Context, x packed) error {
	p.passHere()
	p.digests = p.digests[1:]
	p.next = append(p.next, x)
	if x.err == nil {
		p.bytes += cap(*x.buf)
		if err := p.s.Pace(ctx, int64(len(*x.buf))); err != nil {
			return err
		}
	}
	if p.bytes >= p.s.pullBytes() || len(p.next) >= pullMost {
		return p.handOver(ctx)
	}
	select {
	case p.ready <- p.next:
		p.next, p.bytes = nil, 0
	default:
	}
	return ctx.Err()
}

// passHere goes on to the next chunk that was not here.
func (p *pull) passHere() {
	for len(p.digests) > 0 && !p.lacks[p.digests[0]] {
		p.next = append(p.next, packed{digest: p.digests[0]})
		p.digests = p.digests[1:]
	}
}

func (p *pull) handOver(ctx context.Context) error {
	if len(p.next) == 0 {
		return ctx.Err()
	}
	select {
	case p.ready <- p.next:
		p.next, p.bytes = nil, 0
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// store makes chunks durable, and says what became of each. The error is that of the store.
func (p *pull) store(ctx context.Context, some []packed) (outcomes []byte, err error) {
	var chunks []chunkstore.Chunk
	for _, x := range some {
		if x.err == nil && x.buf != nil {
			chunks = append(chunks, x.chunk)
		}
	}
	if len(chunks) > 0 {
		err = p.s.Chunks.Put(ctx, chunkstore.PutOptions{}, chunks...)
	}
	for _, x := range some {
		why := x.err
		if why == nil && x.buf != nil {
			why = err
		}
		if chunkstore.PutBuffer(x.buf); why == nil {
			outcomes = append(outcomes, outcome(copyDone, nil)...)
			continue
		}
		p.s.Log.Warn().Err(why).Str("digest", x.digest).Str("from", p.from).Msg("a chunk could not be copied")
		outcomes = append(outcomes, outcome(copyFailed, why)...)
	}
	return outcomes, err
}
