package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/pki"
)

// Times and limits of relaying.
const (
	relayHello    = 5 * time.Second  // for the first line and its answer
	relayIdle     = 10 * time.Minute // twice the longest blocking read
	maxRelayLine  = 256
	directTimeout = 2 * time.Second
	directMemory  = 30 * time.Second // how long a failed direct dial is remembered
	maxRemembered = 1024
)

// ServeRelay joins callers to the tunnels of nodes, at most maxStreams at a time: a caller sends a line
// with a node id, gets "ok" or "error …", and from then on its bytes go to that node's port and back.
// The bytes are another TLS connection; the relay sees none of it.
func ServeRelay(ctx context.Context, ln net.Listener, t *Tunnels, maxStreams int, log zerolog.Logger) error {
	return serveConns(ctx, ln, "relay", maxStreams, func(ctx context.Context, conn net.Conn) {
		if err := relay(ctx, conn, t); err != nil {
			log.Debug().Err(err).Stringer("from", conn.RemoteAddr()).Msg("relay ended")
		}
	})
}

func relay(ctx context.Context, conn net.Conn, t *Tunnels) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	conn.SetDeadline(time.Now().Add(relayHello))
	nodeID, err := readLine(conn)
	if err != nil {
		return err
	}
	stream, err := t.Open(ctx, nodeID)
	if err != nil {
		fmt.Fprintf(conn, "error %s\n", api.AsError(err).Message)
		return err
	}
	defer stream.Close()
	if _, err := io.WriteString(conn, "ok\n"); err != nil {
		return err
	}
	conn.SetDeadline(time.Time{})
	return join(ctx, conn, stream, relayIdle)
}

// readLine reads up to a newline and not a byte more: what follows belongs to others.
func readLine(conn net.Conn) (string, error) {
	var line []byte
	var b [1]byte
	for len(line) < maxRelayLine {
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			return "", err
		}
		if b[0] == '\n' {
			return string(line), nil
		}
		line = append(line, b[0])
	}
	return "", api.Errorf(api.CodeInvalid, "the line is longer than %d bytes", maxRelayLine)
}

// join copies both ways until one side ends, ctx ends, or nothing has moved for idle. Then both are
// closed: a TLS connection has no use for half of its carrier.
func join(ctx context.Context, a, b net.Conn, idle time.Duration) error {
	closeBoth := func() { a.Close(); b.Close() }
	stop := context.AfterFunc(ctx, closeBoth)
	defer stop()
	timer := time.AfterFunc(idle, closeBoth)
	defer timer.Stop()
	var other sync.WaitGroup
	other.Go(func() {
		defer closeBoth()
		_, _ = io.Copy(b, &watched{a, timer, idle})
	})
	_, err := io.Copy(a, &watched{b, timer, idle})
	closeBoth()
	other.Wait()
	return err
}

// watched puts off the idle timer at each read.
type watched struct {
	io.Reader
	timer *time.Timer
	idle  time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	w.timer.Reset(w.idle)
	return n, err
}

// NodeDialer reaches nodes, directly or through a coordinator; the caller cannot tell which.
type NodeDialer struct {
	Dialer *Dialer
	Addr   func(nodeID string) (addr string, ok bool)
	Relays func() []string // addresses of coordinators
	// Local opens a stream on a tunnel of this process (coordinators); may be nil.
	Local func(nodeID string) (net.Conn, error)
	// Observe is told of each dial which way worked; may be nil.
	Observe func(way Way, took time.Duration)

	mu     sync.Mutex
	failed map[string]time.Time // when the last direct dial of node@addr failed
}

// Dial connects to the node's port and checks that it is that node. The direct way goes first, unless
// it failed within the last 30 s: then it comes last.
func (d *NodeDialer) Dial(ctx context.Context, nodeID, alpn string) (net.Conn, error) {
	ctx, cancel := withDefaultTimeout(ctx, 2*dialTimeout)
	defer cancel()
	start := time.Now()
	conn, way, err := d.either(ctx, nodeID, alpn)
	if d.Observe != nil {
		d.Observe(way, time.Since(start))
	}
	return conn, err
}

// Way is how a node was reached.
type Way string

const (
	WayDirect  Way = "direct"
	WayRelayed Way = "relayed"
	WayFailed  Way = "failed"
)

// way is one way to a node.
type way struct {
	name Way
	dial func(ctx context.Context, nodeID, alpn string) (net.Conn, error)
}

func (d *NodeDialer) either(ctx context.Context, nodeID, alpn string) (net.Conn, Way, error) {
	ways := []way{{WayDirect, d.direct}, {WayRelayed, d.indirect}}
	if d.avoidsDirect(nodeID) {
		ways[0], ways[1] = ways[1], ways[0]
	}
	var errs []error
	for _, w := range ways {
		conn, err := w.dial(ctx, nodeID, alpn)
		if err == nil {
			return conn, w.name, nil
		}
		if ctx.Err() != nil && len(errs) == 0 {
			return nil, WayFailed, err
		}
		errs = append(errs, err)
	}
	return nil, WayFailed, api.Errorf(api.CodeUnavailable, "node %s cannot be reached: %w", nodeID, errors.Join(errs...))
}

// HTTPClient speaks HTTP/2 to nodes; a URL's host is the node's id.
func (d *NodeDialer) HTTPClient(alpn string) *http.Client {
	return http2Client(func(ctx context.Context, addr string) (net.Conn, error) {
		nodeID, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		return d.Dial(ctx, nodeID, alpn)
	})
}

func nodeIdentity(nodeID string) pki.Identity { return pki.Identity{Role: api.RoleNode, ID: nodeID} }

func (d *NodeDialer) direct(ctx context.Context, nodeID, alpn string) (net.Conn, error) {
	addr, ok := d.Addr(nodeID)
	if !ok {
		return nil, api.Errorf(api.CodeUnavailable, "no address is known")
	}
	try, cancel := context.WithTimeout(ctx, directTimeout)
	defer cancel()
	conn, err := d.Dialer.Dial(try, addr, alpn, nodeIdentity(nodeID))
	if ctx.Err() == nil { // a caller that went away says nothing about the node
		d.remember(nodeID+"@"+addr, err != nil)
	}
	return conn, err
}

func (d *NodeDialer) indirect(ctx context.Context, nodeID, alpn string) (net.Conn, error) {
	raw, err := d.stream(ctx, nodeID)
	if err != nil {
		return nil, err
	}
	return d.Dialer.Handshake(ctx, raw, alpn, nodeIdentity(nodeID))
}

func (d *NodeDialer) stream(ctx context.Context, nodeID string) (net.Conn, error) {
	errs := []error{api.Errorf(api.CodeUnavailable, "no coordinator relays to it")}
	if d.Local != nil {
		conn, err := d.Local(nodeID)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	if d.Relays != nil {
		for _, addr := range d.Relays() {
			conn, err := d.relay(ctx, addr, nodeID)
			if err == nil {
				return conn, nil
			}
			errs = append(errs, err)
		}
	}
	return nil, errors.Join(errs...)
}

func (d *NodeDialer) relay(ctx context.Context, addr, nodeID string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, directTimeout)
	defer cancel()
	conn, err := d.Dialer.Dial(ctx, addr, api.ALPNRelay, pki.Identity{Role: api.RoleServer})
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	answer, err := askRelay(conn, nodeID)
	if err == nil && answer != "ok" {
		err = api.Errorf(api.CodeUnavailable, "coordinator %s: %s", addr, strings.TrimPrefix(answer, "error "))
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	return conn, nil
}

func askRelay(conn net.Conn, nodeID string) (string, error) {
	if _, err := io.WriteString(conn, nodeID+"\n"); err != nil {
		return "", err
	}
	return readLine(conn)
}

func (d *NodeDialer) avoidsDirect(nodeID string) bool {
	addr, ok := d.Addr(nodeID)
	d.mu.Lock()
	defer d.mu.Unlock()
	at, failed := d.failed[nodeID+"@"+addr]
	return !ok || failed && time.Since(at) < directMemory
}

func (d *NodeDialer) remember(key string, failed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case !failed:
		delete(d.failed, key)
	case d.failed == nil, len(d.failed) >= maxRemembered:
		d.failed = map[string]time.Time{key: time.Now()}
	default:
		d.failed[key] = time.Now()
	}
}
