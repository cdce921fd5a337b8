// Package converge decides what a node does about the assignments it is given. It is pure: Step is a
// function of what the node has, what it is told and the time, and its answer is a list of actions
// that agent/supervise carries out.
//
// The rule behind all others: what runs is stopped only on a word that can be trusted. Silence is no
// word, an older set is refused, and a set of a new epoch (a cluster founded anew, restored, or
// recovered without its quorum) may have forgotten replicas that still serve.
package converge

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cloudless/cloudless/api"
)

// EmptyGrace is how long an empty set of a new epoch stops nothing: coordinators that lost their
// state must not take every workload with them before someone has looked.
const EmptyGrace = 10 * time.Minute

// Local is what the node has: the pair it accepted last, and its replicas by id.
type Local struct {
	Epoch, Generation uint64
	// EpochSince is when this node first saw the epoch. Zero means long ago: use it for a node's very
	// first epoch.
	EpochSince time.Time
	Replicas   map[string]Replica
	Prepared   map[string]bool // by api.VersionKey
}

// Replica is one replica that the node has taken up.
type Replica struct {
	Assignment api.Assignment
	State      api.ReplicaState
}

// Input is what the node is told.
type Input struct {
	Set *api.AssignmentSet // nil: nothing yet
}

// Kind is what an action does.
type Kind string

// The kinds.
const (
	Start   Kind = "start"   // take up and run a replica
	Stop    Kind = "stop"    // end a replica; one that is not here is reported as stopped
	Forget  Kind = "forget"  // drop what is known of a replica that has ended, its log too
	Prepare Kind = "prepare" // fetch and compile for a replica that will come
	Refuse  Kind = "refuse"  // report a replica as failed: it cannot be started as it was told
)

// Action is one thing to do. Reason is for people.
type Action struct {
	Kind       Kind
	ReplicaID  string
	Assignment api.Assignment
	Spec       api.WorkloadSpec
	Reason     string
}

// Outcome tells whether the set was taken up, why not, and when Step must be asked again although
// nothing has changed (zero: only on change).
type Outcome struct {
	Accepted  bool
	Reason    string
	NextCheck time.Time
}

// Step compares what the node has with what it is told. Actions come in a fixed order, those that
// free resources first; doing them and asking again gives none.
func Step(local Local, in Input, now time.Time) ([]Action, Outcome) {
	set := in.Set
	if set == nil {
		return nil, Outcome{Reason: "no assignments have come yet"}
	}
	if api.Older(set.Epoch, set.Generation, local.Epoch, local.Generation) {
		return nil, Outcome{Reason: fmt.Sprintf("set (%d, %d) is older than (%d, %d)", set.Epoch, set.Generation, local.Epoch, local.Generation)}
	}
	named := make(map[string]api.Assignment, len(set.Assignments))
	for _, a := range set.Assignments {
		named[a.ReplicaID] = a
	}
	out := Outcome{Accepted: true}
	trusted, at := absenceTrusted(local, set, now)
	actions := endings(local, named, trusted)
	if !trusted && len(local.Replicas) > 0 {
		out.NextCheck = at
	}
	actions = append(actions, beginnings(local, set)...)
	return append(actions, preparations(local, set)...), out
}

// absenceTrusted tells whether a replica that the set does not name is to end; if not, and time
// alone can change it, at says when.
func absenceTrusted(local Local, set *api.AssignmentSet, now time.Time) (ok bool, at time.Time) {
	if !set.Reported {
		return false, time.Time{} // the next set says more
	}
	if len(set.Assignments) > 0 {
		return true, time.Time{}
	}
	since := local.EpochSince
	if set.Epoch != local.Epoch && local.Epoch != 0 {
		since = now
	}
	if since.IsZero() || !now.Before(since.Add(EmptyGrace)) {
		return true, time.Time{}
	}
	return false, since.Add(EmptyGrace)
}

// endings are what to stop and what to forget, in the order of the ids.
func endings(local Local, named map[string]api.Assignment, trusted bool) []Action {
	var actions []Action
	for _, id := range slices.Sorted(maps.Keys(local.Replicas)) {
		r := local.Replicas[id]
		a, isNamed := named[id]
		over := r.State.Terminal()
		stopping := r.State == api.ReplicaStopping
		switch {
		case isNamed && a.Desired == api.DesiredStop && !stopping && r.State != api.ReplicaStopped:
			actions = append(actions, Action{Kind: Stop, ReplicaID: id, Assignment: a, Reason: "told to stop"})
		case !isNamed && trusted && over:
			actions = append(actions, Action{Kind: Forget, ReplicaID: id, Assignment: r.Assignment, Reason: "ended and no longer assigned"})
		case !isNamed && trusted && !stopping:
			actions = append(actions, Action{Kind: Stop, ReplicaID: id, Assignment: r.Assignment, Reason: "no longer assigned"})
		}
	}
	return actions
}

// beginnings are what the set names and the node does not have, in the set's order.
func beginnings(local Local, set *api.AssignmentSet) []Action {
	specs := make(map[string]api.WorkloadSpec, len(set.Specs))
	for _, s := range set.Specs {
		specs[api.VersionKey(s.UID, s.Version)] = s.Spec
	}
	var actions []Action
	done := map[string]bool{}
	for _, a := range set.Assignments {
		if _, here := local.Replicas[a.ReplicaID]; here || done[a.ReplicaID] {
			continue
		}
		done[a.ReplicaID] = true
		actions = append(actions, begin(a, specs))
	}
	return actions
}

func begin(a api.Assignment, specs map[string]api.WorkloadSpec) Action {
	action := Action{ReplicaID: a.ReplicaID, Assignment: a}
	spec, ok := specs[api.VersionKey(a.UID, a.Version)]
	switch {
	case a.Desired == api.DesiredStop:
		action.Kind, action.Reason = Stop, "told to stop; it does not run here"
	case !ok:
		action.Kind, action.Reason = Refuse, "the assignments lack the spec of its version"
	case !spec.Has(a.Variant):
		action.Kind, action.Reason = Refuse, fmt.Sprintf("the spec has no %s part", a.Variant)
	default:
		action.Kind, action.Spec = Start, spec
	}
	return action
}

// preparations are what comes soon and is not ready yet.
func preparations(local Local, set *api.AssignmentSet) []Action {
	var actions []Action
	done := map[string]bool{}
	for _, s := range set.Prepare {
		key := api.VersionKey(s.UID, s.Version)
		if local.Prepared[key] || done[key] {
			continue
		}
		done[key] = true
		actions = append(actions, Action{
			Kind: Prepare, Spec: s.Spec, Reason: "a replica of it will come",
			Assignment: api.Assignment{Workload: s.Workload, UID: s.UID, Version: s.Version},
		})
	}
	return actions
}
