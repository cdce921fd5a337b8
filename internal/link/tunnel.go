package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
)

// Times and limits of tunnels. A tunnel whose other end does not answer a heartbeat in time is dead.
const (
	tunnelHeartbeat  = 2 * time.Second
	tunnelTimeout    = 5 * time.Second
	tunnelBacklog    = 64  // streams opened and not yet accepted
	maxTunnelStreams = 512 // at one time
)

func tunnelConfig() *yamux.Config {
	cfg := yamux.DefaultConfig()
	cfg.AcceptBacklog = tunnelBacklog
	cfg.KeepAliveInterval = tunnelHeartbeat
	cfg.ConnectionWriteTimeout = tunnelTimeout
	cfg.StreamOpenTimeout = 2 * tunnelTimeout
	cfg.StreamCloseTimeout = time.Minute
	cfg.LogOutput = io.Discard // what it says comes back as errors too
	return cfg
}

// ServeTunnel is an agent's end of a tunnel: every stream that the coordinator opens on conn goes to
// handle, which must not block (Mux.Inject). It returns when ctx ends or the tunnel dies.
func ServeTunnel(ctx context.Context, conn net.Conn, handle func(net.Conn)) error {
	session, err := yamux.Server(conn, tunnelConfig())
	if err != nil {
		conn.Close()
		return fmt.Errorf("open tunnel: %w", err)
	}
	defer session.Close()
	for {
		stream, err := session.AcceptStreamWithContext(ctx)
		switch {
		case ctx.Err() != nil:
			if stream != nil {
				stream.Close()
			}
			return nil
		case err != nil:
			return api.Errorf(api.CodeUnavailable, "the tunnel ended: %w", err)
		case session.NumStreams() > maxTunnelStreams:
			stream.Close()
		default:
			handle(stream)
		}
	}
}

// Tunnels is a coordinator's end: the open tunnels by node.
type Tunnels struct {
	max             int
	onOpen, onClose func(nodeID string)
	log             zerolog.Logger

	order sync.Mutex // a change and the call that tells of it are one step
	mu    sync.Mutex
	open  map[string]*tunnel
}

type tunnel struct {
	session  *yamux.Session
	replaced chan struct{} // closed when a newer tunnel of the node has come
}

// NewTunnels takes at most max tunnels. onOpen is called for each new tunnel, onClose when a node has
// lost its last one; they are called one at a time and must be quick.
func NewTunnels(max int, onOpen, onClose func(nodeID string), log zerolog.Logger) *Tunnels {
	return &Tunnels{max: max, onOpen: onOpen, onClose: onClose, log: log, open: map[string]*tunnel{}}
}

// Serve takes tunnels from ln until ctx ends or ln is closed, then ends them all.
func (t *Tunnels) Serve(ctx context.Context, ln net.Listener) error {
	return serveConns(ctx, ln, "tunnel", t.max+1, t.serve)
}

// serveConns runs handle for each connection of ln, in a goroutine of its own, at most max at a time.
// It closes the connection after handle, and waits for all in the end.
func serveConns(ctx context.Context, ln net.Listener, name string, max int, handle func(context.Context, net.Conn)) error {
	group := run.New(ctx)
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	room := make(chan struct{}, max)
	for {
		conn, err := ln.Accept()
		if err != nil {
			group.Stop()
			if errors.Is(err, net.ErrClosed) {
				err = nil
			}
			return errors.Join(err, group.Wait())
		}
		select {
		case room <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		group.Go(name, func(ctx context.Context) error {
			defer func() { <-room }()
			defer conn.Close()
			handle(ctx, conn)
			return nil
		})
	}
}

func (t *Tunnels) serve(ctx context.Context, conn net.Conn) {
	peer, ok := PeerOf(conn)
	if !ok || peer.Role != api.RoleNode {
		return
	}
	session, err := yamux.Client(conn, tunnelConfig())
	if err != nil {
		t.log.Warn().Err(err).Str("node", peer.ID).Msg("tunnel refused")
		return
	}
	defer session.Close()
	tun := &tunnel{session: session, replaced: make(chan struct{})}
	if !t.add(peer.ID, tun) {
		t.log.Warn().Str("node", peer.ID).Int("max", t.max).Msg("too many tunnels; refused")
		return
	}
	defer t.remove(peer.ID, tun) // before session.Close, which may take a while
	select {
	case <-ctx.Done():
	case <-tun.replaced:
	case <-session.CloseChan():
	}
}

func (t *Tunnels) add(nodeID string, tun *tunnel) bool {
	t.order.Lock()
	defer t.order.Unlock()
	t.mu.Lock()
	old := t.open[nodeID]
	room := old != nil || len(t.open) < t.max
	if room {
		t.open[nodeID] = tun
	}
	t.mu.Unlock()
	if !room {
		return false
	}
	if old != nil {
		close(old.replaced)
	}
	if t.onOpen != nil {
		t.onOpen(nodeID)
	}
	return true
}

func (t *Tunnels) remove(nodeID string, tun *tunnel) {
	t.order.Lock()
	defer t.order.Unlock()
	t.mu.Lock()
	last := t.open[nodeID] == tun
	if last {
		delete(t.open, nodeID)
	}
	t.mu.Unlock()
	if last && t.onClose != nil {
		t.onClose(nodeID)
	}
}

// Connected tells whether the node has a tunnel to this coordinator.
func (t *Tunnels) Connected(nodeID string) bool { return t.of(nodeID) != nil }

func (t *Tunnels) of(nodeID string) *tunnel {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open[nodeID]
}

// Open opens a stream to the node, which takes it as a connection to its node port. It blocks for a
// few seconds at most, when the tunnel is dying.
func (t *Tunnels) Open(ctx context.Context, nodeID string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	tun := t.of(nodeID)
	if tun == nil {
		return nil, api.Errorf(api.CodeUnavailable, "node %s has no tunnel to this coordinator", nodeID)
	}
	stream, err := tun.session.OpenStream()
	if err != nil {
		return nil, api.Errorf(api.CodeUnavailable, "the tunnel of node %s is dead: %w", nodeID, err)
	}
	return stream, nil
}
