package simnet

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	firstPort   = 32768 // of the ports that Listen and Dial choose themselves
	backlog     = 128   // connections that wait to be accepted; a dial waits while there are more
	dialTimeout = 2 * time.Minute
	dialAgain   = time.Second // until a dial without an answer is tried again
)

// Host is one machine of the network, or rather the one process on it.
type Host struct {
	net  *Network
	Name string
	IP   string

	// All guarded by net.mu.
	up        bool
	listeners map[int]*listener
	packets   map[int]*transport
	nextPort  int
}

// Addr is HOST:PORT with this host's address.
func (h *Host) Addr(port int) string { return net.JoinHostPort(h.IP, strconv.Itoa(port)) }

// Crash ends the process: its connections are reset, its listeners are gone, dials to it are refused,
// and what it still tries itself fails. Peers to which the way is cut hear of it when it is open.
func (h *Host) Crash() {
	n := h.net
	n.mu.Lock()
	h.up = false
	listeners := h.listeners
	h.listeners = map[int]*listener{}
	for p := range n.pipes {
		if p.route.from == h.IP {
			p.kill(n.latency)
			p.peer.abandon()
		}
	}
	for _, t := range h.packets {
		t.stopped = true
	}
	h.packets = map[int]*transport{}
	n.mu.Unlock()
	for _, l := range listeners {
		l.shut()
	}
}

// Start lets a crashed host work again; everything is to be opened anew.
func (h *Host) Start() {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.up = true
}

func (h *Host) port() int {
	h.nextPort++
	return h.nextPort
}

func tcpAddr(ip string, port int) *net.TCPAddr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: port} }

// Listen listens on a port; 0 picks one.
func (h *Host) Listen(port int) (net.Listener, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if port == 0 {
		port = h.port()
	}
	fail := func(e syscall.Errno) (net.Listener, error) {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: tcpAddr(h.IP, port), Err: os.NewSyscallError("bind", e)}
	}
	if !h.up {
		return fail(syscall.ENETDOWN)
	}
	if h.listeners[port] != nil {
		return fail(syscall.EADDRINUSE)
	}
	l := &listener{host: h, port: port, conns: make(chan *conn, backlog), done: make(chan struct{})}
	h.listeners[port] = l
	return l, nil
}

// Dial connects to HOST:PORT; it is a link.NetDial.
func (h *Host) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	to, err := net.ResolveTCPAddr("tcp", addr) // an IP address: nothing is asked
	if err == nil {
		var c *conn
		if c, err = h.dial(ctx, to); err == nil {
			return c, nil
		}
	}
	op := &net.OpError{Op: "dial", Net: network, Source: tcpAddr(h.IP, 0), Err: err}
	if to != nil {
		op.Addr = to
	}
	return nil, op
}

func (h *Host) dial(ctx context.Context, to *net.TCPAddr) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	for {
		c, err := h.try(to)
		wait := dialAgain
		if !errors.Is(err, errWait) {
			wait = 2 * h.net.delay() // the answer, good or bad, takes a round trip
		}
		if e := pause(ctx, wait); e != nil {
			if c != nil {
				c.Close()
			}
			return nil, e
		}
		if !errors.Is(err, errWait) {
			return c, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	}
}

// ended is a context's end as the net package tells it.
func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return os.ErrDeadlineExceeded
	}
	return errors.New("operation was canceled")
}

// errWait says that a dial goes unanswered for now.
var errWait = errors.New("no answer")

// try dials once; errWait means that it may be tried again.
func (h *Host) try(to *net.TCPAddr) (*conn, error) {
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if !h.up {
		return nil, os.NewSyscallError("connect", syscall.ENETDOWN)
	}
	ip := to.IP.String()
	there, back := n.ways[route{h.IP, ip}], n.ways[route{ip, h.IP}]
	peer := n.hosts[ip]
	refused := os.NewSyscallError("connect", syscall.ECONNREFUSED)
	switch {
	case peer == nil:
		return nil, os.NewSyscallError("connect", syscall.EHOSTUNREACH)
	case there == Drop || back == Drop:
		return nil, errWait
	case there == Refuse || back == Refuse:
		return nil, refused
	}
	l := peer.listeners[to.Port]
	if l == nil {
		return nil, refused
	}
	mine, theirs := n.connect(tcpAddr(h.IP, h.port()), to)
	select {
	case l.conns <- theirs:
		return mine, nil
	default: // the queue is full
		delete(n.pipes, mine.in)
		delete(n.pipes, mine.out)
		return nil, errWait
	}
}

// listener is a listening port.
type listener struct {
	host  *Host
	port  int
	conns chan *conn
	once  sync.Once
	done  chan struct{}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
	default:
		select {
		case c := <-l.conns:
			return c, nil
		case <-l.done:
		}
	}
	return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	n := l.host.net
	n.mu.Lock()
	if l.host.listeners[l.port] == l {
		delete(l.host.listeners, l.port)
	}
	n.mu.Unlock()
	l.shut()
	return nil
}

// shut resets what nobody accepted.
func (l *listener) shut() {
	l.once.Do(func() {
		close(l.done)
		for {
			select {
			case c := <-l.conns:
				c.abort()
			default:
				return
			}
		}
	})
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return tcpAddr(l.host.IP, l.port) }
