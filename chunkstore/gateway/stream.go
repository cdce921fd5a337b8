package gateway

import (
	"context"
	"io"
	"iter"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore/split"
)

// stream reads a range of an object, a chunk at a time and one ahead.
type stream struct {
	g      *Gateway
	ctx    context.Context
	cancel context.CancelCauseFunc
	next   func() (split.Piece, bool)
	stop   func()
	began  time.Time
	read   int64

	object  *api.Object
	groups  groupBook // used by one fetch at a time
	current *buffer
	rest    []byte       // of current, not read yet
	found   *split.Piece // the next one, when it is known and not on its way
	ahead   chan fetched // the next one, when it is on its way
	err     error        // why nothing more can be read; io.EOF at the end
	closed  bool
}

// fetched is a chunk that was read ahead.
type fetched struct {
	piece split.Piece
	buf   *buffer
	err   error
}

func (r *Reader) stream(ctx context.Context, offset, n int64) *stream {
	s := &stream{g: r.g, began: time.Now(), object: r.object, groups: groupBook{g: r.g, chunks: r.manifest.Chunks}}
	s.ctx, s.cancel = r.g.bound(ctx)
	s.next, s.stop = iter.Pull(r.manifest.Range(offset, n))
	return s
}

// Read gives the next bytes.
func (s *stream) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		if err := s.advance(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.rest)
	s.taken(n)
	return n, nil
}

// WriteTo writes all that is left, a chunk at a time and without copying it.
func (s *stream) WriteTo(w io.Writer) (total int64, err error) {
	for {
		for len(s.rest) == 0 {
			if err := s.advance(); err == io.EOF {
				return total, nil
			} else if err != nil {
				return total, err
			}
		}
		n, err := w.Write(s.rest)
		total += int64(n)
		s.taken(n)
		if err != nil {
			return total, err
		}
	}
}

func (s *stream) taken(n int) {
	s.rest = s.rest[n:]
	s.read += int64(n)
}

// advance goes on to the next chunk, and has the one behind it fetched meanwhile.
func (s *stream) advance() error {
	if s.err != nil {
		return s.err
	}
	s.current.drop()
	s.current = nil
	var f fetched
	if f, s.err = s.take(); s.err != nil {
		return s.err
	}
	s.current, s.rest = f.buf, f.buf.bytes[f.piece.From:f.piece.To]
	return nil
}

// take gives the next chunk, which may be on its way already.
func (s *stream) take() (f fetched, err error) {
	switch {
	case s.ahead != nil:
		f, s.ahead = <-s.ahead, nil
	case s.find():
		f = s.fetch(*s.found, newBuffer(s.found.Bytes))
		s.found = nil
	default:
		return f, io.EOF
	}
	if f.err == nil {
		s.readAhead()
	}
	return f, f.err
}

// find tells whether there is another piece, which is found then.
func (s *stream) find() bool {
	if s.found != nil {
		return true
	}
	piece, ok := s.next()
	if ok {
		s.found = &piece
	}
	return ok
}

// readAhead begins to fetch the next chunk, if there is one and memory to spare.
func (s *stream) readAhead() {
	if !s.find() {
		return
	}
	buf := s.g.spareBuffer(s.found.Bytes)
	if buf == nil {
		return
	}
	piece, ahead := *s.found, make(chan fetched, 1)
	s.found, s.ahead = nil, ahead
	f := fetched{err: errEnded}
	s.g.spawn("read ahead", func(context.Context) {
		own := buf
		buf = nil
		f = s.fetch(piece, own)
	}, func() { buf.drop(); ahead <- f })
}

// fetch reads a chunk into buf, which it owns.
func (s *stream) fetch(piece split.Piece, buf *buffer) fetched {
	got, err := s.g.fetch(s.ctx, s.object, piece.Chunk, buf, func(ctx context.Context) *meta.Group { return s.groups.of(ctx, piece.Index) })
	return fetched{piece, got, err}
}

// Close ends the reading, before its end too.
func (s *stream) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	s.cancel(nil)
	s.stop()
	if s.ahead != nil {
		(<-s.ahead).buf.drop()
	}
	s.current.drop()
	failed := s.err
	switch failed {
	case nil:
		s.err = api.Errorf(api.CodeInvalid, "the reader is closed")
	case io.EOF:
		failed = nil
	}
	s.rest = nil
	s.g.observed("get", s.began, s.read, failed)
	return nil
}
