package link

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/pki"
	"github.com/cloudless/cloudless/internal/run"
)

// A line is a connection that is kept for questions, each of which is answered before the next is asked. For
// what is asked thousands of times a second: between two processes of one machine an exchange costs a sixth of
// a request by HTTP/2, whose frames pass through four goroutines and as many writes.
//
// In both directions go messages: a length of 4 bytes, big endian, then a kind and the text. Kinds are for
// those who ask and answer to agree on, but Hangup.

// Hangup is the kind of the last message that a server sends: whatever it was asked after its last answer it
// has not read.
const Hangup = 0xff

const (
	messageHead    = 5 // of them the kind is the last
	messageTimeout = 30 * time.Second
	lineBuffer     = 32 << 10
	firstRoom      = 1 << 20 // for a message, whatever length it announces
)

// ErrUnread is the cause of an error of a line whose other end has not read the question.
var ErrUnread = errors.New("the question was not read")

// IsUnsent tells whether err is that nothing can have come of a question: it has reached nobody.
func IsUnsent(err error) bool { return IsDial(err) || errors.Is(err, ErrUnread) }

func writeMessage(w net.Conn, kind byte, text []byte) error {
	b := make([]byte, 0, messageHead+len(text)) // one write is one record of TLS, and one packet if it is short
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(text))), kind)
	_ = w.SetWriteDeadline(time.Now().Add(messageTimeout)) // a closed connection says so at the write
	_, err := w.Write(append(b, text...))
	return err
}

func readMessage(r io.Reader, most int) (kind byte, text []byte, err error) {
	var head [messageHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int64(binary.BigEndian.Uint32(head[:]))
	if n > int64(most) {
		return 0, nil, api.Errorf(api.CodeTooLarge, "a message of %d bytes, at most %d are allowed", n, most)
	}
	b := bytes.NewBuffer(make([]byte, 0, min(n, firstRoom)+bytes.MinRead)) // with less it grows to see the end
	_, err = io.CopyN(b, r, n)
	return head[messageHead-1], b.Bytes(), err
}

// Line asks. The connection is made when it is needed, and again when it has ended.
type Line struct {
	ctx  context.Context // the line's life
	own  *run.Group
	dial func(context.Context) (net.Conn, error)
	most int           // bytes of an answer
	turn chan struct{} // full while somebody asks

	mu   sync.Mutex
	open *lineEnd
}

// lineEnd is this end of a connection.
type lineEnd struct {
	net.Conn
	asked   atomic.Bool   // and not answered yet
	answers chan message  // holds one
	ended   chan struct{} // closed when no answer will come, for the reason err
	err     error
}

type message struct {
	kind byte
	text []byte
}

// NewLine makes a line that lives as long as ctx, with goroutines of the group.
func NewLine(ctx context.Context, own *run.Group, most int, dial func(context.Context) (net.Conn, error)) *Line {
	return &Line{ctx: ctx, own: own, dial: dial, most: most, turn: make(chan struct{}, 1)}
}

// Ask waits for its turn, and then for the answer. An error is one of the connection; see IsUnsent.
func (l *Line) Ask(ctx context.Context, kind byte, text []byte) (byte, []byte, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return 0, nil, errors.Join(ErrUnread, ctx.Err())
	}
	c, err := l.connected(ctx)
	if err != nil {
		return 0, nil, err
	}
	c.asked.Store(true)
	if err := writeMessage(c, kind, text); err != nil {
		l.drop(c) // it may have sent a part
		return 0, nil, err
	}
	select {
	case a := <-c.answers:
		return a.kind, a.text, nil
	case <-c.ended:
	case <-ctx.Done():
		l.drop(c) // the answer that is still to come would be taken for the next one's
		return 0, nil, ctx.Err()
	}
	select {
	case a := <-c.answers: // it came before the end
		return a.kind, a.text, nil
	default:
		return 0, nil, c.err
	}
}

// Cut ends the connection: who waits for an answer gets an error.
func (l *Line) Cut() {
	l.mu.Lock()
	c := l.open
	l.mu.Unlock()
	if c != nil {
		l.drop(c)
	}
}

// drop ends a connection, which nobody is given any more. It waits for nothing, as a goodbye of TLS would.
func (l *Line) drop(c *lineEnd) {
	l.mu.Lock()
	if l.open == c {
		l.open = nil
	}
	l.mu.Unlock()
	_ = raw(c.Conn).Close() // it is gone either way
}

// connected gives the connection, a new one if there is none on which an answer can come.
func (l *Line) connected(ctx context.Context) (*lineEnd, error) {
	l.mu.Lock()
	c := l.open
	l.mu.Unlock()
	if c != nil {
		select {
		case <-c.ended:
		default:
			return c, nil
		}
	}
	conn, err := l.dial(ctx)
	if err != nil {
		return nil, err
	}
	c = &lineEnd{Conn: conn, answers: make(chan message, 1), ended: make(chan struct{})}
	l.mu.Lock()
	l.open = c
	l.mu.Unlock()
	l.own.Go("line", func(context.Context) error {
		l.listen(c)
		return nil
	})
	return c, nil
}

// listen takes what comes on a connection until it ends.
func (l *Line) listen(c *lineEnd) {
	stop := context.AfterFunc(l.ctx, func() { l.drop(c) })
	defer stop()
	defer close(c.ended)
	defer l.drop(c)
	for r := bufio.NewReaderSize(c, lineBuffer); c.err == nil; {
		var m message
		m.kind, m.text, c.err = readMessage(r, l.most)
		switch {
		case c.err != nil:
		case m.kind == Hangup:
			c.err = ErrUnread
		case !c.asked.Swap(false):
			c.err = errors.New("there was an answer to no question")
		default:
			c.answers <- m
		}
	}
}

// Answer gives the answer to a question of a member.
type Answer func(ctx context.Context, from pki.Identity, kind byte, text []byte) (byte, []byte)

// ServeLines answers questions of at most so many bytes on the connections of ln, until ctx ends. A line that
// is silent for long is hung up.
func ServeLines(ctx context.Context, ln net.Listener, most int, answer Answer, log zerolog.Logger) error {
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	g := run.New(ctx)
	for {
		conn, err := ln.Accept()
		if err != nil {
			g.Stop()
			if errors.Is(err, net.ErrClosed) {
				err = nil
			}
			return errors.Join(err, g.Wait())
		}
		g.Go("line", func(ctx context.Context) error {
			defer conn.Close()
			from, ok := PeerOf(conn)
			if !ok {
				return nil // the port takes none without a certificate
			}
			if err := serveLine(ctx, conn, from, most, answer); err != nil {
				log.Debug().Err(err).Stringer("from", conn.RemoteAddr()).Msg("line ended")
			}
			return nil
		})
	}
}

func serveLine(ctx context.Context, conn net.Conn, from pki.Identity, most int, answer Answer) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	defer stop()
	for r := bufio.NewReaderSize(conn, lineBuffer); ; {
		kind, text, err := nextQuestion(ctx, conn, r, most)
		if err != nil {
			return errors.Join(err, writeMessage(conn, Hangup, nil))
		}
		kind, text = answer(ctx, from, kind, text)
		if err := writeMessage(conn, kind, text); err != nil {
			return err
		}
	}
}

// nextQuestion waits for a question to begin, and less long for its end.
func nextQuestion(ctx context.Context, conn net.Conn, r *bufio.Reader, most int) (kind byte, text []byte, err error) {
	for _, wait := range []time.Duration{serverIdle, messageTimeout} {
		_ = conn.SetReadDeadline(time.Now().Add(wait)) // a closed connection says so at the read
		if ctx.Err() != nil {                          // it may have ended before the deadline was set, which it sets too
			return 0, nil, ctx.Err()
		}
		if _, err := r.Peek(1); err != nil {
			return 0, nil, err
		}
	}
	return readMessage(r, most)
}
