package security

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/pki"
)

// refused tells whether a coordinator's port does not serve a hello: the handshake fails, or the
// connection is closed before anything is said.
func refused(t *testing.T, addr string, cfg *tls.Config) bool {
	t.Helper()
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(2 * time.Second))
	conn := tls.Client(raw, cfg)
	if err := conn.Handshake(); err != nil {
		return true
	}
	_, err = conn.Read(make([]byte, 1)) // the server judges last
	return err != nil && !isTimeout(err)
}

// Security 4: who may speak what, on the port of a running coordinator.
func TestTheNodePortAdmitsOnlyTheWantedRole(t *testing.T) {
	s := newSite(t, 1, 1)
	c, node := s.coords[0], s.agents[0].credentials(t)
	as := func(creds *pki.Credentials, alpn string) *tls.Config { return creds.ClientConfig(alpn, pki.Identity{}) }
	if refused(t, c.node, as(node, api.ALPNNode)) {
		t.Fatal("a node is refused on the node protocol: the other cases prove nothing")
	}
	for _, alpn := range []string{api.ALPNRaft, api.ALPNPeer} {
		if !refused(t, c.node, as(node, alpn)) {
			t.Errorf("an agent's certificate opens %s", alpn)
		}
	}
	stranger, err := pki.NewCA(c.ClusterID(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	own, err := pki.FindCA([]byte(readQuiet(c.dir, "ca.pem")), []byte(readQuiet(c.dir, "ca.key")))
	if err != nil {
		t.Fatal(err)
	}
	for _, alpn := range []string{api.ALPNRaft, api.ALPNPeer, api.ALPNNode, api.ALPNTunnel, api.ALPNRelay, api.ALPNMeta} {
		nobody := as(node, alpn)
		nobody.GetClientCertificate = nil
		if !refused(t, c.node, nobody) {
			t.Errorf("%s is served without a certificate", alpn)
		}
		old := as(node, alpn)
		old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		if !refused(t, c.node, old) {
			t.Errorf("%s is served over TLS 1.2", alpn)
		}
		for what, creds := range map[string]*pki.Credentials{
			"another CA": signed(t, stranger, s.agents[0].ID(), time.Now()), "an expired certificate": signed(t, own, s.agents[0].ID(), time.Now().Add(-3*time.Hour)),
		} {
			cfg := as(creds, alpn)
			cfg.VerifyConnection = nil // it would not trust the coordinator either
			if !refused(t, c.node, cfg) {
				t.Errorf("%s is served to %s", alpn, what)
			}
		}
		beside := as(node, alpn)
		beside.GetClientCertificate, beside.VerifyConnection = nil, nil
		beside.NextProtos = []string{alpn, api.ALPNJoin}
		conn, err := tls.Dial("tcp", c.node, beside)
		if err != nil {
			continue
		}
		if got := conn.ConnectionState().NegotiatedProtocol; got != api.ALPNJoin {
			t.Errorf("%s offered beside join is served as %s", alpn, got)
		}
		conn.Close()
	}
}

// signed is a node's identity by some CA, good for an hour from a moment on.
func signed(t *testing.T, ca *pki.CA, id string, from time.Time) *pki.Credentials {
	t.Helper()
	key, csr, err := pki.NewKeyCSR()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(csr, pki.Identity{Cluster: ca.ClusterID(), Role: api.RoleNode, ID: id}, nil, from, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	creds, err := pki.NewCredentials(cert, key, ca.CertPEM())
	if err != nil {
		t.Fatal(err)
	}
	return creds
}

// Security 1: nothing but the ingress answers plain text.
func TestEveryPortRefusesPlainText(t *testing.T) {
	s := newSite(t, 1, 1)
	c, n := s.coords[0], s.agents[0]
	for name, addr := range map[string]string{
		"the API": strings.TrimPrefix(c.url, "https://"), "the coordinator's node port": c.node, "the agent's node port": n.node,
		"the coordinator's gossip": c.GossipAddr(), "the agent's gossip": n.GossipAddr(),
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		io.WriteString(conn, "GET /v1/nodes HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		got, _ := io.ReadAll(conn) // however it ends
		conn.Close()
		if bytes.Contains(got, []byte(" 200 ")) || bytes.Contains(got, []byte(c.ClusterID())) || bytes.Contains(got, []byte(n.name)) {
			t.Errorf("%s answers plain text: %q", name, got)
		}
	}
	res, err := get(t.Context(), n.ingress, "nobody.localhost", "/")
	if err != nil || res.StatusCode != http.StatusNotFound {
		t.Errorf("the ingress, which may: %v %v", res, err)
	}
}

// Security 7: a stock Serf agent with the right key is in the gossip, and nowhere else.
func TestAStrangerInTheGossipGetsNothing(t *testing.T) {
	s := newSite(t, 1, 1)
	c := s.coords[0]
	key := strings.TrimSpace(readQuiet(c.dir, "gossip.key"))
	if raw, err := base64.StdEncoding.DecodeString(key); err != nil || len(raw) != 32 {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "serf.json") // not on the command line, where others can see it
	if err := os.WriteFile(conf, []byte(`{"encrypt_key":"`+key+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	gossip := listen(t)
	gossipAddr := gossip.Addr().String()
	gossip.Close()
	rpc := listen(t)
	rpcAddr := rpc.Addr().String()
	rpc.Close()
	ctx, cancel := context.WithCancel(t.Context())
	rogue := exec.CommandContext(ctx, "serf", "agent", "-config-file", conf, "-node", "rogue", "-bind", gossipAddr, "-rpc-addr", rpcAddr,
		"-tag", "role=node", "-tag", "name=rogue", "-tag", "cluster="+c.ClusterID(), "-join", c.GossipAddr())
	var out syncBuffer
	rogue.Stdout, rogue.Stderr = &out, &out
	if err := rogue.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = rogue.Wait() }) // it is killed: that is an error
	s.eventually("an event tells of the stranger", func() bool { return len(s.events(api.EventStrangerGossip)) > 0 })
	s.deploy("hi", 2)
	nodes, err := s.admin.Nodes(t.Context(), api.ListQuery{})
	if err != nil || len(nodes.Items) != 1 {
		t.Errorf("nodes: %v %v", nodes.Items, err)
	}
	w, err := s.admin.Workload(t.Context(), api.Ref{Namespace: "default", Name: "hi"}, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range w.Status.Replicas {
		if r.NodeID != s.agents[0].ID() {
			t.Errorf("replica %s is on %s", r.ID, r.NodeID)
		}
	}
	if strings.Contains(out.String(), "hi.localhost") || strings.Contains(out.String(), "sha256:") {
		t.Error("the stranger saw data")
	}
	if ready := s.connected(c); ready != 1 {
		t.Errorf("%d nodes are ready", ready)
	}
}

// Security 10: a deleted token is refused by every coordinator within a second.
func TestADeletedTokenIsRefusedOnFollowers(t *testing.T) {
	s := newSite(t, 3, 0)
	tok, err := s.admin.CreateToken(t.Context(), api.TokenRequest{Role: api.RoleViewer})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range s.coords {
		cl := s.client(c, tok.Secret)
		s.eventually(c.name+" knows the token", func() bool { _, err := cl.Nodes(t.Context(), api.ListQuery{}); return err == nil })
	}
	if err := s.admin.RevokeToken(t.Context(), tok.ID); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for _, c := range s.coords {
		cl := s.client(c, tok.Secret)
		s.eventually(c.name+" refuses it", func() bool {
			_, err := cl.Nodes(t.Context(), api.ListQuery{})
			return api.CodeOf(err) == api.CodeUnauthorized
		})
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("all refuse it after %s, want 1 s", took)
	}
}

// Security 11: no token is in a log or in a data folder but in the file that was made for it.
func TestTokensAreNowhereButInTheirFile(t *testing.T) {
	s := newSite(t, 2, 1)
	join := s.token(api.TokenRequest{Role: api.RoleNode})
	s.addAgent(join)
	viewer := s.token(api.TokenRequest{Role: api.RoleViewer})
	cl := s.client(s.coords[1], viewer)
	s.eventually("the token is used", func() bool { _, err := cl.Nodes(t.Context(), api.ListQuery{}); return err == nil })
	for what, token := range map[string]string{"admin": s.adminToken(), "viewer": viewer, "join": join} {
		secret := token[strings.LastIndexAny(token, "._")+1:]
		if what == "join" { // its secret may hold a "_"
			secret = token[strings.LastIndex(token, ".")+1:]
		}
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("the %s token is in a log", what)
		}
		if found := grep(t, s.dir, secret); found != "" && filepath.Base(found) != "admin.token" {
			t.Errorf("the %s token is in %s", what, found)
		}
	}
	if grep(t, s.dir, s.adminToken()) == "" {
		t.Error("the search finds nothing at all")
	}
}
