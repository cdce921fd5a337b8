package upkeep

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/place"
	"github.com/cloudless/cloudless/coordinator/objects"
)

// What is named of chunks for which nothing can be done: to people, and to tell that a hint is no news.
const (
	maxLostShown = 10
	maxHopeless  = 10_000
)

// findings are what a look has found: counts, which api.StorageUpkeep explains, and what is to be done.
type findings struct {
	crew
	chunks, bytes, awaited           int64
	short, missing, stuck, misplaced int64
	lost                             int64
	lostSome                         []string
	hopeless                         []string        // chunks that are lost or stuck
	gone                             map[string]bool // that could not be made of their groups before
	still                            []string        // those of gone that still are not there
	cold                             []objects.Ref   // that may go into a group
	nodes                            map[string]*api.NodeUpkeep
	work                             worklist
}

func newFindings(c crew) *findings {
	f := &findings{crew: c, nodes: make(map[string]*api.NodeUpkeep, len(c.named))}
	for _, m := range c.named {
		f.nodes[m.ID] = &api.NodeUpkeep{Node: m.ID, Name: m.Name, State: m.State}
	}
	return f
}

// take adds a page of chunks, and plans for them. refs and chunks are the same ones.
func (f *findings) take(refs []objects.Ref, chunks []place.Chunk) {
	at := make(map[string]int, len(refs))
	for i, c := range chunks {
		at[c.Digest] = i
		f.chunks++
		f.bytes += refs[i].Bytes
		f.candidate(refs[i], c)
		f.awaited += int64(c.R - place.Copies(c.R, len(f.members)))
		for _, id := range c.Holders {
			f.nodes[id].Chunks++
			f.nodes[id].Bytes += refs[i].Bytes
		}
	}
	for _, r := range place.Plan(f.members, chunks) {
		i := at[r.Digest]
		f.note(task{r, refs[i].Bytes, chunks[i].Holders})
	}
}

// note counts a chunk that is not as it is to be, and keeps what is to be done.
func (f *findings) note(t task) {
	if len(t.Copy) < t.Missing() && len(f.hopeless) < maxHopeless {
		f.hopeless = append(f.hopeless, t.Digest)
	}
	switch {
	case t.Good == 0 && (len(t.Copy) == 0 || f.gone[t.Digest]):
		f.lost++
		if f.gone[t.Digest] {
			f.still = append(f.still, t.Digest)
		}
		if len(f.lostSome) < maxLostShown {
			f.lostSome = append(f.lostSome, t.Digest)
		}
	case t.Missing() == 0:
		f.misplaced++
	default:
		f.short++
		f.missing += int64(t.Missing())
		if len(t.Copy) < t.Missing() {
			f.stuck++
		}
	}
	for _, c := range t.Copy {
		f.nodes[c.To].Gain++
	}
	for _, id := range t.Drop {
		f.nodes[id].Lose++
		f.nodes[id].LoseBytes += t.bytes
	}
	if len(t.Copy)+len(t.Drop) > 0 {
		f.work.add(t)
	}
}

// outstanding is how many chunks are not as they are to be and can be.
func (f *findings) outstanding() int64 { return f.short - f.stuck + f.misplaced }

// shown is what was found of each node, by id.
func (f *findings) shown() []api.NodeUpkeep {
	out := make([]api.NodeUpkeep, len(f.named))
	for i, m := range f.named {
		state := f.members[i].State
		out[i] = *f.nodes[m.ID]
		if state == place.Lost && m.State != api.StoreLost {
			out[i].Silent = fmt.Sprintf("it has not said for %v what it has", patience)
		}
		out[i].SafeToRemove = state == place.Draining && out[i].Chunks == 0
	}
	slices.SortFunc(out, func(a, b api.NodeUpkeep) int { return cmp.Compare(a.Node, b.Node) })
	return out
}

// unreachable are the names of the members that could not be asked.
func (f *findings) unreachable() (names []string) {
	for i, m := range f.named {
		if f.members[i].State == place.Lost {
			names = append(names, m.Name)
		}
	}
	return names
}
