// Package schedule decides on which node a replica runs. It is pure: a Cluster is made from one
// state, and Place looks at every node of it, first through filters (can the replica run there?),
// then through scores (how good would that be?).
//
// Spread comes before all other scores: of the nodes that fit, one in the zone, region or node with
// the fewest replicas of the workload always wins (by node when the manifest names no spread). Among
// those decide how full the node would be, whether it holds the artifact, how reliable it has been,
// and affinity. Equal nodes are told apart by id, so the same state gives the same placement.
//
// What depends on the workload and the node alone is worked out once per workload (a profile) and
// kept, because one plan places many replicas of the same workload.
package schedule

import (
	"math"
	"slices"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

// Signals is what the log does not hold. Every field may be left out.
type Signals struct {
	Holders   func(digest string) []string // ids of the nodes that have an artifact already
	Size      func(digest string) int64    // bytes of an artifact; 0: not known
	Held      func(bucket string) Held     // what nodes have of a bucket already
	FullDisks map[string]string            // what nodes, by id, say of a disk that takes nothing new
	Now       time.Time                    // lets old failures of a node fade; zero: they count in full
}

// Held is how many bytes of a bucket are in the folders of nodes, by their ids.
type Held map[string]int64

// Placement is where a replica goes, as which variant, and why.
type Placement struct {
	NodeID   string
	Variant  api.Variant
	Decision api.Decision
}

// Cluster is a state prepared for placing: one column per property of the nodes. It is not safe for
// concurrent use.
type Cluster struct {
	index   uint64
	sig     Signals
	nodes   []*api.Node // by id; nodes that left are not among them
	byID    map[string]int
	free    []api.Reserved
	shares  []shares  // the same as packing looks at it; set by setFree
	zones   []int32   // each node's zone, by number
	regions []int32   // each node's region
	each    []int32   // each node is one
	trust   []float64 // reliability, 0 … 1

	standing []filter // what refuses every workload
	runs     []runs
	tainted  []int32 // nodes with taints
	columns  map[string]*column

	tenants  map[api.Ref]*tenant
	repels   map[api.Ref][]api.Ref // workloads whose anti-affinity names this one
	profiles []*profile
	spare    []sheet  // of profiles that were dropped; at most profilesKept
	passes   []filter // of the placement under way, one per node

	visited []uint32 // a node has been met in this walk if it is visits
	visits  uint32
}

// shares are 1/capacity, so that packing needs no division, and the parts of the node's processors and
// memory that are free, added up.
type shares struct{ perCPU, perMemory, free float64 }

// tenant lists the nodes that a workload's replicas are on, one entry a replica.
type tenant struct {
	template uint64
	all      []int32 // everything that may still run
	live     []int32 // current version, meant to run, on a node that is to stay: what spread counts
}

// New prepares the state.
func New(v state.View, sig Signals) *Cluster {
	c := &Cluster{index: v.Index(), sig: sig, byID: map[string]int{}, tenants: map[api.Ref]*tenant{}, repels: map[api.Ref][]api.Ref{}, columns: map[string]*column{}}
	for _, n := range v.Nodes() {
		if n.Liveness != api.NodeLeft {
			c.addNode(n)
		}
	}
	c.passes, c.visited = make([]filter, len(c.nodes)), make([]uint32, len(c.nodes))
	c.zones = number(c.nodes, func(n *api.Node) [2]string { return [2]string{n.Region, n.Zone} })
	c.regions = number(c.nodes, func(n *api.Node) [2]string { return [2]string{n.Region} })
	c.each = make([]int32, len(c.nodes))
	for i := range c.each {
		c.each[i] = int32(i)
	}
	for _, w := range v.Workloads() {
		c.tenant(w.Ref()).template = w.Template
		for _, a := range w.Spec.Placement.AntiAffinity {
			other := api.Ref{Namespace: w.Metadata.Namespace, Name: a.Workload}
			c.repels[other] = append(c.repels[other], w.Ref())
		}
	}
	for _, r := range v.Replicas() {
		c.addReplica(r)
	}
	return c
}

func (c *Cluster) addNode(n *api.Node) {
	c.byID[n.ID] = len(c.nodes)
	c.prepare(n)
	c.free = append(c.free, api.Reserved{})
	c.shares = append(c.shares, shares{perCPU: inverse(int64(n.Capacity.CPU)), perMemory: inverse(int64(n.Capacity.Memory))})
	c.setFree(c.byID[n.ID], n.Capacity)
	c.trust = append(c.trust, Reliability(n, c.sig.Now))
}

func (c *Cluster) setFree(i int, r api.Reserved) {
	s := &c.shares[i]
	c.free[i], s.free = r, float64(r.CPU)*s.perCPU+float64(r.Memory)*s.perMemory
}

func inverse(n int64) float64 {
	if n <= 0 {
		return 0
	}
	return 1 / float64(n)
}

// number gives equal names equal small numbers, in order of first appearance.
func number(nodes []*api.Node, name func(*api.Node) [2]string) []int32 {
	of := make([]int32, len(nodes))
	seen := map[[2]string]int32{}
	for i, n := range nodes {
		no, ok := seen[name(n)]
		if !ok {
			no = int32(len(seen))
			seen[name(n)] = no
		}
		of[i] = no
	}
	return of
}

func (c *Cluster) addReplica(r *api.Replica) {
	i, ok := c.byID[r.NodeID]
	if !ok || r.State.Terminal() {
		return
	}
	c.setFree(i, c.free[i].Sub(r.Reserved))
	t := c.tenant(r.Workload)
	t.all = append(t.all, int32(i))
	if c.counts(r, i, t) {
		t.live = append(t.live, int32(i))
	}
}

// counts tells whether spread counts a replica on node i.
func (c *Cluster) counts(r *api.Replica, i int, t *tenant) bool {
	n := c.nodes[i]
	return r.Desired == api.DesiredRun && !r.Orphan && r.Version >= t.template && n.Drain == nil && n.Liveness != api.NodeLost
}

// Remove takes one replica out, with its share; the function it returns puts it back.
func (c *Cluster) Remove(r *api.Replica) (restore func()) {
	i, ok := c.byID[r.NodeID]
	if !ok || r.State.Terminal() {
		return func() {}
	}
	t := c.tenant(r.Workload)
	was, free := *t, c.free[i]
	c.setFree(i, free.Add(r.Reserved))
	t.all = removeOne(slices.Clone(t.all), int32(i))
	if c.counts(r, i, t) {
		t.live = removeOne(slices.Clone(t.live), int32(i))
	}
	c.forget(r.Workload, nil)
	return func() {
		*t = was
		c.setFree(i, free)
		c.forget(r.Workload, nil)
	}
}

func (c *Cluster) tenant(r api.Ref) *tenant {
	t, ok := c.tenants[r]
	if !ok {
		t = &tenant{}
		c.tenants[r] = t
	}
	return t
}

// failureHalfLife is how long it takes until half of a node's failures are forgiven.
const failureHalfLife = 24 * time.Hour

// Reliability is how far a node can be trusted to stay, 0 … 1: less for each time that it was lost,
// and more again the longer its state has not changed.
func Reliability(n *api.Node, now time.Time) float64 {
	failures := float64(n.Failures)
	if quiet := now.Sub(n.ChangedAt); !now.IsZero() && quiet > 0 {
		failures *= math.Exp2(-float64(quiet) / float64(failureHalfLife))
	}
	return 1 / (1 + failures/2)
}

// Reserve takes a replica's share of a node, so that the next Place sees it.
func (c *Cluster) Reserve(nodeID string, w *api.Workload, variant api.Variant) {
	i, ok := c.byID[nodeID]
	if !ok {
		return
	}
	c.setFree(i, c.free[i].Sub(w.Spec.Reserve(variant)))
	t := c.tenant(w.Ref())
	t.all = append(t.all, int32(i))
	t.live = append(t.live, int32(i))
	c.moved(w, i, 1)
}

func removeOne(list []int32, v int32) []int32 {
	for i, x := range list {
		if x == v {
			return append(list[:i], list[i+1:]...)
		}
	}
	return list
}

// Domain numbers the zone, region or node, whichever w is spread by, that a node is in; -1 if the
// node is unknown.
func (c *Cluster) Domain(nodeID string, w *api.Workload) int {
	i, ok := c.byID[nodeID]
	if !ok {
		return -1
	}
	return int(c.domains(&w.Spec)[i])
}

// domains are the zones, regions or nodes that a workload is spread by, as numbers below the number of nodes.
func (c *Cluster) domains(s *api.WorkloadSpec) []int32 {
	if s.Placement.Spread == nil {
		return c.each
	}
	switch s.Placement.Spread.By {
	case "zone":
		return c.zones
	case "region":
		return c.regions
	}
	return c.each
}
