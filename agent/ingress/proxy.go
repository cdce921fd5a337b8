package ingress

import (
	"context"
	"errors"
	"io"
	stdlog "log"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// Public serves the workloads' users.
func (in *Ingress) Public() http.Handler { return in.logged(false, in.servePublic) }

func (in *Ingress) servePublic(w *writer, r *http.Request) {
	select {
	case in.room <- struct{}{}:
		defer func() { <-in.room }()
		in.route(w, r)
	default:
		writeError(w, http.StatusServiceUnavailable, api.Errorf(api.CodeUnavailable, "this node serves too many requests at one time"))
	}
}

// countedBody counts what is read of a request's body.
type countedBody struct {
	io.ReadCloser
	bytes atomic.Int64 // the transport may still read while the response goes out
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.bytes.Add(int64(n))
	return n, err
}

func (in *Ingress) route(w *writer, r *http.Request) {
	host := hostOf(r.Host)
	route := in.routes.Load().hosts[host]
	if route == nil {
		writeError(w, http.StatusNotFound, api.Errorf(api.CodeNotFound, "no workload serves host %q", host))
		return
	}
	w.route = route
	in.tryAll(w, in.owned(w, r, vouched(r)), route, host)
}

// owned is a copy of r with other headers, whose body and cost are counted. The server looks at the body of its
// own request to see whether the connection must end.
func (in *Ingress) owned(w *writer, r *http.Request, header http.Header) *http.Request {
	ctx := r.Context()
	if in.cfg.Access != nil {
		ctx, w.cost = sandbox.WithCost(ctx)
	}
	r = r.WithContext(ctx)
	r.Header = header
	if r.Body != http.NoBody { // which the transport knows, and sends none
		w.body.ReadCloser = r.Body
		r.Body = &w.body
	}
	return r
}

// tryAll sends the request to one replica after the other until one has taken it.
func (in *Ingress) tryAll(w *writer, r *http.Request, route *route, host string) {
	var last *attempt
	tried := make([]string, 0, maxAttempts)
	for len(tried) < maxAttempts {
		t, ok := in.next(host, tried)
		if !ok {
			break
		}
		tried = append(tried, t.replicaID)
		last = in.try(w, r, t, host, tried)
		if last == nil {
			return
		}
		in.cfg.Log.Debug().Err(last.err).Str("replica", t.replicaID).Str("node", t.nodeID).Msg("replica did not answer")
		if w.begun() || r.Context().Err() != nil || !last.again(r) {
			break
		}
	}
	switch {
	case w.begun():
	case last != nil && last.reached() && last.silent.Load():
		writeError(w, http.StatusGatewayTimeout, api.Errorf(api.CodeTimeout, "the replica's node has fallen silent; it may have taken the request"))
	case last != nil && last.reached():
		writeError(w, http.StatusBadGateway, api.Errorf(api.CodeUnavailable, "the replica broke off before it answered"))
	default:
		writeError(w, http.StatusServiceUnavailable, api.Errorf(api.CodeUnavailable,
			"no replica of %s/%s is ready", route.namespace, route.service))
	}
}

// next is the best replica now that was not tried, by the newest table: while a request waited, others
// may have become ready.
func (in *Ingress) next(host string, tried []string) (target, bool) {
	route := in.routes.Load().hosts[host]
	if route == nil {
		return target{}, false
	}
	targets := route.order(in.cfg.Local.Serving(route.namespace, route.service), in.avoided())
	at := slices.IndexFunc(targets, func(t target) bool { return !slices.Contains(tried, t.replicaID) })
	if at < 0 {
		return target{}, false
	}
	return targets[at], true
}

// try sends the request to one replica, the last one in tried; nil means that it was answered.
func (in *Ingress) try(w *writer, r *http.Request, t target, host string, tried []string) *attempt {
	w.asked = t
	if t.nodeID != "" {
		seen := slices.Clone(tried) // the watch may ask while we go on
		return in.forward(w, r, &attempt{via: in.nodes, host: t.nodeID, node: t.nodeID, replica: t.replicaID, others: func() bool {
			next, ok := in.next(host, seen)
			return ok && !in.watch.silentNow(next.nodeID)
		}})
	}
	endpoint, ports, ok := in.cfg.Local.Endpoint(t.replicaID)
	if ok && endpoint.Handler != nil {
		endpoint.Handler.ServeHTTP(w, r)
		return nil
	}
	port := httpPort(ports)
	if !ok || endpoint.Host == "" || port == 0 {
		return &attempt{err: errNotHere}
	}
	return in.forward(w, r, &attempt{via: in.containers, host: net.JoinHostPort(endpoint.Host, strconv.Itoa(port))})
}

func httpPort(ports []api.Port) int {
	for _, p := range ports {
		if p.Protocol == api.ProtocolHTTP || p.Protocol == "" {
			return p.Port
		}
	}
	return 0
}

var (
	errNotHere = errors.New("the replica is not here or not ready")
	errRefused = errors.New("the other node no longer runs the replica")
	errBroken  = errors.New("the replica on the other node broke off")
)

// attempt is one request's way to one replica.
type attempt struct {
	via     *http.Transport
	host    string // address of a container, or id of a node
	node    string // another node's id; "" when the replica is here
	replica string // on another node
	body    *body  // nil if there is none
	request *http.Request
	others  func() bool // whether another replica could take the request; nil when node is ""
	since   time.Time
	cancel  context.CancelFunc

	sent   atomic.Bool // bytes of the request may have left
	begun  atomic.Bool // the response head has come
	silent atomic.Bool // given up, since the node has fallen silent
	err    error
}

type attemptKey struct{}

func attemptOf(ctx context.Context) *attempt { return ctx.Value(attemptKey{}).(*attempt) }

// forward proxies one attempt; nil means that it was answered.
func (in *Ingress) forward(w *writer, r *http.Request, a *attempt) *attempt {
	// The context ends with the ingress, which is what ends upgraded connections.
	ctx, cancel := context.WithCancel(context.WithValue(r.Context(), attemptKey{}, a))
	defer cancel()
	defer context.AfterFunc(in.group.Context(), cancel)()
	a.request, a.since, a.cancel = r, time.Now(), cancel
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { a.sent.Store(true) }})
	out := r.WithContext(ctx)
	if r.Body != nil && r.ContentLength != 0 {
		a.body = &body{from: r.Body}
		out.Body = a.body
	}
	if a.node != "" {
		defer in.watch.add(a)()
	}
	in.proxy.ServeHTTP(w, out)
	if a.err == nil {
		return nil
	}
	return a
}

// again tells whether the request may go to another replica: always when nothing of it was sent, and
// when doing it twice does no harm; never once its body was begun, which cannot be had again.
func (a *attempt) again(r *http.Request) bool {
	if a.body.taken() {
		return false
	}
	return !a.reached() || idempotent(r)
}

// elsewhere is again while the attempt is still under way, if another replica is there to take it.
func (a *attempt) elsewhere() bool {
	return !a.body.begun() && (!a.sent.Load() || idempotent(a.request)) && a.others()
}

// giveUp ends the attempt, since its node has fallen silent.
func (a *attempt) giveUp() {
	a.silent.Store(true)
	a.cancel()
}

// reached tells whether a replica may have seen the request.
func (a *attempt) reached() bool { return a.sent.Load() && !errors.Is(a.err, errRefused) }

func idempotent(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return true
	case http.MethodPut, http.MethodDelete:
		return r.ContentLength == 0
	}
	return false
}

// body is a request's body as one attempt sees it. It keeps the real one open for the next attempt,
// and from it: a transport may go on reading for a while after it has failed.
type body struct {
	from io.Reader

	mu   sync.Mutex
	read bool
	cut  bool
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	if b.cut && !b.read {
		b.mu.Unlock()
		return 0, http.ErrBodyReadAfterClose
	}
	b.read = true
	b.mu.Unlock()
	return b.from.Read(p)
}

// Close leaves the real body to the server, which closes it.
func (b *body) Close() error { return nil }

// taken tells whether the attempt has begun to read; if it has not, it never will.
func (b *body) taken() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cut = true
	return b.read
}

// begun tells whether the attempt has begun to read.
func (b *body) begun() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.read
}

// newProxy is the one proxy of all attempts. It streams both ways and passes upgrades.
func (in *Ingress) newProxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      attemptTransport{},
		FlushInterval:  -1,
		BufferPool:     &sandbox.Buffers{},
		ModifyResponse: checkRefusal,
		ErrorHandler:   func(_ http.ResponseWriter, r *http.Request, err error) { attemptOf(r.Context()).err = err },
		ErrorLog:       stdlog.New(in.cfg.Log, "", 0),
	}
}

func rewrite(p *httputil.ProxyRequest) {
	a := attemptOf(p.In.Context())
	p.Out.URL.Scheme, p.Out.URL.Host = "http", a.host
	p.Out.URL.RawQuery = p.In.URL.RawQuery // as it came, even where Go would not parse it
	p.Out.Host = p.In.Host
	p.Out.Trailer = p.In.Trailer // the same map: it is filled at the end of the body
	copyTold(p.Out.Header, p.In.Header)
	p.Out.Header.Del(headerReplica)
	p.Out.Header.Del(headerTCPPort)
	if a.replica == "" {
		return
	}
	p.Out.Header.Set(headerReplica, a.replica)
	if a.body != nil { // a node that refuses does so before the body is begun, which can go elsewhere then
		p.Out.Header.Set("Expect", "100-continue")
	}
}

// checkRefusal takes another ingress's refusal for what it is; a replica cannot fake one.
func checkRefusal(res *http.Response) error {
	attemptOf(res.Request.Context()).begun.Store(true)
	refusal := res.Header.Get(headerRefused)
	res.Header.Del(headerRefused)
	if refusal == "" || attemptOf(res.Request.Context()).replica == "" {
		return nil
	}
	if refusal == refusedUnsent {
		return errRefused
	}
	return errBroken
}

type attemptTransport struct{}

func (attemptTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return attemptOf(r.Context()).via.RoundTrip(r)
}

// Peer serves other nodes' ingresses: the replica that they name, if it is here and ready. It never
// sends a request on to a third node.
func (in *Ingress) Peer() http.Handler {
	requests := in.logged(true, in.servePeer)
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		port := r.Header.Get(headerTCPPort)
		if port == "" {
			requests.ServeHTTP(rw, r)
			return
		}
		w := newWriter(rw, r)
		defer w.end()
		in.serveTunnel(w, r, named(r), port)
	})
}

// named is the replica that another node's ingress asks for.
func named(r *http.Request) target { return target{replicaID: r.Header.Get(headerReplica)} }

func (in *Ingress) servePeer(w *writer, r *http.Request) {
	t := named(r)
	header := maps.Clone(r.Header)
	header.Del(headerReplica)
	header.Del("Expect")
	a := in.try(w, in.owned(w, r, header), t, "", nil)
	switch {
	case a == nil || w.begun():
	case a.sent.Load() || a.body.taken():
		refuse(w, refusedBroken)
	default:
		refuse(w, refusedUnsent)
	}
}

// refuse tells another ingress why its replica did not answer.
func refuse(w http.ResponseWriter, why string) {
	w.Header().Set(headerRefused, why)
	if why == refusedUnsent {
		writeError(w, http.StatusServiceUnavailable, api.Errorf(api.CodeUnavailable, "the replica is not here or not ready"))
		return
	}
	writeError(w, http.StatusBadGateway, api.Errorf(api.CodeUnavailable, "the replica broke off before it answered"))
}
