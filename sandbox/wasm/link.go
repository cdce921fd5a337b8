package wasm

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
)

const (
	// maxLinks bounds the requests that one guest has at a time; one more waits.
	maxLinks = maxQueued
	// linkIdle is how long a connection is kept that nobody uses.
	linkIdle = time.Minute
	// maxInformed bounds the heads of status 1xx before the response's.
	maxInformed = 5
)

var (
	errAnswerHead = fmt.Errorf("the head of the guest's response exceeded %d bytes", api.MaxHeaderBytes)
	errInformed   = fmt.Errorf("the guest has sent more than %d heads of status 1xx", maxInformed)
)

// guestConn is the host's end of a connection to a guest: a *wasi.Conn.
type guestConn interface {
	net.Conn
	CloseWrite() error
	Quiet() bool // nothing has come that was not read, not even the end
}

// links are the connections to one guest, in this process alone. They are used again as HTTP has it. net/http's
// own Transport would do the same with two goroutines for each, which hand each request and each response on.
type links struct {
	dial  func(context.Context) (guestConn, error)
	slots chan struct{} // one for each request

	mu     sync.Mutex
	closed bool
	idle   []*link // the one used last is last
}

func newLinks(dial func(context.Context) (guestConn, error)) links {
	return links{dial: dial, slots: make(chan struct{}, maxLinks)}
}

// link is a connection.
type link struct {
	guestConn
	of      *links
	r       *bufio.Reader // of limited
	w       *bufio.Writer
	left    int           // bytes that may be read until a head must have ended
	used    time.Duration // since epoch
	another bool          // it was used before
}

// Read implements io.Reader within the bound of a head.
func (k *link) Read(p []byte) (int, error) {
	if k.left == 0 {
		return 0, errAnswerHead
	}
	n, err := k.guestConn.Read(p[:min(len(p), k.left)])
	k.left -= n
	return n, err
}

// get takes an idle connection, or makes one.
func (s *links) get(ctx context.Context) (*link, error) {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if k := s.pop(); k != nil {
		return k, nil
	}
	c, err := s.dial(ctx)
	if err != nil {
		<-s.slots
		return nil, err
	}
	k := &link{guestConn: c, of: s}
	k.r, k.w = bufio.NewReader(k), bufio.NewWriter(c)
	return k, nil
}

// pop finds a connection on which nothing has come since its last response: neither its end, nor what nobody
// has asked for.
func (s *links) pop() *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.idle) > 0 {
		k := s.idle[len(s.idle)-1]
		s.idle = s.idle[:len(s.idle)-1]
		if k.Quiet() {
			k.another = true
			return k
		}
		_ = k.Close()
	}
	return nil
}

// put takes a connection back that can be used again.
func (s *links) put(k *link) {
	s.mu.Lock()
	k.used = sinceEpoch()
	if s.closed {
		_ = k.Close()
	} else {
		s.idle = append(s.idle, k)
	}
	s.mu.Unlock()
	<-s.slots
}

// drop ends a connection.
func (s *links) drop(k *link) {
	_ = k.Close()
	<-s.slots
}

// trim ends the connections that have been idle for long.
func (s *links) trim(after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := sinceEpoch()
	for len(s.idle) > 0 && now-s.idle[0].used >= after {
		_ = s.idle[0].Close()
		s.idle = s.idle[1:]
	}
}

// close ends those that are idle, and the others when they come back.
func (s *links) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.trim(0)
}

// ask sends a request and reads the head of its response, whose body calls over when it is closed. One that
// fails on a connection that was idle, which the guest may have ended meanwhile, is sent once more, if that
// can do no harm.
func (s *links) ask(ctx context.Context, r *http.Request, over func()) (*http.Response, error) {
	for {
		k, err := s.get(ctx)
		if err != nil {
			return nil, err
		}
		again := k.another && repeatable(r)
		res, err := k.ask(ctx, r, over)
		if heard := k.left < api.MaxHeaderBytes; err == nil || heard || !again || ctx.Err() != nil {
			return res, err
		}
	}
}

func repeatable(r *http.Request) bool {
	return (r.Body == nil || r.Body == http.NoBody) &&
		(r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions)
}

// ask is links.ask on one connection, which is over after an error.
func (k *link) ask(ctx context.Context, r *http.Request, over func()) (*http.Response, error) {
	unwatch := context.AfterFunc(ctx, func() { _ = k.SetDeadline(time.Unix(1, 0)) })
	sent := k.send(r)
	res, err := k.answer(r)
	if err != nil {
		unwatch()
		k.of.drop(k)
		return nil, err
	}
	b := &answered{link: k, body: res.Body, sent: sent, unwatch: unwatch, over: over, keep: !res.Close && !r.Close, ended: res.Body == http.NoBody}
	res.Body = b
	if res.StatusCode == http.StatusSwitchingProtocols {
		b.body, b.keep = io.NopCloser(k.r), false
		res.Body = upgraded{b}
	}
	return res, nil
}

// send writes the request: one with a body beside what reads the response, since a guest may answer before
// it has all. If that fails the guest hears no more, whether it or the client has gone, and what comes from
// it tells.
func (k *link) send(r *http.Request) (sent <-chan error) {
	done := make(chan error, 1)
	write := func() {
		err := r.Write(k.w)
		if err == nil {
			err = k.w.Flush()
		}
		if err != nil {
			_ = k.CloseWrite()
		}
		done <- err
	}
	if r.Body == nil || r.Body == http.NoBody {
		write()
	} else {
		go write() // ends with the body, whose reads end with the request, or with the connection
	}
	return done
}

// answer reads the head of the response, and passes on those of status 1xx before it.
func (k *link) answer(r *http.Request) (*http.Response, error) {
	k.left = api.MaxHeaderBytes
	for range maxInformed + 1 {
		res, err := http.ReadResponse(k.r, r)
		switch {
		case err != nil && k.left == 0: // whatever the parser makes of the cut
			return nil, errAnswerHead
		case err != nil:
			return nil, err
		}
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			k.left = math.MaxInt
			return res, nil
		}
		if err := inform(r, res); err != nil {
			return nil, err
		}
	}
	return nil, errInformed
}

// inform tells of a head of status 1xx, as httputil.ReverseProxy asks for it.
func inform(r *http.Request, res *http.Response) error {
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.Got1xxResponse != nil {
		return trace.Got1xxResponse(res.StatusCode, textproto.MIMEHeader(res.Header))
	}
	return nil
}

// answered is the body of a response.
type answered struct {
	link    *link
	body    io.ReadCloser
	sent    <-chan error
	unwatch func() bool
	over    func()
	keep    bool // the connection may be used again
	ended   bool // the body
	closing sync.Once
}

// Read implements io.Reader.
func (b *answered) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	b.ended = b.ended || err == io.EOF
	return n, err
}

// Close implements io.Closer: it keeps the connection if both sides have said all on it.
func (b *answered) Close() error {
	b.closing.Do(func() {
		defer b.over()
		quiet := b.unwatch() && b.ended && b.keep && b.allSent() && b.link.r.Buffered() == 0
		if quiet {
			b.link.of.put(b.link)
		} else {
			b.link.of.drop(b.link)
		}
	})
	return nil
}

func (b *answered) allSent() bool {
	select {
	case err := <-b.sent:
		return err == nil
	default:
		return false
	}
}

// upgraded is the body of a response after which the connection speaks another protocol.
type upgraded struct{ *answered }

// Write implements io.Writer.
func (u upgraded) Write(p []byte) (int, error) { return u.link.guestConn.Write(p) }

// CloseWrite lets the guest know that the client says no more.
func (u upgraded) CloseWrite() error { return u.link.guestConn.CloseWrite() }
