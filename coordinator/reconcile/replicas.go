package reconcile

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/schedule"
	"github.com/cloudless/cloudless/coordinator/state"
)

// Bounds of one plan, and so of one log entry; what is over follows in the next.
const (
	maxPlacements = 1000
	maxNotes      = 1000
)

// planReplicas goes through the workloads, those of high priority first.
func (p *plan) planReplicas() {
	p.nodes = map[string]*api.Node{}
	for _, n := range p.view.Nodes() {
		p.nodes[n.ID] = n
	}
	rows := p.view.Replicas()
	of := map[api.Ref][]*api.Replica{}
	for _, r := range rows {
		of[r.Workload] = append(of[r.Workload], r)
	}
	workloads := p.view.Workloads()
	slices.SortStableFunc(workloads, func(a, b *state.Workload) int { return cmp.Compare(b.Spec.Priority, a.Spec.Priority) })
	for _, w := range workloads {
		p.planWorkload(w, of[w.Ref()])
		delete(of, w.Ref())
	}
	for _, r := range rows {
		if _, left := of[r.Workload]; left {
			p.end(r, "its workload was deleted")
		}
	}
	p.flush()
}

func (p *plan) planWorkload(w *state.Workload, rows []*api.Replica) {
	var mine []*api.Replica
	stopping := 0
	for _, r := range rows {
		switch {
		case w.Deleting:
			p.end(r, "its workload was deleted")
		case r.UID != w.Metadata.UID:
			p.end(r, "it belongs to an earlier workload of this name")
		case r.Desired == api.DesiredStop:
			p.end(r, r.Reason)
			stopping += toInt(p.ready(r.NodeID)) // what is silent frees nothing
		default:
			mine = append(mine, r)
		}
	}
	if w.Deleting {
		p.remove(w, rows)
		return
	}
	live, changed := p.orphan(w, mine)
	if changed {
		return // the copies that came back are counted in the next plan
	}
	p.advance(p.newGroup(w, live, stopping))
}

// remove drops a deleted workload once nothing of it can be reached. What runs on a lost node is
// remembered, to be stopped when the node comes back, and keeps the name no longer.
func (p *plan) remove(w *state.Workload, rows []*api.Replica) {
	for _, r := range rows {
		if r.Desired != api.DesiredStop || !p.lost(r.NodeID) {
			return
		}
	}
	p.do(state.Command{RemoveWorkload: &state.ByRef{Ref: w.Ref()}})
}

// lost tells whether a node may come back some day but counts for nothing now.
func (p *plan) lost(nodeID string) bool {
	n, ok := p.nodes[nodeID]
	return ok && n.Liveness == api.NodeLost
}

// gone tells whether a node will never come back.
func (p *plan) gone(nodeID string) bool {
	n, ok := p.nodes[nodeID]
	return !ok || n.Liveness == api.NodeLeft
}

func (p *plan) ready(nodeID string) bool {
	n, ok := p.nodes[nodeID]
	return ok && n.Liveness == api.NodeReady
}

// end makes sure that a replica stops, and forgets it when nothing of it runs any more.
func (p *plan) end(r *api.Replica, reason string) {
	switch {
	case r.State.Terminal() || p.gone(r.NodeID):
		p.forgets = append(p.forgets, r.ID)
	case r.Desired == api.DesiredRun:
		i := slices.IndexFunc(p.stops, func(g stopGroup) bool { return g.reason == reason })
		if i < 0 {
			i = len(p.stops)
			p.stops = append(p.stops, stopGroup{reason: reason})
		}
		p.stops[i].ids = append(p.stops[i].ids, r.ID)
	}
}

// orphan gives up what was on nodes that are lost, and decides on given-up copies whose node is
// back. It returns the replicas that count, and whether copies were taken back.
func (p *plan) orphan(w *state.Workload, mine []*api.Replica) (live []*api.Replica, changed bool) {
	var back []*api.Replica
	for _, r := range mine {
		switch {
		case w.Finished(r): // wherever that was
			live = append(live, r)
		case p.gone(r.NodeID):
			p.end(r, "its node left")
		case p.lost(r.NodeID):
			p.giveUp(r)
		case !r.Orphan:
			live = append(live, r)
		case p.ready(r.NodeID):
			back = append(back, r)
		}
	}
	return live, p.welcome(w, live, back)
}

func (p *plan) giveUp(r *api.Replica) {
	if r.Orphan {
		return
	}
	reason := fmt.Sprintf("node %s is lost", p.nodes[r.NodeID].Name)
	i := slices.IndexFunc(p.orphans, func(g orphanGroup) bool { return g.reason == reason })
	if i < 0 {
		i = len(p.orphans)
		p.orphans = append(p.orphans, orphanGroup{reason: reason})
	}
	p.orphans[i].ids = append(p.orphans[i].ids, r.ID)
}

// welcome takes back as many returned copies as others do not serve for; the rest is stopped. A
// replacement that is not needed then is surplus, and not serving, so it goes first.
func (p *plan) welcome(w *state.Workload, live, back []*api.Replica) bool {
	need := w.Spec.Count()
	for _, r := range live {
		if r.Version >= w.Template && p.serves(w, r) {
			need--
		}
	}
	slices.SortFunc(back, func(a, b *api.Replica) int {
		return cmp.Or(boolFirst(a.Ready, b.Ready), cmp.Compare(a.CreateIndex, b.CreateIndex), cmp.Compare(a.ID, b.ID))
	})
	taken := false
	for _, r := range back {
		alive := !r.State.Terminal() || r.State == api.ReplicaComplete
		if need > 0 && r.Version >= w.Template && alive {
			p.rejoins = append(p.rejoins, r.ID)
			need, taken = need-1, true
			continue
		}
		p.end(r, "it was replaced while its node was away")
	}
	return taken
}

// serves tells whether a replica does what it is for. On a silent node nobody knows. A job serves
// by existing.
func (p *plan) serves(w *state.Workload, r *api.Replica) bool {
	if w.Spec.IsJob() {
		return true
	}
	return r.Ready && p.ready(r.NodeID)
}

func boolFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// schedule is the cluster as the scheduler sees it, this plan's placements included.
func (p *plan) schedule() *schedule.Cluster {
	if p.cluster == nil {
		p.cluster = schedule.New(p.view, schedule.Signals{Holders: p.sig.Holders, Size: p.sig.Size, Held: p.sig.Held, FullDisks: p.sig.FullDisks, Now: p.now})
	}
	return p.cluster
}

// place puts up to n replicas on nodes and returns how many found none, with the last decision.
func (p *plan) place(w *state.Workload, n int) (missing int, why api.Decision) {
	for ; n > 0; n-- {
		if len(p.placed) == maxPlacements {
			p.wakeAt(p.now)
			return 0, why
		}
		pl, ok := p.schedule().Place(&w.Workload)
		if !ok {
			return n, pl.Decision
		}
		p.schedule().Reserve(pl.NodeID, &w.Workload, pl.Variant)
		pl.Decision.At = p.now
		p.placed = append(p.placed, api.Replica{
			ID: p.newID(w), Workload: w.Ref(), UID: w.Metadata.UID, Version: w.Metadata.Version, NodeID: pl.NodeID, Variant: pl.Variant,
			Desired: api.DesiredRun, Reserved: w.Spec.Reserve(pl.Variant), Decision: pl.Decision, State: api.ReplicaPlaced,
		})
	}
	return 0, why
}

// newID is an id that no replica has had: it follows from the workload's uid and version, the index
// of the state, which moves on when the replica is placed, and a counter within the plan.
func (p *plan) newID(w *state.Workload) string {
	for {
		p.ids++
		sum := sha256.Sum256(fmt.Appendf(nil, "%s|%d|%d|%d", w.Metadata.UID, w.Metadata.Version, p.view.Index(), p.ids))
		id := w.Metadata.Name + "-" + api.EncodeID(sum[:])[:8]
		if _, taken := p.view.Replica(id); !taken {
			return id
		}
	}
}

// note tells people why replicas found no node, once for each new reason.
func (p *plan) note(w *state.Workload, missing int, why api.Decision) {
	n := &state.NoteUnplaced{Ref: w.Ref(), Missing: missing}
	if missing > 0 {
		why.At = p.now
		n.Message, n.Decision = schedule.Message(why), &why
	}
	switch {
	case w.Unplaced == n.Missing && w.Message == n.Message:
	case p.notes == maxNotes:
		p.wakeAt(p.now)
	default:
		p.notes++
		p.do(state.Command{NoteUnplaced: n})
	}
}

// flush turns what was gathered into commands: one of a kind, however many workloads.
func (p *plan) flush() {
	notes := p.res.Commands
	p.res.Commands = nil
	for _, g := range p.orphans {
		p.do(state.Command{OrphanReplicas: &state.OrphanReplicas{IDs: g.ids, Orphan: true, Reason: g.reason}})
	}
	if len(p.rejoins) > 0 {
		p.do(state.Command{OrphanReplicas: &state.OrphanReplicas{IDs: p.rejoins, Orphan: false}})
	}
	if len(p.forgets) > 0 {
		p.do(state.Command{ForgetReplicas: &state.ByIDs{IDs: p.forgets}})
	}
	if len(p.placed) > 0 {
		p.do(state.Command{PlaceReplicas: &state.PlaceReplicas{Replicas: p.placed}})
	}
	for _, g := range p.stops {
		p.do(state.Command{StopReplicas: &state.StopReplicas{IDs: g.ids, Reason: g.reason}})
	}
	p.res.Commands = append(p.res.Commands, notes...)
}
