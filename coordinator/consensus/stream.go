package consensus

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// newTransport makes the transport and what closes it.
func newTransport(cfg Config, log hclog.Logger) (raft.Transport, func() error) {
	if cfg.Listener == nil {
		_, transport := raft.NewInmemTransport(raft.ServerAddress(cfg.ID))
		return transport, transport.Close
	}
	stream := newStreamLayer(cfg)
	transport := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Logger: log, Stream: stream, MaxPool: connectionsPooled, Timeout: ioTimeout,
		// No pipeline: raft 1.8 stops reading one at the first entry that a follower cannot store (its disk
		// is full), goes on sending, and then waits for ever, so that the follower gets nothing again.
		MaxRPCsInFlight: 1,
	})
	return transport, func() error {
		defer stream.closeConns()
		return transport.Close()
	}
}

// streamLayer dials by id, and remembers every connection so that closing it ends the library's
// goroutines, which otherwise wait for the other side.
type streamLayer struct {
	net.Listener
	id     string
	dial   func(ctx context.Context, serverID string) (net.Conn, error)
	ctx    context.Context // ends dials under way on close
	cancel context.CancelFunc

	mu     sync.Mutex
	closed bool
	conns  map[*trackedConn]struct{}
}

func newStreamLayer(cfg Config) *streamLayer {
	s := &streamLayer{Listener: cfg.Listener, id: cfg.ID, dial: cfg.Dial, conns: map[*trackedConn]struct{}{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Dial implements raft.StreamLayer; the address is the member's id.
func (s *streamLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if s.dial == nil {
		return nil, errors.New("this coordinator was given no way to reach others")
	}
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	conn, err := s.dial(ctx, string(address))
	if err != nil {
		return nil, err
	}
	return s.track(conn)
}

// Accept implements net.Listener.
func (s *streamLayer) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return s.track(conn)
}

// Addr implements net.Listener: the library takes it for this member's address, which is its id.
func (s *streamLayer) Addr() net.Addr { return memberAddr(s.id) }

// Close implements net.Listener; the library calls it once.
func (s *streamLayer) Close() error {
	s.cancel()
	return s.Listener.Close()
}

func (s *streamLayer) track(conn net.Conn) (net.Conn, error) {
	t := &trackedConn{Conn: conn, layer: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.Join(net.ErrClosed, conn.Close())
	}
	s.conns[t] = struct{}{}
	return t, nil
}

func (s *streamLayer) forget(t *trackedConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, t)
}

// closeConns closes all connections; errors are of ones that are gone already.
func (s *streamLayer) closeConns() {
	s.mu.Lock()
	s.closed = true
	conns := s.conns
	s.conns = map[*trackedConn]struct{}{}
	s.mu.Unlock()
	for c := range conns {
		_ = c.Conn.Close()
	}
}

type trackedConn struct {
	net.Conn
	layer *streamLayer
}

// Close implements net.Conn.
func (t *trackedConn) Close() error {
	t.layer.forget(t)
	return t.Conn.Close()
}

type memberAddr string

// Network implements net.Addr.
func (memberAddr) Network() string { return "cloudless" }

// String implements net.Addr.
func (m memberAddr) String() string { return string(m) }
