package agent

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/pki"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/internal/telemetry"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/fake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	patience = time.Minute
	cluster  = "c-test"
	secret   = "abc" // of the join token
)

// site is a cluster's CA and the members that a test starts, all on loopback.
type site struct {
	*testing.T
	ca    *pki.CA
	ahead time.Duration // by which the clock of the one that signs is
}

func newSite(t *testing.T) *site {
	ca, err := pki.NewCA(cluster, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &site{T: t, ca: ca}
}

func (s *site) check(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// issue signs a member's key.
func (s *site) issue(csr []byte, role api.Role, id string) []byte {
	s.Helper()
	cert, err := s.ca.Issue(csr, pki.Identity{Cluster: cluster, Role: role, ID: id}, nil, time.Now().Add(s.ahead), time.Hour)
	s.check(err)
	return cert
}

func (s *site) member(role api.Role, id string) *pki.Credentials {
	s.Helper()
	key, csr, err := pki.NewKeyCSR()
	s.check(err)
	creds, err := pki.NewCredentials(s.issue(csr, role, id), key, s.ca.CertPEM())
	s.check(err)
	return creds
}

func (s *site) listen(addr string) net.Listener {
	s.Helper()
	ln, err := net.Listen("tcp", addr)
	s.check(err)
	return ln
}

// coordinator plays one: it enrols, hands out what the test sets, and keeps what it is told.
type coordinator struct {
	*site
	id, addr string
	group    *run.Group
	mux      *link.Mux
	ended    bool

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced at each change
	http      string        // URL of its API
	set       *api.AssignmentSet
	table     *api.EndpointTable
	artifacts map[string]string
	registers []api.RegisterRequest
	beat      api.Heartbeat
	reports   []api.StatusReport
	events    []api.NodeEvents
	goodbyes  []string
	drains    int                     // times that the node wanted its replicas moved
	refuse    func(path string) error // may be nil
}

func (s *site) coordinator(id, addr string) *coordinator {
	ln := s.listen(addr)
	c := &coordinator{site: s, id: id, addr: ln.Addr().String(), group: run.New(context.Background()), changed: make(chan struct{}), artifacts: map[string]string{}}
	c.mux = link.NewMux(ln, s.member(api.RoleServer, id), zerolog.Nop())
	join, node, tunnel := c.mux.Handle(api.ALPNJoin), c.mux.Handle(api.ALPNNode, api.RoleNode), c.mux.Handle(api.ALPNTunnel, api.RoleNode)
	lines := c.mux.Handle(api.ALPNMeta, api.RoleNode)
	tunnels := link.NewTunnels(8, func(string) {}, func(string) {}, zerolog.Nop())
	c.group.Go("join", func(ctx context.Context) error {
		return link.ServeHTTP1(ctx, join, http.HandlerFunc(c.enrol), zerolog.Nop())
	})
	c.group.Go("node", func(ctx context.Context) error { return link.ServeHTTP2(ctx, node, c.nodeAPI(), zerolog.Nop()) })
	c.group.Go("tunnel", func(ctx context.Context) error { return tunnels.Serve(ctx, tunnel) })
	c.group.Go("lines", func(ctx context.Context) error {
		return link.ServeLines(ctx, lines, api.MaxMetaBytes, c.answerLine, zerolog.Nop())
	})
	c.group.Go("port", c.mux.Serve)
	s.Cleanup(c.stop)
	return c
}

func (c *coordinator) stop() {
	if c.ended {
		return
	}
	c.ended = true
	c.group.Stop()
	if err := errors.Join(c.mux.Close(), c.group.Wait()); err != nil {
		c.Errorf("coordinator %s: %v", c.id, err)
	}
}

func (c *coordinator) self() []api.Member {
	return []api.Member{{ID: c.id, Name: c.id, NodeAddr: c.addr, HTTPAddr: c.http, Voter: true}}
}

// change lets f set what agents are told, and wakes those that wait.
func (c *coordinator) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tell(f)
}

// tell is change by one who holds c.mu.
func (c *coordinator) tell(f func()) {
	f()
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *coordinator) enrol(w http.ResponseWriter, r *http.Request) {
	var req api.EnrolRequest
	json.NewDecoder(r.Body).Decode(&req)
	json.NewEncoder(w).Encode(api.EnrolResponse{
		ClusterID: cluster, ID: "n-" + req.Name, Cert: string(c.issue([]byte(req.CSR), api.RoleNode, "n-"+req.Name)), CA: string(c.ca.CertPEM()),
		GossipKey: base64.StdEncoding.EncodeToString(make([]byte, 32)), Coordinators: c.self(),
	})
}

func (c *coordinator) nodeAPI() http.Handler {
	mux := http.NewServeMux()
	post := func(path string, f func(r *http.Request) any) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.refuse != nil {
				if err := c.refuse(path); err != nil {
					writeError(w, err)
					return
				}
			}
			json.NewEncoder(w).Encode(f(r))
		})
	}
	post(api.PathRegister, func(r *http.Request) any {
		c.registers = append(c.registers, decode[api.RegisterRequest](r))
		return api.RegisterResponse{Epoch: 1, Coordinators: c.self()}
	})
	post(api.PathHeartbeat, func(r *http.Request) any {
		c.beat = decode[api.Heartbeat](r)
		return api.HeartbeatAck{Epoch: 1, LeaderID: c.id, Coordinators: c.self(), Known: true}
	})
	post(api.PathStatuses, func(r *http.Request) any {
		c.reports = append(c.reports, decode[api.StatusReport](r))
		return api.StatusAck{Index: 1}
	})
	post(api.PathNodeEvents, func(r *http.Request) any {
		c.events = append(c.events, decode[api.NodeEvents](r))
		return struct{}{}
	})
	post(api.PathGoodbye, func(r *http.Request) any {
		c.goodbyes = append(c.goodbyes, decode[api.Goodbye](r).Kind)
		return struct{}{}
	})
	post(api.PathDrainSelf, func(*http.Request) any { return struct{}{} })
	mux.HandleFunc("GET "+api.PathAssignments, func(w http.ResponseWriter, r *http.Request) {
		c.watch(w, r, "generation", func() (any, uint64, uint64) {
			if c.set == nil {
				return nil, 0, 0
			}
			return c.set, c.set.Epoch, c.set.Generation
		})
	})
	mux.HandleFunc("GET "+api.PathEndpoints, func(w http.ResponseWriter, r *http.Request) {
		c.watch(w, r, "index", func() (any, uint64, uint64) {
			if c.table == nil {
				return nil, 0, 0
			}
			return c.table, c.table.Epoch, c.table.Index
		})
	})
	return mux
}

// answerLine gives objects that are artifacts.
func (c *coordinator) answerLine(_ context.Context, _ pki.Identity, _ byte, text []byte) (byte, []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var asked meta.Queries
	json.Unmarshal(text, &asked)
	var out meta.Answers
	for _, q := range asked.Queries {
		a := &meta.Answer{Err: api.Errorf(api.CodeNotFound, "there is no such thing")}
		if text, ok := c.artifacts["sha256:"+q.Object.Key]; ok && q.Object.Bucket == api.ArtifactBucket {
			a = &meta.Answer{Object: &api.Object{Bucket: q.Object.Bucket, Key: q.Object.Key, Size: int64(len(text)), Inline: []byte(text)}}
		}
		out.Answers = append(out.Answers, a)
	}
	b, _ := out.MarshalBinary() // structs of strings and numbers
	return api.LineAnswer, b
}

func decode[T any](r *http.Request) (v T) {
	json.NewDecoder(r.Body).Decode(&v)
	return v
}

// watch answers a blocking read when what f gives is not what the agent has; it gives it even if it is
// older, as a coordinator that lags behind does.
func (c *coordinator) watch(w http.ResponseWriter, r *http.Request, key string, f func() (v any, epoch, at uint64)) {
	q := r.URL.Query()
	for {
		c.mu.Lock()
		v, epoch, at := f()
		changed := c.changed
		c.mu.Unlock()
		if v != nil && (q.Get("epoch") != strconv.FormatUint(epoch, 10) || q.Get(key) != strconv.FormatUint(at, 10)) {
			c.mu.Lock()
			defer c.mu.Unlock()
			json.NewEncoder(w).Encode(v)
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// config is for a node of the cluster; a second start on the same folder needs no token.
func (c *coordinator) config(name string, drivers ...sandbox.Driver) Config {
	c.Helper()
	tel, err := telemetry.New(telemetry.Config{Role: "agent", Node: name, LogWriter: io.Discard})
	c.check(err)
	c.Cleanup(func() { tel.Close(context.Background()) })
	token := pki.JoinToken{CAHash: c.ca.Hash(), ID: "t", Secret: secret}.String()
	return Config{
		DataDir: c.TempDir(), Name: name, Region: "eu", Zone: "a", AdvertiseHost: "127.0.0.1", GossipAddr: "127.0.0.1:0", Join: []string{c.addr}, Token: token,
		Version: "test", Tel: tel, Log: zerolog.Nop(),
		Drivers: func(Identity, func() []netip.AddrPort) (map[api.Variant]sandbox.Driver, error) {
			m := map[api.Variant]sandbox.Driver{}
			for _, d := range drivers {
				m[d.Variant()] = d
			}
			return m, nil
		},
	}
}

// open starts a node on new ports of the configuration, and ends it with the test.
func (s *site) open(cfg Config) *Agent {
	s.Helper()
	cfg.Listener, cfg.Ingress = s.listen("127.0.0.1:0"), s.listen("127.0.0.1:0")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a, err := Open(ctx, cfg)
	s.check(err)
	s.Cleanup(func() {
		if err := a.Close(); err != nil {
			s.Errorf("Close: %v", err)
		}
	})
	return a
}

// eventually polls for what goroutines and sockets do in their own time.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// sees polls for what the coordinator has been told.
func (c *coordinator) sees(what string, ok func() bool) {
	c.Helper()
	eventually(c.T, what, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return ok()
	})
}

// last is the newest status that was reported of a replica. c.mu is held.
func (c *coordinator) last(id string) (rep api.ReplicaReport) {
	for _, batch := range c.reports {
		for _, one := range batch.Reports {
			if one.ReplicaID == id {
				rep = one
			}
		}
	}
	return rep
}

func wasmDriver(handler http.HandlerFunc) *fake.Driver {
	return fake.New(fake.Script{Variant: api.VariantWasm, Handler: func(sandbox.Spec) http.Handler { return handler }})
}

func hello(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }

// assigned is a set of wasm replicas of one workload, whose module is digest.
func assigned(epoch, generation uint64, digest string, ids ...string) *api.AssignmentSet {
	w := api.Workload{Spec: api.WorkloadSpec{Wasm: &api.WasmSpec{Module: digest}}}
	w.Default()
	ref := api.Ref{Namespace: "default", Name: "web"}
	set := &api.AssignmentSet{Epoch: epoch, Generation: generation, Reported: true, Specs: []api.AssignedSpec{{Workload: ref, UID: "w-1", Version: 1, Spec: w.Spec}}}
	for _, id := range ids {
		set.Assignments = append(set.Assignments, api.Assignment{ReplicaID: id, Workload: ref, UID: "w-1", Version: 1, Variant: api.VariantWasm, Desired: api.DesiredRun})
	}
	return set
}

// tableOf routes web.localhost; nodes are the cluster's, with their addresses.
func tableOf(index uint64, nodes map[string]string) *api.EndpointTable {
	t := &api.EndpointTable{Epoch: 1, Index: index, Nodes: map[string]api.NodePeer{}, Services: []api.Service{{
		Namespace: "default", Name: "web", Hosts: []string{"web.localhost"}, Ports: []api.Port{{Port: 80, Protocol: api.ProtocolHTTP}},
		Endpoints: []api.Endpoint{{ReplicaID: "r-1", NodeID: "n-one"}, {ReplicaID: "r-2", NodeID: "n-one"}},
	}}}
	for id, addr := range nodes {
		t.Nodes[id] = api.NodePeer{Name: id, Addr: addr, State: api.NodeReady}
	}
	return t
}

// ask sends a request to the node's ingress.
func (a *Agent) ask(t *testing.T) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.cfg.Ingress.Addr().String()+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "web.localhost"
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(body)
}
