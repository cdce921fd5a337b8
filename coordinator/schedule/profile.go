package schedule

import (
	"slices"

	"github.com/cloudless/cloudless/api"
)

// profilesKept bounds the memory that profiles take; a plan needs them one after the other.
const profilesKept = 16

// profileKey names one version of a workload.
type profileKey struct {
	ref     api.Ref
	uid     string
	version uint64
}

// profile is what is known of every node for one workload. Counts follow Reserve and Release.
type profile struct {
	key      profileKey
	verdicts []filter
	as       []uint8         // the variant on each node: index into variants and needs
	needs    [2]api.Reserved // as wasm, as container
	base     []float64       // points that no placement changes: locality, reliability, affinity
	near     []bool          // holds the artifact already; nil if no node does
	affinity []int32         // sum of the weights of the affinities that the node satisfies; nil if none does
	unit     float64         // points of a part of weight 1

	domains  []int32 // each node's domain
	inDomain []int32 // live replicas of each domain
	onNode   []int32 // live replicas of each node
	everOn   []int32 // replicas that may still run on each node
	byNode   bool    // the domain is the node
	selfAnti bool    // anti-affinity to itself
	affine   bool    // it has affinities
	watches  []api.Ref
}

func (p *profile) need(i int) *api.Reserved { return &p.needs[p.as[i]] }

// profile finds or makes the profile of w. A workload is told apart by its name, uid and version.
func (c *Cluster) profile(w *api.Workload) *profile {
	key := profileKey{w.Ref(), w.Metadata.UID, w.Metadata.Version}
	for _, p := range c.profiles {
		if p.key == key {
			return p
		}
	}
	p := c.newProfile(w, key)
	if len(c.profiles) == profilesKept {
		c.profiles = slices.Delete(c.profiles, 0, 1)
	}
	c.profiles = append(c.profiles, p)
	return p
}

func (c *Cluster) newProfile(w *api.Workload, key profileKey) *profile {
	n, s := len(c.nodes), &w.Spec
	domains := c.domains(s)
	counts := make([]int32, 2*n+domains.count)
	p := &profile{
		key: key, verdicts: make([]filter, n), as: make([]uint8, n), base: make([]float64, n),
		needs:   [2]api.Reserved{s.Reserve(api.VariantWasm), s.Reserve(api.VariantContainer)},
		domains: domains.of, onNode: counts[:n:n], everOn: counts[n : 2*n : 2*n], inDomain: counts[2*n:],
		affine: len(s.Placement.Affinity) > 0,
		byNode: s.Placement.Spread == nil || s.Placement.Spread.By == "node",
	}
	c.judge(p, s)
	c.countOwn(p, key.ref)
	c.keepApart(p, w)
	c.weigh(p, w)
	return p
}

func (c *Cluster) countOwn(p *profile, ref api.Ref) {
	t := c.tenant(ref)
	for _, i := range t.all {
		p.everOn[i]++
	}
	for _, i := range t.live {
		p.onNode[i]++
		p.inDomain[p.domains[i]]++
	}
}

// keepApart refuses the nodes that run what w must not be with, whichever of the two says so.
func (c *Cluster) keepApart(p *profile, w *api.Workload) {
	apart := slices.Clone(c.repels[p.key.ref])
	for _, a := range w.Spec.Placement.AntiAffinity {
		apart = append(apart, api.Ref{Namespace: p.key.ref.Namespace, Name: a.Workload})
	}
	for _, ref := range apart {
		if ref == p.key.ref {
			p.selfAnti = p.selfAnti || slices.Contains(w.Spec.Placement.AntiAffinity, api.AntiAffinity{Workload: ref.Name})
			continue
		}
		p.watches = append(p.watches, ref)
		for _, i := range c.tenant(ref).all {
			if p.verdicts[i] == fits {
				p.verdicts[i] = byAntiAffinity
			}
		}
	}
}

const (
	defaultAffinity = 50   // weight of an affinity that names none
	affinityUnit    = 25.0 // affinity of this weight counts as much as packing
)

// weigh adds up the parts of the score that stay. Packing, locality and reliability weigh 1 each.
func (c *Cluster) weigh(p *profile, w *api.Workload) {
	parts := 3 + float64(c.nearOthers(p, w))/affinityUnit
	p.unit = restWithAlone / parts
	if p.byNode {
		p.unit = restByNode / parts
	}
	for i, trust := range c.trust {
		p.base[i] = p.unit * trust
	}
	for i := range p.affinity {
		p.base[i] += p.drawn(i)
	}
	c.nearArtifacts(p, &w.Spec)
}

// drawn is what a node's neighbours are worth.
func (p *profile) drawn(i int) float64 {
	if p.affinity == nil {
		return 0
	}
	return p.unit * float64(p.affinity[i]) / affinityUnit
}

// held is what it is worth that a node holds the artifact.
func (p *profile) held(i int) float64 {
	if p.near == nil || !p.near[i] {
		return 0
	}
	return p.unit
}

// nearOthers adds up for each node the weights of the affinities that it satisfies, and returns the
// sum of all weights.
func (c *Cluster) nearOthers(p *profile, w *api.Workload) (sum int32) {
	for _, a := range w.Spec.Placement.Affinity {
		if a.Weight == 0 {
			a.Weight = defaultAffinity
		}
		sum += int32(a.Weight)
		ref := api.Ref{Namespace: p.key.ref.Namespace, Name: a.Workload}
		p.watches = append(p.watches, ref)
		hosts := c.tenant(ref).live
		if p.affinity == nil && len(hosts) > 0 {
			p.affinity = make([]int32, len(c.nodes))
		}
		c.visits++
		for _, i := range hosts {
			if c.visited[i] != c.visits { // a host counts once, however many replicas it has
				c.visited[i] = c.visits
				p.affinity[i] += int32(a.Weight)
			}
		}
	}
	return sum
}

// nearArtifacts favours the nodes that hold the artifact of the variant that they would run. An
// image of a registry is unknown to the cluster and equally far from all.
func (c *Cluster) nearArtifacts(p *profile, s *api.WorkloadSpec) {
	for as, v := range variants {
		digest, ok := s.Digest(v)
		if !ok || c.sig.Holders == nil {
			continue
		}
		for _, id := range c.sig.Holders(digest) {
			i, known := c.byID[id]
			if !known || p.as[i] != uint8(as) || p.near != nil && p.near[i] {
				continue
			}
			if p.near == nil {
				p.near = make([]bool, len(c.nodes))
			}
			p.near[i] = true
			p.base[i] += p.unit
		}
	}
}

// moved follows one replica of w that came to node i or went from it: its own profile counts it,
// and profiles that look at w are made anew.
func (c *Cluster) moved(w *api.Workload, i int, by int32) {
	key := profileKey{w.Ref(), w.Metadata.UID, w.Metadata.Version}
	c.forget(key.ref, &key)
	for _, p := range c.profiles {
		if p.key == key {
			p.everOn[i] += by
			p.onNode[i] += by
			p.inDomain[p.domains[i]] += by
		}
	}
}

// forget drops the profiles that a move of ref's replicas makes wrong, but for the one kept.
func (c *Cluster) forget(ref api.Ref, keep *profileKey) {
	c.profiles = slices.DeleteFunc(c.profiles, func(p *profile) bool {
		own := p.key.ref == ref && (keep == nil || p.key != *keep)
		return own || slices.Contains(p.watches, ref)
	})
}
