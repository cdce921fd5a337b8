package schedule

import (
	"slices"

	"github.com/cloudless/cloudless/api"
)

// profilesKept bounds the memory that profiles take. A plan needs them one after the other, so few are
// enough, and each new one has the memory of one that was dropped.
const profilesKept = 4

// profileKey names one version of a workload.
type profileKey struct {
	ref     api.Ref
	uid     string
	version uint64
}

// profile is what is known of every node for one workload. Counts follow Reserve and Release.
type profile struct {
	sheet
	key   profileKey
	needs [2]api.Reserved // as wasm, as container
	wants [2]int64        // bytes that it needs of artifacts and buckets, as wasm, as container
	asked [2]asked        // needs, for packing
	unit  float64         // points of a part of weight 1

	domains  []int32 // each node's domain
	byNode   bool    // the domain is the node
	selfAnti bool    // anti-affinity to itself
	affine   bool    // it has affinities
	watches  []api.Ref
}

// asked is what is needed of a node, as numbers that need no conversion for each of them.
type asked struct{ cpu, memory float64 }

func ask(r api.Reserved) asked { return asked{float64(r.CPU), float64(r.Memory)} }

// sheet is a profile's columns, one value a node in each.
type sheet struct {
	verdicts []filter
	as       []uint8   // the variant: index into variants and needs
	base     []float64 // points that no placement changes: locality, reliability, affinity
	near     []int64   // bytes that it holds already of what the workload needs
	affinity []int32   // sum of the weights of the affinities that the node satisfies
	onNode   []int32   // live replicas
	everOn   []int32   // replicas that may still run
	inDomain []int32   // live replicas of each domain, of which there are at most as many as nodes
}

// newSheet gives columns of zeros, but for those that judge and weigh write whole.
func (c *Cluster) newSheet() sheet {
	if last := len(c.spare) - 1; last >= 0 {
		s := c.spare[last]
		c.spare = c.spare[:last]
		clear(s.near)
		clear(s.affinity)
		clear(s.onNode)
		clear(s.everOn)
		clear(s.inDomain)
		return s
	}
	n := len(c.nodes)
	return sheet{
		verdicts: make([]filter, n), as: make([]uint8, n), base: make([]float64, n), near: make([]int64, n), affinity: make([]int32, n),
		onNode: make([]int32, n), everOn: make([]int32, n), inDomain: make([]int32, n),
	}
}

// drop takes profiles out, and keeps their memory for the next ones.
func (c *Cluster) drop(wrong func(*profile) bool) {
	c.profiles = slices.DeleteFunc(c.profiles, func(p *profile) bool {
		if !wrong(p) {
			return false
		}
		c.spare = append(c.spare, p.sheet)
		return true
	})
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
	if len(c.profiles) == profilesKept {
		oldest := c.profiles[0]
		c.drop(func(p *profile) bool { return p == oldest })
	}
	p := c.newProfile(w, key)
	c.profiles = append(c.profiles, p)
	return p
}

func (c *Cluster) newProfile(w *api.Workload, key profileKey) *profile {
	s := &w.Spec
	p := &profile{
		key: key, sheet: c.newSheet(), domains: c.domains(s),
		needs:  [2]api.Reserved{s.Reserve(api.VariantWasm), s.Reserve(api.VariantContainer)},
		affine: len(s.Placement.Affinity) > 0,
		byNode: s.Placement.Spread == nil || s.Placement.Spread.By == "node",
	}
	p.asked = [2]asked{ask(p.needs[asWasm]), ask(p.needs[asContainer])}
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
	c.nearArtifacts(p, &w.Spec)
	c.nearBuckets(p, &w.Spec)
	base, affinity, near := p.base[:len(c.trust)], p.affinity[:len(c.trust)], p.near[:len(c.trust)]
	for i, trust := range c.trust {
		points := p.unit * trust
		if affinity[i] > 0 {
			points += p.drawn(i)
		}
		if near[i] > 0 {
			points += p.held(i)
		}
		base[i] = points
	}
}

// drawn is what a node's neighbours are worth.
func (p *profile) drawn(i int) float64 {
	return p.unit * float64(p.affinity[i]) / affinityUnit
}

// held is what it is worth that a node holds some of the bytes that the workload needs.
func (p *profile) held(i int) float64 {
	if p.near[i] == 0 {
		return 0
	}
	return p.unit * float64(p.near[i]) / float64(p.wants[p.as[i]])
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
		c.visits++
		for _, i := range c.tenant(ref).live {
			if c.visited[i] != c.visits { // a host counts once, however many replicas it has
				c.visited[i] = c.visits
				p.affinity[i] += int32(a.Weight)
			}
		}
	}
	return sum
}

// unknownArtifact stands for the bytes of an artifact whose size is not known.
const unknownArtifact = 16 << 20

// nearArtifacts counts the artifact of the variant that a node would run. An image of a registry is unknown
// to the cluster and equally far from all.
func (c *Cluster) nearArtifacts(p *profile, s *api.WorkloadSpec) {
	for as, v := range variants {
		digest, ok := s.Digest(v)
		if !ok || c.sig.Holders == nil {
			continue
		}
		size := int64(0)
		if c.sig.Size != nil {
			size = c.sig.Size(digest)
		}
		if size <= 0 {
			size = unknownArtifact
		}
		p.wants[as] += size
		for _, id := range c.sig.Holders(digest) {
			i, known := c.byID[id]
			if known && p.as[i] == uint8(as) && p.near[i] == 0 {
				p.near[i] = size
			}
		}
	}
}

// nearBuckets counts the buckets that the workload mounts to read. What a bucket has is what the node that
// has most of it has: what no node has, none is nearer to.
func (c *Cluster) nearBuckets(p *profile, s *api.WorkloadSpec) {
	for k := range s.Volumes {
		if !s.Volumes[k].Shared() || c.sig.Held == nil {
			continue
		}
		most := int64(0)
		for id, bytes := range c.sig.Held(s.Volumes[k].Bucket) {
			if i, known := c.byID[id]; known && bytes > 0 {
				most = max(most, bytes)
				p.near[i] += bytes
			}
		}
		p.wants[0] += most
		p.wants[1] += most
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
	c.drop(func(p *profile) bool {
		own := p.key.ref == ref && (keep == nil || p.key != *keep)
		return own || slices.Contains(p.watches, ref)
	})
}
