package schedule

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cloudless/cloudless/api"
)

// filter is one reason why a node cannot take a replica. The order is that in which they are asked;
// the first that refuses is the one reported.
type filter uint8

const (
	fits filter = iota
	byLiveness
	byDrain
	byCordon
	byDisk
	byRuntime
	byContainer
	byWasm
	byLabels
	byRegion
	byZone
	byTaints
	byAntiAffinity
	byCPU
	byMemory
	byStorage
	filterCount
)

// filterTexts are each filter's name, and how Message speaks of one node and of several.
var filterTexts = [filterCount]struct{ name, one, many string }{
	fits:           {"", "fits", "fit"},
	byLiveness:     {"liveness", "is not ready", "are not ready"},
	byDrain:        {"draining", "is draining", "are draining"},
	byCordon:       {"cordoned", "is cordoned", "are cordoned"},
	byDisk:         {"disk", "has a full disk", "have full disks"},
	byRuntime:      {"runtime", "runs neither wasm nor containers", "run neither wasm nor containers"},
	byContainer:    {"runtime.container", "runs no containers", "run no containers"},
	byWasm:         {"runtime.wasm", "runs no wasm", "run no wasm"},
	byLabels:       {"labels", "does not match the selector", "do not match the selector"},
	byRegion:       {"region", "is in another region", "are in another region"},
	byZone:         {"zone", "is in another zone", "are in another zone"},
	byTaints:       {"taints", "has a taint that is not tolerated", "have a taint that is not tolerated"},
	byAntiAffinity: {"antiAffinity", "is kept free by anti-affinity", "are kept free by anti-affinity"},
	byCPU:          {"cpu", "lacks cpu", "lack cpu"},
	byMemory:       {"memory", "lacks memory", "lack memory"},
	byStorage:      {"storage", "lacks storage", "lack storage"},
}

func (f filter) String() string { return filterTexts[f].name }

// runs says which variants a node can run, as bits.
type runs uint8

const (
	runsWasm runs = 1 << iota
	runsContainers
	runsKinds // how many values there are
)

func runsOf(n *api.Node) (r runs) {
	if n.Runs(api.VariantWasm) {
		r |= runsWasm
	}
	if n.Runs(api.VariantContainer) {
		r |= runsContainers
	}
	return r
}

// variants are what a node can run of a workload.
const (
	asWasm uint8 = iota // index into profile.needs
	asContainer
)

var variants = [...]api.Variant{asWasm: api.VariantWasm, asContainer: api.VariantContainer}

// variantOn is the variant that a node would run: the preferred one if it can, else the other.
func variantOn(r runs, s *api.WorkloadSpec) (uint8, filter) {
	order := [2]uint8{asWasm, asContainer}
	if s.Preferred == api.VariantContainer {
		order = [2]uint8{asContainer, asWasm}
	}
	for _, v := range order {
		if s.Has(variants[v]) && r&(1<<v) != 0 {
			return v, fits
		}
	}
	switch {
	case s.Wasm == nil:
		return asContainer, byContainer
	case s.Container == nil:
		return asWasm, byWasm
	}
	return order[0], byRuntime
}

// standing asks the filters that look at the node alone.
func (c *Cluster) standingOf(n *api.Node) filter {
	switch {
	case n.Liveness != api.NodeReady:
		return byLiveness
	case n.Drain != nil:
		return byDrain
	case n.Cordoned:
		return byCordon
	case c.sig.FullDisks[n.ID] != "":
		return byDisk
	}
	return fits
}

// prepare adds a node with what judge asks of it.
func (c *Cluster) prepare(n *api.Node) {
	if len(n.Taints) > 0 {
		c.tainted = append(c.tainted, int32(len(c.nodes)))
	}
	c.nodes, c.standing, c.runs = append(c.nodes, n), append(c.standing, c.standingOf(n)), append(c.runs, runsOf(n))
}

// judge asks the filters whose answer no placement changes, each of all nodes in turn: a value is
// compared as a number, so that a node costs a few instructions for each filter.
func (c *Cluster) judge(p *profile, s *api.WorkloadSpec) {
	var kinds [runsKinds]struct {
		as uint8
		f  filter
	}
	for r := range runsKinds {
		kinds[r].as, kinds[r].f = variantOn(r, s)
	}
	for i, f := range c.standing {
		k := &kinds[c.runs[i]]
		p.as[i] = k.as
		if f == fits {
			f = k.f
		}
		p.verdicts[i] = f
	}
	for key, value := range s.Placement.NodeSelector { // the order does not matter: every pair must match
		p.refuseOthers(byLabels, c.column(key), value)
	}
	if r := s.Placement.Regions; len(r) > 0 {
		p.refuseOthers(byRegion, c.column(labelRegion), r...)
	}
	if z := s.Placement.Zones; len(z) > 0 {
		p.refuseOthers(byZone, c.column(labelZone), z...)
	}
	for _, i := range c.tainted {
		if p.verdicts[i] == fits && !tolerated(c.nodes[i].Taints, s.Placement.Tolerations) {
			p.verdicts[i] = byTaints
		}
	}
}

// refuseOthers refuses, by f, the nodes whose value in the column is none of those wanted.
func (p *profile) refuseOthers(f filter, col *column, wanted ...string) {
	good := make([]bool, len(col.numbers)+1)
	for _, value := range wanted {
		if no, ok := col.numbers[value]; ok {
			good[no] = true
		}
	}
	for i, no := range col.of {
		if !good[no] && p.verdicts[i] == fits {
			p.verdicts[i] = f
		}
	}
}

// column is one label of all nodes, its values numbered from 1; 0 is a node without it.
type column struct {
	of      []int32
	numbers map[string]int32
}

// column makes a label's column when the first workload asks for it, and keeps it for the others.
func (c *Cluster) column(key string) *column {
	if col, ok := c.columns[key]; ok {
		return col
	}
	col := &column{of: make([]int32, len(c.nodes)), numbers: map[string]int32{}}
	last, lastNo := "", int32(0) // neighbours are often alike
	for i, n := range c.nodes {
		value, ok := label(n, key)
		if !ok {
			continue
		}
		if lastNo == 0 || value != last {
			no, known := col.numbers[value]
			if !known {
				no = int32(len(col.numbers)) + 1
				col.numbers[value] = no
			}
			last, lastNo = value, no
		}
		col.of[i] = lastNo
	}
	c.columns[key] = col
	return col
}

// Labels that every node has.
const (
	labelRegion = "region"
	labelZone   = "zone"
)

// label is a node's label; arch, os, region, zone and name are labels that every node has.
func label(n *api.Node, key string) (string, bool) {
	switch key {
	case "arch":
		return n.Arch, true
	case "os":
		return n.OS, true
	case labelRegion:
		return n.Region, true
	case labelZone:
		return n.Zone, true
	case "name":
		return n.Name, true
	}
	value, ok := n.Labels[key]
	return value, ok
}

func tolerated(taints []api.Taint, by []api.Toleration) bool {
	for _, t := range taints {
		if t.Effect == api.EffectNoSchedule && !slices.ContainsFunc(by, func(o api.Toleration) bool { return tolerates(o, t) }) {
			return false
		}
	}
	return true
}

func tolerates(o api.Toleration, t api.Taint) bool {
	return (o.Key == "" || o.Key == t.Key) && (o.Value == "" || o.Value == t.Value) && (o.Effect == "" || o.Effect == t.Effect)
}

// room asks the filters of resources. A dimension that is not needed is not asked.
func room(need, free *api.Reserved) filter {
	switch {
	case need.CPU > free.CPU:
		return byCPU
	case need.Memory > free.Memory:
		return byMemory
	case need.Storage > free.Storage && need.Storage > 0:
		return byStorage
	}
	return fits
}

// Message says in one line why a placement failed: "3 nodes: 2 lack memory, 1 runs no containers".
func Message(d api.Decision) string {
	if d.Nodes == 0 {
		return "the cluster has no nodes"
	}
	var parts []string
	for f := fits + 1; f < filterCount; f++ {
		text := filterTexts[f]
		switch n := d.Refused[text.name]; {
		case n == 1:
			parts = append(parts, "1 "+text.one)
		case n > 1:
			parts = append(parts, fmt.Sprintf("%d %s", n, text.many))
		}
	}
	noun := "nodes"
	if d.Nodes == 1 {
		noun = "node"
	}
	if len(parts) == 0 {
		return fmt.Sprintf("%d %s, none refused", d.Nodes, noun)
	}
	return fmt.Sprintf("%d %s: %s", d.Nodes, noun, strings.Join(parts, ", "))
}

// reason says why one node was refused.
func (c *Cluster) reason(i int, f filter, need *api.Reserved) string {
	n, free := c.nodes[i], c.free[i]
	switch f {
	case fits:
		return ""
	case byLiveness:
		return fmt.Sprintf("is %s", n.Liveness)
	case byDisk:
		return "has a full disk: " + c.sig.FullDisks[n.ID]
	case byContainer:
		if n.Runtimes.ContainersReason != "" {
			return "runs no containers: " + n.Runtimes.ContainersReason
		}
	case byCPU:
		return fmt.Sprintf("lacks cpu: %s of %s wanted", max(free.CPU, 0), need.CPU)
	case byMemory:
		return fmt.Sprintf("lacks memory: %s of %s wanted", max(free.Memory, 0), need.Memory)
	case byStorage:
		return fmt.Sprintf("lacks storage: %s of %s wanted", max(free.Storage, 0), need.Storage)
	}
	return filterTexts[f].one
}
