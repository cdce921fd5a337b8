package ingress

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// replica is one fake replica, and the service that it belongs to.
type replica struct {
	service  string
	endpoint sandbox.Endpoint
	ports    []api.Port
}

// here is a Local that says what a test puts in.
type here struct {
	mu       sync.Mutex
	replicas map[string]replica
}

func (h *here) Endpoint(id string) (sandbox.Endpoint, []api.Port, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, ok := h.replicas[id]
	return r.endpoint, r.ports, ok
}

func (h *here) Serving(ns, service string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ids []string
	for id, r := range h.replicas {
		if ns == "default" && r.service == service {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (h *here) set(id string, r replica) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.replicas[id] = r
}

// net of ingresses that reach each other's Peer over loopback.
type network struct {
	*testing.T
	table api.EndpointTable
	peers map[string]string
	dials chan string
}

// newNetwork's table has one service, whose replica r-1 is to run on n-1.
func newNetwork(t *testing.T) *network {
	n := &network{T: t, peers: map[string]string{}, dials: make(chan string, 256), table: api.EndpointTable{
		Index: 7,
		Nodes: map[string]api.NodePeer{},
		Services: []api.Service{{
			Namespace: "default", Name: "web", Hosts: []string{"web.localhost", "www.example.com"},
			Ports: []api.Port{{Port: 8080, Protocol: api.ProtocolHTTP}},
		}},
	}}
	n.endpoint("r-1", "n-1", "a")
	return n
}

func (n *network) dial(ctx context.Context, nodeID, alpn string) (net.Conn, error) {
	n.dials <- nodeID
	addr := n.peers[nodeID]
	if addr == "" || alpn != api.ALPNIngress {
		return nil, fmt.Errorf("node %s cannot be reached by %s", nodeID, alpn)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
}

// node adds an ingress; its peers reach it.
func (n *network) node(id, zone string) (*Ingress, *here) {
	local := &here{replicas: map[string]replica{}}
	in := New(Config{NodeID: id, Zone: zone, Region: "eu", Local: local, Dial: n.dial, Log: zerolog.Nop()})
	srv := httptest.NewUnstartedServer(in.Peer())
	srv.Config.MaxHeaderBytes = api.MaxHeaderBytes + api.MaxOwnHeaderBytes
	srv.Start()
	n.peers[id] = srv.Listener.Addr().String()
	n.Cleanup(func() {
		if err := in.Close(); err != nil {
			n.Error(err)
		}
		srv.Close()
	})
	return in, local
}

func (n *network) endpoint(replicaID, nodeID, zone string) {
	s := &n.table.Services[0]
	s.Endpoints = append(s.Endpoints, api.Endpoint{
		ReplicaID: replicaID, NodeID: nodeID, Zone: zone, Region: "eu", Ready: true, Weight: 1,
	})
}

// public serves an ingress's users and gives a function that asks it.
func (n *network) public(in *Ingress) *httptest.Server {
	srv := httptest.NewUnstartedServer(in.Public())
	srv.Config.MaxHeaderBytes = api.MaxHeaderBytes
	srv.Start()
	n.Cleanup(srv.Close)
	return srv
}

func (n *network) do(srv *httptest.Server, method, host string, body io.Reader, header http.Header) (*http.Response, string) {
	n.Helper()
	req, err := http.NewRequest(method, srv.URL+"/path?q=1;2", body)
	if err != nil {
		n.Fatal(err)
	}
	req.Host = host
	for k, v := range header {
		req.Header[k] = v
	}
	res, err := srv.Client().Do(req)
	if err != nil {
		n.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		n.Fatal(err)
	}
	return res, string(got)
}

// wasm is a replica that is a handler.
func wasm(h http.HandlerFunc) replica {
	return replica{service: "web", endpoint: sandbox.Endpoint{Handler: h}}
}

func says(text string) replica {
	return wasm(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) })
}

// container is a replica behind a real HTTP server.
func (n *network) container(h http.HandlerFunc) replica {
	srv := httptest.NewServer(h)
	n.Cleanup(srv.Close)
	return at(srv.Listener.Addr(), api.ProtocolHTTP)
}

func at(addr net.Addr, protocol string) replica {
	a := addr.(*net.TCPAddr)
	return replica{service: "web", endpoint: sandbox.Endpoint{Host: a.IP.String()}, ports: []api.Port{{Port: a.Port, Protocol: protocol}}}
}

// refusing is a container whose port is closed.
func (n *network) refusing() replica {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.Fatal(err)
	}
	defer ln.Close()
	return at(ln.Addr(), api.ProtocolHTTP)
}

func TestHosts(t *testing.T) {
	n := newNetwork(t)
	in, local := n.node("n-1", "a")
	srv := n.public(in)
	in.Update(&n.table)
	if in.Index() != 7 {
		t.Errorf("index %d", in.Index())
	}
	res, _ := n.do(srv, "GET", "web.localhost", nil, nil)
	if res.StatusCode != 503 || res.Header.Get("Retry-After") != "1" {
		t.Errorf("with no replica: %d, Retry-After %q", res.StatusCode, res.Header.Get("Retry-After"))
	}
	local.set("r-1", says("hello"))
	for host, want := range map[string]int{
		"web.localhost": 200, "WEB.localhost:7780": 200, "www.example.com.": 200, "www.example.com": 200,
		"other.localhost": 404, "localhost": 404, "127.0.0.1:80": 404, "[::1]:80": 404,
	} {
		if res, _ := n.do(srv, "GET", host, nil, nil); res.StatusCode != want {
			t.Errorf("%s: %d, want %d", host, res.StatusCode, want)
		}
	}
	_, body := n.do(srv, "GET", "other.localhost", nil, nil)
	var e api.ErrorBody
	if err := json.Unmarshal([]byte(body), &e); err != nil || e.Error.Code != api.CodeNotFound {
		t.Errorf("unknown host says %s (%v)", body, err)
	}
}

func TestOrder(t *testing.T) {
	cfg := Config{NodeID: "me", Zone: "a", Region: "eu"}
	e := func(id, zone, region string, suspect bool, weight int) api.Endpoint {
		return api.Endpoint{ReplicaID: id, NodeID: "n-" + id, Zone: zone, Region: region, Ready: true, Suspect: suspect, Weight: weight}
	}
	unready := e("x", "a", "eu", false, 1)
	unready.Ready = false
	own := e("own", "a", "eu", false, 1)
	own.NodeID = "me"
	r := &route{here: []string{"l-1", "l-2"}, tiers: tiersOf([]api.Endpoint{
		e("sus", "a", "eu", true, 1), e("far", "a", "us", false, 1), e("region", "b", "eu", false, 1),
		e("zone", "a", "eu", false, 1), e("lost", "a", "eu", false, 1), unready, own,
	}, map[string]api.NodePeer{"n-lost": {State: api.NodeLost}}, cfg)}
	ids := func(targets []target) (out []string) {
		for _, t := range targets {
			out = append(out, t.replicaID)
		}
		return out
	}
	tests := []struct {
		name  string
		local []string
		avoid map[string]bool
		want  []string
	}{
		{"by nearness", nil, nil, []string{"zone", "region", "far", "sus"}},
		{"local first, in turn", []string{"l-1", "l-2"}, nil, []string{"l-2", "l-1", "zone", "region"}},
		{"not those here that are to end", []string{"l-old", "l-1"}, nil, []string{"l-1", "zone", "region", "far"}},
		{"failed nodes last", nil, map[string]bool{"n-zone": true, "n-sus": true}, []string{"region", "far", "lost", "zone"}},
	}
	for i, tt := range tests {
		r.next.Store(uint64(i))
		if diff := cmp.Diff(tt.want, ids(r.order(tt.local, tt.avoid))); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
	weighted := &route{tiers: tiersOf([]api.Endpoint{e("big", "a", "eu", false, 3), e("small", "a", "eu", false, 1)}, nil, cfg)}
	count := map[string]int{}
	for range 400 {
		count[weighted.order(nil, nil)[0].replicaID]++
	}
	if diff := cmp.Diff(map[string]int{"big": 300, "small": 100}, count); diff != "" {
		t.Error(diff)
	}
}

// A node hears by its table that a replica is to end, and a moment later by its assignments: from the
// first of these on, no new request goes there. The replica serves what it has taken to the end.
func TestAReplicaHereThatTheTableDoesNotListTakesNothingNew(t *testing.T) {
	n := newNetwork(t)
	one, local := n.node("n-1", "a")
	_, there := n.node("n-2", "b")
	there.set("r-2", says("new"))
	n.endpoint("r-2", "n-2", "b")
	arrived, finish := make(chan struct{}), make(chan struct{})
	var first sync.Once
	local.set("r-1", wasm(func(w http.ResponseWriter, _ *http.Request) {
		first.Do(func() {
			close(arrived)
			<-finish
		})
		io.WriteString(w, "old")
	}))
	one.Update(&n.table)
	srv := n.public(one)
	begun := make(chan string, 1)
	go func() {
		_, body := n.do(srv, "GET", "web.localhost", nil, nil)
		begun <- body
	}()
	<-arrived
	service := n.table.Services[0]
	service.Endpoints = service.Endpoints[1:]
	one.Update(&api.EndpointTable{Index: 8, Services: []api.Service{service}})
	if target, ok := one.next("web.localhost", nil); !ok || target.replicaID != "r-2" {
		t.Errorf("after the table said that it ends, a request goes to %q", target.replicaID)
	}
	close(finish)
	if body := <-begun; body != "old" {
		t.Errorf("the request that it had: %q", body)
	}
	service.Endpoints = nil
	one.Update(&api.EndpointTable{Index: 9, Services: []api.Service{service}})
	if res, _ := n.do(srv, "GET", "web.localhost", nil, nil); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("with no replica that is to run: %d", res.StatusCode)
	}
}

// What the node knows of its own replicas is newer than the table: one that the table calls unready is
// served from as soon as it is ready, with no coordinator's help.
func TestAReplicaHereIsAsReadyAsItsNodeKnows(t *testing.T) {
	n := newNetwork(t)
	one, local := n.node("n-1", "a")
	n.table.Services[0].Endpoints[0].Ready = false
	one.Update(&n.table)
	local.set("r-1", says("here"))
	if _, body := n.do(n.public(one), "GET", "web.localhost", nil, nil); body != "here" {
		t.Errorf("got %q", body)
	}
}

func TestRemoteReplica(t *testing.T) {
	n := newNetwork(t)
	one, _ := n.node("n-1", "a")
	_, there := n.node("n-2", "b")
	there.set("r-2", n.container(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s?%s %s", r.Host, r.URL.Path, r.URL.RawQuery, r.Header.Get("Traceparent"))
	}))
	n.endpoint("r-2", "n-2", "b")
	one.Update(&n.table)
	res, body := n.do(n.public(one), "GET", "web.localhost", nil, http.Header{"Traceparent": {"00-1-2-01"}})
	if want := "web.localhost /path?q=1;2 00-1-2-01"; res.StatusCode != 200 || body != want {
		t.Errorf("%d %q, want %q", res.StatusCode, body, want)
	}
}

func TestHeadersFromOutsideAreNotBelieved(t *testing.T) {
	n := newNetwork(t)
	one, local := n.node("n-1", "a")
	_, there := n.node("n-2", "b")
	show := func(w http.ResponseWriter, r *http.Request) {
		seen := map[string]string{}
		for k := range r.Header {
			if strings.HasPrefix(k, "X-") || k == "Forwarded" {
				seen[k] = r.Header.Get(k)
			}
		}
		seen[headerRemoteAddr], _, _ = net.SplitHostPort(seen[headerRemoteAddr])
		w.Header().Set(headerRefused, refusedUnsent) // a replica's lie
		json.NewEncoder(w).Encode(seen)
	}
	n.endpoint("r-2", "n-2", "b")
	one.Update(&n.table)
	srv := n.public(one)
	lies := http.Header{
		"X-Forwarded-For": {"6.6.6.6"}, "X-Forwarded-Host": {"evil"}, "X-Forwarded-Port": {"1"}, "Forwarded": {"for=6.6.6.6"},
		"X-Cloudless-Replica": {"r-9"}, "X-Cloudless-Tcp-Port": {"22"}, "X-Cloudless-Remote-Addr": {"6.6.6.6:1"},
		"x-cloudless-odd": {"1"}, "Connection": {"X-Forwarded-For, X-Cloudless-Remote-Addr, X-Cloudless-Replica"}, "X-Mine": {"kept"},
	}
	want := map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "web.localhost", "X-Forwarded-Proto": "http",
		"X-Cloudless-Remote-Addr": "127.0.0.1", "X-Mine": "kept",
	}
	check := func(way string) {
		res, body := n.do(srv, "GET", "web.localhost", nil, lies)
		var got map[string]string
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatalf("%s: %d %s", way, res.StatusCode, body)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", way, diff)
		}
	}
	there.set("r-2", n.container(show))
	check("remote container")
	there.set("r-2", wasm(func(w http.ResponseWriter, r *http.Request) {
		delete(r.Header, "X-Cloudless-Refused")
		rec := httptest.NewRecorder()
		show(rec, r)
		w.Write(rec.Body.Bytes())
	}))
	check("remote wasm")
	local.set("r-1", n.container(show))
	check("local container")
}

func TestRetry(t *testing.T) {
	breaks := func(w http.ResponseWriter, r *http.Request) { // after the request has come
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.Close()
		}
	}
	body := func() io.Reader { return strings.NewReader("body") }
	tests := []struct {
		name   string
		first  func(n *network) replica
		remote bool
		method string
		body   func() io.Reader
		want   int
	}{
		{"GET, refused", (*network).refusing, false, "GET", nil, 200},
		{"POST with a body, refused", (*network).refusing, false, "POST", body, 200},
		{"POST with a body, refused on another node", (*network).refusing, true, "POST", body, 200},
		{"GET, broken off", func(n *network) replica { return n.container(breaks) }, false, "GET", nil, 200},
		{"GET, broken off on another node", func(n *network) replica { return n.container(breaks) }, true, "GET", nil, 200},
		{"DELETE, broken off", func(n *network) replica { return n.container(breaks) }, false, "DELETE", nil, 200},
		{"POST, broken off", func(n *network) replica { return n.container(breaks) }, false, "POST", nil, 502},
		{"POST, broken off on another node", func(n *network) replica { return n.container(breaks) }, true, "POST", nil, 502},
		{"PUT with a body, broken off", func(n *network) replica { return n.container(breaks) }, false, "PUT", body, 502},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := newNetwork(t)
			one, local := n.node("n-1", "a")
			_, near := n.node("n-2", "a")
			_, far := n.node("n-3", "b")
			if tt.remote {
				near.set("r-2", tt.first(n))
			} else {
				local.set("r-1", tt.first(n))
			}
			calls := make(chan string, 8)
			far.set("r-3", wasm(func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				calls <- string(b)
			}))
			n.endpoint("r-2", "n-2", "a")
			n.endpoint("r-3", "n-3", "b")
			one.Update(&n.table)
			var b io.Reader
			want := ""
			if tt.body != nil {
				b, want = tt.body(), "body"
			}
			before := time.Now()
			if res, text := n.do(n.public(one), tt.method, "web.localhost", b, nil); res.StatusCode != tt.want {
				t.Fatalf("%d %s, want %d", res.StatusCode, text, tt.want)
			}
			if took := time.Since(before); took > 900*time.Millisecond {
				t.Errorf("took %v: it waited for a 100-continue that did not come", took)
			}
			if tt.want == 200 {
				if got := <-calls; got != want {
					t.Errorf("the second replica got %q, want %q", got, want)
				}
			} else if len(calls) != 0 {
				t.Error("a request that may have been done was done again")
			}
		})
	}
}

func TestAnUnreachableNodeIsTriedLast(t *testing.T) {
	n := newNetwork(t)
	one, _ := n.node("n-1", "a")
	_, there := n.node("n-3", "b")
	there.set("r-3", says("far"))
	n.endpoint("r-2", "n-2", "a") // gone
	n.endpoint("r-3", "n-3", "b")
	one.Update(&n.table)
	srv := n.public(one)
	for range 3 {
		if res, body := n.do(srv, "POST", "web.localhost", nil, nil); res.StatusCode != 200 || body != "far" {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
	}
	close(n.dials)
	count := map[string]int{}
	for id := range n.dials {
		count[id]++
	}
	if count["n-2"] != 1 {
		t.Errorf("dialled the node that is gone %d times", count["n-2"])
	}
	n.dials = make(chan string, 8)
}

func TestPeerNeverSendsOn(t *testing.T) {
	n := newNetwork(t)
	one, _ := n.node("n-1", "a")
	_, there := n.node("n-2", "b")
	there.set("r-2", says("two"))
	n.endpoint("r-2", "n-2", "b")
	one.Update(&n.table)
	for _, id := range []string{"", "r-2", "r-9"} {
		req := httptest.NewRequest("GET", "/", nil)
		req.Host = "web.localhost"
		req.Header.Set(headerReplica, id)
		rec := httptest.NewRecorder()
		one.Peer().ServeHTTP(rec, req)
		if rec.Code != 503 || rec.Header().Get(headerRefused) == "" {
			t.Errorf("replica %q: %d", id, rec.Code)
		}
	}
	if len(n.dials) != 0 {
		t.Error("a peer's request was sent on")
	}
}

func TestLargeBodyIsStreamed(t *testing.T) {
	const up, down = 1 << 30, 64 << 20
	n := newNetwork(t)
	one, _ := n.node("n-1", "a")
	_, there := n.node("n-2", "b")
	there.set("r-2", n.container(func(w http.ResponseWriter, r *http.Request) {
		h := crc32.NewIEEE()
		got, _ := io.Copy(h, r.Body)
		fmt.Fprintf(w, "%d %x\n", got, h.Sum(nil))
		io.Copy(w, io.LimitReader(&counting{}, down))
	}))
	n.endpoint("r-2", "n-2", "b")
	one.Update(&n.table)
	srv := n.public(one)
	req, err := http.NewRequest("POST", srv.URL, io.LimitReader(&counting{}, up))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "web.localhost"
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	r := bufio.NewReader(res.Body)
	sum, err := r.ReadString('\n')
	h := crc32.NewIEEE()
	io.Copy(h, io.LimitReader(&counting{}, up))
	if want := fmt.Sprintf("%d %x\n", up, h.Sum(nil)); err != nil || sum != want {
		t.Errorf("sum %s (%v), want %s", sum, err, want)
	}
	if got, err := io.Copy(io.Discard, r); err != nil || got != down {
		t.Errorf("%d bytes came back, %v", got, err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 32<<20 { // everything ever allocated
		t.Errorf("%d bytes were allocated for bodies of %d and %d", grown, up, down)
	}
}

// counting is bytes without end that differ from place to place.
type counting struct{ at int }

var pattern = func() []byte {
	p := make([]byte, 251*257) // shares no factor with any size of a buffer
	for i := range p {
		p[i] = byte(i * i >> 3)
	}
	return p
}()

func (c *counting) Read(p []byte) (int, error) {
	n := copy(p, pattern[c.at:])
	c.at = (c.at + n) % len(pattern)
	return n, nil
}

func TestStreamedResponsePasses(t *testing.T) {
	n := newNetwork(t)
	one, _ := n.node("n-1", "a")
	_, there := n.node("n-2", "b")
	next := make(chan string)
	there.set("r-2", n.container(func(w http.ResponseWriter, r *http.Request) {
		for s := range next {
			fmt.Fprintln(w, s)
			http.NewResponseController(w).Flush()
		}
	}))
	n.endpoint("r-2", "n-2", "b")
	one.Update(&n.table)
	srv := n.public(one)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", srv.URL, nil)
	req.Host = "web.localhost"
	go func() { next <- "one" }()
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for _, want := range []string{"two", "three", ""} {
		if !lines.Scan() { // each line arrives before the next is written
			t.Fatal(lines.Err())
		}
		if want == "" {
			close(next)
			break
		}
		next <- want
	}
}

func TestWebSocketPasses(t *testing.T) {
	n := newNetwork(t)
	one, local := n.node("n-1", "a")
	_, there := n.node("n-2", "b")
	upgrade := n.container(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" {
			http.Error(w, "no upgrade", 400)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		io.Copy(conn, rw)
	})
	n.endpoint("r-2", "n-2", "b")
	one.Update(&n.table)
	srv := n.public(one)
	for _, where := range []struct {
		name  string
		local *here
	}{{"remote", there}, {"local", local}} {
		where.local.set("r-2", upgrade)
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: web.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		r := bufio.NewReader(conn)
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.StatusCode != 101 {
			t.Fatalf("%s: %v %v", where.name, res, err)
		}
		for range 3 {
			io.WriteString(conn, "ping")
			got := make([]byte, 4)
			if _, err := io.ReadFull(r, got); err != nil || string(got) != "ping" {
				t.Fatalf("%s: %q, %v", where.name, got, err)
			}
		}
	}
}

func TestObserve(t *testing.T) {
	n := newNetwork(t)
	in, local := n.node("n-1", "a")
	seen := make(chan string, 4)
	in.cfg.Observe = func(kind string, received, sent int64, _ time.Duration) {
		seen <- fmt.Sprint(kind, " ", received, " ", sent)
	}
	in.Update(&n.table)
	local.set("r-1", says("hello"))
	srv := n.public(in)
	n.do(srv, "GET", "web.localhost", nil, nil)
	if got := <-seen; got != "ingress 0 5" {
		t.Errorf("observed %s", got)
	}
	local.set("r-1", wasm(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body); io.WriteString(w, "!") }))
	n.do(srv, "POST", "web.localhost", strings.NewReader("a body"), nil)
	if got := <-seen; got != "ingress 6 7" {
		t.Errorf("observed %s", got)
	}
}

func TestAccessIsToldWithItsCost(t *testing.T) {
	n := newNetwork(t)
	in, local := n.node("n-1", "a")
	seen := make(chan Access, 4)
	in.cfg.Access = func(a Access) { seen <- a }
	in.Update(&n.table)
	local.set("r-1", wasm(func(w http.ResponseWriter, r *http.Request) {
		sandbox.Count(r.Context(), sandbox.Cost{Fuel: 7})
		io.WriteString(w, "hello")
	}))
	srv := n.public(in)
	n.do(srv, "GET", "web.localhost", nil, nil)
	if a := <-seen; a.Status != 200 || a.Bytes != 5 || a.Service != "default/web" || a.Replica != "r-1" || a.Node != "" || a.Cost.Fuel != 7 || a.Method != "GET" || a.Host != "web.localhost" {
		t.Errorf("told %+v", a)
	}
	n.do(srv, "GET", "nobody.localhost", nil, nil)
	if a := <-seen; a.Status != 404 || a.Service != "" || a.Replica != "" {
		t.Errorf("told %+v", a)
	}
}

func FuzzHostOf(f *testing.F) {
	for _, s := range []string{"web.localhost:80", "[::1]:80", "A.", "::", "", "a:b:c", "host:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := hostOf(s)
		if bytes.ContainsAny([]byte(got), "ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
			t.Fatalf("%q became %q", s, got)
		}
	})
}
