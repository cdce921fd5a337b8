package api

import "fmt"

// Sum fills in what follows from the nodes and the upkeep: totals, health, and why.
func (r *StorageReport) Sum() {
	r.Capacity, r.Used, r.Chunks, r.Quarantined, r.Held = 0, 0, 0, 0, 0
	ready := 0
	for _, n := range r.Nodes {
		r.Capacity += n.Stats.Capacity
		r.Used += n.Stats.Used
		r.Chunks += n.Stats.Chunks
		r.Quarantined += n.Stats.Quarantined
		r.Held += n.Stats.Held
		if n.State == StoreReady {
			ready++
		}
	}
	r.Health, r.Reasons = StorageOK, r.troubles()
	if len(r.Reasons) > 0 {
		r.Health = StorageDegraded
	}
	// What a write to a bucket with the usual number of copies needs.
	if need := min(DefaultBucketReplicas, len(r.Nodes))/2 + 1; ready < need {
		r.Health = StorageUnavailable
		r.Reasons = append([]string{fmt.Sprintf("%d of %d nodes take chunks, and a write needs %d", ready, len(r.Nodes), need)}, r.Reasons...)
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
	say(u.Lost > 0, "%d chunks are on no node that can be reached", u.Lost)
	say(u.Missing > 0, "%d copies of %d chunks are missing", u.Missing, u.Short)
	say(u.Stuck > 0, "no node has room for copies of %d chunks", u.Stuck)
	say(u.Trouble != "", "repair cannot go on: %s", u.Trouble)
	for _, n := range r.Nodes {
		why := n.trouble()
		say(why != "", "node %s %s", n.Name, why)
	}
	return out
}

// trouble says what is wrong with a node as a keeper of chunks; a drain is no trouble.
func (n *StorageNode) trouble() string {
	switch {
	case n.State == StoreLost:
		return "is lost"
	case n.Stats.Failed != "":
		return "takes no chunks: " + n.Stats.Failed
	case n.Stats.Full:
		return "is full"
	case n.State == StoreFull:
		return "is away"
	case n.Stats.Quarantined > 0:
		return fmt.Sprintf("has moved %d damaged chunks aside", n.Stats.Quarantined)
	}
	return ""
}
