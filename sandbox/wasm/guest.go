package wasm

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cloudless/cloudless/sandbox/wasi"
)

// guest is one instance of a listening replica, with the host's end of its listener.
type guest struct {
	*instance
	listener *wasi.Listener
	links    links
	inFlight atomic.Int64

	ctx    context.Context // of its run, nil before; its cause says why the guest is to end
	cancel context.CancelCauseFunc
	ending bool          // it gets no more requests; of listening.mu
	gone   chan struct{} // closed once it has ended
}

// newGuest links an instance with a listener of its own.
func (l *listening) newGuest(ctx context.Context) (*guest, error) {
	g := &guest{listener: wasi.NewListener(), gone: make(chan struct{})}
	g.links = newLinks(func(ctx context.Context) (guestConn, error) { return g.listener.Dial(ctx) })
	mem := l.budget.Open(0, 0)
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
	unwatch := context.AfterFunc(l.ctx, func() { cancel(errStopped) })
	end := func() { unwatch(); cancel(nil) }
	g, err := l.pick(ctx)
	if err != nil {
		end()
		return nil, err
	}
	timer := time.AfterFunc(l.timeout, func() {
		stuck := l.dismissStuck(g, began+l.timeout/2)
		cancel(errDeadline) // before the guest's end cuts the connection
		if stuck {
			g.cancel(errStuck)
		}
	})
	over := func() { g.inFlight.Add(-1); end() }
	res, err := g.links.ask(ctx, r, over)
	timer.Stop()
	if err != nil {
		err = cmp.Or(context.Cause(ctx), context.Cause(g.ctx), err) // the first two come before what they cause
		over()
		return nil, err
	}
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
