package place

import (
	"cmp"
	"slices"
)

// Chunk is a chunk with the nodes that have a good copy of it, as they told.
type Chunk struct {
	Digest  string
	R       int // copies that its bucket asks for
	Holders []string
	Group   string // of which it is a shard; "": of none
	Shard   int    // which one
}

// Repair is what is to be done for one chunk. The drops come after the copies, and only if all of them
// are durable: whoever carries this out can do nothing wrong by stopping in between.
type Repair struct {
	Digest string
	Good   int // copies that can be read now; 0: the chunk is lost unless a node comes back
	Want   int // copies that are to be
	Copy   []Copy
	Drop   []string
}

// Copy is a copy to be made. Without From nobody has one, and it is to be made of the chunk's group.
type Copy struct{ From, To string }

// Missing is by how many copies the chunk falls short now.
func (r Repair) Missing() int { return max(0, r.Want-r.Good) }

// Plan says what is to be done so that every chunk is where it belongs: copies that are missing are
// made, copies on draining nodes are replaced and dropped, and copies move to where Choose wants them.
// What is nearest to being lost comes first. Carried out, it leaves nothing to do. A chunk that falls
// short is named even if nothing can be done for it: nobody has it, or nobody has room. It is for the
// caller to do all this in portions, as fast as the nodes bear.
func Plan(members []Member, chunks []Chunk) []Repair {
	byID := make(map[string]Member, len(members))
	for _, m := range members {
		byID[m.ID] = m
	}
	var out []Repair
	for _, c := range chunks {
		if r := repair(byID, members, c); len(r.Copy)+len(r.Drop) > 0 || r.Missing() > 0 {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, Repair.Compare)
	return out
}

// Compare is less than 0 when r is to be done before s.
func (r Repair) Compare(s Repair) int {
	return cmp.Or(cmp.Compare(urgency(r), urgency(s)), cmp.Compare(s.Missing(), r.Missing()), cmp.Compare(r.Digest, s.Digest))
}

// urgency is the number of copies left, for a chunk that falls short; all others come after those.
// Nothing can be done for what is lost, unless it has a group, so that is last.
func urgency(r Repair) int {
	const tidy, lost = 1 << 20, 1 << 21
	switch {
	case r.Good == 0 && len(r.Copy) == 0:
		return lost
	case r.Missing() == 0:
		return tidy
	}
	return r.Good
}

func repair(byID map[string]Member, members []Member, c Chunk) Repair {
	good := readable(byID, c.Holders)
	targets := targets(members, c, good)
	r := Repair{Digest: c.Digest, Good: len(good), Want: Copies(c.R, len(members))}
	if len(good) == 0 {
		for _, to := range targets {
			if c.Group != "" {
				r.Copy = append(r.Copy, Copy{To: to})
			}
		}
		return r
	}
	from := sources(c.Digest, byID, good, targets)
	for i, to := range missing(targets, good) {
		r.Copy = append(r.Copy, Copy{From: from[i%len(from)], To: to})
	}
	if len(targets) > 0 {
		stay := len(members) - count(members, Draining)
		r.Drop = surplus(byID, good, targets, r.Want, Copies(c.R, stay))
	}
	return r
}

// targets are the nodes that are to have the chunk. A node that is full keeps what it has; one that has
// room can be given what it has not. A shard is on its seat first, then where other copies would be; while
// nobody has room there are no seats, and a shard stays with the full nodes that have it.
func targets(members []Member, c Chunk, good []string) []string {
	keeps := func(m Member) bool { return m.takes() || m.State == Full && slices.Contains(good, m.ID) }
	copies := Copies(c.R, len(members))
	home := ""
	if c.Group != "" {
		home = seat(c.Group, c.Shard, members, keeps)
	}
	if home == "" {
		return pick(rank(c.Digest, members, keeps), copies)
	}
	others := rank(c.Digest, members, func(m Member) bool { return keeps(m) && m.ID != home })
	return append([]string{home}, pick(others, copies-1)...)
}

// readable are the holders whose copy can be read, each once, in the order of their ids. One who is no
// member is not counted on.
func readable(byID map[string]Member, holders []string) []string {
	var good []string
	for _, id := range holders {
		if m, ok := byID[id]; ok && m.State != Lost {
			good = append(good, id)
		}
	}
	slices.Sort(good)
	return slices.Compact(good)
}

// missing are those of want that are not in have.
func missing(want, have []string) (out []string) {
	for _, id := range want {
		if !slices.Contains(have, id) {
			out = append(out, id)
		}
	}
	return out
}

// sources are the nodes to copy from: those that are to let go first, so that they are done, then the
// others, as the chunk draws them, so that they share the work.
func sources(digest string, byID map[string]Member, good, targets []string) []string {
	chunk := hash(digest)
	leaves := func(id string) int {
		switch {
		case byID[id].State == Draining:
			return 0
		case !slices.Contains(targets, id):
			return 1
		}
		return 2
	}
	out := slices.Clone(good)
	slices.SortFunc(out, func(a, b string) int {
		return cmp.Or(cmp.Compare(leaves(a), leaves(b)), cmp.Compare(draw(chunk, a), draw(chunk, b)), cmp.Compare(a, b))
	})
	return out
}

// surplus are the good copies that are not wanted where they are. While there are fewer targets than
// copies to be, a copy in the wrong place is better than none; only draining nodes let go of theirs, when
// there is nobody left who could be given one: enough is as many copies as there can be without them.
func surplus(byID map[string]Member, good, targets []string, want, enough int) []string {
	extra := missing(good, targets)
	switch {
	case len(targets) < enough:
		return nil
	case len(targets) < want:
		extra = slices.DeleteFunc(extra, func(id string) bool { return byID[id].State != Draining })
	}
	return extra
}

func count(members []Member, s State) (n int) {
	for _, m := range members {
		if m.State == s {
			n++
		}
	}
	return n
}
