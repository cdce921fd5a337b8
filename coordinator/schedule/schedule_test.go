package schedule

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

// fill makes a state of nodes and workloads.
type fill struct {
	t     testing.TB
	store *state.Store
	index uint64
}

func newFill(t testing.TB) *fill {
	f := &fill{t: t, store: state.New()}
	f.do(state.Command{Found: &state.Found{ClusterID: "c", Epoch: 1}})
	f.do(state.Command{PutToken: &api.Token{ID: "t", Role: api.RoleNode}})
	return f
}

func (f *fill) do(c state.Command) {
	f.t.Helper()
	f.index++
	c.At = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if res := f.store.Apply(f.index, c); res.Err != nil {
		f.t.Fatal(res.Err)
	}
}

func (f *fill) node(id string, edit func(n *api.Node)) {
	n := api.Node{
		ID: id, Name: id, Region: "eu", Zone: "z1", Capacity: api.Reserved{CPU: 1000, Memory: 1 << 30, Storage: 10 << 30}, Arch: "amd64", OS: "linux",
		Runtimes: api.Runtimes{WasmEngine: "compiler", Containers: true},
	}
	if edit != nil {
		edit(&n)
	}
	f.do(state.Command{EnrolNode: &state.EnrolNode{Node: n, TokenID: "t"}})
	f.do(state.Command{RegisterNode: &state.RegisterNode{ID: id, Info: api.RegisterRequest{
		Region: n.Region, Zone: n.Zone, Labels: n.Labels, Taints: n.Taints, Capacity: n.Capacity, Runtimes: n.Runtimes, Arch: n.Arch, OS: n.OS,
	}}})
}

func (f *fill) put(w *api.Workload) {
	f.do(state.Command{PutWorkload: &state.PutWorkload{Workload: *w, UID: "u-" + w.Metadata.Name}})
}

// workload is one that any node can run.
func workload(name string, edit func(s *api.WorkloadSpec)) *api.Workload {
	w := &api.Workload{Metadata: api.Metadata{Name: name, Namespace: "default", UID: "u-" + name, Version: 1}}
	w.Spec.Wasm = &api.WasmSpec{Module: "m.wasm", Mode: api.ModeHTTP}
	w.Spec.Resources = api.Resources{CPU: 100, Memory: 64 << 20}
	if edit != nil {
		edit(&w.Spec)
	}
	return w
}

// reserved is the replica that Reserve stands for.
func reserved(w *api.Workload, node string) *api.Replica {
	return &api.Replica{Workload: w.Ref(), UID: w.Metadata.UID, Version: w.Metadata.Version, NodeID: node, Desired: api.DesiredRun, Reserved: w.Spec.Reserve(api.VariantWasm)}
}

func TestFilters(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	oci := func(s *api.WorkloadSpec) { s.Wasm, s.Container = nil, &api.ContainerSpec{Image: digest} }
	tests := []struct {
		name string
		node func(n *api.Node)
		then *state.Command // after the node registered
		spec func(s *api.WorkloadSpec)
		want string // the filter, "" for a fit
		tell string
	}{
		{"fits", nil, nil, nil, "", "1 node, none refused"},
		{"suspect", nil, &state.Command{SetLiveness: &state.SetLiveness{ID: "n", Liveness: api.NodeSuspect}}, nil, "liveness", "1 node: 1 is not ready"},
		{"cordoned", nil, &state.Command{Cordon: &state.Cordon{ID: "n", Cordoned: true}}, nil, "cordoned", "1 node: 1 is cordoned"},
		{"draining", nil, &state.Command{Drain: &state.DrainNode{ID: "n", Drain: &api.Drain{}}}, nil, "draining", "1 node: 1 is draining"},
		{"no containers", func(n *api.Node) { n.Runtimes.Containers = false }, nil, oci, "runtime.container", "1 node: 1 runs no containers"},
		{"no wasm", func(n *api.Node) { n.Runtimes.WasmEngine = "" }, nil, nil, "runtime.wasm", "1 node: 1 runs no wasm"},
		{"the other variant", func(n *api.Node) { n.Runtimes.WasmEngine = "" }, nil, func(s *api.WorkloadSpec) { s.Container = &api.ContainerSpec{} }, "", "1 node, none refused"},
		{"neither", func(n *api.Node) { n.Runtimes = api.Runtimes{} }, nil, func(s *api.WorkloadSpec) { s.Container = &api.ContainerSpec{} }, "runtime", "1 node: 1 runs neither wasm nor containers"},
		{"label", nil, nil, func(s *api.WorkloadSpec) { s.Placement.NodeSelector = map[string]string{"disk": "ssd"} }, "labels", "1 node: 1 does not match the selector"},
		{"label held", func(n *api.Node) { n.Labels = map[string]string{"disk": "ssd"} }, nil, func(s *api.WorkloadSpec) {
			s.Placement.NodeSelector = map[string]string{"disk": "ssd", "arch": "amd64", "os": "linux", "region": "eu", "zone": "z1", "name": "n"}
		}, "", "1 node, none refused"},
		{"arch", nil, nil, func(s *api.WorkloadSpec) { s.Placement.NodeSelector = map[string]string{"arch": "arm64"} }, "labels", "1 node: 1 does not match the selector"},
		{"region", nil, nil, func(s *api.WorkloadSpec) { s.Placement.Regions = []string{"us"} }, "region", "1 node: 1 is in another region"},
		{"zone", nil, nil, func(s *api.WorkloadSpec) { s.Placement.Zones = []string{"z2"} }, "zone", "1 node: 1 is in another zone"},
		{"taint", func(n *api.Node) { n.Taints = []api.Taint{{Key: "gpu", Value: "yes", Effect: api.EffectNoSchedule}} }, nil, nil, "taints", "1 node: 1 has a taint that is not tolerated"},
		{"tolerated", func(n *api.Node) { n.Taints = []api.Taint{{Key: "gpu", Value: "yes", Effect: api.EffectNoSchedule}} }, nil,
			func(s *api.WorkloadSpec) { s.Placement.Tolerations = []api.Toleration{{Key: "gpu"}} }, "", "1 node, none refused"},
		{"cpu", nil, nil, func(s *api.WorkloadSpec) { s.Resources.CPU = 1001 }, "cpu", "1 node: 1 lacks cpu"},
		{"cpu exactly", nil, nil, func(s *api.WorkloadSpec) { s.Resources.CPU = 1000 }, "", "1 node, none refused"},
		{"memory", nil, nil, func(s *api.WorkloadSpec) { s.Resources.Memory = 1<<30 + 1 }, "memory", "1 node: 1 lacks memory"},
		{"storage", nil, nil, func(s *api.WorkloadSpec) { s.Resources.Storage = 11 << 30 }, "storage", "1 node: 1 lacks storage"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFill(t)
			f.node("n", tt.node)
			if tt.then != nil {
				f.do(*tt.then)
			}
			c := New(f.store.View(), Signals{})
			w := workload("a", tt.spec)
			p, ok := c.Place(w)
			rows := c.Explain(w)
			if ok != (tt.want == "") || rows[0].Filter != tt.want || tt.want != "" && p.Decision.Refused[tt.want] != 1 {
				t.Errorf("placed %t, refused %v, explained %q; want %q", ok, p.Decision.Refused, rows[0].Filter, tt.want)
			}
			if got := Message(p.Decision); got != tt.tell {
				t.Errorf("message %q, want %q", got, tt.tell)
			}
			if (rows[0].Reason == "") != (tt.want == "") {
				t.Errorf("reason %q", rows[0].Reason)
			}
		})
	}
}

func TestMessageCounts(t *testing.T) {
	d := api.Decision{Nodes: 3, Refused: map[string]int{"memory": 2, "runtime.container": 1}}
	if got, want := Message(d), "3 nodes: 1 runs no containers, 2 lack memory"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Message(api.Decision{}); got != "the cluster has no nodes" {
		t.Errorf("got %q", got)
	}
}

// placeAll places n replicas and returns the nodes in order.
func placeAll(t *testing.T, c *Cluster, w *api.Workload, n int) []string {
	t.Helper()
	var ids []string
	for range n {
		p, ok := c.Place(w)
		if !ok {
			ids = append(ids, "-")
			continue
		}
		c.Reserve(p.NodeID, w, p.Variant)
		ids = append(ids, p.NodeID)
	}
	return ids
}

func TestScores(t *testing.T) {
	digest := "sha256:" + strings.Repeat("b", 64)
	zone := func(z string) func(*api.Node) { return func(n *api.Node) { n.Zone = z } }
	tests := []struct {
		name  string
		nodes map[string]func(*api.Node)
		spec  func(s *api.WorkloadSpec)
		holds string
		prior map[string]string // workload → node, placed before
		want  []string
	}{
		{"two of one workload keep off one node", map[string]func(*api.Node){"n1": nil, "n2": nil}, nil, "", nil, []string{"n1", "n2", "n1"}},
		{"packing fills what is in use", map[string]func(*api.Node){"n1": nil, "n2": nil}, nil, "", map[string]string{"other": "n2"}, []string{"n2", "n1"}},
		{"zones are evened out before nodes are filled", map[string]func(*api.Node){"n1": zone("a"), "n2": zone("a"), "n3": zone("b")},
			func(s *api.WorkloadSpec) { s.Placement.Spread = &api.Spread{By: "zone"} }, "", map[string]string{"other": "n2"}, []string{"n2", "n3", "n1", "n3"}},
		{"the artifact is near", map[string]func(*api.Node){"n1": nil, "n2": nil}, func(s *api.WorkloadSpec) { s.Wasm.Module = digest }, "n2", nil, []string{"n2"}},
		{"affinity draws", map[string]func(*api.Node){"n1": nil, "n2": nil, "n3": nil},
			func(s *api.WorkloadSpec) { s.Placement.Affinity = []api.Affinity{{Workload: "cache"}} }, "", map[string]string{"cache": "n3"}, []string{"n3"}},
		{"anti-affinity forbids", map[string]func(*api.Node){"n1": nil, "n2": nil},
			func(s *api.WorkloadSpec) { s.Placement.AntiAffinity = []api.AntiAffinity{{Workload: "cache"}} }, "", map[string]string{"cache": "n1"}, []string{"n2", "n2"}},
		{"anti-affinity to itself", map[string]func(*api.Node){"n1": nil, "n2": nil},
			func(s *api.WorkloadSpec) { s.Placement.AntiAffinity = []api.AntiAffinity{{Workload: "a"}} }, "", nil, []string{"n1", "n2", "-"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFill(t)
			for _, id := range []string{"n1", "n2", "n3"} {
				if edit, ok := tt.nodes[id]; ok {
					f.node(id, edit)
				}
			}
			c := New(f.store.View(), Signals{Holders: func(d string) []string { return map[string][]string{digest: {tt.holds}}[d] }})
			for name, node := range tt.prior {
				c.Reserve(node, workload(name, nil), api.VariantWasm)
			}
			if diff := cmp.Diff(tt.want, placeAll(t, c, workload("a", tt.spec), len(tt.want))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A workload that keeps away from another is left alone by that one too.
func TestAntiAffinityWorksBothWays(t *testing.T) {
	f := newFill(t)
	f.node("n1", nil)
	shy := workload("shy", func(s *api.WorkloadSpec) { s.Placement.AntiAffinity = []api.AntiAffinity{{Workload: "loud"}} })
	f.put(shy)
	c := New(f.store.View(), Signals{})
	c.Reserve("n1", shy, api.VariantWasm)
	if p, ok := c.Place(workload("loud", nil)); ok {
		t.Errorf("placed beside it: %+v", p)
	}
	c.Remove(reserved(shy, "n1"))
	if _, ok := c.Place(workload("loud", nil)); !ok {
		t.Error("not placed after it went")
	}
}

func TestReliabilityFades(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	n := &api.Node{Failures: 2, ChangedAt: now.Add(-failureHalfLife)}
	fresh, faded := Reliability(n, time.Time{}), Reliability(n, now)
	if fresh != 0.5 || faded <= fresh || faded >= 1 {
		t.Errorf("fresh %v, a day later %v", fresh, faded)
	}
}

// The sums that make spread come before everything else.
func TestSpreadDominates(t *testing.T) {
	if spreadFirst <= spreadOther+restByNode || spreadFirst <= spreadOther+aloneFirst+restWithAlone || aloneFirst <= aloneOther+restWithAlone {
		t.Error("a part of the score can outweigh one before it")
	}
	if spreadFirst+restByNode != 100 || spreadFirst+aloneFirst+restWithAlone > 100 {
		t.Error("scores are not within 0 … 100")
	}
}

// Whatever is reserved and released: never over capacity, explained and placed alike, and the
// cached profile, in memory that others have used before, knows what a new one would.
func TestPlaceProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := newFill(t)
		count := rapid.IntRange(1, 6).Draw(rt, "nodes")
		for i := range count {
			cpu, zone := rapid.IntRange(0, 1000).Draw(rt, "cpu"), rapid.IntRange(0, 2).Draw(rt, "zone")
			f.node(fmt.Sprintf("n%d", i), func(n *api.Node) { n.Capacity.CPU, n.Zone = api.MilliCPU(cpu), fmt.Sprint(zone) })
		}
		digest, held := "sha256:"+strings.Repeat("d", 64), rapid.SliceOfDistinct(rapid.SampledFrom([]string{"n0", "n1", "n2"}), rapid.ID).Draw(rt, "held")
		c := New(f.store.View(), Signals{Holders: func(d string) []string { return map[string][]string{digest: held}[d] }})
		ws := []*api.Workload{
			workload("a", func(s *api.WorkloadSpec) { s.Placement.Spread = &api.Spread{By: "zone"} }),
			workload("b", func(s *api.WorkloadSpec) {
				s.Placement.Affinity, s.Wasm.Module = []api.Affinity{{Workload: "a"}, {Workload: "b"}}, digest
			}),
			workload("c", func(s *api.WorkloadSpec) {
				s.Placement.AntiAffinity = []api.AntiAffinity{{Workload: "a"}, {Workload: "c"}}
			}),
		}
		on := map[string][]string{}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			w := ws[rapid.IntRange(0, 2).Draw(rt, "workload")]
			name := w.Metadata.Name
			if at := on[name]; len(at) > 0 && rapid.Bool().Draw(rt, "release") {
				c.Remove(reserved(w, at[0]))
				on[name] = at[1:]
				continue
			}
			p, ok := c.Place(w)
			if warm, cold := c.Explain(w), coldExplain(c, w); cmp.Diff(warm, cold) != "" {
				rt.Fatalf("the kept profile is stale:\n%s", cmp.Diff(cold, warm))
			}
			checkBest(rt, c, w, p, ok)
			if ok {
				c.Reserve(p.NodeID, w, p.Variant)
				on[name] = append(on[name], p.NodeID)
			}
			for i, free := range c.free {
				if free.CPU < 0 || free.Memory < 0 {
					rt.Fatalf("node %s is over capacity: %+v left", c.nodes[i].ID, free)
				}
			}
		}
	})
}

func coldExplain(c *Cluster, w *api.Workload) []api.NodeExplanation {
	profiles, spare := c.profiles, c.spare
	c.profiles, c.spare = nil, nil
	rows := c.Explain(w)
	c.profiles, c.spare = profiles, spare
	return rows
}

func checkBest(t *rapid.T, c *Cluster, w *api.Workload, p Placement, ok bool) {
	fit, best := 0, 0.0
	refused := map[string]int{}
	for _, row := range c.Explain(w) {
		if row.Filter != "" {
			refused[row.Filter]++
			continue
		}
		fit, best = fit+1, max(best, row.Score.Total)
	}
	if ok != (fit > 0) || ok && p.Decision.Best[0].Total != best {
		t.Fatalf("placed %t with %v, explained: %d fit, best %v", ok, p.Decision.Best, fit, best)
	}
	if len(refused) != len(p.Decision.Refused) || cmp.Diff(refused, p.Decision.Refused) != "" && len(refused) > 0 {
		t.Fatalf("refused %v, explained %v", p.Decision.Refused, refused)
	}
}

func benchCluster(b *testing.B, n int) (*Cluster, *api.Workload) {
	f := newFill(b)
	for i := range n {
		f.node(fmt.Sprintf("node-%05d", i), func(n *api.Node) {
			n.Zone, n.Capacity.CPU, n.Capacity.Memory = fmt.Sprintf("z%d", i%7), api.MilliCPU(4000+i%5*1000), 64<<30
			n.Labels = map[string]string{"disk": "ssd"}
		})
	}
	digest := "sha256:" + strings.Repeat("c", 64)
	w := workload("bench", func(s *api.WorkloadSpec) {
		s.Wasm.Module = digest
		s.Resources = api.Resources{CPU: 1, Memory: 1 << 10}
		s.Placement = api.Placement{Spread: &api.Spread{By: "zone"}, NodeSelector: map[string]string{"disk": "ssd"}, Affinity: []api.Affinity{{Workload: "cache", Weight: 50}}}
	})
	var held []string
	for i := 7; i < n; i += 10 {
		held = append(held, fmt.Sprintf("node-%05d", i))
	}
	c := New(f.store.View(), Signals{Holders: func(d string) []string { return map[string][]string{digest: held}[d] }})
	for _, id := range held { // and beside them what w likes to be near
		c.Reserve(id, workload("cache", func(s *api.WorkloadSpec) { s.Resources.CPU, s.Resources.Memory = 1, 1<<10 }), api.VariantWasm)
	}
	return c, w
}

// benchPlace is one placement of many of the same workload: all nodes filtered and scored.
func benchPlace(b *testing.B, n int) {
	c, w := benchCluster(b, n)
	b.ReportAllocs()
	defer reportCPU(b)()
	for b.Loop() {
		p, ok := c.Place(w)
		if !ok {
			b.Fatal(Message(p.Decision))
		}
		c.Reserve(p.NodeID, w, p.Variant)
	}
}

// reportCPU measures what a benchmark costs whatever else the machine does: the processor time of
// all threads, the garbage collector's too.
func reportCPU(b *testing.B) (end func()) {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") }
}

func BenchmarkPlace100(b *testing.B)   { benchPlace(b, 100) }
func BenchmarkPlace1000(b *testing.B)  { benchPlace(b, 1000) }
func BenchmarkPlace10000(b *testing.B) { benchPlace(b, 10_000) }

// BenchmarkPlaceFirst1000 is the first placement of a workload's version, its profile included; as in a
// plan with more than a few, that has the memory of one that is not needed any more.
func BenchmarkPlaceFirst1000(b *testing.B) {
	c, w := benchCluster(b, 1000)
	b.ReportAllocs()
	defer reportCPU(b)()
	for b.Loop() {
		c.forget(w.Ref(), nil)
		if p, ok := c.Place(w); !ok {
			b.Fatal(Message(p.Decision))
		}
	}
}
