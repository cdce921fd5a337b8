package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/pki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// site is a cluster's CA, and runs whatever its test starts until the test ends.
type site struct {
	*testing.T
	ca  *pki.CA
	ctx context.Context
}

func newSite(t *testing.T) *site {
	ca, err := pki.NewCA("c-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return &site{T: t, ca: ca, ctx: ctx}
}

func (s *site) issue(role api.Role, id string) (certPEM, keyPEM []byte) {
	s.Helper()
	keyPEM, csr, err := pki.NewKeyCSR()
	if err != nil {
		s.Fatal(err)
	}
	certPEM, err = s.ca.Issue(csr, pki.Identity{Cluster: "c-1", Role: role, ID: id}, nil, time.Now(), time.Hour)
	if err != nil {
		s.Fatal(err)
	}
	return certPEM, keyPEM
}

func (s *site) member(role api.Role, id string) *pki.Credentials {
	s.Helper()
	certPEM, keyPEM := s.issue(role, id)
	creds, err := pki.NewCredentials(certPEM, keyPEM, s.ca.CertPEM())
	if err != nil {
		s.Fatal(err)
	}
	return creds
}

func (s *site) mux(creds *pki.Credentials) *Mux {
	s.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.Fatal(err)
	}
	return NewMux(ln, creds, zerolog.Nop())
}

// run starts f and waits for its end, without an error, when the test is over.
func (s *site) run(name string, f func(ctx context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stopped := false
	stop = func() {
		cancel()
		if stopped {
			return
		}
		stopped = true
		select {
		case err := <-done:
			if err != nil {
				s.Errorf("%s: %v", name, err)
			}
		case <-time.After(patience):
			s.Errorf("%s does not end", name)
		}
	}
	s.Cleanup(stop)
	return stop
}

// echo answers each connection of ln with what it sends.
func echo(ctx context.Context, ln net.Listener) error {
	return serveConns(ctx, ln, "echo", 16, func(ctx context.Context, c net.Conn) {
		defer context.AfterFunc(ctx, func() { c.Close() })()
		io.Copy(c, c)
	})
}

func (s *site) talk(conn net.Conn, text string) error {
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if string(got) != text {
		return fmt.Errorf("sent %q, got %q", text, got)
	}
	return nil
}

func whoami(w http.ResponseWriter, r *http.Request) {
	id, ok := PeerOfRequest(r)
	fmt.Fprintf(w, "%s %v %s", id, ok, r.Proto)
}

func (s *site) get(c *http.Client, url string) (string, error) {
	s.Cleanup(c.CloseIdleConnections)
	req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

func TestOnePortManyProtocols(t *testing.T) {
	s := newSite(t)
	m := s.mux(s.member(api.RoleServer, "s-1"))
	node, raft, joiner := m.Handle(api.ALPNNode, api.RoleNode), m.Handle(api.ALPNRaft, api.RoleServer), m.Handle(api.ALPNJoin)
	s.run("mux", m.Serve)
	s.run("node", func(ctx context.Context) error {
		return ServeHTTP2(ctx, node, http.HandlerFunc(whoami), zerolog.Nop())
	})
	s.run("join", func(ctx context.Context) error {
		return ServeHTTP1(ctx, joiner, http.HandlerFunc(whoami), zerolog.Nop())
	})
	s.run("raft", func(ctx context.Context) error { return echo(ctx, raft) })
	addr := m.ln.Addr().String()
	url := "https://" + addr + "/"

	agent, peer := &Dialer{Creds: s.member(api.RoleNode, "n-1")}, &Dialer{Creds: s.member(api.RoleServer, "s-2")}
	got, err := s.get(agent.HTTPClient(api.ALPNNode, pki.Identity{Role: api.RoleServer}), url)
	if want := "spiffe://c-1/node/n-1 true HTTP/2.0"; err != nil || got != want {
		t.Errorf("node API: %q, %v; want %q", got, err, want)
	}
	got, err = s.get(JoinHTTPClient(s.ca.Hash(), nil), url)
	if err != nil || !strings.HasSuffix(got, " false HTTP/1.1") {
		t.Errorf("join API: %q, %v", got, err)
	}
	conn, err := peer.Dial(s.ctx, addr, api.ALPNRaft, pki.Identity{Role: api.RoleServer, ID: "s-1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.talk(conn, "append"); err != nil {
		t.Errorf("raft: %v", err)
	}
	conn.Close()

	if _, err := s.get(peer.HTTPClient(api.ALPNNode, pki.Identity{}), url); err == nil {
		t.Error("a server was let in as a node")
	}
	if _, err := agent.Dial(s.ctx, addr, api.ALPNPeer, pki.Identity{}); err == nil {
		t.Error("an unknown protocol was served")
	}
	if _, err := s.get(JoinHTTPClient(strings.Repeat("0", 64), nil), url); api.CodeOf(err) != api.CodeUnauthorized {
		t.Errorf("another CA's hash: %v", err)
	}
	conn, err = agent.Dial(s.ctx, addr, api.ALPNRaft, pki.Identity{})
	if err == nil { // the server refuses after the client has finished
		if s.talk(conn, "append") == nil {
			t.Error("a node was let in as a server")
		}
		conn.Close()
	}
}

func TestJoinBesideAnotherProtocolGetsJoinOnly(t *testing.T) {
	s := newSite(t)
	m := s.mux(s.member(api.RoleServer, "s-1"))
	node, joiner := m.Handle(api.ALPNNode, api.RoleNode), m.Handle(api.ALPNJoin)
	s.run("mux", m.Serve)
	s.run("node", func(ctx context.Context) error { return echo(ctx, node) })
	accepted := make(chan string, 2)
	s.run("join", func(ctx context.Context) error {
		return serveConns(ctx, joiner, "join", 4, func(_ context.Context, c net.Conn) {
			accepted <- c.(*tls.Conn).ConnectionState().NegotiatedProtocol
		})
	})
	cfg := pki.JoinClientConfig(s.ca.Hash())
	cfg.VerifyConnection = nil
	for _, protos := range [][]string{{api.ALPNNode, api.ALPNJoin}, {api.ALPNJoin, api.ALPNNode}} {
		cfg.NextProtos = protos
		conn, err := tls.Dial("tcp", m.ln.Addr().String(), cfg)
		if err != nil {
			t.Fatalf("%q: %v", protos, err)
		}
		if got := conn.ConnectionState().NegotiatedProtocol; got != api.ALPNJoin {
			t.Errorf("%q got %q", protos, got)
		}
		if got := <-accepted; got != api.ALPNJoin {
			t.Errorf("%q was served as %q", protos, got)
		}
		conn.Close()
	}
	cfg.NextProtos = nil
	if _, err := tls.Dial("tcp", m.ln.Addr().String(), cfg); err == nil {
		t.Error("a hello with no protocol was served")
	}
}

func TestPlainTextIsRefused(t *testing.T) {
	s := newSite(t)
	m := s.mux(s.member(api.RoleServer, "s-1"))
	m.Handle(api.ALPNNode, api.RoleNode)
	s.run("mux", m.Serve)
	conn, err := net.Dial("tcp", m.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	got, _ := io.ReadAll(conn)
	if strings.Contains(string(got), "200") {
		t.Errorf("answered %q", got)
	}
}

func TestRenewalKeepsOpenStreams(t *testing.T) {
	s := newSite(t)
	server, node := s.member(api.RoleServer, "s-1"), s.member(api.RoleNode, "n-1")
	m := s.mux(server)
	ln := m.Handle(api.ALPNNode, api.RoleNode)
	s.run("mux", m.Serve)
	s.run("echo", func(ctx context.Context) error { return echo(ctx, ln) })
	d := &Dialer{Creds: node}
	open := func() net.Conn {
		conn, err := d.Dial(s.ctx, m.ln.Addr().String(), api.ALPNNode, pki.Identity{Role: api.RoleServer})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	old := open()
	if err := s.talk(old, "before"); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		for creds, id := range map[*pki.Credentials]string{server: "s-1", node: "n-1"} {
			cert, key := s.issue(creds.Identity().Role, id)
			if err := creds.Update(cert, key, s.ca.CertPEM()); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.talk(old, "the old stream"); err != nil {
			t.Fatal(err)
		}
		if err := s.talk(open(), "a new one"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSilentConnectionsAreBounded(t *testing.T) {
	s := newSite(t)
	m := s.mux(s.member(api.RoleServer, "s-1"))
	m.Handle(api.ALPNNode, api.RoleNode)
	defer m.Close()
	for range maxHandshakes {
		a, b := net.Pipe()
		defer a.Close()
		m.Inject(b)
	}
	a, b := net.Pipe()
	m.Inject(b)
	a.SetDeadline(time.Now().Add(patience))
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("one too many: %v, want EOF", err)
	}
}

func TestAcceptQueueIsBounded(t *testing.T) {
	p := &protocol{conns: make(chan net.Conn, 1), done: make(chan struct{})}
	a, b := net.Pipe()
	if !p.deliver(b) {
		t.Fatal("the first was refused")
	}
	if p.deliver(b) {
		t.Fatal("more than the queue holds was taken")
	}
	p.Close()
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("what nobody accepted is still open: %v", err)
	}
	if _, err := p.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v", err)
	}
	if p.deliver(b) {
		t.Error("took a connection after Close")
	}
}

func TestHTTP1FinishesWhatIsInFlight(t *testing.T) {
	s := newSite(t)
	m := s.mux(s.member(api.RoleServer, "s-1"))
	joiner := m.Handle(api.ALPNJoin)
	s.run("mux", m.Serve)
	began, goOn := make(chan struct{}), make(chan struct{})
	stop := s.run("join", func(ctx context.Context) error {
		return ServeHTTP1(ctx, joiner, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(began)
			<-ctx.Done() // the end of the server comes first
			<-goOn
			fmt.Fprint(w, r.Context().Err())
		}), zerolog.Nop())
	})
	answer := make(chan string, 1)
	go func() {
		got, err := s.get(JoinHTTPClient(s.ca.Hash(), nil), "https://"+m.ln.Addr().String())
		answer <- fmt.Sprint(got, " ", err)
	}()
	select {
	case <-began:
	case got := <-answer:
		t.Fatal(got)
	}
	close(goOn)
	stop()
	if got := <-answer; got != "<nil> <nil>" {
		t.Errorf("the request in flight ended with %s", got)
	}
}

// A handler that takes its connection can end one direction and go on in the other, as over TCP.
func TestATakenConnectionCanBeHalfClosed(t *testing.T) {
	s := newSite(t)
	m := s.mux(s.member(api.RoleServer, "s-1"))
	peers := m.Handle(api.ALPNIngress, api.RoleNode)
	s.run("mux", m.Serve)
	rest := make(chan string, 1)
	s.run("peers", func(ctx context.Context) error {
		return ServeHTTP1(ctx, peers, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Error(err)
			}
			got, err := io.ReadAll(conn)
			rest <- fmt.Sprint(string(got), err)
		}), zerolog.Nop())
	})
	conn, err := (&Dialer{Creds: s.member(api.RoleNode, "n-1")}).Dial(s.ctx, m.ln.Addr().String(), api.ALPNIngress, pki.Identity{Role: api.RoleServer})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if got, readErr := io.ReadAll(conn); err != nil || readErr != nil || len(got) > 0 {
		t.Errorf("%q, %v, %v, want the end of one direction", got, err, readErr)
	}
	if _, err := io.WriteString(conn, "and more"); err != nil {
		t.Error(err)
	}
	if err := conn.(*tls.Conn).CloseWrite(); err != nil {
		t.Error(err)
	}
	select {
	case got := <-rest:
		if got != "and more<nil>" {
			t.Errorf("the other direction brought %q", got)
		}
	case <-s.ctx.Done():
		t.Error("the other direction brought nothing")
	}
}
