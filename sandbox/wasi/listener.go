package wasi

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
)

// listenerBacklog is how many connections wait for a guest to accept them. The next Dial waits.
const listenerBacklog = 128

// Listener is a listening socket without an address: guests find it as descriptor 3 and accept what
// the host dials. Several instances may share one; each connection goes to the first that takes it.
type Listener struct {
	queue  chan *connection
	closed chan struct{}
	once   sync.Once

	mu    sync.Mutex
	wakes []signal // of the worlds that have it
}

// NewListener makes a listener.
func NewListener() *Listener {
	return &Listener{queue: make(chan *connection, listenerBacklog), closed: make(chan struct{})}
}

// Dial makes a connection. It is the guest's to accept it: until one does, what is written waits in the
// connection's buffer, and a read waits for its deadline.
func (l *Listener) Dial(ctx context.Context) (*Conn, error) {
	c := newConnection()
	select {
	case l.queue <- c:
	case <-l.closed:
		return nil, errListenerClosed
	case <-ctx.Done():
		return nil, fmt.Errorf("dial the guest: %w", context.Cause(ctx))
	}
	select {
	case <-l.closed: // perhaps before c was in the queue, and nobody looks there any more
		l.drain()
		return nil, errListenerClosed
	default:
	}
	l.announce()
	return newConn(c), nil
}

var errListenerClosed = fmt.Errorf("dial the guest: its listener: %w", net.ErrClosed)

// Close ends the listener. Connections that no guest has accepted are reset; to accept one more is an
// error for the guest. Those accepted stay.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	l.drain()
	l.announce()
	return nil
}

func (l *Listener) drain() {
	for {
		select {
		case c := <-l.queue:
			c.reset()
		default:
			return
		}
	}
}

// announce wakes all guests that listen.
func (l *Listener) announce() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, wake := range l.wakes {
		wake.raise()
	}
}

func (l *Listener) attach(wake signal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wakes = append(l.wakes, wake)
}

func (l *Listener) detach(wake signal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wakes = slices.DeleteFunc(l.wakes, func(other signal) bool { return other == wake })
}

// next takes a connection that waits: eAgain if there is none, eInval if there will be none, as Linux
// has it.
func (l *Listener) next() (*connection, error) {
	select {
	case c := <-l.queue:
		return c, nil
	default:
	}
	if l.isClosed() {
		return nil, eInval
	}
	return nil, eAgain
}

func (l *Listener) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// acceptor is the guest's side of a listener.
type acceptor struct {
	*Listener
	wake signal
}

func (a *acceptor) filetype() filetype { return typeSocketStream }

func (a *acceptor) close() error {
	a.detach(a.wake)
	return nil
}

func (a *acceptor) readable(*descriptor) readiness {
	closed := a.isClosed()
	return readiness{ready: len(a.queue) > 0 || closed, bytes: uint64(len(a.queue)), hangup: closed}
}
