package ingress

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
)

// tcpUpgrade is the protocol name under which a TCP connection passes between ingresses.
const tcpUpgrade = "cloudless-tcp"

// tcpPorts are the published TCP ports that this node listens on.
type tcpPorts struct {
	in   *Ingress
	room chan struct{} // one place a connection

	mu        sync.Mutex
	host      string
	enabled   bool
	closed    bool
	listeners map[int]net.Listener
	errors    map[int]string // ports that could not be opened, and why; tried again at each Update
}

func (t *tcpPorts) init(in *Ingress) {
	t.in = in
	t.room = make(chan struct{}, maxTCPConns)
	t.listeners = map[int]net.Listener{}
	t.errors = map[int]string{}
}

// PublishTCP listens on the published TCP ports on host, or stops listening.
func (in *Ingress) PublishTCP(host string, enabled bool) {
	in.tcp.mu.Lock()
	if in.tcp.host != host {
		in.tcp.drop(func(int) bool { return true })
	}
	in.tcp.host, in.tcp.enabled = host, enabled
	in.tcp.mu.Unlock()
	in.tcp.sync()
}

// sync opens and closes listeners until they are what the table says.
func (t *tcpPorts) sync() {
	t.mu.Lock()
	defer t.mu.Unlock()
	want := t.in.routes.Load().ports
	if !t.enabled || t.closed {
		want = nil
	}
	t.drop(func(port int) bool { return want[port] == nil })
	for port := range want {
		if t.listeners[port] == nil {
			t.listen(port)
		}
	}
}

// drop closes the ports that f names, and forgets their errors. t.mu is held.
func (t *tcpPorts) drop(f func(port int) bool) {
	for port, ln := range t.listeners {
		if f(port) {
			ln.Close()
			delete(t.listeners, port)
		}
	}
	maps.DeleteFunc(t.errors, func(port int, _ string) bool { return f(port) })
}

func (t *tcpPorts) listen(port int) {
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", net.JoinHostPort(t.host, strconv.Itoa(port)))
	if err != nil {
		if t.errors[port] != err.Error() {
			t.in.cfg.Log.Warn().Err(err).Int("port", port).Msg("cannot publish TCP port")
			if t.in.cfg.OnPortRefused != nil {
				t.in.cfg.OnPortRefused(port, err)
			}
		}
		t.errors[port] = err.Error()
		return
	}
	delete(t.errors, port)
	t.listeners[port] = ln
	t.in.group.Go("tcp port "+strconv.Itoa(port), func(ctx context.Context) error {
		t.accept(ctx, ln, port)
		return nil
	})
}

// accept serves one port until its listener is closed.
func (t *tcpPorts) accept(ctx context.Context, ln net.Listener, port int) {
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			if conn != nil {
				conn.Close()
			}
			return
		}
		if err != nil {
			if !sleep(ctx, 50*time.Millisecond) { // out of file descriptors; it passes
				return
			}
			continue
		}
		select {
		case t.room <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		t.in.group.Go("tcp connection", func(ctx context.Context) error {
			defer func() { <-t.room }()
			t.in.serveTCP(ctx, conn, port)
			return nil
		})
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (t *tcpPorts) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.drop(func(int) bool { return true })
}

// serveTCP joins a user's connection to the first replica that takes it.
func (in *Ingress) serveTCP(ctx context.Context, conn net.Conn, port int) {
	defer conn.Close()
	route := in.routes.Load().ports[port]
	if route == nil {
		return
	}
	for _, t := range route.order(in.cfg.Local.Serving(route.namespace, route.service), in.avoided()) {
		upstream, err := in.dialTCP(ctx, t, route.port)
		if err == nil {
			in.joinWatched(ctx, conn, upstream, t.nodeID)
			return
		}
		in.cfg.Log.Debug().Err(err).Str("replica", t.replicaID).Int("port", port).Msg("replica did not answer")
	}
}

// joinWatched is join, which also ends when the replica's node has fallen silent: a frozen node's
// connection stands for ever.
func (in *Ingress) joinWatched(ctx context.Context, conn, upstream net.Conn, nodeID string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if nodeID != "" {
		a := &attempt{node: nodeID, since: time.Now(), cancel: cancel}
		a.begun.Store(true)
		defer in.watch.add(a)()
	}
	start := time.Now()
	received, sent := join(ctx, conn, upstream)
	if in.cfg.Observe != nil {
		in.cfg.Observe("tcp", received, sent, time.Since(start))
	}
}

func (in *Ingress) dialTCP(ctx context.Context, t target, port int) (net.Conn, error) {
	if t.nodeID != "" {
		return in.dialRemoteTCP(ctx, t, port)
	}
	endpoint, ports, ok := in.cfg.Local.Endpoint(t.replicaID)
	if !ok || endpoint.Host == "" || !hasTCP(ports, port) {
		return nil, errNotHere
	}
	d := net.Dialer{Timeout: localDial}
	return d.DialContext(ctx, "tcp", net.JoinHostPort(endpoint.Host, strconv.Itoa(port)))
}

func hasTCP(ports []api.Port, port int) bool {
	for _, p := range ports {
		if p.Protocol == api.ProtocolTCP && p.Port == port {
			return true
		}
	}
	return false
}

// dialRemoteTCP asks another ingress, by HTTP upgrade, for a connection to its replica.
func (in *Ingress) dialRemoteTCP(ctx context.Context, t target, port int) (net.Conn, error) {
	conn, err := in.dialNode(ctx, "tcp", net.JoinHostPort(t.nodeID, "80"))
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(remoteDial))
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	r := bufio.NewReader(conn)
	if err := upgradeTCP(conn, r, t, port); err != nil {
		conn.Close()
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	return readAhead(conn, r), nil
}

func upgradeTCP(conn net.Conn, r *bufio.Reader, t target, port int) error {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+t.nodeID+"/", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", tcpUpgrade)
	req.Header.Set(headerReplica, t.replicaID)
	req.Header.Set(headerTCPPort, strconv.Itoa(port))
	if err := req.Write(conn); err != nil {
		return err
	}
	res, err := http.ReadResponse(r, req)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		res.Body.Close()
		return fmt.Errorf("the other node answered %s: %w", res.Status, errRefused)
	}
	return nil
}

// serveTunnel is the other end of dialRemoteTCP.
func (in *Ingress) serveTunnel(w *writer, r *http.Request, t target, port string) {
	number, err := strconv.Atoi(port)
	if err != nil || r.Header.Get("Upgrade") != tcpUpgrade {
		writeError(w, http.StatusBadRequest, api.Errorf(api.CodeInvalid, "not a TCP upgrade"))
		return
	}
	upstream, err := in.dialTCP(r.Context(), t, number)
	if err != nil {
		refuse(w, refusedUnsent)
		return
	}
	defer upstream.Close()
	conn, rw, err := w.Hijack()
	if err != nil {
		writeError(w, http.StatusInternalServerError, api.Errorf(api.CodeInternal, "internal error"))
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Time{}) // the server's are not for what follows
	if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+tcpUpgrade+"\r\n\r\n"); err != nil {
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(in.group.Context(), cancel)()
	join(ctx, readAhead(conn, rw.Reader), upstream)
}

// buffered is a connection of which some bytes were read ahead.
type buffered struct {
	net.Conn
	r io.Reader
}

// readAhead puts what r has buffered in front of conn. The server's reader itself is left alone: at
// the end of one direction it would cancel the request's context, and the other direction with it.
func readAhead(conn net.Conn, r *bufio.Reader) *buffered {
	ahead, _ := r.Peek(r.Buffered())
	return &buffered{conn, io.MultiReader(bytes.NewReader(ahead), conn)}
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

// CloseWrite tells the other side that no more comes.
func (b *buffered) CloseWrite() error { return closeWrite(b.Conn) }

func closeWrite(c net.Conn) error {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return c.Close()
}

// join copies both ways. The end of one direction is passed on; when both have ended, or one has
// failed, or ctx ends, both connections are closed. It tells how many bytes came from a and from b.
func join(ctx context.Context, a, b net.Conn) (fromA, fromB int64) {
	closeBoth := func() { a.Close(); b.Close() }
	stop := context.AfterFunc(ctx, closeBoth)
	defer stop()
	defer closeBoth()
	pass := func(to, from net.Conn) int64 {
		n, err := io.Copy(to, from)
		if err != nil || closeWrite(to) != nil {
			closeBoth()
		}
		return n
	}
	var other sync.WaitGroup
	other.Go(func() { fromB = pass(a, b) })
	fromA = pass(b, a)
	other.Wait()
	return fromA, fromB
}
