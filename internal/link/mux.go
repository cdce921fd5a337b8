// Package link is how members of a cluster reach each other: one mTLS port per member, on which the
// protocol is chosen by ALPN; the Dialer that calls such a port; and the tunnel that agents keep open
// to coordinators, on which coordinators (and others, through the relay) reach an agent whose port
// cannot be dialled. A relayed connection carries the TLS of its true ends, so that both still check
// each other.
package link

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/pki"
	"github.com/cloudless/cloudless/internal/run"
)

// Limits of the port. What is over them is closed at once: the caller dials again.
const (
	handshakeTimeout = 5 * time.Second
	maxHandshakes    = 256 // under way at one time
	maxAccepted      = 128 // handshaken and not yet accepted, per protocol
)

// Mux is one mTLS port. Protocols are registered with Handle, then Serve runs it. Peers are the
// connections that came in here; a Dialer that shares them adds those that went out.
type Mux struct {
	Peers *Peers

	ln      net.Listener
	creds   *pki.Credentials
	log     zerolog.Logger
	split   *tls.Config
	pending chan struct{}
	protos  map[string]*protocol

	mu     sync.Mutex // guards the group's Go against Close
	closed bool
	group  *run.Group
}

// NewMux makes the port on ln, which it closes in the end.
func NewMux(ln net.Listener, creds *pki.Credentials, log zerolog.Logger) *Mux {
	m := &Mux{
		Peers:   NewPeers(),
		ln:      ln,
		creds:   creds,
		log:     log,
		pending: make(chan struct{}, maxHandshakes),
		protos:  map[string]*protocol{},
		group:   run.New(context.Background()),
	}
	m.split = pki.SplitConfig(m.choose)
	return m
}

// Handle registers a protocol and the roles that may speak it, and returns the listener of its
// connections, handshaken *tls.Conn each. Register everything before Serve.
func (m *Mux) Handle(alpn string, roles ...api.Role) net.Listener {
	p := &protocol{addr: m.ln.Addr(), conns: make(chan net.Conn, maxAccepted), done: make(chan struct{})}
	if alpn == api.ALPNJoin {
		p.config = m.creds.JoinServerConfig()
	} else {
		p.config = m.creds.ServerConfig(alpn, roles...)
	}
	m.protos[alpn] = p
	return p
}

// choose picks the protocol before any certificate is asked for. A hello that offers join gets join
// and nothing else, whatever it offers beside it.
func (m *Mux) choose(offered []string) (*tls.Config, error) {
	if slices.Contains(offered, api.ALPNJoin) {
		offered = []string{api.ALPNJoin}
	}
	for _, alpn := range offered {
		if p := m.protos[alpn]; p != nil {
			return p.config, nil
		}
	}
	return nil, api.Errorf(api.CodeUnsupported, "no protocol of %q is served here", offered)
}

// Serve accepts until ctx ends or Close is called.
func (m *Mux) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { m.Close() })
	defer stop()
	defer m.Close()
	for {
		conn, err := m.ln.Accept()
		switch {
		case err == nil:
			m.Inject(conn)
		case errors.Is(err, net.ErrClosed):
			return nil
		case !pauseAfter(m.group.Context(), err):
			return err
		}
	}
}

// pauseAfter waits a moment after an accept error that will pass (out of file descriptors), and
// tells whether to go on.
func pauseAfter(ctx context.Context, err error) bool {
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Temporary() { //nolint:staticcheck // the one sign of EMFILE
		return false
	}
	t := time.NewTimer(50 * time.Millisecond)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Inject takes a connection (a tunnel's stream) as if it had come in on the port. It does not block.
func (m *Mux) Inject(conn net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		conn.Close()
		return
	}
	select {
	case m.pending <- struct{}{}:
		m.group.Go("handshake", func(ctx context.Context) error {
			defer func() { <-m.pending }()
			m.handshake(ctx, conn)
			return nil
		})
	default:
		m.log.Warn().Stringer("from", conn.RemoteAddr()).Msg("too many handshakes at one time; connection refused")
		conn.Close()
	}
}

func (m *Mux) handshake(ctx context.Context, raw net.Conn) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	raw = m.Peers.carrier(raw)
	conn := tls.Server(raw, m.split)
	err := conn.HandshakeContext(ctx)
	if id, ok := PeerOf(conn); err == nil && ok {
		err = m.Peers.name(raw, id, m.creds.Welcome)
	}
	if err != nil {
		m.log.Debug().Err(err).Stringer("from", raw.RemoteAddr()).Msg("handshake refused")
		raw.Close()
		return
	}
	alpn := conn.ConnectionState().NegotiatedProtocol
	if p := m.protos[alpn]; p == nil || !p.deliver(conn) {
		m.log.Warn().Str("protocol", alpn).Stringer("from", raw.RemoteAddr()).Msg("nobody takes the connection; closed")
		raw.Close()
	}
}

// Close ends the port and its listeners, and waits for the handshakes. Connections that were accepted
// belong to whoever accepted them.
func (m *Mux) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	err := m.ln.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	for _, p := range m.protos {
		p.Close()
	}
	return errors.Join(err, m.group.Close())
}

// protocol is the listener of one ALPN name.
type protocol struct {
	addr   net.Addr
	config *tls.Config
	conns  chan net.Conn

	mu     sync.Mutex // deliver holds it, so that nothing is queued after Close has emptied the queue
	closed bool
	done   chan struct{}
}

func (p *protocol) deliver(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	select {
	case p.conns <- conn:
		return true
	default:
		return false
	}
}

// Accept waits for the next connection.
func (p *protocol) Accept() (net.Conn, error) {
	select {
	case <-p.done:
		return nil, net.ErrClosed
	case conn := <-p.conns:
		return conn, nil
	}
}

// Close ends the listener and drops what nobody accepted.
func (p *protocol) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	close(p.done)
	for {
		select {
		case conn := <-p.conns:
			conn.Close()
		default:
			return nil
		}
	}
}

// Addr is the port's.
func (p *protocol) Addr() net.Addr { return p.addr }

// PeerOf is who is at the other end of a connection; false if it showed no certificate.
func PeerOf(c net.Conn) (pki.Identity, bool) {
	t, ok := c.(interface{ ConnectionState() tls.ConnectionState })
	if !ok {
		return pki.Identity{}, false
	}
	cs := t.ConnectionState()
	return peerOf(&cs)
}

// PeerOfRequest is who sent a request; false if they showed no certificate.
func PeerOfRequest(r *http.Request) (pki.Identity, bool) { return peerOf(r.TLS) }

func peerOf(cs *tls.ConnectionState) (pki.Identity, bool) {
	if cs == nil || len(cs.PeerCertificates) == 0 {
		return pki.Identity{}, false
	}
	id, err := pki.ParseIdentity(cs.PeerCertificates[0])
	return id, err == nil
}
