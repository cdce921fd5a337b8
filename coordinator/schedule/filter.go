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

// variantOn is the variant that a node would run: the preferred one if it can, else the other.
func variantOn(n *api.Node, s *api.WorkloadSpec) (api.Variant, filter) {
	order := [2]api.Variant{api.VariantWasm, api.VariantContainer}
	if s.Preferred == api.VariantContainer {
		order[0], order[1] = order[1], order[0]
	}
	for _, v := range order {
		if s.Has(v) && n.Runs(v) {
			return v, fits
		}
	}
	switch {
	case s.Wasm == nil:
		return api.VariantContainer, byContainer
	case s.Container == nil:
		return api.VariantWasm, byWasm
	}
	return order[0], byRuntime
}

// fixed asks the filters whose answer no placement changes.
func fixed(n *api.Node, s *api.WorkloadSpec) (api.Variant, filter) {
	v, f := variantOn(n, s)
	p := &s.Placement
	switch {
	case n.Liveness != api.NodeReady:
		return v, byLiveness
	case n.Drain != nil:
		return v, byDrain
	case n.Cordoned:
		return v, byCordon
	case f != fits:
		return v, f
	case !selected(n, p.NodeSelector):
		return v, byLabels
	case len(p.Regions) > 0 && !slices.Contains(p.Regions, n.Region):
		return v, byRegion
	case len(p.Zones) > 0 && !slices.Contains(p.Zones, n.Zone):
		return v, byZone
	case len(n.Taints) > 0 && !tolerated(n.Taints, p.Tolerations):
		return v, byTaints
	}
	return v, fits
}

// label is a node's label; arch, os, region, zone and name are labels that every node has.
func label(n *api.Node, key string) (string, bool) {
	switch key {
	case "arch":
		return n.Arch, true
	case "os":
		return n.OS, true
	case "region":
		return n.Region, true
	case "zone":
		return n.Zone, true
	case "name":
		return n.Name, true
	}
	value, ok := n.Labels[key]
	return value, ok
}

func selected(n *api.Node, want map[string]string) bool {
	all := true
	for k, v := range want { // the order does not matter: every pair must match
		have, ok := label(n, k)
		all = all && ok && have == v
	}
	return all
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
