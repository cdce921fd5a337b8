package agent

import (
	"runtime/debug"

	"github.com/cloudless/cloudless/api"
)

// Memory is given back when so many replicas have come or gone, and none has for so many looks: what
// follows a start, as new tables of endpoints, is over by then.
const (
	manyReplicas = 200
	calmLooks    = 3
)

// relief gives memory back to the system once many replicas have started or ended together. What that
// took for a moment, stacks and manifests being decoded, would stay with the process for minutes: the
// collector lets the heap grow to twice what it last found, and an idle agent gives it little to do.
type relief struct {
	give func()
	last int // replicas that ran when it was given back last
	seen int // that ran at the last look
	calm int // looks since that has changed
}

func newRelief() *relief { return &relief{give: debug.FreeOSMemory} }

// look is told how many replicas there are of each state, now and then.
func (r *relief) look(states map[api.ReplicaState]int) {
	running := states[api.ReplicaRunning]
	if r.calm++; running != r.seen || states[api.ReplicaStarting]+states[api.ReplicaStopping] > 0 {
		r.seen, r.calm = running, 0
	}
	if r.calm >= calmLooks && max(running-r.last, r.last-running) >= manyReplicas {
		r.last = running
		r.give()
	}
}
