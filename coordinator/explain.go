package coordinator

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/schedule"
	"github.com/cloudless/cloudless/coordinator/state"
)

// Explain gives the table of all nodes as the next replica would see it, and looks again at every
// replica's placement as if the replica were not there yet: what it takes of its own node counts
// neither against the node nor for it. Where another node would be chosen now, it says why.
func (s *Server) Explain(_ context.Context, ns, name string) (api.Explanation, error) {
	v := s.store.View()
	w, err := s.find(v, ns, name)
	if err != nil {
		return api.Explanation{}, err
	}
	c := s.placing(v)
	ex := api.Explanation{
		Workload: w.Ref(), Index: v.Index(), Nodes: c.Explain(&w.Workload), Replicas: []api.ReplicaDecision{}, Unplaced: w.Unplaced, Message: w.Message,
	}
	for _, r := range v.ReplicasOf(w.Ref()) {
		d := api.ReplicaDecision{ID: r.ID, Node: nodeName(v, r.NodeID), Decision: r.Decision}
		if r.Desired == api.DesiredRun && !r.Orphan && !r.State.Terminal() && r.Version >= w.Template {
			own, now := c.Reconsider(&w.Workload, r)
			ex.Different = append(ex.Different, difference(r, own, now)...)
			if own.NodeID != "" {
				d.Now = &own
			}
		}
		ex.Replicas = append(ex.Replicas, d)
	}
	return ex, nil
}

func nodeName(v state.View, id string) string {
	if n, ok := v.Node(id); ok {
		return n.Name
	}
	return id
}

// placing is the cluster as the leader's scheduler would see it now.
func (s *Server) placing(v state.View) *schedule.Cluster {
	stocks := s.signals.stocks()
	return schedule.New(v, schedule.Signals{Holders: holders(v, stocks), Size: sizes(v), Held: heldOn(stocks), FullDisks: s.signals.fullDisks(), Now: time.Now()})
}

// betterBy is how many points another node must be ahead to be worth a word: marks drift a little as
// nodes fill up and old failures are forgiven.
const betterBy = 1

// difference says in words why a replica would be placed elsewhere now; nothing when it would not be.
func difference(r *api.Replica, own api.NodeExplanation, now api.Decision) []string {
	head := "replica " + r.ID + ": "
	switch {
	case own.NodeID == "":
		return []string{head + "its node is no longer part of the cluster"}
	case own.Filter != "":
		return []string{fmt.Sprintf("%snode %s would now be refused by %s: %s", head, own.Node, own.Filter, own.Reason)}
	}
	best := now.Best[0] // its own node fits, so there is one
	if best.NodeID == r.NodeID || best.Total-own.Score.Total < betterBy {
		return nil
	}
	text := fmt.Sprintf("%snode %s would now be chosen, with %.1f points; node %s has %.1f", head, best.Node, best.Total, own.Node, own.Score.Total)
	return []string{text + since(r.Decision, own.Score) + "; " + ahead(best, own.Score)}
}

// since tells how a node's marks have changed since a decision that chose it.
func since(d api.Decision, now api.Score) string {
	i := slices.IndexFunc(d.Best, func(b api.Score) bool { return b.NodeID == now.NodeID })
	if i < 0 {
		return ""
	}
	if parts := compare(d.Best[i].Parts, now.Parts); parts != "" {
		return fmt.Sprintf(" (%.1f then: %s)", d.Best[i].Total, parts)
	}
	return ""
}

// ahead tells in which parts the better node is better.
func ahead(best, own api.Score) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(best.Parts)) {
		if more := best.Parts[k] - own.Parts[k]; more >= betterBy {
			out = append(out, fmt.Sprintf("%s +%.1f", k, more))
		}
	}
	if len(out) == 0 {
		return "a little of everything"
	}
	return "it is ahead by " + strings.Join(out, ", ")
}

// compare lists the parts of a score that have changed by a point or more.
func compare(then, now map[string]float64) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(then)) {
		if math.Abs(then[k]-now[k]) >= betterBy {
			out = append(out, fmt.Sprintf("%s %.1f then, %.1f now", k, then[k], now[k]))
		}
	}
	return strings.Join(out, ", ")
}
