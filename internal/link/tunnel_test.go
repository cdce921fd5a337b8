package link

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/pki"
)

// hub is a coordinator that takes tunnels and relays.
type hub struct {
	addr    string
	tunnels *Tunnels
	events  chan string
}

func (s *site) hub() *hub {
	m := s.mux(s.member(api.RoleServer, "s-1"))
	h := &hub{addr: m.ln.Addr().String(), events: make(chan string, 16)}
	tell := func(what string) func(string) { return func(id string) { h.events <- what + " " + id } }
	h.tunnels = NewTunnels(2, tell("open"), tell("close"), zerolog.Nop())
	tl, rl := m.Handle(api.ALPNTunnel, api.RoleNode), m.Handle(api.ALPNRelay, api.RoleNode, api.RoleServer)
	s.run("mux", m.Serve)
	s.run("tunnels", func(ctx context.Context) error { return h.tunnels.Serve(ctx, tl) })
	s.run("relay", func(ctx context.Context) error { return ServeRelay(ctx, rl, h.tunnels, 8, zerolog.Nop()) })
	return h
}

// hidden is an agent whose port nobody can dial: it serves only what comes through its tunnel.
func (s *site) hidden(id string, h *hub) (stop func()) {
	creds := s.member(api.RoleNode, id)
	m := s.mux(creds)
	node := m.Handle(api.ALPNNode, api.RoleNode, api.RoleServer)
	m.ln.Close()
	s.run("mux of "+id, func(ctx context.Context) error { <-ctx.Done(); return m.Close() })
	s.run("node API of "+id, func(ctx context.Context) error {
		return ServeHTTP2(ctx, node, http.HandlerFunc(whoami), zerolog.Nop())
	})
	conn, err := (&Dialer{Creds: creds}).Dial(s.ctx, h.addr, api.ALPNTunnel, pki.Identity{Role: api.RoleServer})
	if err != nil {
		s.Fatal(err)
	}
	return s.run("tunnel of "+id, func(ctx context.Context) error {
		if err := ServeTunnel(ctx, conn, m.Inject); api.CodeOf(err) != api.CodeUnavailable && err != nil {
			return err
		}
		return nil
	})
}

func (s *site) expect(events <-chan string, want string) {
	s.Helper()
	select {
	case got := <-events:
		if got != want {
			s.Fatalf("got %q, want %q", got, want)
		}
	case <-s.ctx.Done():
		s.Fatalf("no %q came", want)
	}
}

func TestTunnelAndRelay(t *testing.T) {
	s := newSite(t)
	h := s.hub()
	s.hidden("n-1", h)
	s.expect(h.events, "open n-1")
	if !h.tunnels.Connected("n-1") || h.tunnels.Connected("n-2") {
		t.Fatal("Connected is wrong")
	}
	dead := func(string) (string, bool) { return "127.0.0.1:1", true }
	var ways []Way
	caller := &NodeDialer{
		Dialer: &Dialer{Creds: s.member(api.RoleNode, "n-2")}, Addr: dead,
		Relays:  func() []string { return []string{"127.0.0.1:1", h.addr} },
		Observe: func(w Way, _ time.Duration) { ways = append(ways, w) },
	}
	got, err := s.get(caller.HTTPClient(api.ALPNNode), "https://n-1/")
	if want := "spiffe://c-1/node/n-2 true HTTP/2.0"; err != nil || got != want {
		t.Errorf("through the relay: %q, %v; want %q", got, err, want)
	}
	if !caller.avoidsDirect("n-1") {
		t.Error("the failed direct dial was forgotten")
	}
	local := &NodeDialer{Dialer: &Dialer{Creds: s.member(api.RoleServer, "s-1")}, Addr: dead,
		Local: func(id string) (net.Conn, error) { return h.tunnels.Open(s.ctx, id) }}
	got, err = s.get(local.HTTPClient(api.ALPNNode), "https://n-1/")
	if want := "spiffe://c-1/server/s-1 true HTTP/2.0"; err != nil || got != want {
		t.Errorf("through the own tunnel: %q, %v; want %q", got, err, want)
	}
	if _, err := caller.Dial(s.ctx, "n-9", api.ALPNNode); api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(err.Error(), "no tunnel") {
		t.Errorf("an unknown node: %v", err)
	}
	if !slices.Equal(ways, []Way{WayRelayed, WayFailed}) {
		t.Errorf("observed %v", ways)
	}
}

func TestARelayCannotSwapNodes(t *testing.T) {
	s := newSite(t)
	h := s.hub()
	s.hidden("n-1", h)
	s.expect(h.events, "open n-1")
	// A coordinator that joins callers of n-2 to n-1.
	d := &NodeDialer{
		Dialer: &Dialer{Creds: s.member(api.RoleServer, "s-1")},
		Addr:   func(string) (string, bool) { return "", false },
		Local:  func(string) (net.Conn, error) { return h.tunnels.Open(s.ctx, "n-1") },
	}
	if _, err := d.Dial(s.ctx, "n-2", api.ALPNNode); err == nil || !strings.Contains(err.Error(), "answered where") {
		t.Fatalf("the wrong node was believed: %v", err)
	}
}

func TestDirectGoesFirst(t *testing.T) {
	s := newSite(t)
	m := s.mux(s.member(api.RoleNode, "n-1"))
	ln := m.Handle(api.ALPNNode, api.RoleServer)
	s.run("mux", m.Serve)
	s.run("echo", func(ctx context.Context) error { return echo(ctx, ln) })
	var reached Way
	d := &NodeDialer{
		Dialer:  &Dialer{Creds: s.member(api.RoleServer, "s-1")},
		Observe: func(w Way, _ time.Duration) { reached = w },
		Addr:    func(string) (string, bool) { return m.ln.Addr().String(), true },
		Local:   func(string) (net.Conn, error) { t.Error("went through the tunnel"); return nil, io.EOF },
	}
	conn, err := d.Dial(s.ctx, "n-1", api.ALPNNode)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := s.talk(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if reached != WayDirect {
		t.Errorf("observed %q", reached)
	}
}

func TestANewerTunnelReplacesTheOlder(t *testing.T) {
	s := newSite(t)
	h := s.hub()
	first := s.hidden("n-1", h)
	s.expect(h.events, "open n-1")
	second := s.hidden("n-1", h)
	s.expect(h.events, "open n-1")
	first() // its end is no event: a newer one is there
	if !h.tunnels.Connected("n-1") {
		t.Fatal("the newer tunnel is gone")
	}
	second()
	s.expect(h.events, "close n-1")
	if _, err := h.tunnels.Open(s.ctx, "n-1"); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("Open without a tunnel: %v", err)
	}
}

func TestTunnelsAreBounded(t *testing.T) {
	s := newSite(t)
	h := s.hub() // takes two
	for i := range 2 {
		s.hidden(fmt.Sprintf("n-%d", i), h)
		s.expect(h.events, fmt.Sprintf("open n-%d", i))
	}
	conn, err := (&Dialer{Creds: s.member(api.RoleNode, "n-2")}).Dial(s.ctx, h.addr, api.ALPNTunnel, pki.Identity{})
	if err != nil {
		t.Fatal(err)
	}
	if err := ServeTunnel(s.ctx, conn, func(net.Conn) {}); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("a third tunnel: %v", err)
	}
	if h.tunnels.Connected("n-2") {
		t.Error("a third tunnel was taken")
	}
}

func TestJoinEndsWhenIdle(t *testing.T) {
	a, far := net.Pipe()
	b, farther := net.Pipe()
	defer far.Close()
	defer farther.Close()
	done := make(chan error, 1)
	go func() { done <- join(context.Background(), a, b, 20*time.Millisecond) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("an idle relay stays open")
	}
}

func TestRelayRefusesALongLine(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go io.Copy(b, strings.NewReader(strings.Repeat("x", maxRelayLine+1)))
	if _, err := readLine(a); api.CodeOf(err) != api.CodeInvalid {
		t.Fatalf("got %v", err)
	}
}
