package wasm

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox/wasi"
)

// guest is one instance of a listening replica, with the host's end of its listener.
type guest struct {
	*instance
	listener  *wasi.Listener
	transport *http.Transport
	inFlight  atomic.Int64

	ctx    context.Context // of its run, nil before; its cause says why the guest is to end
	cancel context.CancelCauseFunc
	ending bool          // it gets no more requests; of listening.mu
	gone   chan struct{} // closed once it has ended
}

// newGuest links an instance with a listener of its own.
func (l *listening) newGuest(ctx context.Context) (*guest, error) {
	g := &guest{listener: wasi.NewListener(), gone: make(chan struct{})}
	g.transport = &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return g.listener.Dial(ctx) },
		MaxIdleConnsPerHost: maxInstances, MaxConnsPerHost: maxQueued, IdleConnTimeout: time.Minute,
		DisableCompression: true, MaxResponseHeaderBytes: api.MaxHeaderBytes,
	}
	mem := l.budget.Open(0)
	var err error
	if g.instance, err = l.newInstance(ctx, origin{code: l.code, listener: g.listener}, mem); err != nil {
		mem.Close()
		return nil, errors.Join(err, g.listener.Close())
	}
	return g, nil
}

// await waits for the guest's end.
func (g *guest) await(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errDeadline)
	defer cancel()
	select {
	case <-g.gone:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// RoundTrip implements http.RoundTripper: it sends a request to a guest. The deadline runs until the
// response's head is there.
func (l *listening) RoundTrip(r *http.Request) (*http.Response, error) {
	began := sinceEpoch()
	ctx, cancel := context.WithCancelCause(r.Context())
	g, err := l.pick(ctx)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	timer := time.AfterFunc(l.timeout, func() {
		stuck := l.dismissStuck(g, began+l.timeout/2)
		cancel(errDeadline) // before the guest's end cuts the connection
		if stuck {
			g.cancel(errStuck)
		}
	})
	res, err := g.transport.RoundTrip(r.WithContext(ctx))
	timer.Stop()
	if err != nil {
		g.inFlight.Add(-1)
		err = cmp.Or(context.Cause(ctx), context.Cause(g.ctx), err) // the first two come before what they cause
		cancel(nil)
		return nil, err
	}
	res.Body = &served{res.Body, sync.OnceFunc(func() { g.inFlight.Add(-1); cancel(nil) })}
	return res, nil
}

// dismissStuck gives no more requests to a guest that has not waited for anything since a moment long ago,
// half a request's time: it computes, does nothing else for anybody, and will not hear that the request is
// over. The caller ends it then. It does so after the request has its end, whose client may ask again at
// once, and not be given to the same guest.
func (l *listening) dismissStuck(g *guest, since time.Duration) bool {
	if time.Duration(g.clock.waited.Load()) >= since {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	g.ending = true
	return true
}

// served is a response's body that tells when it is over.
type served struct {
	io.ReadCloser
	over func()
}

// Close implements io.Closer.
func (s *served) Close() error {
	defer s.over()
	return s.ReadCloser.Close()
}

// Write implements io.Writer: after an upgrade the body is the connection.
func (s *served) Write(p []byte) (int, error) {
	if w, ok := s.ReadCloser.(io.Writer); ok {
		return w.Write(p)
	}
	return 0, http.ErrNotSupported
}

// rewriteForGuest passes a request on as the ingress has made it: what that says of the client stands.
func rewriteForGuest(p *httputil.ProxyRequest) {
	p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "http", "guest", p.In.Host
	for name, values := range p.In.Header {
		if name == "Forwarded" || strings.HasPrefix(name, "X-Forwarded-") {
			p.Out.Header[name] = values
		}
	}
	p.Out.Header.Set(headerRemoteAddr, remoteAddr(p.In))
}
