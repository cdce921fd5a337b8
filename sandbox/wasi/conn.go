package wasi

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// connection is a pair of pipes between a guest and its host.
type connection struct{ toGuest, toHost pipe }

func newConnection() *connection { return &connection{} }

// reset ends a connection in a way that neither side can take for the other's good end.
func (c *connection) reset() {
	c.toHost.end(syscall.ECONNRESET)
	c.toGuest.leave()
}

// Conn is the host's end of a connection: a net.Conn.
type Conn struct {
	in, out   *pipe
	reader    end
	writer    end
	closed    chan struct{}
	closeOnce sync.Once
}

// end is what reading, or writing, of a connection waits with.
type end struct {
	mu       sync.Mutex // one at a time
	signal   signal
	deadline deadline
}

func newConn(c *connection) *Conn {
	h := &Conn{in: &c.toHost, out: &c.toGuest, closed: make(chan struct{})}
	h.reader.init()
	h.writer.init()
	h.in.listen(h.reader.signal, nil)
	h.out.listen(nil, h.writer.signal)
	return h
}

func (e *end) init() {
	e.signal = newSignal()
	e.deadline.passed = make(chan struct{})
}

// Quiet tells that a Read would wait: the guest has sent nothing that was not read, and has not ended.
func (h *Conn) Quiet() bool { return !h.in.readReadiness().ready }

// wait waits until it is worth trying again.
func (h *Conn) wait(e *end) error {
	select {
	case <-e.signal:
		return nil
	case <-e.deadline.wait():
		return os.ErrDeadlineExceeded
	case <-h.closed:
		return net.ErrClosed
	}
}

// ready tells whether an end may be used at all.
func (h *Conn) ready(e *end) error {
	select {
	case <-h.closed:
		return net.ErrClosed
	case <-e.deadline.wait():
		return os.ErrDeadlineExceeded
	default:
		return nil
	}
}

// Read implements net.Conn.
func (h *Conn) Read(p []byte) (int, error) {
	h.reader.mu.Lock()
	defer h.reader.mu.Unlock()
	err := h.ready(&h.reader)
	for err == nil {
		var n int
		n, err = h.in.read(p, false)
		if !errors.Is(err, errEmpty) || len(p) == 0 {
			return n, err
		}
		err = h.wait(&h.reader)
	}
	return 0, err
}

// Write implements net.Conn.
func (h *Conn) Write(p []byte) (int, error) {
	h.writer.mu.Lock()
	defer h.writer.mu.Unlock()
	err := h.ready(&h.writer)
	written := 0
	for err == nil && written < len(p) {
		var n int
		n, err = h.out.write(p[written:])
		written += n
		if errors.Is(err, errFull) {
			err = h.wait(&h.writer)
		}
	}
	return written, err
}

// Close implements net.Conn. What was written is still the guest's to read.
func (h *Conn) Close() error {
	h.closeOnce.Do(func() {
		close(h.closed)
		h.out.end(nil)
		h.in.leave()
		h.reader.deadline.set(time.Time{})
		h.writer.deadline.set(time.Time{})
	})
	return nil
}

// CloseWrite tells the guest that nothing more will come.
func (h *Conn) CloseWrite() error {
	h.out.end(nil)
	return nil
}

// SetDeadline implements net.Conn.
func (h *Conn) SetDeadline(t time.Time) error {
	return errors.Join(h.SetReadDeadline(t), h.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (h *Conn) SetReadDeadline(t time.Time) error { return h.setDeadline(&h.reader, t) }

// SetWriteDeadline implements net.Conn.
func (h *Conn) SetWriteDeadline(t time.Time) error { return h.setDeadline(&h.writer, t) }

func (h *Conn) setDeadline(e *end, t time.Time) error {
	select {
	case <-h.closed:
		return net.ErrClosed
	default:
		e.deadline.set(t)
		return nil
	}
}

// guestAddr is the address of both ends: there is none.
type guestAddr struct{}

func (guestAddr) Network() string { return "wasi" }
func (guestAddr) String() string  { return "guest" }

// LocalAddr implements net.Conn.
func (h *Conn) LocalAddr() net.Addr { return guestAddr{} }

// RemoteAddr implements net.Conn.
func (h *Conn) RemoteAddr() net.Addr { return guestAddr{} }

// deadline closes passed when its time has come, for those who wait already too.
type deadline struct {
	mu     sync.Mutex
	timer  *time.Timer
	passed chan struct{}
}

func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.passed
}

// set sets another time; zero: never.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.passed // it has fired, or is about to: then passed is closed once it has
	}
	d.timer = nil
	if isClosed(d.passed) {
		d.passed = make(chan struct{})
	}
	if t.IsZero() {
		return
	}
	passed := d.passed
	if left := time.Until(t); left > 0 {
		d.timer = time.AfterFunc(left, func() { close(passed) })
	} else {
		close(passed)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
