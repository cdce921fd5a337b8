package security

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/pki"
)

// cutWithin is what demand 5 gives.
const cutWithin = 5 * time.Second

// ended tells when a connection, which the test reads to its end, was closed by the other side.
func ended(r io.Reader) <-chan time.Time {
	at := make(chan time.Time, 1)
	go func() {
		_, _ = io.Copy(io.Discard, r)
		at <- time.Now()
	}()
	return at
}

// Security 5: every connection of a revoked node is cut within 5 s, on every coordinator and on
// every other agent, and it gets no new one.
func TestARevokedNodeIsCutOffWithinFiveSeconds(t *testing.T) {
	s := newSite(t, 3, 2)
	s.deploy("hi", 1)
	victim, other := s.home("hi")
	thief := &link.Dialer{Creds: victim.credentials(t)} // whoever has the node's folder

	type target struct {
		name, addr, alpn string
		role             api.Role
	}
	targets := []target{
		{"the node port of the other agent", other.node, api.ALPNNode, api.RoleNode},
		{"the ingress of the other agent", other.node, api.ALPNIngress, api.RoleNode},
	}
	for _, c := range s.coords {
		for _, alpn := range []string{api.ALPNNode, api.ALPNTunnel, api.ALPNRelay, api.ALPNMeta} {
			targets = append(targets, target{alpn + " of " + c.name, c.node, alpn, api.RoleServer})
		}
	}
	dial := func(at target) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return thief.Dial(ctx, at.addr, at.alpn, pki.Identity{Role: at.role})
	}
	cuts := map[string]<-chan time.Time{}
	for _, at := range targets {
		conn, err := dial(at)
		if err != nil {
			t.Fatalf("%s, before the revocation: %v", at.name, err)
		}
		defer conn.Close()
		if at.alpn == api.ALPNRelay { // joined to the other agent: a stream through the coordinator
			joinRelay(t, conn, other.ID())
		}
		cuts[at.name] = ended(conn)
	}
	slow, err := get(t.Context(), other.ingress, "hi.localhost", "/slow") // a stream between the two agents
	if err != nil || slow.StatusCode != http.StatusOK {
		t.Fatal(err, slow)
	}
	defer slow.Body.Close()
	cuts["a response that streams through the other agent"] = ended(slow.Body)

	began := time.Now()
	if err := s.admin.RevokeNode(t.Context(), victim.name, "stolen"); err != nil {
		t.Fatal(err)
	}
	for name, cut := range cuts {
		select {
		case at := <-cut:
			if took := at.Sub(began); took > cutWithin || took < 0 {
				t.Errorf("%s was cut after %s", name, took)
			}
		case <-time.After(patience):
			t.Errorf("%s was never cut", name)
		}
	}
	for _, at := range targets {
		if conn, err := dial(at); err == nil { // refused at the first read: the server speaks last
			conn.SetDeadline(time.Now().Add(patience))
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Errorf("%s lets the revoked node in again", at.name)
			}
			conn.Close()
		}
	}
	if got := s.events(api.EventNodeRevoked); len(got) != 1 || got[0].Severity != api.SeverityError {
		t.Errorf("events: %+v", got)
	}
	s.eventually("the workload runs elsewhere", func() bool {
		res, err := get(t.Context(), other.ingress, "hi.localhost", "/")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		line, _ := bufio.NewReader(res.Body).ReadString('\n')
		return line == "served by "+other.name+"\n"
	})
}

func joinRelay(t *testing.T, conn net.Conn, node string) {
	t.Helper()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, node+"\n"); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 3)
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "ok\n" {
		t.Fatalf("the relay says %q %v", answer, err)
	}
	conn.SetDeadline(time.Time{})
}

// A coordinator that was removed is refused by the others, with whatever certificate it has.
func TestARemovedCoordinatorStaysOut(t *testing.T) {
	s := newSite(t, 3, 0)
	var gone *coord
	for _, c := range s.coords[1:] {
		if st, err := s.admin.Status(t.Context(), 0, 0); err == nil && st.Leader != c.name {
			gone = c
			break
		}
	}
	thief := &link.Dialer{Creds: stolen(t, gone.dir, "server")}
	dial := func(alpn string) error {
		conn, err := thief.Dial(t.Context(), s.coords[0].node, alpn, pki.Identity{Role: api.RoleServer})
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(time.Second))
		if _, err = conn.Read(make([]byte, 1)); isTimeout(err) {
			return nil // it is open, and nobody says anything
		}
		return err
	}
	if err := dial(api.ALPNRaft); err != nil {
		t.Fatalf("before its removal: %v", err)
	}
	if err := s.admin.RemoveMember(t.Context(), gone.ID()); err != nil {
		t.Fatal(err)
	}
	for _, alpn := range []string{api.ALPNRaft, api.ALPNPeer, api.ALPNRelay} {
		s.eventually(alpn+" is closed to it", func() bool { return dial(alpn) != nil })
	}
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}
