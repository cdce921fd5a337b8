package reconcile

import (
	"cmp"
	"slices"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

// Reasons for stopping, as people read them.
const (
	reasonSurplus = "more replicas than asked for"
	reasonOld     = "replaced by a newer version"
	reasonDrain   = "its node is being emptied"
)

// group is one workload's replicas: those to keep, and those to be replaced because they run an old
// version or their node is being emptied.
type group struct {
	w        *state.Workload
	want     int
	keep     []member
	leaving  []member
	stopping int // told to stop, not gone yet, on nodes that answer
}

type member struct {
	*api.Replica
	serves bool
	drain  *api.Drain // of its node
	old    bool
}

func (m member) reason() string {
	if m.old {
		return reasonOld
	}
	return reasonDrain
}

func (p *plan) newGroup(w *state.Workload, live []*api.Replica, stopping int) *group {
	g := &group{w: w, want: w.Spec.Count(), stopping: stopping}
	for _, r := range live {
		m := member{Replica: r, serves: p.serves(w, r), old: r.Version < w.Template}
		if n, ok := p.nodes[r.NodeID]; ok && !r.State.Terminal() {
			m.drain = n.Drain
		}
		if m.old || m.drain != nil {
			g.leaving = append(g.leaving, m)
		} else {
			g.keep = append(g.keep, m)
		}
	}
	return g
}

func (g *group) total() int { return len(g.keep) + len(g.leaving) }

// serving counts the replicas that serve now.
func (g *group) serving() int {
	n := 0
	for _, m := range g.keep {
		n += toInt(m.serves)
	}
	for _, m := range g.leaving {
		n += toInt(m.serves)
	}
	return n
}

func toInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// advance takes a group one step nearer to what is wanted. With nothing leaving it places what is
// missing or stops what is too much. Otherwise it rolls: one more than wanted is started, and when
// that serves, one that leaves is stopped, so that no fewer serve than before.
func (p *plan) advance(g *group) {
	p.evict(g)
	p.dismiss(g, g.total()-g.want)
	p.trim(g, len(g.keep)-g.want)
	n := g.want - g.total()
	if n == 0 && len(g.leaving) > 0 && len(g.keep) < g.want && g.settled() {
		n = 1 // one more than wanted, to replace one that leaves
	}
	if n <= 0 {
		p.note(g.w, 0, api.Decision{})
		return
	}
	missing, why := p.place(g.w, n)
	switch {
	case missing == n && p.makeRoom(g), missing > 0 && g.stopping > 0:
		return // room will come, so there is nothing to tell yet
	}
	p.note(g.w, missing, why)
}

// settled tells whether all that was started for the new version, or for emptied nodes, serves.
func (g *group) settled() bool {
	return !slices.ContainsFunc(g.keep, func(m member) bool { return !m.serves })
}

// evict stops what must leave its node now: a drain that is not graceful, or whose deadline passed.
func (p *plan) evict(g *group) {
	g.leaving = slices.DeleteFunc(g.leaving, func(m member) bool {
		if m.drain == nil {
			return false
		}
		due := m.drain.Deadline
		if m.drain.Graceful && (due.IsZero() || p.now.Before(due)) {
			if !due.IsZero() {
				p.wakeAt(due)
			}
			return false
		}
		p.end(m.Replica, reasonDrain)
		g.stopping += toInt(p.ready(m.NodeID))
		return true
	})
}

// dismiss stops up to n of those that leave: first the ones that do not serve, then others as long
// as the wanted number serves without them.
func (p *plan) dismiss(g *group, n int) {
	slices.SortStableFunc(g.leaving, func(a, b member) int {
		return cmp.Or(boolFirst(!a.serves, !b.serves), boolFirst(a.drain != nil, b.drain != nil),
			cmp.Compare(a.CreateIndex, b.CreateIndex), cmp.Compare(a.ID, b.ID))
	})
	serving := g.serving()
	for ; n > 0 && len(g.leaving) > 0; n-- {
		m := g.leaving[0]
		if m.serves && serving-1 < g.want {
			return
		}
		serving -= toInt(m.serves)
		p.end(m.Replica, m.reason())
		g.leaving = g.leaving[1:]
		g.stopping += toInt(p.ready(m.NodeID))
	}
}

// trim stops n of those that stay: the ones that do not serve, then where most of the workload's
// replicas are together, then the newest.
func (p *plan) trim(g *group, n int) {
	if n <= 0 {
		return
	}
	slices.SortFunc(g.keep, func(a, b member) int {
		return cmp.Or(boolFirst(a.serves, b.serves), boolFirst(p.ready(a.NodeID), p.ready(b.NodeID)),
			cmp.Compare(a.CreateIndex, b.CreateIndex), cmp.Compare(a.ID, b.ID))
	})
	crowd := map[int]int{} // per domain, those before
	nth := map[string]int{}
	for _, m := range g.keep {
		d := p.schedule().Domain(m.NodeID, &g.w.Workload)
		nth[m.ID] = crowd[d]
		crowd[d]++
	}
	slices.SortStableFunc(g.keep, func(a, b member) int {
		return cmp.Or(boolFirst(a.serves, b.serves), boolFirst(p.ready(a.NodeID), p.ready(b.NodeID)), cmp.Compare(nth[a.ID], nth[b.ID]))
	})
	for _, m := range g.keep[len(g.keep)-n:] {
		p.end(m.Replica, reasonSurplus)
		g.stopping += toInt(p.ready(m.NodeID))
	}
	g.keep = g.keep[:len(g.keep)-n]
}

// makeRoom stops one old replica before its successor starts, if that has room nowhere else, fits in
// the old one's place, and minAvailable still serve. Without a minAvailable that is one fewer than
// wanted, or than there are: where not all that are wanted have room, waiting for them would keep the
// old version for ever. The node must have prepared the new version before: what it cannot fetch or compile never costs a copy that
// serves. It was told to (state.View.Assignments), and when it has, its heartbeat wakes the leader.
func (p *plan) makeRoom(g *group) bool {
	if g.stopping > 0 || !g.settled() {
		return false
	}
	least := min(g.want, g.total()) - 1
	if m := g.w.Spec.Rollout.MinAvailable; m != nil {
		least = *m
	}
	serving, waits := g.serving(), false
	for _, m := range g.leaving { // in the order of dismiss
		enough := !m.serves || serving-1 >= least
		if !m.old || !enough || !p.schedule().FitsInstead(m.NodeID, &g.w.Workload, m.Reserved) {
			continue
		}
		if p.prepared(m.NodeID, g.w) {
			p.end(m.Replica, reasonOld)
			return true
		}
		waits = true
	}
	return waits
}

// prepared tells whether a node has the workload's current version at hand.
func (p *plan) prepared(nodeID string, w *state.Workload) bool {
	return p.sig.Prepared == nil || p.sig.Prepared(nodeID, w.Metadata.UID, w.Metadata.Version)
}
