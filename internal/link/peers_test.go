package link

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/pki"
)

// closed reports whether the other end ended a connection, rather than being silent.
func closed(conn net.Conn) bool {
	conn.SetReadDeadline(time.Now().Add(patience))
	_, err := conn.Read(make([]byte, 1))
	ne, timeout := err.(net.Error)
	return err != nil && !(timeout && ne.Timeout())
}

func is(id string) func(pki.Identity) bool {
	return func(who pki.Identity) bool { return who.ID == id }
}

func TestARevokedMembersConnectionsAreCutAtBothEnds(t *testing.T) {
	s := newSite(t)
	server := s.member(api.RoleServer, "s-1")
	m := s.mux(server)
	node := m.Handle(api.ALPNNode, api.RoleNode)
	s.run("mux", m.Serve)
	s.run("node", func(ctx context.Context) error { return echo(ctx, node) })
	dial := func(d *Dialer) net.Conn {
		conn, err := d.Dial(s.ctx, m.ln.Addr().String(), api.ALPNNode, pki.Identity{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if err := s.talk(conn, "hello"); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	bad, good := &Dialer{Creds: s.member(api.RoleNode, "n-1")}, &Dialer{Creds: s.member(api.RoleNode, "n-2"), Peers: NewPeers()}
	first, second, kept := dial(bad), dial(bad), dial(good)

	if n := m.Peers.Cut(is("n-1")); n != 2 {
		t.Errorf("%d connections were cut, want 2", n)
	}
	if !closed(first) || !closed(second) {
		t.Error("a connection of the revoked node is still open")
	}
	if err := s.talk(kept, "still here"); err != nil {
		t.Errorf("another node's connection was cut: %v", err)
	}
	if n := good.Peers.Cut(is("s-1")); n != 1 { // the end that dialled
		t.Errorf("%d outgoing connections were cut, want 1", n)
	}
	if s.talk(kept, "gone") == nil {
		t.Error("an outgoing connection outlived its cut")
	}
	if n := m.Peers.Cut(is("n-1")); n != 0 {
		t.Errorf("%d closed connections are still remembered", n)
	}
}

func TestARevokedNodesTunnelEnds(t *testing.T) {
	s := newSite(t)
	m := s.mux(s.member(api.RoleServer, "s-1"))
	opened, ended := make(chan string, 1), make(chan string, 1)
	tunnels := NewTunnels(2, func(id string) { opened <- id }, func(id string) { ended <- id }, m.log)
	ln := m.Handle(api.ALPNTunnel, api.RoleNode)
	s.run("mux", m.Serve)
	s.run("tunnels", func(ctx context.Context) error { return tunnels.Serve(ctx, ln) })
	conn, err := (&Dialer{Creds: s.member(api.RoleNode, "n-1")}).Dial(s.ctx, m.ln.Addr().String(), api.ALPNTunnel, pki.Identity{})
	if err != nil {
		t.Fatal(err)
	}
	s.run("agent", func(ctx context.Context) error {
		_ = ServeTunnel(ctx, conn, func(c net.Conn) { go io.Copy(c, c) }) // cut: that is the point
		return nil
	})
	s.expect(opened, "n-1")
	stream, err := tunnels.Open(s.ctx, "n-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.talk(stream, "through the tunnel"); err != nil {
		t.Fatal(err)
	}
	m.Peers.Cut(is("n-1"))
	s.expect(ended, "n-1")
	if !closed(stream) {
		t.Error("a stream outlived its tunnel")
	}
}

// A revocation that is applied between the handshake and the moment at which the connection is known
// still counts: the verifier is asked again.
func TestARevocationDuringTheHandshakeCounts(t *testing.T) {
	s := newSite(t)
	server := s.member(api.RoleServer, "s-1")
	var asked atomic.Int32
	server.SetVerifier(func(pki.Identity) error {
		if asked.Add(1) > 1 { // good in the handshake, revoked right after it
			return api.Errorf(api.CodeForbidden, "revoked")
		}
		return nil
	})
	m := s.mux(server)
	node := m.Handle(api.ALPNNode, api.RoleNode)
	s.run("mux", m.Serve)
	s.run("node", func(ctx context.Context) error { return echo(ctx, node) })
	conn, err := (&Dialer{Creds: s.member(api.RoleNode, "n-1")}).Dial(s.ctx, m.ln.Addr().String(), api.ALPNNode, pki.Identity{})
	if err != nil {
		return // refused even sooner
	}
	defer conn.Close()
	if s.talk(conn, "hello") == nil {
		t.Error("a node that was revoked during its handshake is served")
	}
}
