package supervise

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/agent/converge"
	"github.com/cloudless/cloudless/agent/ledger"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/fake"
)

// memory is a ledger that forgets nothing while the test runs.
type memory struct {
	mu      sync.Mutex
	records map[string]ledger.Record
	fail    error
}

func (m *memory) SaveReplica(r ledger.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail == nil {
		m.records[r.ReplicaID] = r
	}
	return m.fail
}

func (m *memory) DeleteReplica(id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.records, id)
	return m.fail
}

func (m *memory) all() []ledger.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []ledger.Record
	for _, id := range slices.Sorted(maps.Keys(m.records)) {
		list = append(list, m.records[id])
	}
	return list
}

// node is a supervisor under test, with everything that it told.
type node struct {
	*Supervisor
	t      *testing.T
	ledger *memory
	dir    string

	mu      sync.Mutex
	told    map[string][]api.ReplicaReport
	volumes Volumes
	admit   func(a api.Assignment, path string) error // nil admits all
	early   []api.ReplicaReport                       // ends by themselves that were told before the ledger had them
	events  []api.Event
}

func newNode(t *testing.T, drivers ...sandbox.Driver) *node {
	t.Helper()
	n := &node{t: t, ledger: &memory{records: map[string]ledger.Record{}}, dir: t.TempDir()}
	n.start(drivers...)
	return n
}

// start begins a new process of the agent on the same ledger and logs.
func (n *node) start(drivers ...sandbox.Driver) {
	n.told = map[string][]api.ReplicaReport{}
	byVariant := map[api.Variant]sandbox.Driver{}
	for _, d := range drivers {
		byVariant[d.Variant()] = d
	}
	n.Supervisor = New(Config{
		NodeID: "n-1", Cluster: "c-1", Drivers: byVariant, Ledger: n.ledger, LogDir: n.dir, Log: zerolog.New(zerolog.NewTestWriter(n.t)),
		Fetch: func(_ context.Context, digest string) (string, error) { return "/store/" + digest, nil },
		Admit: func(a api.Assignment, _ *api.WorkloadSpec, path string) error {
			if n.admit == nil {
				return nil
			}
			return n.admit(a, path)
		},
		Volumes:  n.volumes,
		OnStatus: n.onStatus,
		OnEvent: func(e api.Event) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.events = append(n.events, e)
		},
	})
}

func (n *node) onStatus(rep api.ReplicaReport) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if rep.State == api.ReplicaComplete || rep.State == api.ReplicaFailed {
		if !slices.ContainsFunc(n.ledger.all(), func(rec ledger.Record) bool { return rec.ReplicaID == rep.ReplicaID && rec.State == rep.State }) {
			n.early = append(n.early, rep)
		}
	}
	n.told[rep.ReplicaID] = append(n.told[rep.ReplicaID], rep)
}

func (n *node) close(mode string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := n.Stop(ctx, mode); err != nil {
		n.t.Errorf("Stop: %v", err)
	}
}

// states are the states that were told of a replica, each change once.
func (n *node) states(id string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []string
	for _, rep := range n.told[id] {
		s := string(rep.State)
		if rep.Ready {
			s = "ready"
		}
		if len(list) == 0 || list[len(list)-1] != s {
			list = append(list, s)
		}
	}
	return list
}

func (n *node) last(id string) api.ReplicaReport {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.told[id]) == 0 {
		n.t.Fatalf("nothing was told of %s", id)
	}
	return n.told[id][len(n.told[id])-1]
}

func (n *node) run(id string, v api.Variant, spec api.WorkloadSpec) {
	n.Apply([]converge.Action{{Kind: converge.Start, ReplicaID: id, Assignment: assignment(id, v), Spec: spec}})
}

func (n *node) stopOne(id string) {
	n.Apply([]converge.Action{{Kind: converge.Stop, ReplicaID: id, Assignment: assignment(id, api.VariantWasm), Reason: "told to stop"}})
}

func assignment(id string, v api.Variant) api.Assignment {
	return api.Assignment{ReplicaID: id, Workload: api.Ref{Namespace: "default", Name: "hello"}, UID: "w-1", Version: 1, Variant: v, Desired: api.DesiredRun}
}

const digest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// wasm is a spec with its defaults filled in, changed by f.
func wasm(f func(*api.WorkloadSpec)) api.WorkloadSpec {
	return spec(api.WorkloadSpec{Wasm: &api.WasmSpec{Module: digest}}, f)
}

func container(f func(*api.WorkloadSpec)) api.WorkloadSpec {
	return spec(api.WorkloadSpec{Container: &api.ContainerSpec{Image: "registry.example/hello:1"}}, f)
}

func spec(s api.WorkloadSpec, f func(*api.WorkloadSpec)) api.WorkloadSpec {
	if f != nil {
		f(&s)
	}
	w := api.Workload{Spec: s}
	w.Default()
	return w.Spec
}

func policy(p string) func(*api.WorkloadSpec) {
	return func(s *api.WorkloadSpec) { s.Restart.Policy = p }
}

func wasmDriver(s fake.Script) *fake.Driver {
	s.Variant = api.VariantWasm
	return fake.New(s)
}

// exits is a Main that ends at once.
func exits(code int) func(fake.Guest) sandbox.Exit {
	return func(fake.Guest) sandbox.Exit { return sandbox.Exit{Code: code} }
}

// bubble runs a test with a fake clock and the supervisor's end checked.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// after lets the bubble's time pass.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
