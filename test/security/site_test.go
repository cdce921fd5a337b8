// Package security attacks a whole cluster: real coordinators and agents in this process, on
// loopback, with a scripted sandbox. Each test is named for the demand that it proves.
package security

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudless/cloudless/agent"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
	"github.com/cloudless/cloudless/coordinator"
	"github.com/cloudless/cloudless/internal/pki"
	"github.com/cloudless/cloudless/internal/telemetry"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/fake"
	"github.com/cloudless/cloudless/web"
)

// patience is how long a loaded machine may take for what should take a second.
const patience = 60 * time.Second

// site is a cluster under test.
type site struct {
	t      *testing.T
	dir    string
	log    syncBuffer
	coords []*coord
	agents []*node
	admin  *client.Client // of the first coordinator
}

type coord struct {
	*coordinator.Server
	dir, name, node, url string
	handler              http.Handler
	close                func()
}

type node struct {
	*agent.Agent
	dir, name, node, ingress string
	driver                   *fake.Driver
	close                    func()
}

// syncBuffer gathers the logs of all roles.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// backend joins the server to web, as cli does.
type backend struct{ *coordinator.Server }

func (b backend) PutWorkload(ctx context.Context, c api.Caller, w api.Workload, mode web.PutMode, ifMatch uint64) (api.WriteResult, error) {
	return b.Server.PutWorkload(ctx, c, w, mode == web.PutCreate, ifMatch)
}

func (b backend) Exec(ctx context.Context, c api.Caller, ns, name, replica string, command []string, tty, stdin bool) (web.ExecConn, error) {
	s, err := b.Server.Exec(ctx, c, ns, name, replica, command, tty, stdin)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (b backend) PutBucket(ctx context.Context, c api.Caller, v api.Bucket, mode web.PutMode, ifMatch uint64) (api.BucketView, error) {
	return b.Server.PutBucket(ctx, c, v, mode == web.PutCreate, ifMatch)
}

func (b backend) OpenObject(ctx context.Context, bucket, key string) (web.ObjectReader, error) {
	r, err := b.Server.OpenObject(ctx, bucket, key)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// newSite founds a cluster of so many coordinators and agents and waits until it is whole.
func newSite(t *testing.T, coordinators, agents int) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("CLOUDLESS_TEST_LOGS") != "" {
			t.Log(s.log.String())
		}
	})
	s.addCoordinator(nil, "")
	text, err := os.ReadFile(filepath.Join(s.coords[0].dir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	s.admin = s.client(s.coords[0], strings.TrimSpace(string(text)))
	s.eventually("the first coordinator leads", func() bool { return s.coords[0].Ready(t.Context()) == nil })
	for range coordinators - 1 {
		s.addCoordinator([]string{s.coords[0].node}, s.token(api.TokenRequest{Role: api.RoleServer}))
	}
	s.eventually("all vote", func() bool {
		st, err := s.admin.Status(t.Context(), 0, 0)
		voters := 0
		for _, m := range st.Coordinators {
			if m.Voter {
				voters++
			}
		}
		return err == nil && voters == coordinators
	})
	for range agents {
		s.addAgent(s.token(api.TokenRequest{Role: api.RoleNode}))
	}
	for _, c := range s.coords {
		s.eventually("all nodes are ready, with a session at "+c.name, func() bool { return s.connected(c) == agents })
	}
	return s
}

// connected counts the ready nodes that have a session with a coordinator.
func (s *site) connected(c *coord) int {
	list, err := c.Nodes(s.t.Context(), api.ListQuery{})
	if err != nil {
		return -1
	}
	n := 0
	for _, node := range list.Items {
		if node.State == api.NodeReady && node.Status != nil && node.Status.Connected {
			n++
		}
	}
	return n
}

func (s *site) eventually(what string, f func() bool) time.Duration {
	s.t.Helper()
	began := time.Now()
	for !f() {
		if time.Since(began) > patience {
			s.t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(began)
}

// token makes a token and gives its secret.
func (s *site) token(r api.TokenRequest) string {
	s.t.Helper()
	var tok api.Token
	s.eventually("a token is made", func() bool {
		var err error
		tok, err = s.admin.CreateToken(s.t.Context(), r)
		return err == nil
	})
	return tok.Secret
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func (s *site) telemetry(role string) *telemetry.Telemetry {
	s.t.Helper()
	tel, err := telemetry.New(telemetry.Config{Role: role, LogWriter: &s.log, LogLevel: "debug"})
	if err != nil {
		s.t.Fatal(err)
	}
	return tel
}

func (s *site) addCoordinator(join []string, token string) *coord {
	s.t.Helper()
	name := fmt.Sprintf("c%d", len(s.coords))
	c := s.openCoordinator(filepath.Join(s.dir, name), name, join, token)
	s.coords = append(s.coords, c)
	return c
}

func (s *site) openCoordinator(dir, name string, join []string, token string) *coord {
	s.t.Helper()
	tel := s.telemetry("coordinator")
	ln, httpLn := listen(s.t), listen(s.t)
	c := &coord{dir: dir, name: name, node: ln.Addr().String(), url: "https://" + httpLn.Addr().String()}
	var err error
	c.Server, err = coordinator.Open(s.t.Context(), coordinator.Config{
		DataDir: c.dir, Name: c.name, Listener: ln, AdvertiseNode: c.node, AdvertiseHTTP: c.url, GossipAddr: "127.0.0.1:0", AdvertiseHost: "127.0.0.1",
		Join: join, Token: token, Version: "test", Tel: tel, Log: tel.Log,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	c.handler = web.New(web.Config{Backend: backend{c.Server}, Log: tel.Log, Metrics: tel.Handler(), Schema: []byte("{}"), Version: "test"})
	srv := &http.Server{Handler: c.handler, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: api.MaxHeaderBytes, ErrorLog: nil}
	cert := c.Server.APICertificate([]string{"127.0.0.1"})
	done := make(chan struct{})
	go func() {
		_ = srv.Serve(tls.NewListener(httpLn, pki.APIServerConfig(cert)))
		close(done)
	}()
	c.close = sync.OnceFunc(func() {
		srv.Close()
		<-done
		c.Server.Close()
		tel.Close(context.Background())
	})
	s.t.Cleanup(c.close)
	return c
}

func (s *site) addAgent(token string) *node {
	s.t.Helper()
	name := fmt.Sprintf("n%d", len(s.agents))
	n := s.openAgent(filepath.Join(s.dir, name), name, token)
	s.agents = append(s.agents, n)
	return n
}

func (s *site) openAgent(dir, name, token string) *node {
	s.t.Helper()
	tel := s.telemetry("agent")
	ln, ingress := listen(s.t), listen(s.t)
	n := &node{dir: dir, name: name, node: ln.Addr().String(), ingress: ingress.Addr().String()}
	n.driver = fake.New(fake.Script{Variant: api.VariantWasm, Handler: func(sandbox.Spec) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serveReplica(w, r, name) })
	}})
	var err error
	n.Agent, err = agent.Open(s.t.Context(), agent.Config{
		DataDir: n.dir, Name: n.name, Region: "eu", Zone: n.name, Listener: ln, Ingress: ingress, AdvertiseHost: "127.0.0.1", GossipAddr: "127.0.0.1:0",
		Join: []string{s.coords[0].node}, Token: token, Version: "test", OnStop: "kill", Tel: tel, Log: tel.Log, Storage: agent.Storage{Capacity: 1 << 30, Reserve: 1 << 20},
		Drivers: func(agent.Identity, func() []netip.AddrPort) (map[api.Variant]sandbox.Driver, error) {
			return map[api.Variant]sandbox.Driver{api.VariantWasm: n.driver}, nil
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	n.close = sync.OnceFunc(func() {
		n.Agent.Close()
		tel.Close(context.Background())
	})
	s.t.Cleanup(n.close)
	return n
}

// serveReplica is the workload: "/slow" streams a line every few milliseconds until the caller goes.
func serveReplica(w http.ResponseWriter, r *http.Request, node string) {
	fmt.Fprintf(w, "served by %s\n", node)
	if r.URL.Path != "/slow" {
		return
	}
	for r.Context().Err() == nil {
		if _, err := io.WriteString(w, "more\n"); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		time.Sleep(5 * time.Millisecond)
	}
}

// client calls one coordinator's API.
func (s *site) client(c *coord, token string) *client.Client {
	s.t.Helper()
	cl, err := client.New(client.Config{Addresses: []string{c.url}, Token: token, TLS: trust(c.CAPEM())})
	if err != nil {
		s.t.Fatal(err)
	}
	return cl
}

// trust is how the command line trusts a CA.
func trust(ca []byte) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: x509.NewCertPool()}
	cfg.RootCAs.AppendCertsFromPEM(ca)
	return cfg
}

// deploy runs one workload of so many replicas and waits until every ingress knows it.
func (s *site) deploy(name string, replicas int) string {
	s.t.Helper()
	module := []byte("\x00asm\x01\x00\x00\x00" + name)
	digest := digestOf(module)
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(module)), nil }
	if _, err := s.admin.PutArtifact(s.t.Context(), digest, api.ArtifactWasm, int64(len(module)), open); err != nil {
		s.t.Fatal(err)
	}
	w := api.Workload{APIVersion: api.APIVersion, Kind: api.KindWorkload, Metadata: api.Metadata{Name: name, Namespace: "default"}}
	w.Spec.Replicas = &replicas
	w.Spec.Wasm = &api.WasmSpec{Module: digest, Mode: api.ModeHTTP}
	w.Spec.Placement.Spread = &api.Spread{By: "zone"}
	if _, err := s.admin.ApplyWorkload(s.t.Context(), w, 0); err != nil {
		s.t.Fatal(err)
	}
	s.eventually(name+" is ready everywhere", func() bool {
		st, err := s.admin.Settled(s.t.Context(), api.Ref{Namespace: "default", Name: name}, 0, 0)
		return err == nil && st.Ready && st.Routed
	})
	return digest
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// home is the agent that runs the workload's one replica, and another one.
func (s *site) home(name string) (home, other *node) {
	s.t.Helper()
	w, err := s.admin.Workload(s.t.Context(), api.Ref{Namespace: "default", Name: name}, 0, 0)
	if err != nil || len(w.Status.Replicas) != 1 {
		s.t.Fatalf("%v %v", err, w.Status)
	}
	for _, n := range s.agents {
		if n.name == w.Status.Replicas[0].Node {
			home = n
		} else {
			other = n
		}
	}
	return home, other
}

// credentials are an agent's own, as a thief of its folder has them.
func (n *node) credentials(t *testing.T) *pki.Credentials {
	t.Helper()
	return stolen(t, n.dir, "node")
}

func stolen(t *testing.T, dir, name string) *pki.Credentials {
	t.Helper()
	var files [3][]byte
	for i, f := range []string{name + ".pem", name + ".pem", "ca.pem"} {
		b, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		files[i] = b
	}
	creds, err := pki.NewCredentials(files[0], files[1], files[2])
	if err != nil {
		t.Fatal(err)
	}
	return creds
}

// get asks an ingress for a workload.
func get(ctx context.Context, ingress, host, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ingress+path, nil)
	if err != nil {
		return nil, err
	}
	req.Host = host
	return http.DefaultClient.Do(req)
}

// auditLines reads a coordinator's audit log.
func (c *coord) auditLines(t *testing.T) []map[string]any {
	t.Helper()
	f, err := os.Open(filepath.Join(c.dir, "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []map[string]any
	in := bufio.NewScanner(f)
	for in.Scan() {
		var line map[string]any
		if err := json.Unmarshal(in.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		out = append(out, line)
	}
	return out
}

// events lists the types of all events.
func (s *site) events(typ string) []api.Event {
	s.t.Helper()
	list, err := s.admin.Events(s.t.Context(), api.EventQuery{Type: typ})
	if err != nil {
		s.t.Fatal(err)
	}
	return list.Items
}
