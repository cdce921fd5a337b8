package schedule

import (
	"math"

	"github.com/cloudless/cloudless/api"
)

// bestKept is how many scores a decision keeps.
const bestKept = 5

// Points of a score, 100 in all. A node in the emptiest domain gets spreadFirst, any other at most
// spreadOther, and spreadFirst is more than spreadOther and all the rest together: spread comes
// first. In the same way a node without a replica of the workload comes before one with, when the
// domain is a zone or region. tests hold these sums.
const (
	spreadFirst, spreadOther = 60.0, 19.0
	aloneFirst, aloneOther   = 24.0, 8.0
	restWithAlone            = 15.0
	restByNode               = 40.0
)

// Place finds the best node for one more replica, and false if none fits; the decision then says
// how many nodes each filter refused. It reserves nothing.
func (c *Cluster) Place(w *api.Workload) (Placement, bool) {
	p := c.profile(w)
	d := api.Decision{Index: c.index, Nodes: len(c.nodes)}
	least := c.sieve(p, &d)
	top := c.rank(p, least)
	if len(top) == 0 {
		return Placement{Decision: d}, false
	}
	d.Best = make([]api.Score, len(top))
	for k, t := range top {
		d.Best[k] = c.score(p, t.node, least)
	}
	first := top[0].node
	d.Chosen = c.nodes[first].ID
	return Placement{NodeID: d.Chosen, Variant: variants[p.as[first]], Decision: d}, true
}

// least is the fewest replicas that any domain of a fitting node has, and the fewest that a node
// within such a domain has, in one number so that the smallest is the one.
type least int64

func leastOf(domain, node int32) least { return least(domain)<<32 | least(node) }

func (l least) domain() int32 { return int32(l >> 32) }
func (l least) node() int32   { return int32(l) }

// sieve asks every node's filters, notes the answers in passes and counts the refusals. Columns in
// variables of one length spare the checks of their bounds, here and in rank.
func (c *Cluster) sieve(p *profile, d *api.Decision) least {
	var refused [filterCount]int
	low := least(math.MaxInt64)
	passes := c.passes
	n := len(passes)
	verdicts, as, free, domains, onNode, everOn := p.verdicts[:n], p.as[:n], c.free[:n], p.domains[:n], p.onNode[:n], p.everOn[:n]
	for i := range passes {
		f := verdicts[i]
		switch {
		case f != fits:
		case p.selfAnti && everOn[i] > 0:
			f = byAntiAffinity
		default:
			f = room(&p.needs[as[i]&1], &free[i])
		}
		passes[i] = f
		if f != fits {
			refused[f]++
			continue
		}
		low = min(low, leastOf(p.inDomain[domains[i]], onNode[i]))
	}
	for f := fits + 1; f < filterCount; f++ {
		if refused[f] > 0 {
			if d.Refused == nil {
				d.Refused = map[string]int{}
			}
			d.Refused[f.String()] = refused[f]
		}
	}
	return low
}

type ranked struct {
	node  int
	total float64
}

// rank scores every node that passed and keeps the best, best first.
func (c *Cluster) rank(p *profile, low least) []ranked {
	top := make([]ranked, 0, bestKept+1)
	n := len(c.passes)
	base, domains, onNode := p.base[:n], p.domains[:n], p.onNode[:n]
	domain, node := low.domain(), low.node()
	for i, f := range c.passes {
		if f != fits {
			continue
		}
		total := p.spread(p.inDomain[domains[i]]-domain) + p.alone(onNode[i]-node) + c.packing(p, i) + base[i]
		if len(top) == bestKept && total <= top[bestKept-1].total {
			continue
		}
		at := len(top)
		for at > 0 && total > top[at-1].total {
			at--
		}
		top = append(top, ranked{})
		copy(top[at+1:], top[at:])
		top[at] = ranked{i, total}
		top = top[:min(len(top), bestKept)]
	}
	return top
}

// spread is for a domain with so many replicas more than the emptiest.
func (p *profile) spread(over int32) float64 {
	if over <= 0 {
		return spreadFirst
	}
	return spreadOther / float64(over)
}

// alone is for a node with so many replicas more than the emptiest of the emptiest domain.
func (p *profile) alone(over int32) float64 {
	switch {
	case p.byNode:
		return 0
	case over <= 0:
		return aloneFirst
	}
	return aloneOther / float64(over)
}

// packing is high for a node that would be nearly full: others stay free for what is large.
func (c *Cluster) packing(p *profile, i int) float64 {
	need, s := &p.asked[p.as[i]&1], &c.shares[i]
	left := s.free - need.cpu*s.perCPU - need.memory*s.perMemory
	return p.unit * (1 - left/2)
}

// score is a node's total and its parts, as people see them.
func (c *Cluster) score(p *profile, i int, low least) api.Score {
	parts := make(map[string]float64, 6)
	total := 0.0
	add := func(name string, points float64) {
		total += points
		parts[name] = hundredths(points)
	}
	add("spread", p.spread(p.inDomain[p.domains[i]]-low.domain()))
	if !p.byNode {
		add("alone", p.alone(p.onNode[i]-low.node()))
	}
	add("packing", c.packing(p, i))
	add("locality", p.held(i))
	add("reliability", p.unit*c.trust[i])
	if p.affine {
		add("affinity", p.drawn(i))
	}
	return api.Score{NodeID: c.nodes[i].ID, Node: c.nodes[i].Name, Total: hundredths(total), Parts: parts}
}

func hundredths(f float64) float64 { return math.Round(f*100) / 100 }

// Explain gives every node's refusal or score, as the next Place would see them.
func (c *Cluster) Explain(w *api.Workload) []api.NodeExplanation {
	p := c.profile(w)
	low := c.sieve(p, &api.Decision{})
	rows := make([]api.NodeExplanation, len(c.nodes))
	for i := range c.nodes {
		rows[i] = c.row(p, i, low)
	}
	return rows
}

// row is one node's refusal or score, after sieve.
func (c *Cluster) row(p *profile, i int, low least) api.NodeExplanation {
	n, f := c.nodes[i], c.passes[i]
	row := api.NodeExplanation{NodeID: n.ID, Node: n.Name, Variant: variants[p.as[i]], Filter: f.String(), Reason: c.reason(i, f, p.need(i))}
	if f == fits {
		row.Score = c.score(p, i, low)
		row.Held, row.Needed = api.Bytes(p.near[i]), api.Bytes(p.wants[p.as[i]])
	}
	return row
}

// Reconsider looks again at a replica that is placed already: the row of its own node, empty if the
// node is not here any more, and what Place would decide, both as if the replica were not there.
func (c *Cluster) Reconsider(w *api.Workload, r *api.Replica) (own api.NodeExplanation, now api.Decision) {
	defer c.Remove(r)()
	p, _ := c.Place(w)
	if i, ok := c.byID[r.NodeID]; ok {
		prof := c.profile(w)
		own = c.row(prof, i, c.sieve(prof, &api.Decision{}))
	}
	return own, p.Decision
}

// FitsInstead tells whether a node could take a replica of w once an older one of w with share r
// has gone from it.
func (c *Cluster) FitsInstead(nodeID string, w *api.Workload, r api.Reserved) bool {
	i, ok := c.byID[nodeID]
	if !ok {
		return false
	}
	p := c.profile(w)
	free := c.free[i].Add(r)
	return p.verdicts[i] == fits && (!p.selfAnti || p.everOn[i] <= 1) && room(p.need(i), &free) == fits
}
