package api

import (
	"fmt"
	"strings"
)

// Sum fills in what follows from the nodes and the upkeep: totals, health, and why.
func (r *StorageReport) Sum() {
	r.Capacity, r.Used, r.Chunks, r.Quarantined = 0, 0, 0, 0
	for _, n := range r.Nodes {
		r.Capacity += n.Stats.Capacity
		r.Used += n.Stats.Used
		r.Chunks += n.Stats.Chunks
		r.Quarantined += n.Stats.Quarantined
	}
	r.Health, r.Reasons = StorageOK, r.troubles()
	switch {
	case len(r.Nodes) == 0:
		r.Health = StorageUnavailable
	case 2*len(r.named(StoreReady)) <= len(r.Nodes):
		r.Health = StorageUnavailable
		r.Reasons = append(r.Reasons, "more than half of the nodes take no chunks, so writes may be refused")
	case len(r.Reasons) > 0:
		r.Health = StorageDegraded
	}
}

// troubles lists what a person should know, the worst first.
func (r *StorageReport) troubles() (out []string) {
	say := func(when bool, format string, args ...any) {
		if when {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	u := &r.Upkeep
	say(len(r.Nodes) == 0, "no node keeps chunks")
	say(u.Lost > 0, "%d chunks are on no node that can be reached", u.Lost)
	say(u.Missing > 0, "%d copies of %d chunks are missing", u.Missing, u.Short)
	say(u.Stuck > 0, "no node has room for copies of %d chunks", u.Stuck)
	say(u.Trouble != "", "repair cannot go on: %s", u.Trouble)
	for _, n := range r.Nodes {
		say(n.Stats.Failed != "", "node %s takes no chunks until its agent starts again: %s", n.Name, n.Stats.Failed)
	}
	for _, state := range []StoreMemberState{StoreLost, StoreFull} {
		names := r.named(state)
		say(len(names) > 0, "%s: %s", map[StoreMemberState]string{StoreLost: "nodes that cannot be reached", StoreFull: "nodes that take no chunks"}[state], strings.Join(names, ", "))
	}
	return out
}

// named are the names of the nodes in a state.
func (r *StorageReport) named(state StoreMemberState) (names []string) {
	for _, n := range r.Nodes {
		if n.State == state {
			names = append(names, n.Name)
		}
	}
	return names
}
