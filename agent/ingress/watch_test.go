package ingress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
)

// gate is open or shut; what passes waits while it is shut.
type gate struct {
	mu   sync.Mutex
	open chan struct{} // closed while the gate is open
}

func newGate() *gate {
	g := &gate{open: make(chan struct{})}
	close(g.open)
	return g
}

func (g *gate) way() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

func (g *gate) reopen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
}

// freezable is another node, in memory, that can be frozen as SIGSTOP does it: its connections stand
// and take bytes, and nothing answers.
type freezable struct {
	ctx   context.Context
	gate  *gate
	conns chan net.Conn
	calls chan string // method of each request that its replica was asked
}

func (f *freezable) Accept() (net.Conn, error) {
	select {
	case c := <-f.conns:
		return c, nil
	case <-f.ctx.Done():
		return nil, net.ErrClosed
	}
}

func (f *freezable) Close() error   { return nil }
func (f *freezable) Addr() net.Addr { return &net.TCPAddr{} }

// dial connects by way of the gate. A frozen node completes no handshake.
func (f *freezable) dial(ctx context.Context) (net.Conn, error) {
	select {
	case <-f.gate.way():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	client, near := net.Pipe()
	server, far := net.Pipe()
	f.conns <- server
	go f.carry(far, near)
	go f.carry(near, far)
	return client, nil
}

// carry takes bytes at once and hands them on when the gate is open.
func (f *freezable) carry(to, from net.Conn) {
	held := make(chan []byte, 1024)
	go func() {
		defer close(held)
		for {
			p := make([]byte, 4096)
			n, err := from.Read(p)
			if n > 0 { // a pipe hands an empty write to its reader
				held <- p[:n]
			}
			if err != nil {
				return
			}
		}
	}()
	defer to.Close()
	for p := range held {
		select {
		case <-f.gate.way():
		case <-f.ctx.Done():
		}
		if _, err := to.Write(p); err != nil {
			from.Close()
		}
	}
}

// frozen is an ingress n-1 with no replica of its own, and nodes n-2 (near) and n-3 (far) in memory.
type frozen struct {
	*testing.T
	in    *Ingress
	nodes map[string]*freezable
	table api.EndpointTable
}

// bubble runs f on fake time.
func bubble(t *testing.T, answer http.HandlerFunc, f func(*frozen)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		n := newNetwork(t)
		z := &frozen{T: t, nodes: map[string]*freezable{}, table: n.table}
		var servers sync.WaitGroup
		for id, zone := range map[string]string{"n-2": "a", "n-3": "b"} {
			local := &here{replicas: map[string]replica{}}
			peer := New(Config{NodeID: id, Local: local, Log: zerolog.Nop()})
			node := &freezable{ctx: ctx, gate: newGate(), conns: make(chan net.Conn, 8), calls: make(chan string, 64)}
			local.set("r-"+id, wasm(func(w http.ResponseWriter, r *http.Request) {
				node.calls <- r.Method
				w.Header().Set("Node", id)
				answer(w, r)
			}))
			srv := &http.Server{Handler: peer.Peer()}
			servers.Go(func() { srv.Serve(node) })
			t.Cleanup(func() { srv.Close(); peer.Close(); servers.Wait() })
			z.nodes[id] = node
			n.endpoint("r-"+id, id, zone)
			n.table.Nodes[id] = api.NodePeer{State: api.NodeReady}
		}
		z.table = n.table
		z.in = New(Config{NodeID: "n-1", Zone: "a", Region: "eu", Local: &here{}, Log: zerolog.Nop(), Dial: func(ctx context.Context, id, _ string) (net.Conn, error) {
			return z.nodes[id].dial(ctx)
		}})
		z.update(1, nil)
		defer func() { cancel(); z.in.Close() }()
		f(z)
	})
}

// update gives the ingress a table in which change has its way.
func (z *frozen) update(index uint64, change func(*api.EndpointTable)) {
	t := z.table
	t.Index = index
	t.Nodes = map[string]api.NodePeer{"n-2": {State: api.NodeReady}, "n-3": {State: api.NodeReady}}
	t.Services = []api.Service{z.table.Services[0]}
	if change != nil {
		change(&t)
	}
	z.in.Update(&t)
}

// ask sends a request and tells who answered it, with what, and after how long.
func (z *frozen) ask(method string, body io.Reader) (res *http.Response, took time.Duration) {
	z.Helper()
	served := context.WithValue(context.Background(), http.ServerContextKey, &http.Server{}) // as by a server
	req := httptest.NewRequestWithContext(served, method, "http://web.localhost/", body)
	rec := httptest.NewRecorder()
	began := time.Now()
	z.in.Public().ServeHTTP(rec, req)
	return rec.Result(), time.Since(began)
}

func (z *frozen) want(res *http.Response, status int, node string) {
	z.Helper()
	if res.StatusCode != status || res.Header.Get("Node") != node {
		body, _ := io.ReadAll(res.Body)
		z.Fatalf("%d from %q (%s), want %d from %q", res.StatusCode, res.Header.Get("Node"), body, status, node)
	}
}

func (z *frozen) wantTook(took, least, most time.Duration) {
	z.Helper()
	if took < least || took > most {
		z.Errorf("took %v, want %v to %v", took, least, most)
	}
}

func quick(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "here") }

func TestWhenARequestIsGivenUp(t *testing.T) {
	const tick = time.Millisecond
	for name, tt := range map[string]struct {
		w     waiting
		after time.Duration
	}{
		"can go elsewhere": {waiting{elsewhere: true}, silentMove},
		"can go elsewhere, from a node that is doubted": {waiting{elsewhere: true, doubted: true}, silentDoubted},
		"must not be repeated":                          {waiting{}, silentGiveUp},
		"must not be repeated, at a node in doubt":      {waiting{doubted: true}, silentGiveUp},
		"under way":                     {waiting{begun: true}, silentCut},
		"under way, at a node in doubt": {waiting{begun: true, doubted: true}, silentCut},
	} {
		w := tt.w
		if w.over() {
			t.Errorf("%s: given up while its node answers", name)
		}
		if w.silent = tt.after - tick; w.over() {
			t.Errorf("%s: given up before %v of silence", name, tt.after)
		}
		if w.silent = tt.after; !w.over() {
			t.Errorf("%s: not given up after %v of silence", name, tt.after)
		}
	}
}

func TestARequestAtAFrozenNodeGoesElsewhere(t *testing.T) {
	bubble(t, quick, func(z *frozen) {
		res, _ := z.ask("GET", nil)
		z.want(res, 200, "n-2")
		near := z.nodes["n-2"]
		<-near.calls
		near.gate.shut()
		res, took := z.ask("GET", nil)
		z.want(res, 200, "n-3")
		z.wantTook(took, silentMove, 4*time.Second)
		for range 3 { // and as long as it is silent it is not tried first
			time.Sleep(10 * time.Second)
			res, took = z.ask("POST", strings.NewReader("body"))
			z.want(res, 200, "n-3")
			z.wantTook(took, 0, time.Millisecond)
		}
		near.gate.reopen()
		time.Sleep(10 * time.Second)
		res, _ = z.ask("POST", nil)
		z.want(res, 200, "n-2")
	})
}

func TestTheTablesDoubtMakesTheWaitShorter(t *testing.T) {
	bubble(t, quick, func(z *frozen) {
		z.ask("GET", nil)
		z.nodes["n-2"].gate.shut()
		go func() {
			time.Sleep(100 * time.Millisecond)
			z.update(2, func(t *api.EndpointTable) { t.Nodes["n-2"] = api.NodePeer{State: api.NodeSuspect} })
		}()
		res, took := z.ask("GET", nil)
		z.want(res, 200, "n-3")
		z.wantTook(took, pingAfter+silentDoubted, 2200*time.Millisecond)
	})
}

func TestAnUnsafeRequestIsNotRepeatedNorHangs(t *testing.T) {
	for name, body := range map[string]func() io.Reader{
		"without a body": func() io.Reader { return nil },
		"with a body":    func() io.Reader { return strings.NewReader("body") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, quick, func(z *frozen) {
				z.ask("GET", nil)
				z.nodes["n-2"].gate.shut()
				res, took := z.ask("POST", body())
				z.want(res, http.StatusGatewayTimeout, "")
				z.wantTook(took, silentGiveUp, 13*time.Second)
				if len(z.nodes["n-3"].calls) != 0 {
					z.Error("it was sent to another replica, though the first may have it")
				}
			})
		})
	}
}

func TestAnyRequestLeavesANodeThatCannotBeDialled(t *testing.T) {
	bubble(t, quick, func(z *frozen) {
		z.nodes["n-2"].gate.shut()
		res, took := z.ask("POST", strings.NewReader("body"))
		z.want(res, 200, "n-3")
		z.wantTook(took, silentMove, remoteDial+time.Second)
	})
}

func TestAReplacementTakesTheWaitingRequest(t *testing.T) {
	bubble(t, quick, func(z *frozen) {
		only := func(node string) func(*api.EndpointTable) {
			return func(t *api.EndpointTable) {
				s := t.Services[0]
				s.Endpoints = nil
				for _, e := range t.Services[0].Endpoints {
					if e.NodeID == node {
						s.Endpoints = append(s.Endpoints, e)
					}
				}
				t.Services = []api.Service{s}
			}
		}
		z.update(2, only("n-2"))
		z.ask("GET", nil)
		z.nodes["n-2"].gate.shut()
		go func() {
			time.Sleep(6 * time.Second)
			z.update(3, only("n-3"))
		}()
		res, took := z.ask("GET", nil)
		z.want(res, 200, "n-3")
		z.wantTook(took, 6*time.Second, 6500*time.Millisecond)
	})
}

func TestASlowHandlerAndALongPollAreWaitedFor(t *testing.T) {
	slow := func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Hour)
		io.WriteString(w, "done")
	}
	for _, state := range []api.NodeState{api.NodeReady, api.NodeSuspect, api.NodeLost} {
		bubble(t, slow, func(z *frozen) {
			go func() {
				time.Sleep(5 * time.Second)
				z.update(2, func(t *api.EndpointTable) { t.Nodes["n-2"] = api.NodePeer{State: state} })
			}()
			res, took := z.ask("GET", nil)
			z.want(res, 200, "n-2")
			z.wantTook(took, time.Hour, time.Hour+time.Second)
		})
	}
}

func TestAStreamIsCutOnlyWhenItsNodeIsSilent(t *testing.T) {
	const lines = 3
	stream := func(w http.ResponseWriter, r *http.Request) {
		for i := range lines {
			fmt.Fprintln(w, i)
			http.NewResponseController(w).Flush()
			select {
			case <-time.After(time.Hour):
			case <-r.Context().Done():
				return
			}
		}
	}
	bubble(t, stream, func(z *frozen) {
		res, took := z.ask("GET", nil)
		z.want(res, 200, "n-2")
		z.wantTook(took, lines*time.Hour, lines*time.Hour+time.Second)
		if body, _ := io.ReadAll(res.Body); string(body) != "0\n1\n2\n" {
			z.Errorf("got %q", body)
		}
		go func() {
			time.Sleep(time.Minute)
			z.nodes["n-2"].gate.shut()
		}()
		began := time.Now()
		func() {
			defer func() {
				if err, _ := recover().(error); !errors.Is(err, http.ErrAbortHandler) {
					z.Errorf("a stream that was cut ended with %v, want the connection to be broken off", err)
				}
			}()
			z.ask("GET", nil)
		}()
		z.wantTook(time.Since(began), time.Minute+silentCut, time.Minute+silentCut+10*time.Second)
	})
}

// A TCP connection to a node that answers may be idle for as long as it likes; at a frozen one it ends.
func TestATCPConnectionEndsWhenItsNodeIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const port = 5432
		ctx, cancel := context.WithCancel(context.Background())
		peer := &freezable{ctx: ctx, gate: newGate(), conns: make(chan net.Conn, 8)}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get(headerTCPPort) == "" {
				return // a ping
			}
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+tcpUpgrade+"\r\n\r\n")
			io.Copy(conn, rw)
		})}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(peer) }()
		n := newNetwork(t)
		n.table.Services[0].Ports = []api.Port{{Port: port, Protocol: api.ProtocolTCP}}
		n.endpoint("r-2", "n-2", "a")
		in := New(Config{NodeID: "n-1", Local: &here{}, Log: zerolog.Nop(), Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return peer.dial(ctx) }})
		in.Update(&n.table)
		user, taken := net.Pipe()
		done := make(chan struct{})
		go func() {
			in.serveTCP(ctx, taken, port)
			close(done)
		}()
		for range 2 {
			io.WriteString(user, "ping")
			got := make([]byte, 4)
			if _, err := io.ReadFull(user, got); err != nil || string(got) != "ping" {
				t.Fatalf("%q, %v", got, err)
			}
			time.Sleep(time.Hour)
		}
		peer.gate.shut()
		began := time.Now()
		<-done
		if took := time.Since(began); took < silentCut || took > silentCut+10*time.Second {
			t.Errorf("it ended after %v, want %v", took, silentCut)
		}
		user.Close()
		cancel()
		srv.Close()
		<-served
		in.Close()
	})
}
