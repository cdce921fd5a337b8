package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
)

func newCA(t *testing.T, cluster string) *CA {
	t.Helper()
	ca, err := NewCA(cluster, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func member(t *testing.T, ca *CA, role api.Role, id string, now time.Time) *Credentials {
	t.Helper()
	certPEM, keyPEM := issue(t, ca, Identity{ca.ClusterID(), role, id}, now)
	c, err := NewCredentials(certPEM, keyPEM, ca.CertPEM())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func issue(t *testing.T, ca *CA, id Identity, now time.Time) (certPEM, keyPEM []byte) {
	t.Helper()
	keyPEM, csr, err := NewKeyCSR()
	if err != nil {
		t.Fatal(err)
	}
	certPEM, err = ca.Issue(csr, id, nil, now, api.LeafLifetime)
	if err != nil {
		t.Fatal(err)
	}
	return certPEM, keyPEM
}

// meet runs one handshake over loopback and one byte each way; the client's and the server's error.
func meet(t *testing.T, server, client *tls.Config) (clientErr, serverErr error) {
	t.Helper()
	a, b := pair(t)
	done := make(chan error, 1)
	go func() {
		conn := tls.Server(b, server)
		defer conn.Close()
		done <- echoByte(conn)
	}()
	conn := tls.Client(a, client)
	clientErr = sendByte(conn)
	conn.Close()
	return clientErr, <-done
}

func echoByte(c net.Conn) error {
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return err
	}
	_, err := c.Write(b[:])
	return err
}

func sendByte(c net.Conn) error {
	if _, err := c.Write([]byte{7}); err != nil {
		return err
	}
	var b [1]byte
	_, err := io.ReadFull(c, b[:])
	return err
}

func pair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	client.SetDeadline(deadline)
	server.SetDeadline(deadline)
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func TestOnlyTheWantedPeersMeet(t *testing.T) {
	now := time.Now()
	ca, other := newCA(t, "c-1"), newCA(t, "c-1") // the same name, another key
	server := member(t, ca, api.RoleServer, "s-1", now)
	node := member(t, ca, api.RoleNode, "n-1", now)
	config := func(c *Credentials) *tls.Config { return c.ClientConfig(api.ALPNNode, Identity{}) }
	anonymous := config(node)
	anonymous.GetClientCertificate = nil
	old := config(node)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	trusting := config(member(t, other, api.RoleNode, "n-1", now)) // of another CA, and believes anybody
	trusting.VerifyConnection = nil
	apiCert, err := ca.APICertificate([]string{"localhost"}, now)
	if err != nil {
		t.Fatal(err)
	}
	api443 := config(node)
	api443.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &apiCert, nil }

	tests := []struct {
		name   string
		client *tls.Config
		ok     bool
	}{
		{"a node", config(node), true},
		{"the very server wanted", node.ClientConfig(api.ALPNNode, Identity{Role: api.RoleServer, ID: "s-1"}), true},
		{"another server wanted", node.ClientConfig(api.ALPNNode, Identity{Role: api.RoleServer, ID: "s-2"}), false},
		{"a node wanted", node.ClientConfig(api.ALPNNode, Identity{Role: api.RoleNode}), false},
		{"no certificate", anonymous, false},
		{"another CA", trusting, false},
		{"expired", config(member(t, ca, api.RoleNode, "n-1", now.Add(-api.LeafLifetime-time.Hour))), false},
		{"not yet valid", config(member(t, ca, api.RoleNode, "n-1", now.Add(2*time.Hour))), false},
		{"a clock half an hour ahead", config(member(t, ca, api.RoleNode, "n-1", now.Add(30*time.Minute))), true},
		{"the wrong role", config(server), false},
		{"TLS 1.2", old, false},
		{"another protocol", node.ClientConfig(api.ALPNRaft, Identity{}), false},
		{"no protocol", withProtos(config(node)), false},
		{"the API's certificate", api443, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			clientErr, serverErr := meet(t, server.ServerConfig(api.ALPNNode, api.RoleNode), tt.client)
			if tt.ok && (clientErr != nil || serverErr != nil) {
				t.Fatalf("refused: client %v, server %v", clientErr, serverErr)
			}
			if !tt.ok && (clientErr == nil || serverErr == nil) {
				t.Fatalf("let in: client %v, server %v", clientErr, serverErr)
			}
		})
	}
}

func withProtos(c *tls.Config, protos ...string) *tls.Config {
	c.NextProtos = protos
	return c
}

func TestVerifierRevokes(t *testing.T) {
	ca := newCA(t, "c-1")
	server, node := member(t, ca, api.RoleServer, "s-1", time.Now()), member(t, ca, api.RoleNode, "n-1", time.Now())
	cfg := server.ServerConfig(api.ALPNNode, api.RoleNode) // made before the revocation
	var seen Identity
	server.SetVerifier(func(id Identity) error {
		seen = id
		return errors.New("revoked")
	})
	if c, s := meet(t, cfg, node.ClientConfig(api.ALPNNode, Identity{})); c == nil || s == nil {
		t.Fatal("a revoked node was let in")
	}
	if want := (Identity{"c-1", api.RoleNode, "n-1"}); seen != want {
		t.Fatalf("asked about %v, not %v", seen, want)
	}
}

func TestUpdateCountsAtTheNextHandshake(t *testing.T) {
	ca, next := newCA(t, "c-1"), newCA(t, "c-1")
	now := time.Now()
	server, node := member(t, ca, api.RoleServer, "s-1", now), member(t, ca, api.RoleNode, "n-1", now)
	serverCfg := server.ServerConfig(api.ALPNNode, api.RoleNode)
	clientCfg := node.ClientConfig(api.ALPNNode, Identity{})

	certPEM, keyPEM := issue(t, next, Identity{"c-1", api.RoleNode, "n-1"}, now)
	both := append(ca.CertPEM(), next.CertPEM()...)
	if err := node.Update(certPEM, keyPEM, both); err != nil {
		t.Fatal(err)
	}
	if c, _ := meet(t, serverCfg, clientCfg); c == nil {
		t.Fatal("the server took a CA that it does not know yet")
	}
	sCert, sKey := issue(t, ca, Identity{"c-1", api.RoleServer, "s-1"}, now)
	if err := server.Update(sCert, sKey, both); err != nil {
		t.Fatal(err)
	}
	if c, s := meet(t, serverCfg, clientCfg); c != nil || s != nil {
		t.Fatalf("both CAs are trusted now, but: %v, %v", c, s)
	}
}

func TestUpdateRefusesWhatIsNotOurs(t *testing.T) {
	ca, other := newCA(t, "c-1"), newCA(t, "c-1")
	node := member(t, ca, api.RoleNode, "n-1", time.Now())
	cert, key := issue(t, ca, Identity{"c-1", api.RoleNode, "n-2"}, time.Now())
	if err := node.Update(cert, key, ca.CertPEM()); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("took another node's certificate: %v", err)
	}
	cert, key = issue(t, other, Identity{"c-1", api.RoleNode, "n-1"}, time.Now())
	if err := node.Update(cert, key, ca.CertPEM()); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("took a certificate of another CA: %v", err)
	}
	cert, _ = issue(t, ca, Identity{"c-1", api.RoleNode, "n-1"}, time.Now())
	if err := node.Update(cert, key, ca.CertPEM()); err == nil {
		t.Error("took a key that does not fit")
	}
}

func TestRenewAtLeavesAThird(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	c := member(t, newCA(t, "c-1"), api.RoleNode, "n-1", now)
	if want := now.Add(api.LeafLifetime).UTC(); !c.NotAfter().Equal(want) {
		t.Errorf("ends %v, want %v", c.NotAfter(), want)
	}
	left := c.NotAfter().Sub(c.RenewAt())
	if want := (api.LeafLifetime + backdate) / 3; left != want {
		t.Errorf("%v left at renewal, want %v", left, want)
	}
}

func TestIssueTakesOnlyTheKey(t *testing.T) {
	ca := newCA(t, "c-1")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	foreign, _ := url.Parse("spiffe://c-1/server/s-1")
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		URIs: []*url.URL{foreign}, DNSNames: []string{"coordinator"}, IPAddresses: []net.IP{{10, 0, 0, 1}},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr := pem.EncodeToMemory(&pem.Block{Type: blockCSR, Bytes: der})
	id := Identity{"c-1", api.RoleNode, "n-1"}
	out, err := ca.Issue(csr, id, []string{"host-1", "10.9.9.9"}, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(out)
	if len(bytes.TrimSpace(rest)) != 0 {
		t.Error("more than the leaf came back")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseIdentity(cert); err != nil || got != id {
		t.Errorf("names %v (%v), want %v", got, err, id)
	}
	if diff := cmp.Diff([]string{"host-1"}, cert.DNSNames); diff != "" {
		t.Error(diff)
	}
	if cert.IsCA {
		t.Error("a leaf became a CA")
	}
}

func TestIssueRefuses(t *testing.T) {
	ca := newCA(t, "c-1")
	_, csr, err := NewKeyCSR()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(csr)
	forged := bytes.Clone(block.Bytes)
	forged[len(forged)-1] ^= 1 // of the signature
	good := Identity{"c-1", api.RoleNode, "n-1"}
	tests := []struct {
		name string
		csr  []byte
		id   Identity
	}{
		{"a forged request", pem.EncodeToMemory(&pem.Block{Type: blockCSR, Bytes: forged}), good},
		{"no PEM", []byte("hello"), good},
		{"a key as a request", ca.KeyPEM(), good},
		{"another cluster", csr, Identity{"c-2", api.RoleNode, "n-1"}},
		{"no role", csr, Identity{"c-1", "king", "n-1"}},
		{"an id with a slash", csr, Identity{"c-1", api.RoleNode, "n/1"}},
		{"an empty id", csr, Identity{"c-1", api.RoleNode, ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ca.Issue(tt.csr, tt.id, nil, time.Now(), time.Hour); api.CodeOf(err) != api.CodeInvalid {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestCASurvivesItsFiles(t *testing.T) {
	ca := newCA(t, "c-1")
	again, err := LoadCA(ca.CertPEM(), ca.KeyPEM())
	if err != nil {
		t.Fatal(err)
	}
	if again.Hash() != ca.Hash() || again.ClusterID() != "c-1" || len(ca.Hash()) != 64 {
		t.Fatalf("%s of %s, want %s", again.Hash(), again.ClusterID(), ca.Hash())
	}
	cert, key := issue(t, ca, Identity{"c-1", api.RoleNode, "n-1"}, time.Now())
	if _, err := LoadCA(cert, key); err == nil {
		t.Error("a leaf passed for a CA")
	}
}

func TestJoinPinsTheCA(t *testing.T) {
	ca, other := newCA(t, "c-1"), newCA(t, "c-1")
	now := time.Now()
	server := member(t, ca, api.RoleServer, "s-1", now).JoinServerConfig()
	if c, s := meet(t, server, JoinClientConfig(ca.Hash())); c != nil || s != nil {
		t.Fatalf("refused: %v, %v", c, s)
	}
	// A node has a good certificate of the cluster, but nobody may enrol with it.
	node := member(t, ca, api.RoleNode, "n-1", now).JoinServerConfig()
	if c, _ := meet(t, node, JoinClientConfig(ca.Hash())); api.CodeOf(c) != api.CodeUnauthorized {
		t.Errorf("enrolled with a node: %v", c)
	}
	// An impostor shows the true CA beside a leaf that it has not signed.
	fake := member(t, other, api.RoleServer, "s-1", now)
	mixed := *fake.current.Load()
	mixed.withCA.Certificate = [][]byte{mixed.cert.Certificate[0], ca.cert.Raw}
	fake.current.Store(&mixed)
	if c, _ := meet(t, fake.JoinServerConfig(), JoinClientConfig(ca.Hash())); api.CodeOf(c) != api.CodeUnauthorized {
		t.Errorf("believed a borrowed CA: %v", c)
	}
}

// recorder keeps what passes through a connection.
type recorder struct {
	net.Conn
	mu   sync.Mutex
	seen bytes.Buffer
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.mu.Lock()
	r.seen.Write(p[:n])
	r.mu.Unlock()
	return n, err
}

func TestAManInTheMiddleGetsNoSecret(t *testing.T) {
	ca, evil := newCA(t, "c-1"), newCA(t, "c-1")
	a, b := pair(t)
	plain := make(chan []byte, 1)
	go func() {
		conn := tls.Server(&recorder{Conn: b}, member(t, evil, api.RoleServer, "s-1", time.Now()).JoinServerConfig())
		got, _ := io.ReadAll(conn) // decrypted: all that the impostor could learn
		plain <- got
	}()
	conn := tls.Client(a, JoinClientConfig(ca.Hash()))
	_, err := io.WriteString(conn, "the secret")
	a.Close()
	if api.CodeOf(err) != api.CodeUnauthorized || !strings.Contains(err.Error(), "another cluster") {
		t.Errorf("the joiner says: %v", err)
	}
	if got := <-plain; len(got) != 0 {
		t.Errorf("the impostor read %q", got)
	}
}

func TestFileServerConfigReloads(t *testing.T) {
	ca := newCA(t, "c-1")
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write := func(name string, at time.Time) {
		cert, key := issue(t, ca, Identity{"c-1", api.RoleNode, name}, time.Now())
		for file, data := range map[string][]byte{certFile: cert, keyFile: key} {
			if err := errors.Join(os.WriteFile(file, data, 0o600), os.Chtimes(file, at, at)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := FileServerConfig(certFile, keyFile); err == nil {
		t.Fatal("missing files passed")
	}
	write("one", time.Unix(1000, 0))
	cfg, err := FileServerConfig(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	served := func() string {
		pair, err := cfg.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.Subject.CommonName
	}
	if got := served(); got != "one" {
		t.Fatalf("serves %q", got)
	}
	write("two", time.Unix(2000, 0))
	if got := served(); got != "two" {
		t.Fatalf("serves %q after the change", got)
	}
	if err := os.WriteFile(certFile, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := served(); got != "two" {
		t.Fatalf("serves %q while the file is half written", got)
	}
}

// trusting is the configuration of a client that has the CA's certificate from a file.
func trusting(ca *CA) *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.CertPEM())
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}
}

func TestTheAPICertificateHoldsForItsHostsAndCA(t *testing.T) {
	ca := newCA(t, "c-1")
	cert, err := ca.APICertificate([]string{"localhost", "127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	server := APIServerConfig(func() (*tls.Certificate, error) { return &cert, nil })
	client := trusting(ca)
	for host, ok := range map[string]bool{"localhost": true, "127.0.0.1": true, "example.com": false} {
		c := client.Clone()
		c.ServerName = host
		if got, _ := meet(t, server, c); (got == nil) != ok {
			t.Errorf("%s: %v", host, got)
		}
	}
	stranger := trusting(newCA(t, "c-1"))
	stranger.ServerName = "localhost"
	if got, _ := meet(t, server, stranger); got == nil {
		t.Error("a server of another CA was believed")
	}
}

func TestParseJoinToken(t *testing.T) {
	good := JoinToken{CAHash: strings.Repeat("a1", 32), ID: "tok-abc", Secret: api.NewSecret()}
	got, err := ParseJoinToken(" " + good.String() + "\n")
	if err != nil || got != good {
		t.Fatalf("%v, %v", got, err)
	}
	for in, want := range map[string]api.Code{
		"":                              api.CodeInvalid,
		"cl_tok-abc_secret":             api.CodeUnauthorized,
		"CL2" + good.String()[3:]:       api.CodeInvalid,
		good.String()[:60]:              api.CodeInvalid,
		good.String() + ".more":         api.CodeInvalid,
		strings.ToUpper(good.String()):  api.CodeInvalid,
		"CL1.." + good.ID + ".s":        api.CodeInvalid,
		good.String() + "\nCL1.x":       api.CodeInvalid,
		strings.Repeat("CL1.", 1000000): api.CodeInvalid,
	} {
		_, err := ParseJoinToken(in)
		if api.CodeOf(err) != want {
			t.Errorf("%.80q: %v, want %s", in, err, want)
		}
		if err != nil && strings.Contains(err.Error(), good.Secret) {
			t.Errorf("the error repeats the secret: %v", err)
		}
	}
}

func FuzzParseJoinToken(f *testing.F) {
	f.Add(JoinToken{CAHash: strings.Repeat("0f", 32), ID: "tok-1", Secret: "s3cret"}.String())
	f.Add("CL1...")
	f.Add("cl_x_y")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := ParseJoinToken(s)
		if err != nil {
			return
		}
		if tok.String() != strings.TrimSpace(s) {
			t.Fatalf("%q came back as %q", s, tok)
		}
	})
}

func FuzzParseIdentity(f *testing.F) {
	f.Add("spiffe://c-1/node/n-1")
	f.Add("spiffe://c-1/node/n-1/x?y#z")
	f.Add("spiffe://user@c-1:80/node/%2e%2e")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.Parse(s)
		if err != nil {
			return
		}
		id, err := ParseIdentity(&x509.Certificate{URIs: []*url.URL{u}})
		if err == nil && id.String() != u.String() {
			t.Fatalf("%q was read as %q", s, id)
		}
	})
}
