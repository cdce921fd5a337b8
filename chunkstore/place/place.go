// Package place decides which nodes hold which chunks, and what to copy and drop so that they do. It
// is pure: the same members and holdings give the same answer on every machine.
//
// A chunk's nodes are found by weighted rendezvous hashing: each member draws a number from the
// chunk's digest and its own id, and the best numbers win. So a member that joins or leaves moves only
// the chunks that it wins or had won. Zones come first: a zone gets its second copy when every zone
// that has room has its first.
package place

import (
	"cmp"
	"math/bits"
	"slices"
)

// State is what a member may take part in.
type State int

const (
	Ready    State = iota // takes chunks
	Full                  // keeps what it has and takes nothing: a full disk, or a node that is suspect
	Draining              // keeps what it has until it has been copied elsewhere
	Lost                  // what it has cannot be reached; it stays a member until it is removed
)

// Member is a node that takes part in the store.
type Member struct {
	ID     string
	Zone   string
	Weight uint64 // its capacity, in a unit that all share; 0 takes nothing
	State  State
}

// Copies is how many copies of a chunk there are to be: r, or one on each member if those are fewer.
// Every member counts, whatever its state, so that an outage does not lower it.
func Copies(r, members int) int { return max(0, min(r, members)) }

// Quorum is how many of Copies must be durable before a write is acknowledged.
func Quorum(r, members int) int { return Copies(r, members)/2 + 1 }

// takes tells whether a member may be given a chunk that it does not have.
func (m Member) takes() bool { return m.State == Ready && m.Weight > 0 }

// Choose gives the members that are to hold a new chunk, the best first: Copies of them, or fewer when
// fewer can take one. To write to others when one of these fails, go on with those of Order.
func Choose(digest string, members []Member, r int) []string {
	order := Order(digest, members)
	return order[:min(len(order), Copies(r, len(members)))]
}

// Order is all members that can take a chunk, in the order in which it goes to them.
func Order(digest string, members []Member) []string {
	return pick(rank(digest, members, Member.takes), len(members))
}

// ranked is a member with what it has drawn; the smallest wins.
type ranked struct {
	member Member
	draw   uint64 // of an exponential distribution, still to be divided by the weight
}

// compare compares draw/weight without dividing.
func (a ranked) compare(b ranked) int {
	ahi, alo := bits.Mul64(a.draw, b.member.Weight)
	bhi, blo := bits.Mul64(b.draw, a.member.Weight)
	return cmp.Or(cmp.Compare(ahi, bhi), cmp.Compare(alo, blo), cmp.Compare(a.member.ID, b.member.ID))
}

// rank is the members that may, the best first.
func rank(digest string, members []Member, may func(Member) bool) []ranked {
	chunk := hash(digest)
	out := make([]ranked, 0, len(members))
	for _, m := range members {
		if may(m) && m.Weight > 0 {
			out = append(out, ranked{m, draw(chunk, m.ID)})
		}
	}
	slices.SortFunc(out, ranked.compare)
	return out
}

// pick takes up to n members, each time the best of a zone that has the fewest so far: the best of each zone,
// then the second of each, and so on.
func pick(order []ranked, n int) []string {
	turns, zones := make([]int, len(order)), map[string]int{}
	for i, r := range order {
		turns[i] = zones[r.member.Zone]*len(order) + i // by how many of its zone come before, then in the order
		zones[r.member.Zone]++
	}
	slices.Sort(turns)
	out := make([]string, max(0, min(n, len(order))))
	for i := range out {
		out[i] = order[turns[i]%len(order)].member.ID
	}
	return out
}

// draw is -log2(u) for a u in (0, 1] that comes from the digest and the id: a number of an exponential
// distribution, with 32 bits behind the point. Divided by the weights these draws give each member its
// share (Efraimidis and Spirakis, Weighted random sampling with a reservoir, 2006). Whole numbers
// only: floating point may differ from one processor to the next, and then nodes would not agree.
func draw(chunk uint64, id string) uint64 {
	return 64<<fraction - log2(mix(chunk^hash(id))|1)
}

// hash is FNV-1a, whose bits mix then makes depend on each other.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix is the last step of SplitMix64 (Steele, Lea and Flood, 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

const fraction = 32

// log2 is the binary logarithm of x > 0, with 32 bits behind the point: the whole part is the place of
// the highest bit, and each further bit comes of squaring what is left.
func log2(x uint64) uint64 {
	whole := uint64(bits.Len64(x) - 1)
	m := x << (63 - whole) // in [1, 2), with 63 bits behind the point
	out := whole
	for range fraction {
		hi, lo := bits.Mul64(m, m) // in [1, 4), with 126 bits behind the point
		out <<= 1
		if hi>>63 == 1 { // at least 2
			out |= 1
			m = hi
		} else {
			m = hi<<1 | lo>>63
		}
	}
	return out
}
