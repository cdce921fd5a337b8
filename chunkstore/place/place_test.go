package place

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestCopiesAndQuorum(t *testing.T) {
	for _, c := range []struct{ r, members, copies, quorum int }{
		{3, 0, 0, 1}, {3, 1, 1, 1}, {3, 2, 2, 2}, {3, 3, 3, 2}, {3, 9, 3, 2}, {1, 9, 1, 1}, {2, 9, 2, 2}, {4, 9, 4, 3}, {5, 4, 4, 3},
	} {
		if got := Copies(c.r, c.members); got != c.copies {
			t.Errorf("%d copies on %d members: %d, want %d", c.r, c.members, got, c.copies)
		}
		if got := Quorum(c.r, c.members); got != c.quorum {
			t.Errorf("quorum of %d copies on %d members: %d, want %d", c.r, c.members, got, c.quorum)
		}
	}
}

func TestLog2(t *testing.T) {
	for _, x := range []uint64{1, 2, 3, 5, 1000, 1 << 40, 1<<40 + 12345, 1 << 63, math.MaxUint64} {
		got, want := float64(log2(x))/(1<<fraction), math.Log2(float64(x))
		if math.Abs(got-want) > 1e-8 {
			t.Errorf("log2(%d) = %v, want %v", x, got, want)
		}
	}
	if log2(1) != 0 || log2(1<<63) != 63<<fraction {
		t.Error("powers of two are not whole")
	}
}

// The choice must never change: chunks would move for nothing.
func TestGoldenChoice(t *testing.T) {
	var members []Member
	for i := range 6 {
		members = append(members, Member{ID: fmt.Sprint("n", i), Zone: fmt.Sprint("z", i%3), Weight: uint64(100 * (i + 1))})
	}
	got := map[string][]string{}
	for _, d := range []string{"sha256:aa", "sha256:bb", "sha256:cc"} {
		got[d] = Order(d, members)
	}
	want := map[string][]string{
		"sha256:aa": {"n2", "n3", "n4", "n5", "n1", "n0"},
		"sha256:bb": {"n2", "n1", "n0", "n4", "n5", "n3"},
		"sha256:cc": {"n1", "n3", "n5", "n2", "n4", "n0"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func digests(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("sha256:%064x", i)
	}
	return out
}

// Each node gets its share by weight: within four standard deviations of it.
func TestBalanceByWeight(t *testing.T) {
	members := []Member{{ID: "a", Weight: 1}, {ID: "b", Weight: 2}, {ID: "c", Weight: 3}, {ID: "d", Weight: 10}}
	const n = 20_000
	got := map[string]int{}
	for _, d := range digests(n) {
		got[Choose(d, members, 1)[0]]++
	}
	for _, m := range members {
		p := float64(m.Weight) / 16
		if want, dev := n*p, math.Sqrt(n*p*(1-p)); math.Abs(float64(got[m.ID])-want) > 4*dev {
			t.Errorf("%s has %d chunks, want %.0f ± %.0f", m.ID, got[m.ID], want, 4*dev)
		}
	}
}

// A member that joins takes what it wins, and nothing else moves; so too when it leaves again.
func TestJoiningMovesOnlyWhatTheNewcomerWins(t *testing.T) {
	var members []Member
	for i := range 9 {
		members = append(members, Member{ID: fmt.Sprint("n", i), Zone: "z", Weight: 10})
	}
	more := append(slices.Clone(members), Member{ID: "new", Zone: "z", Weight: 10})
	const n = 5000
	moved := 0
	for _, d := range digests(n) {
		before, after := Choose(d, members, 3), Choose(d, more, 3)
		gone := missing(before, after)
		came := missing(after, before)
		if len(came) == 0 {
			continue
		}
		if !slices.Equal(came, []string{"new"}) || len(gone) != 1 {
			t.Fatalf("%s moved from %v to %v", d, before, after)
		}
		moved++
	}
	if want := n * 3 / 10; moved < want*9/10 || moved > want*11/10 {
		t.Errorf("%d copies moved, want about %d", moved, want)
	}
}

func drawMembers(t *rapid.T) []Member {
	n := rapid.IntRange(1, 9).Draw(t, "members")
	out := make([]Member, n)
	for i := range out {
		out[i] = Member{
			ID:     fmt.Sprint("n", i),
			Zone:   rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "zone"),
			Weight: rapid.Uint64Range(1, 1000).Draw(t, "weight"),
			State:  rapid.SampledFrom([]State{Ready, Ready, Ready, Full, Draining, Lost}).Draw(t, "state"),
		}
	}
	return out
}

func byID(members []Member) map[string]Member {
	out := map[string]Member{}
	for _, m := range members {
		out[m.ID] = m
	}
	return out
}

// No two copies of a chunk are in one zone while another zone has room.
func TestZonesComeFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := drawMembers(t)
		r := rapid.IntRange(1, 5).Draw(t, "r")
		chosen := Choose(rapid.String().Draw(t, "digest"), members, r)
		of := byID(members)
		used, room, ready := map[string]int{}, map[string]int{}, 0
		for _, m := range members {
			if m.takes() {
				room[m.Zone]++
				ready++
			}
		}
		for _, id := range chosen {
			if !of[id].takes() {
				t.Fatalf("%s is %v", id, of[id])
			}
			used[of[id].Zone]++
		}
		if want := min(r, ready); len(chosen) != want || len(slices.Compact(slices.Sorted(slices.Values(chosen)))) != want {
			t.Fatalf("chose %v, want %d", chosen, want)
		}
		for zone, n := range room {
			for other, m := range used {
				if used[zone] < n && m > used[zone]+1 {
					t.Fatalf("%d copies in %q, %d in %q, which has room", m, other, used[zone], zone)
				}
			}
		}
	})
}

// The order in which members are named changes nothing.
func TestTheOrderOfMembersDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := drawMembers(t)
		shuffled := rapid.Permutation(members).Draw(t, "shuffled")
		if a, b := Order("d", members), Order("d", shuffled); !slices.Equal(a, b) {
			t.Fatalf("%v and %v", a, b)
		}
	})
}

func drawChunks(t *rapid.T, members []Member) []Chunk {
	var out []Chunk
	for i := range rapid.IntRange(1, 5).Draw(t, "chunks") {
		c := Chunk{Digest: fmt.Sprint("d", i), R: rapid.IntRange(1, 4).Draw(t, "r")}
		if rapid.Bool().Draw(t, "grouped") {
			c.Group, c.Shard = "g", rapid.IntRange(0, seats-1).Draw(t, "shard")
		}
		for _, m := range members {
			if rapid.Bool().Draw(t, "holds") {
				c.Holders = append(c.Holders, m.ID)
			}
		}
		out = append(out, c)
	}
	return out
}

// apply does what a plan says, and checks each step as it goes.
func apply(t *rapid.T, members []Member, chunks []Chunk, plan []Repair) []Chunk {
	of := byID(members)
	held := map[string]map[string]bool{}
	for _, c := range chunks {
		held[c.Digest] = map[string]bool{}
		for _, id := range c.Holders {
			held[c.Digest][id] = true
		}
	}
	for _, r := range plan {
		h := held[r.Digest]
		for _, c := range r.Copy {
			if made := c.From == "" && r.Good == 0; !made && (!h[c.From] || of[c.From].State == Lost) || h[c.To] || !of[c.To].takes() {
				t.Fatalf("%+v of %v is impossible", c, h)
			}
			h[c.To] = true
		}
		for _, id := range r.Drop {
			if !h[id] || of[id].State == Lost {
				t.Fatalf("dropping %s of %v", id, h)
			}
			delete(h, id)
		}
		good := 0
		for id := range h {
			if of[id].State != Lost {
				good++
			}
		}
		if good == 0 && len(r.Drop) > 0 {
			t.Fatalf("the last good copy was dropped: %+v", r)
		}
		if r.Good > 0 && good < min(r.Good, r.Want) && !drained(of, r.Drop) {
			t.Fatalf("%d good copies became %d of %d: %+v", r.Good, good, r.Want, r)
		}
	}
	out := slices.Clone(chunks)
	for i, c := range out {
		out[i].Holders = slices.Sorted(maps.Keys(held[c.Digest]))
	}
	return out
}

func drained(of map[string]Member, ids []string) bool {
	return slices.ContainsFunc(ids, func(id string) bool { return of[id].State == Draining })
}

// A plan can be carried out, never drops the last good copy, and leaves nothing to plan; no chunk is
// then on a draining node, unless there is nowhere else for it.
func TestPlansConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := drawMembers(t)
		chunks := drawChunks(t, members)
		after := apply(t, members, chunks, Plan(members, chunks))
		for _, r := range Plan(members, after) {
			if len(r.Copy)+len(r.Drop) > 0 {
				t.Fatalf("still to do: %+v", r)
			}
		}
		of := byID(members)
		for _, c := range after {
			checkPlaced(t, of, members, c)
		}
	})
}

func checkPlaced(t *rapid.T, of map[string]Member, members []Member, c Chunk) {
	good := readable(of, c.Holders)
	if len(good) == 0 {
		return
	}
	var settled, ready int
	for _, id := range good {
		if of[id].State == Ready || of[id].State == Full {
			settled++
		}
	}
	for _, m := range members {
		if m.takes() {
			ready++
		}
	}
	if enough := Copies(c.R, len(members)-count(members, Draining)); drained(of, good) && settled > 0 && settled >= enough {
		t.Fatalf("%+v is still on a draining node", c)
	}
	if want := min(Copies(c.R, len(members)), ready); settled < want {
		t.Fatalf("%+v has %d copies, %d can be", c, settled, want)
	}
}

func TestStories(t *testing.T) {
	members := func(states ...State) []Member {
		var out []Member
		for i, s := range states {
			out = append(out, Member{ID: string(rune('a' + i)), Zone: string(rune('a' + i)), Weight: 1, State: s})
		}
		return out
	}
	for _, c := range []struct {
		name    string
		members []Member
		r       int
		holders []string
		want    []Repair
	}{
		{"all is well", members(Ready, Ready, Ready), 3, []string{"a", "b", "c"}, nil},
		{"a copy is missing", members(Ready, Ready), 2, []string{"a"}, []Repair{{Good: 1, Want: 2, Copy: []Copy{{"a", "b"}}}}},
		{"nobody has it", members(Ready, Ready), 2, nil, []Repair{{Good: 0, Want: 2}}},
		{"only a lost node has it", members(Ready, Lost), 2, []string{"b"}, []Repair{{Good: 0, Want: 2}}},
		{"a lost node's copy is made anew", members(Ready, Lost, Ready), 2, []string{"a", "b"}, []Repair{{Good: 1, Want: 2, Copy: []Copy{{"a", "c"}}}}},
		{"draining is copy, then drop", members(Draining, Ready), 1, []string{"a"}, []Repair{{Good: 1, Want: 1, Copy: []Copy{{"a", "b"}}, Drop: []string{"a"}}}},
		{"the last node drains: it keeps all", members(Draining), 1, []string{"a"}, nil},
		{"nothing can be taken: it keeps all", members(Draining, Full), 1, []string{"a"}, nil},
		{"fewer nodes than copies: a drain ends all the same", members(Draining, Ready), 2, []string{"a", "b"}, []Repair{{Good: 2, Want: 2, Drop: []string{"a"}}}},
		{"a lost node may come back: a drain does not end with fewer copies", members(Draining, Ready, Lost), 2, []string{"a", "b"}, nil},
		{"a full node keeps its copy", members(Full, Ready), 2, []string{"a", "b"}, nil},
		{"a full node is given nothing", members(Full, Ready), 2, []string{"b"}, []Repair{{Good: 1, Want: 2}}},
		{"one who is no member counts for nothing", members(Ready, Ready), 2, []string{"x", "a"}, []Repair{{Good: 1, Want: 2, Copy: []Copy{{"a", "b"}}}}},
		{"a holder that is named twice", members(Ready, Ready), 2, []string{"a", "a"}, []Repair{{Good: 1, Want: 2, Copy: []Copy{{"a", "b"}}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Plan(c.members, []Chunk{{Digest: "", R: c.r, Holders: c.holders}})
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatIsNearestToLossComesFirst(t *testing.T) {
	var members []Member
	for i := range 4 {
		members = append(members, Member{ID: string(rune('a' + i)), Weight: 1})
	}
	all := []string{"a", "b", "c", "d"}
	plan := Plan(members, []Chunk{
		{Digest: "surplus", R: 3, Holders: all},
		{Digest: "lost", R: 3},
		{Digest: "two of three", R: 3, Holders: all[:2]},
		{Digest: "one of two", R: 2, Holders: all[3:]},
		{Digest: "one of four", R: 4, Holders: all[:1]},
		{Digest: "none, and a group", R: 1, Group: "g"},
	})
	var got []string
	for _, r := range plan {
		got = append(got, r.Digest)
	}
	if diff := cmp.Diff([]string{"none, and a group", "one of four", "one of two", "two of three", "surplus", "lost"}, got); diff != "" {
		t.Error(diff)
	}
}

// Chunks that fall short are copied from all who have them, not from one alone.
func TestSourcesShareTheWork(t *testing.T) {
	members := []Member{{ID: "a", Weight: 1}, {ID: "b", Weight: 1}, {ID: "c", Weight: 1}}
	from := map[string]int{}
	for _, d := range digests(1_000) {
		for _, r := range Plan(members, []Chunk{{Digest: d, R: 3, Holders: []string{"a", "b"}}}) {
			from[r.Copy[0].From]++
		}
	}
	if from["a"] < 450 || from["b"] < 450 || from["a"]+from["b"] != 1_000 {
		t.Errorf("1,000 chunks are copied from %v", from)
	}
}

func BenchmarkPlan(b *testing.B) {
	var members []Member
	for i := range 20 {
		members = append(members, Member{ID: fmt.Sprint("n", i), Zone: fmt.Sprint("z", i%4), Weight: 100})
	}
	var chunks []Chunk
	for _, d := range digests(10_000) {
		chunks = append(chunks, Chunk{Digest: d, R: 3, Holders: Choose(d, members, 3)})
	}
	members[0].State = Lost
	for b.Loop() {
		Plan(members, chunks)
	}
	b.ReportMetric(float64(len(chunks))*float64(b.N)/b.Elapsed().Seconds(), "chunks/s")
}
