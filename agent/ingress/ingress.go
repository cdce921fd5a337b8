// Package ingress lets the world reach workloads: HTTP by Host, TCP by port, on every node. A request
// goes to a replica on this node if one is ready, else to the nearest node that has one, over mTLS. A
// request that came from another node is served here or refused, never sent on, so no loop can form.
//
// The routes are an immutable table, made anew from each endpoint table (route.go). Proxying is
// proxy.go, what becomes of a request at a node that has fallen silent is watch.go, what happens to headers
// is header.go, TCP is tcp.go.
package ingress

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
)

// Limits of one ingress.
const (
	maxAttempts     = 4                // replicas tried for one request or connection
	maxPerUpstream  = 1024             // connections to one container, or to one node
	maxIdleUpstream = 64               // kept open of these
	maxRequests     = 8192             // of users, upgraded ones included, at one time
	maxTCPConns     = 4096             // TCP connections of users at one time
	upstreamIdle    = 30 * time.Second // shorter than servers keep idle connections
	localDial       = 2 * time.Second
	remoteDial      = 5 * time.Second
	remoteBody      = time.Minute     // a body waits so long for a node to ask for it, as each of ours does or refuses
	avoidFailed     = 2 * time.Second // how long a node that could not be reached is tried last
)

// Local is what runs on this node.
type Local interface {
	// Endpoint is how to reach a replica; false when it is not here or not ready.
	Endpoint(replicaID string) (sandbox.Endpoint, []api.Port, bool)
	// Serving is the ready replicas of a service here.
	Serving(ns, service string) []string
}

// Config is what an ingress needs.
type Config struct {
	NodeID, Zone, Region string

	Local Local
	Dial  func(ctx context.Context, nodeID, alpn string) (net.Conn, error)
	Log   zerolog.Logger
	// Observe is told of each public request ("ingress") and published connection ("tcp") how many bytes
	// of it came in and went out, and how long it took; may be nil.
	Observe func(kind string, in, out int64, took time.Duration)
	Access  func(Access) // is told of each request when it has ended; may be nil

	OnPortRefused func(port int, err error) // a published TCP port that cannot be opened here; must not block; may be nil
}

// Ingress routes requests to replicas. All methods are safe for concurrent use.
type Ingress struct {
	cfg    Config
	routes atomic.Pointer[table]
	room   chan struct{} // one place a public request
	group  *run.Group    // connections and listeners; its context ends with Close

	proxy      *httputil.ReverseProxy
	containers *http.Transport // to containers of this node, by address
	nodes      *http.Transport // to ingresses of other nodes, by node id

	failedMu sync.Mutex
	failed   map[string]time.Time // when a node could not be reached

	watch watch
	tcp   tcpPorts
}

// New makes an ingress with no routes; see Update.
func New(cfg Config) *Ingress {
	in := &Ingress{cfg: cfg, group: run.New(context.Background()), room: make(chan struct{}, maxRequests), failed: map[string]time.Time{}}
	in.routes.Store(newTable(&api.EndpointTable{}, cfg))
	dialer := &net.Dialer{Timeout: localDial}
	in.containers = newTransport(dialer.DialContext)
	in.nodes = newTransport(in.dialNode)
	in.nodes.ExpectContinueTimeout = remoteBody
	in.proxy = in.newProxy()
	in.watch.init(in)
	in.tcp.init(in)
	return in
}

func newTransport(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		DialContext:            dial,
		MaxConnsPerHost:        maxPerUpstream,
		MaxIdleConnsPerHost:    maxIdleUpstream,
		IdleConnTimeout:        upstreamIdle,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 1 << 20,
		DisableCompression:     true,
	}
}

func (in *Ingress) dialNode(ctx context.Context, _, addr string) (net.Conn, error) {
	nodeID, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, remoteDial)
	defer cancel()
	conn, err := in.cfg.Dial(ctx, nodeID, api.ALPNIngress)
	in.noteNode(nodeID, err != nil)
	return conn, err
}

// noteNode remembers that a node could not be reached, so that other requests try others first.
func (in *Ingress) noteNode(nodeID string, failed bool) {
	in.failedMu.Lock()
	defer in.failedMu.Unlock()
	if failed {
		in.failed[nodeID] = time.Now()
	} else {
		delete(in.failed, nodeID)
	}
}

// avoided is the nodes that failed a moment ago, nil when there is none. What is older is forgotten.
func (in *Ingress) avoided() map[string]bool {
	in.failedMu.Lock()
	defer in.failedMu.Unlock()
	var nodes map[string]bool
	for id, at := range in.failed {
		if time.Since(at) >= avoidFailed {
			delete(in.failed, id)
			continue
		}
		if nodes == nil {
			nodes = map[string]bool{}
		}
		nodes[id] = true
	}
	return nodes
}

// Update takes up a new endpoint table; requests under way keep the routes that they began with.
func (in *Ingress) Update(t *api.EndpointTable) {
	if t == nil {
		return
	}
	in.routes.Store(newTable(t, in.cfg))
	in.tcp.sync()
}

// Index is the state index of the table in use.
func (in *Ingress) Index() uint64 { return in.routes.Load().index }

// Close ends the TCP ports and every connection that was upgraded, and waits for the TCP side. HTTP
// servers belong to the caller, who ends them first.
func (in *Ingress) Close() error {
	in.group.Stop()
	in.watch.close()
	in.tcp.close()
	err := in.group.Wait()
	in.containers.CloseIdleConnections()
	in.nodes.CloseIdleConnections()
	in.watch.pings.CloseIdleConnections()
	return err
}

// writeError answers with the API's error body.
func writeError(w http.ResponseWriter, status int, err *api.Error) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(api.ErrorBody{Error: err})
}
