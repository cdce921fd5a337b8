package web

import (
	"context"
	"io"
	"strings"
	"sync"

	"github.com/cloudless/cloudless/api"
)

var digest = "sha256:" + strings.Repeat("ab", 32)

// memory is a Backend that keeps everything in maps, with one index for all tables. Its lists are
// nil when empty, and its slices inside objects too, as a careless implementation's would be.
type memory struct {
	*store
	mu        sync.Mutex
	index     uint64
	changed   chan struct{} // closed and replaced at each change
	acked     chan struct{} // closed once every node has the endpoint table
	workloads map[string]api.Workload
	node      api.Node
	events    []api.Event
	tokens    map[string]api.Token
	answers   map[string]remembered
	artifacts map[string][]byte
	writes    []api.Caller // who wrote
	audits    []string     // what was audited, with its object and outcome
	auditFull error        // the audit log takes no line
	ready     error
	boom      func() error // called by Status
	log       io.ReadCloser
	exec      *pipeExec
	query     api.ListQuery // the last one
}

type remembered struct {
	print  string
	status int
	body   []byte
}

func newMemory() *memory {
	m := &memory{
		store: newStore(),
		index: 5, changed: make(chan struct{}), acked: make(chan struct{}), workloads: map[string]api.Workload{}, tokens: map[string]api.Token{},
		answers: map[string]remembered{}, artifacts: map[string][]byte{digest: []byte("x")},
		node: api.Node{ID: "n-1", Name: "one", State: api.NodeReady, Arch: "amd64", OS: "linux"},
		exec: &pipeExec{in: make(chan []byte, 8), out: make(chan []byte, 8)},
	}
	m.workloads["default/hello"] = workload("hello")
	close(m.acked)
	return m
}

func workload(name string) api.Workload {
	w := api.Workload{APIVersion: api.APIVersion, Kind: api.KindWorkload, Metadata: api.Metadata{Name: name, ModifyIndex: 4}}
	w.Spec.Wasm = &api.WasmSpec{Module: digest}
	w.Spec.Resources.Memory = 64 << 20
	w.Default()
	w.Status = &api.WorkloadStatus{Phase: api.PhasePending, Desired: 1}
	return w
}

// change is a write: it moves the index and wakes those who wait.
func (m *memory) change(f func()) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.index++
	if f != nil {
		f()
	}
	close(m.changed)
	m.changed = make(chan struct{})
	return m.index
}

func (m *memory) emit(e api.Event) { m.change(func() { m.events = append(m.events, e) }) }

func (m *memory) wrote(c api.Caller) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes = append(m.writes, c)
}

func (m *memory) writers() []api.Caller {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]api.Caller(nil), m.writes...)
}

// Tokens of the tests are the names of their roles.
func (m *memory) Authenticate(_ context.Context, token string) (api.Caller, error) {
	switch r := api.Role(token); r {
	case api.RoleAdmin, api.RoleOperator, api.RoleViewer, api.RoleNode, api.RoleServer:
		return api.Caller{TokenID: "t-" + token, Role: r}, nil
	}
	return api.Caller{}, api.Errorf(api.CodeUnauthorized, "the token is not known")
}

func (m *memory) Audited(_ api.Caller, what string, object func() string, do func() error) error {
	if m.auditFull != nil {
		return m.auditFull
	}
	err := do()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.audits = append(m.audits, what+" | "+object()+" | "+string(api.CodeOf(err)))
	return err
}

func (m *memory) Index() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.index
}

func (m *memory) Wait(ctx context.Context, table string, index uint64) error {
	if table == TableAcks {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.acked:
			return nil
		}
	}
	for {
		m.mu.Lock()
		now, changed := m.index, m.changed
		m.mu.Unlock()
		if now > index {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (m *memory) Ready(context.Context) error { return m.ready }

func (m *memory) Status(context.Context) (api.ClusterStatus, error) {
	if m.boom != nil {
		return api.ClusterStatus{}, m.boom()
	}
	n := map[string]int{"total": 1}
	return api.ClusterStatus{ClusterID: "c", Index: m.Index(), Nodes: n, Workloads: n, Replicas: n, Storage: api.StorageStatus{Health: "ok"}}, nil
}

func (m *memory) Workloads(_ context.Context, q api.ListQuery) (api.List[api.Workload], error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.query = q
	l := api.List[api.Workload]{Index: m.index}
	for _, w := range m.workloads {
		l.Items = append(l.Items, w)
	}
	return l, nil
}

func (m *memory) Workload(_ context.Context, ns, name string) (api.Workload, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w, found := m.workloads[ns+"/"+name]
	if !found {
		return w, api.Errorf(api.CodeNotFound, "there is no workload %s/%s", ns, name)
	}
	return w, nil
}

func (m *memory) PutWorkload(_ context.Context, c api.Caller, w api.Workload, mode PutMode, ifMatch uint64) (api.WriteResult, error) {
	m.wrote(c)
	old, exists := m.workloads[w.Ref().String()]
	if exists && mode == PutCreate || ifMatch != 0 && ifMatch != old.Metadata.ModifyIndex {
		return api.WriteResult{}, api.Errorf(api.CodeConflict, "it is there")
	}
	outcome := "created"
	if exists {
		outcome = "updated"
	}
	i := m.change(func() { m.workloads[w.Ref().String()] = w })
	return api.WriteResult{Workload: w, Outcome: outcome, Index: i}, nil
}

func (m *memory) PlanWorkload(context.Context, api.Workload) (api.Plan, error) {
	return api.Plan{Outcome: "create"}, nil
}

func (m *memory) touch(ctx context.Context, c api.Caller, ns, name, outcome string, ifMatch uint64) (api.WriteResult, error) {
	m.wrote(c)
	w, err := m.Workload(ctx, ns, name)
	if err != nil {
		return api.WriteResult{}, err
	}
	if ifMatch != 0 && ifMatch != w.Metadata.ModifyIndex {
		return api.WriteResult{}, api.Errorf(api.CodeConflict, "workload %s has changed", w.Ref())
	}
	return api.WriteResult{Workload: w, Outcome: outcome, Index: m.change(nil)}, nil
}

func (m *memory) DeleteWorkload(ctx context.Context, c api.Caller, ns, name string, ifMatch uint64) (api.WriteResult, error) {
	return m.touch(ctx, c, ns, name, "deleted", ifMatch)
}

func (m *memory) ScaleWorkload(ctx context.Context, c api.Caller, ns, name string, n int, ifMatch uint64) (api.WriteResult, error) {
	r, err := m.touch(ctx, c, ns, name, "scaled", ifMatch)
	r.Workload.Spec.Replicas = &n
	return r, err
}

func (m *memory) RestartWorkload(ctx context.Context, c api.Caller, ns, name string, ifMatch uint64) (api.WriteResult, error) {
	return m.touch(ctx, c, ns, name, "restarted", ifMatch)
}

func (m *memory) RollbackWorkload(ctx context.Context, c api.Caller, ns, name string, _, ifMatch uint64) (api.WriteResult, error) {
	return m.touch(ctx, c, ns, name, "updated", ifMatch)
}

func (m *memory) History(context.Context, string, string) (api.List[api.WorkloadVersion], error) {
	return api.List[api.WorkloadVersion]{}, nil
}

func (m *memory) Explain(_ context.Context, ns, name string) (api.Explanation, error) {
	return api.Explanation{Workload: api.Ref{Namespace: ns, Name: name}}, nil
}

func (m *memory) Settled(ctx context.Context, ns, name string) (api.Settled, error) {
	w, err := m.Workload(ctx, ns, name)
	st := api.Settled{Workload: &w, Ready: true, Routed: true, Index: m.Index()}
	select {
	case <-m.acked:
	default:
		st.Routed, st.Slow = false, []string{"one"}
	}
	return st, err
}

func (m *memory) Logs(context.Context, string, string, api.LogOptions) (io.ReadCloser, error) {
	if m.log != nil {
		return m.log, nil
	}
	return io.NopCloser(strings.NewReader("a line\n")), nil
}

func (m *memory) Exec(_ context.Context, c api.Caller, _, _, _ string, command []string, _, _ bool) (ExecConn, error) {
	m.wrote(c)
	if command[0] == "missing" {
		return nil, api.Errorf(api.CodeNotFound, "there is no command %q", command[0])
	}
	return m.exec, nil
}

func (m *memory) Nodes(context.Context, api.ListQuery) (api.List[api.Node], error) {
	return api.List[api.Node]{Items: []api.Node{m.node}, Index: m.Index()}, nil
}
func (m *memory) Node(context.Context, string) (api.Node, error) { return m.node, nil }
func (m *memory) DrainNode(_ context.Context, c api.Caller, _ string, r api.DrainRequest) (api.Node, error) {
	m.wrote(c)
	n := m.node
	n.Drain = &api.Drain{Graceful: r.Graceful}
	return n, nil
}
func (m *memory) CordonNode(_ context.Context, c api.Caller, _ string, cordon bool) (api.Node, error) {
	m.wrote(c)
	n := m.node
	n.Cordoned = cordon
	return n, nil
}
func (m *memory) RemoveNode(_ context.Context, c api.Caller, _ string) error {
	m.wrote(c)
	return nil
}

func (m *memory) Rotate(_ context.Context, c api.Caller, r api.RotationRequest) (api.Rotation, error) {
	m.wrote(c)
	return api.Rotation{Kind: r.Kind, Phase: api.PhaseTrust}, nil
}
func (m *memory) Rotations(context.Context) (api.List[api.Rotation], error) {
	return api.List[api.Rotation]{Items: []api.Rotation{{Kind: api.RotateCA, Phase: api.PhaseDone}}}, nil
}
func (m *memory) CAPEM() []byte { return []byte("-----BEGIN CERTIFICATE-----") }

func (m *memory) RevokeNode(_ context.Context, c api.Caller, _, _ string) error {
	m.wrote(c)
	return nil
}

func (m *memory) Services(context.Context, api.ListQuery) (api.List[api.Service], error) {
	return api.List[api.Service]{Items: []api.Service{{Namespace: "default", Name: "hello"}}}, nil
}
func (m *memory) Endpoints(context.Context, api.ListQuery) (api.List[api.Endpoint], error) {
	return api.List[api.Endpoint]{Items: []api.Endpoint{{ReplicaID: "r", Variant: api.VariantWasm}}}, nil
}

func (m *memory) Usage(context.Context, api.ListQuery) (api.List[api.ReplicaUsage], error) {
	return api.List[api.ReplicaUsage]{Items: []api.ReplicaUsage{{ReplicaID: "r", Namespace: "default", Workload: "hello", Node: "n", CPU: 5, Memory: 1 << 20}}}, nil
}

func (m *memory) Events(_ context.Context, q api.EventQuery) (api.List[api.Event], error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := api.List[api.Event]{Index: m.index}
	for _, e := range m.events {
		if q.Match(&e) {
			l.Items = append(l.Items, e)
		}
	}
	if q.Limit > 0 {
		l.Items = l.Items[max(0, len(l.Items)-q.Limit):]
	}
	return l, nil
}

func (m *memory) Tokens(context.Context) (api.List[api.Token], error) {
	return api.List[api.Token]{Items: []api.Token{{ID: "t", Role: api.RoleViewer, Hash: "hash", Secret: "secret"}}}, nil
}
func (m *memory) CreateToken(_ context.Context, c api.Caller, r api.TokenRequest) (api.Token, error) {
	m.wrote(c)
	return api.Token{ID: "t-new", Role: r.Role, Hash: "hash", Secret: "cl_t_secret"}, nil
}
func (m *memory) RevokeToken(_ context.Context, c api.Caller, _ string) error {
	m.wrote(c)
	return nil
}

func (m *memory) Namespaces(context.Context, api.ListQuery) (api.List[api.Namespace], error) {
	return api.List[api.Namespace]{Items: []api.Namespace{{Name: "default", Workloads: 1}}}, nil
}
func (m *memory) Namespace(context.Context, string) (api.Namespace, error) {
	return api.Namespace{Name: "default", Policy: &api.NamespacePolicy{Namespace: "default", RequireSignature: []string{"RWQ"}}}, nil
}
func (m *memory) PutPolicy(_ context.Context, c api.Caller, p api.NamespacePolicy) (api.NamespacePolicy, error) {
	m.wrote(c)
	return p, nil
}
func (m *memory) DeletePolicy(_ context.Context, c api.Caller, _ string) error {
	m.wrote(c)
	return nil
}

func (m *memory) PutArtifact(_ context.Context, c api.Caller, d, kind, _ string, r io.Reader) (api.Artifact, error) {
	m.wrote(c)
	n, err := io.Copy(io.Discard, r)
	return api.Artifact{Digest: d, Kind: kind, Size: n}, err
}
func (m *memory) Artifact(_ context.Context, d string) (api.Artifact, error) {
	if b, found := m.artifacts[d]; found {
		return api.Artifact{Digest: d, Kind: api.ArtifactWasm, Size: int64(len(b))}, nil
	}
	return api.Artifact{}, api.Errorf(api.CodeNotFound, "there is no artifact %s", d)
}

func (m *memory) Members(context.Context) ([]api.Member, error) {
	return []api.Member{{ID: "m-1", Name: "first", Voter: true}}, nil
}
func (m *memory) RemoveMember(_ context.Context, c api.Caller, _ string) error {
	m.wrote(c)
	return nil
}

func (m *memory) Idempotent(_ context.Context, c api.Caller, key, print string, do func() (int, []byte, error)) (int, []byte, bool, error) {
	k := c.TokenID + "/" + key
	if a, found := m.answers[k]; found {
		if a.print != print {
			return 0, nil, false, api.Errorf(api.CodeConflict, "the key was used for another request")
		}
		return a.status, a.body, true, nil
	}
	status, body, err := do()
	if err == nil {
		m.answers[k] = remembered{print, status, body}
	}
	return status, body, false, err
}
