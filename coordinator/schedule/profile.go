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
	variants []api.Variant
	needs    [2]api.Reserved // as wasm, as container
	isOCI    []uint8         // index into needs
	base     []float64       // points that no placement changes: locality, reliability, affinity
	affinity []float64       // 0 … 1, nil without affinity
	digests  [2]string       // artifacts to be near, "" for none
	unit     float64         // points of a part of weight 1

	domains  []int32 // each node's domain
	inDomain []int32 // live replicas of each domain
	onNode   []int32 // live replicas of each node
	everOn   []int32 // replicas that may still run on each node
	byNode   bool    // the domain is the node
	selfAnti bool    // anti-affinity to itself
	watches  []api.Ref
}

func (p *profile) need(i int) *api.Reserved { return &p.needs[p.isOCI[i]] }

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
	p := &profile{
		key: key, verdicts: make([]filter, n), variants: make([]api.Variant, n), isOCI: make([]uint8, n), base: make([]float64, n),
		needs:   [2]api.Reserved{s.Reserve(api.VariantWasm), s.Reserve(api.VariantContainer)},
		domains: c.domains(s), inDomain: make([]int32, n), onNode: make([]int32, n), everOn: make([]int32, n),
		byNode: s.Placement.Spread == nil || s.Placement.Spread.By == "node",
	}
	p.digests[0], _ = s.Digest(api.VariantWasm)
	p.digests[1], _ = s.Digest(api.VariantContainer)
	for i, node := range c.nodes {
		p.variants[i], p.verdicts[i] = fixed(node, s)
		if p.variants[i] == api.VariantContainer {
			p.isOCI[i] = 1
		}
	}
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
	weight := c.nearOthers(p, w)
	p.unit = restWithAlone
	if p.byNode {
		p.unit = restByNode
	}
	parts := 3.0
	if weight > 0 {
		scale := weight / affinityUnit
		parts += scale
		for i := range p.affinity {
			p.affinity[i] *= scale
		}
	}
	p.unit /= parts
	for i := range p.base {
		p.base[i] = p.unit * (c.locality(p, i) + c.trust[i])
		if p.affinity != nil {
			p.base[i] += p.unit * p.affinity[i]
		}
	}
}

// nearOthers fills affinity with the share of the weights, 0 … 1, that each node satisfies, and
// returns the sum of the weights.
func (c *Cluster) nearOthers(p *profile, w *api.Workload) float64 {
	sum := 0.0
	for _, a := range w.Spec.Placement.Affinity {
		if a.Weight == 0 {
			a.Weight = defaultAffinity
		}
		if p.affinity == nil {
			p.affinity = make([]float64, len(c.nodes))
		}
		sum += float64(a.Weight)
		ref := api.Ref{Namespace: p.key.ref.Namespace, Name: a.Workload}
		p.watches = append(p.watches, ref)
		hosts := slices.Clone(c.tenant(ref).live)
		slices.Sort(hosts)
		for _, i := range slices.Compact(hosts) {
			p.affinity[i] += float64(a.Weight)
		}
	}
	for i := range p.affinity {
		p.affinity[i] /= sum
	}
	return sum
}

// locality is 1 where the artifact is held already, 0 where it must be fetched. An image of a
// registry is unknown to the cluster and equally far from all.
func (c *Cluster) locality(p *profile, i int) float64 {
	digest := p.digests[p.isOCI[i]]
	if digest == "" || c.sig.Holds == nil || !c.sig.Holds(c.nodes[i].ID, digest) {
		return 0
	}
	return 1
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
