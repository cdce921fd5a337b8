package link

import (
	"context"
	"crypto/tls"
	"errors"
	stdlog "log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/net/http2"

	"github.com/cloudless/cloudless/api"
)

// Times and limits of the servers.
const (
	headerTimeout    = 10 * time.Second
	serverIdle       = 2 * time.Minute        // longer than any client of ours keeps an idle connection
	drainTime        = 10 * time.Second       // for requests in flight, at the end
	lastWords        = 100 * time.Millisecond // for the last answers to leave
	maxStreamsOfPeer = 250                    // HTTP/2 requests at one time on one connection
)

// ServeHTTP2 serves h on the connections of ln, which the Mux has handshaken. When ctx ends, the
// contexts of all requests end too, so that blocking reads and followed logs return.
func ServeHTTP2(ctx context.Context, ln net.Listener, h http.Handler, log zerolog.Logger) error {
	requests := &counted{next: h}
	srv := newServer(ctx, requests, log)
	h2 := &http2.Server{MaxConcurrentStreams: maxStreamsOfPeer, IdleTimeout: serverIdle, ReadIdleTimeout: 15 * time.Second}
	if err := http2.ConfigureServer(srv, h2); err != nil {
		return err
	}
	serve := srv.TLSNextProto[http2.NextProtoTLS]
	srv.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){api.ALPNNode: serve, api.ALPNPeer: serve}
	return serveUntil(ctx, srv, ln, requests.whenNone)
}

// counted is a handler that knows how many requests it serves.
type counted struct {
	next http.Handler
	mu   sync.Mutex
	now  int
	none func() // called when there is none any more; nil while nobody asks
}

// ServeHTTP implements http.Handler.
func (c *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.add(1)
	defer c.add(-1)
	c.next.ServeHTTP(w, r)
}

func (c *counted) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += n
	if c.now == 0 && c.none != nil {
		c.none()
	}
}

// whenNone calls f, which must be quick, once there is no request, and at each time after that.
func (c *counted) whenNone(f func()) {
	c.mu.Lock()
	c.none = f
	c.mu.Unlock()
	c.add(0)
}

// ServeHTTP1 is the same for HTTP/1.1, which can be upgraded; it takes requests that another ingress
// has let in, so their heads may be larger by what that has added. When ctx ends, requests in flight have
// 10 s to finish; only then do their contexts end.
func ServeHTTP1(ctx context.Context, ln net.Listener, h http.Handler, log zerolog.Logger) error {
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	srv := newServer(requests, withTLSState(h), log)
	srv.MaxHeaderBytes += api.MaxOwnHeaderBytes
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) }
	return serveUntil(ctx, srv, openedListener{ln}, func(func()) {})
}

// net/http closes a TLS connection at once whose ALPN name it does not know, so HTTP/1.1 under our
// names is served on connections that do not look like TLS; requests get their TLS state all the same.
type (
	openedListener struct{ net.Listener }
	openedConn     struct{ net.Conn }
	connKey        struct{}
)

// Accept hides the type of the connection.
func (l openedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return openedConn{c}, nil
}

// CloseWrite ends one direction, for a handler that has taken the connection.
func (c openedConn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return c.Close()
}

func withTLSState(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if opened, ok := r.Context().Value(connKey{}).(openedConn); ok {
			if c, ok := opened.Conn.(*tls.Conn); ok {
				state := c.ConnectionState()
				r.TLS = &state
			}
		}
		h.ServeHTTP(w, r)
	})
}

func newServer(requests context.Context, h http.Handler, log zerolog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       serverIdle,
		MaxHeaderBytes:    api.MaxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ErrorLog:          stdlog.New(log, "", 0),
	}
}

// serveUntil serves until ctx ends or ln is closed, and then waits for the requests in flight. An HTTP/2
// server keeps its connections for a second after it has said that it ends, for clients that have more to
// send. Ours go elsewhere, so the connections end soon after whenNone calls.
func serveUntil(ctx context.Context, srv *http.Server, ln net.Listener, whenNone func(func())) error {
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }()
	var err error
	select {
	case err = <-ended: // the listener was closed
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	whenNone(func() { time.AfterFunc(lastWords, cancel) })
	if srv.Shutdown(drain) != nil {
		srv.Close()
	}
	if ctx.Err() != nil && err == nil {
		err = <-ended
	}
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
