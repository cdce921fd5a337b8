package simnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// bufferBytes is what may be on its way or unread in one direction; a writer then waits. It is about
// what a kernel gives, and enough that nobody waits with a lock in his hand, which would stop a
// bubble's clock.
const bufferBytes = 1 << 20

// segment is what arrives at once: bytes, the end of the stream, or a reset.
type segment struct {
	data  []byte
	fin   bool
	reset bool
	due   time.Time
}

// pipe is one direction of a connection.
type pipe struct {
	route route
	peer  *pipe // the other direction
	net   *Network

	mu       sync.Mutex
	cond     *sync.Cond
	queue    []segment // in the order of their dues
	size     int       // bytes in queue
	way      Way
	lost     bool  // all that is in queue from held on waits for the way to open
	held     int   // index in queue
	fail     error // of the writer, and of the reader when nothing is left to read
	finished bool  // the writer has sent its end
	unread   bool  // the reader is gone
	ended    bool  // the reader has seen the end
	readEnd  deadline
	writeEnd deadline
}

func newPipe(n *Network, r route) *pipe {
	p := &pipe{route: r, net: n}
	p.cond = sync.NewCond(&p.mu)
	p.readEnd.p, p.writeEnd.p = p, p
	return p
}

func (p *pipe) back() route { return route{p.route.to, p.route.from} }

// connect makes both ends of a connection; n.mu is held.
func (n *Network) connect(from, to *net.TCPAddr) (mine, theirs *conn) {
	there := newPipe(n, route{from.IP.String(), to.IP.String()})
	back := newPipe(n, there.back())
	there.peer, back.peer = back, there
	n.pipes[there], n.pipes[back] = struct{}{}, struct{}{}
	return &conn{in: back, out: there, local: from, remote: to}, &conn{in: there, out: back, local: to, remote: from}
}

// send puts a segment on its way; p.mu is held.
func (p *pipe) send(s segment, latency time.Duration) {
	s.due = time.Now().Add(latency)
	if k := len(p.queue); k > 0 && p.queue[k-1].due.After(s.due) {
		s.due = p.queue[k-1].due
	}
	p.queue = append(p.queue, s)
	p.size += len(s.data)
	if p.way == Open {
		p.wakeAt(s.due)
	}
}

// wakeAt wakes who waits when something arrives.
func (p *pipe) wakeAt(due time.Time) {
	time.AfterFunc(time.Until(due), func() {
		p.mu.Lock()
		p.cond.Broadcast()
		p.mu.Unlock()
	})
}

// set takes up what the way has become. What had not arrived when it closed is sent again when it
// opens.
func (p *pipe) set(w Way) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.way == w {
		return
	}
	p.way = w
	now := time.Now()
	switch w {
	case Open:
		for i := p.arrived(now); p.lost && i < len(p.queue); i++ {
			p.queue[i].due = now.Add(resend)
		}
		p.lost = false
		p.wakeAt(now.Add(resend))
	case Drop:
		p.lost, p.held = true, p.arrived(now)
	case Refuse:
		p.failLocked(syscall.ECONNRESET)
	}
}

// arrived counts the segments that have reached the reader.
func (p *pipe) arrived(now time.Time) int {
	if p.lost {
		return min(p.held, len(p.queue))
	}
	for i, s := range p.queue {
		if s.due.After(now) {
			return i
		}
	}
	return len(p.queue)
}

// reset ends this direction at once for its writer and, behind what has arrived, for its reader.
func (p *pipe) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failLocked(syscall.ECONNRESET)
}

func (p *pipe) failLocked(err error) {
	if p.fail == nil {
		p.fail = err
	}
	p.cond.Broadcast()
}

// read waits for bytes, the end, or the deadline.
func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if p.unread {
			return 0, net.ErrClosed
		}
		if p.readEnd.over() {
			return 0, os.ErrDeadlineExceeded
		}
		if len(b) == 0 {
			return 0, nil
		}
		if k := p.arrived(time.Now()); k > 0 {
			return p.take(b, k)
		}
		switch {
		case p.ended:
			return 0, io.EOF
		case p.fail != nil:
			return 0, p.fail
		}
		p.cond.Wait()
	}
}

// take reads from the first k segments.
func (p *pipe) take(b []byte, k int) (int, error) {
	total := 0
	for ; k > 0 && total < len(b); k-- {
		s := &p.queue[0]
		if s.reset {
			p.failLocked(syscall.ECONNRESET)
			go p.peer.reset()
		}
		if s.fin || s.reset {
			if total > 0 {
				break
			}
			p.ended = s.fin
			p.drop()
			if s.reset {
				return 0, p.fail
			}
			return 0, io.EOF
		}
		n := copy(b[total:], s.data)
		total += n
		p.size -= n
		if s.data = s.data[n:]; len(s.data) > 0 {
			break
		}
		p.drop()
	}
	p.cond.Broadcast()
	return total, nil
}

// drop removes the first segment.
func (p *pipe) drop() {
	p.queue = p.queue[1:]
	p.held = max(p.held-1, 0)
}

// write waits for room.
func (p *pipe) write(b []byte) (int, error) {
	latency := p.net.delay()
	p.mu.Lock()
	defer p.mu.Unlock()
	sent := 0
	for {
		switch {
		case p.finished:
			return sent, net.ErrClosed
		case p.fail != nil:
			return sent, p.fail
		case p.unread && p.way == Open: // the peer answers what it no longer reads with a reset
			return sent, syscall.EPIPE
		case p.writeEnd.over():
			return sent, os.ErrDeadlineExceeded
		case len(b) == sent:
			return sent, nil
		}
		if room := bufferBytes - p.size; room > 0 {
			part := b[sent:min(len(b), sent+room)]
			p.send(segment{data: append([]byte(nil), part...)}, latency)
			sent += len(part)
			continue
		}
		p.cond.Wait()
	}
}

// finish sends the end of the stream.
func (p *pipe) finish() {
	latency := p.net.delay()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.finished {
		p.finished = true
		p.send(segment{fin: true}, latency)
		p.cond.Broadcast()
	}
}

// kill ends the writer without a word of goodbye: the reader gets a reset.
func (p *pipe) kill(latency time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.finished {
		p.finished = true
		p.send(segment{reset: true}, latency)
	}
	p.cond.Broadcast()
}

// abandon says that nobody reads any more.
func (p *pipe) abandon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unread = true
	p.cond.Broadcast()
}

// deadline is one of a pipe; its lock guards it.
type deadline struct {
	p     *pipe
	at    time.Time
	timer *time.Timer
}

func (d *deadline) over() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) set(at time.Time) {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = at
	if left := time.Until(at); !at.IsZero() && left > 0 {
		d.timer = time.AfterFunc(left, func() {
			d.p.mu.Lock()
			d.p.cond.Broadcast()
			d.p.mu.Unlock()
		})
	}
	d.p.cond.Broadcast()
}

// conn is one end of a connection.
type conn struct {
	in, out       *pipe
	local, remote *net.TCPAddr
}

func (c *conn) wrap(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.in.read(b)
	return n, c.wrap("read", err)
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	n, err := c.out.write(b)
	return n, c.wrap("write", err)
}

// CloseWrite sends the end of the stream; reading goes on.
func (c *conn) CloseWrite() error {
	c.out.finish()
	return nil
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.out.finish()
	c.in.abandon()
	c.SetDeadline(time.Time{})
	c.forget()
	return nil
}

// abort closes with a reset.
func (c *conn) abort() {
	c.out.kill(c.out.net.delay())
	c.Close()
}

// forget drops a connection of which both ends are closed.
func (c *conn) forget() {
	n := c.out.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.in.gone() && c.out.gone() {
		delete(n.pipes, c.in)
		delete(n.pipes, c.out)
	}
}

func (p *pipe) gone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unread
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	c.in.readEnd.set(t)
	c.out.writeEnd.set(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.readEnd.set(t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.writeEnd.set(t)
	return nil
}
