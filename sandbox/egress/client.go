package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/cloudless/cloudless/internal/run"
)

// Bounds of one replica's connections.
const (
	maxConns       = 64               // open at the same time; who wants another waits
	maxIdle        = 16               // of them kept for a next request
	idleTimeout    = 30 * time.Second // before a kept one is closed
	connectTimeout = 10 * time.Second // to resolve a name and connect, and again for TLS
	stallTimeout   = time.Minute      // without a byte read, or taken, where one is waited for
	maxHead        = 64 << 10         // bytes of a response's head
	maxAhead       = 128 << 10        // bytes of one response that its guest has not read, with HTTP/2
	maxAheadConn   = 2 * maxAhead     // and of all responses on a connection
)

// Network is what the guests of a node reach the world through. Its zero value is the machine's own
// network and name servers, and the system's certificate authorities.
type Network struct {
	Own      func(netip.AddrPort) bool // the cluster's own ports (see OwnPorts)
	Roots    *x509.CertPool            // nil: the system's
	Resolver *net.Resolver             // nil: the system's
	// Dial takes the place of the machine's network. It connects where it likes: addresses are judged
	// by the dialer that it replaces.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client is one replica's way out. It keeps connections for its next requests and follows no
// redirect: a guest that wants to follow one asks anew, and is judged anew.
type Client struct {
	policy    *Policy
	transport *http.Transport
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	group     *run.Group
	places    chan struct{} // one for each connection that is open

	mu     sync.Mutex
	closed bool
	conns  map[*conn]struct{}
}

// NewClient makes the way out of a workload whose manifest allows what allow lists.
func NewClient(n Network, allow []string) (*Client, error) {
	policy, err := NewPolicy(allow, n.Own)
	if err != nil {
		return nil, err
	}
	c := &Client{policy: policy, dial: n.Dial, group: run.New(context.Background()), places: make(chan struct{}, maxConns), conns: map[*conn]struct{}{}}
	if c.dial == nil {
		c.dial = (&net.Dialer{Timeout: connectTimeout, Resolver: n.Resolver, Control: c.judge}).DialContext
	}
	c.transport = &http.Transport{
		Proxy:                  nil, // what the agent's environment names is not the guest's
		DialContext:            c.connect,
		TLSClientConfig:        &tls.Config{RootCAs: n.Roots, MinVersion: tls.VersionTLS12}, // strangers' servers: nothing of the cluster's identity
		TLSHandshakeTimeout:    connectTimeout,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdle,
		MaxResponseHeaderBytes: maxHead,
		DisableCompression:     true, // the guest sees what was sent
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{MaxReceiveBufferPerStream: maxAhead, MaxReceiveBufferPerConnection: maxAheadConn},
	}
	return c, nil
}

// judge is called with the address of each connection, just before it is made.
func (c *Client) judge(network, address string, _ syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return refuse(ErrnoAccess, "%s %s is no address that can be judged", network, address)
	}
	return c.policy.Reachable(addr)
}

// connect waits for a place, then connects.
func (c *Client) connect(ctx context.Context, network, address string) (net.Conn, error) {
	select {
	case c.places <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.group.Context().Done():
		return nil, net.ErrClosed
	}
	raw, err := c.dial(ctx, network, address)
	if err != nil {
		<-c.places
		return nil, err
	}
	return c.keep(&conn{Conn: raw, client: c})
}

func (c *Client) keep(n *conn) (net.Conn, error) {
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.conns[n] = struct{}{}
	}
	c.mu.Unlock()
	if closed {
		return nil, errors.Join(net.ErrClosed, n.Close())
	}
	return n, nil
}

// Close ends all requests and connections.
func (c *Client) Close() error {
	c.group.Stop()
	c.mu.Lock()
	c.closed = true
	open := make([]*conn, 0, len(c.conns))
	for n := range c.conns {
		open = append(open, n)
	}
	c.mu.Unlock()
	for _, n := range open {
		_ = n.Close() // what was to be told is lost with it
	}
	c.transport.CloseIdleConnections()
	return c.group.Wait()
}

// conn is an open connection: it holds a place, and ends when the other side stalls.
type conn struct {
	net.Conn
	client *Client
	once   sync.Once
}

// Read implements net.Conn.
func (n *conn) Read(p []byte) (int, error) {
	if err := n.SetReadDeadline(time.Now().Add(stallTimeout)); err != nil {
		return 0, err
	}
	return n.Conn.Read(p)
}

// Write implements net.Conn.
func (n *conn) Write(p []byte) (int, error) {
	if err := n.SetWriteDeadline(time.Now().Add(stallTimeout)); err != nil {
		return 0, err
	}
	return n.Conn.Write(p)
}

// Close implements net.Conn.
func (n *conn) Close() error {
	err := n.Conn.Close()
	n.once.Do(func() {
		n.client.mu.Lock()
		delete(n.client.conns, n)
		n.client.mu.Unlock()
		<-n.client.places
	})
	return err
}
