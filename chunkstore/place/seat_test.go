package place

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func seatsOf(members []Member) (out []string) {
	for i := range seats {
		out = append(out, Seat("g", i, members))
	}
	return out
}

// While there are six nodes that take chunks, no node has two shards of a group, zones come first, and a
// node that is lost, full or drains moves its own shard and no other.
func TestShardsHaveSeatsOfTheirOwn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := make([]Member, rapid.IntRange(seats, 10).Draw(t, "members"))
		for i := range members {
			members[i] = Member{ID: fmt.Sprint("n", i), Zone: fmt.Sprint("z", i%3), Weight: rapid.Uint64Range(1, 100).Draw(t, "weight")}
		}
		before, zones := seatsOf(members), map[string]int{}
		for _, id := range before {
			zones[byID(members)[id].Zone]++
		}
		if len(members) >= 9 && (zones["z0"] != 2 || zones["z1"] != 2 || zones["z2"] != 2) {
			t.Fatalf("zones have %v", zones)
		}
		for range rapid.IntRange(0, len(members)-seats).Draw(t, "away") {
			i := rapid.IntRange(0, len(members)-1).Draw(t, "who")
			members[i].State = rapid.SampledFrom([]State{Full, Draining, Lost}).Draw(t, "state")
		}
		after := seatsOf(members)
		for i, id := range after {
			if !byID(members)[id].takes() || slices.Index(after, id) != i {
				t.Fatalf("%v of %v", after, members)
			}
			if byID(members)[before[i]].takes() && id != before[i] {
				t.Fatalf("shard %d moves from %s to %s", i, before[i], id)
			}
		}
	})
}

// With fewer nodes every shard still has a place, and two that are lost do not share it while there is a choice.
func TestShardsHaveSeatsWhenNodesAreFew(t *testing.T) {
	var members []Member
	for i := range seats {
		members = append(members, Member{ID: fmt.Sprint("n", i), Weight: 1})
	}
	all := seatsOf(members)
	for i := range members {
		if id := members[i].ID; id == all[1] || id == all[4] {
			members[i].State = Lost
		}
	}
	some := seatsOf(members)
	if some[1] == some[4] || some[0] != all[0] || some[2] != all[2] || some[3] != all[3] || some[5] != all[5] {
		t.Errorf("%v, were %v", some, all)
	}
	if one := seatsOf(members[:0]); one[0] != "" {
		t.Errorf("with no node there is a seat: %v", one)
	}
	for n := 1; n < seats; n++ {
		of := byID(members[:n])
		for _, id := range seatsOf(members[:n]) {
			if m, ok := of[id]; ok && m.State != Ready {
				t.Errorf("%d nodes: %s is not ready", n, id)
			}
		}
	}
}

// While nobody has room there are no seats, and the full node that has a shard is where it stays.
func TestAShardStaysWithAFullNode(t *testing.T) {
	members := []Member{{ID: "a", Weight: 1, State: Draining}, {ID: "b", Weight: 1, State: Full}}
	plan := Plan(members, []Chunk{{Digest: "d", R: 1, Holders: []string{"a", "b"}, Group: "g"}})
	if want := []Repair{{Digest: "d", Good: 2, Want: 1, Drop: []string{"a"}}}; !reflect.DeepEqual(plan, want) {
		t.Errorf("%+v, want %+v", plan, want)
	}
}
