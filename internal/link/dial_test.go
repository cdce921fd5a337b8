package link

import (
	"context"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/pki"
)

// Of several addresses, one where nobody is and one where another member is are left; an address alone
// proves nothing.
func TestAMemberIsFoundWhereItsCertificateIs(t *testing.T) {
	s := newSite(t)
	serve := func(id string) string {
		m := s.mux(s.member(api.RoleServer, id))
		ln := m.Handle("echo/1", api.RoleNode)
		s.run(id, m.Serve)
		s.run("echo of "+id, func(ctx context.Context) error { return echo(ctx, ln) })
		return m.ln.Addr().String()
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	impostor, right := serve("s-2"), serve("s-1")
	d := &Dialer{Creds: s.member(api.RoleNode, "n-1")}
	want := pki.Identity{Cluster: "c-1", Role: api.RoleServer, ID: "s-1"}
	conn, err := d.DialAny(s.ctx, []string{closed.Addr().String(), impostor, right}, "echo/1", want)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := s.talk(conn, "hello"); err != nil {
		t.Error(err)
	}
	if conn, err := d.DialAny(s.ctx, []string{closed.Addr().String(), impostor}, "echo/1", want); err == nil {
		conn.Close()
		t.Error("another member was taken for it")
	}
	if _, err := d.DialAny(s.ctx, nil, "echo/1", want); err == nil {
		t.Error("it was found nowhere")
	}
}

// A silent address keeps the others waiting for a moment only, and no dial takes as long as the request
// that asked for it may: others wait for its connection, too.
func TestASilentAddressIsLeftSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var tried []string
		d := &Dialer{Net: func(ctx context.Context, _, addr string) (net.Conn, error) {
			tried = append(tried, addr+" at "+time.Since(began).String())
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := d.DialAny(ctx, []string{"a", "b", "c"}, "echo/1", pki.Identity{}); err == nil {
			t.Error("silence was taken for an answer")
		}
		if want := []string{"a at 0s", "b at 2s", "c at 4s"}; !slices.Equal(tried, want) || time.Since(began) != 2*tryTimeout+dialTimeout {
			t.Errorf("tried %q in %s, want %q", tried, time.Since(began), want)
		}
	})
}
