// Package reconcile decides what the cluster does next. Plan compares what is wanted with what is,
// and returns the commands that bring them closer; it is pure, so the same view, signals and time
// give the same commands. The leader runs it after every change and at Result.Next, and proposes
// what it returns as one log entry.
//
// It works in small steps, each planned on the state that the one before gave: first what is known
// of the nodes (liveness.go), and only when nothing is to be said about those the replicas
// (replicas.go, rollout.go). A cluster is settled when Plan returns no command.
package reconcile

import (
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/schedule"
	"github.com/cloudless/cloudless/coordinator/state"
)

// NodeSignal is what the leader's process knows of one node and the log does not hold.
type NodeSignal struct {
	Session       bool          // this leader has an open tunnel session with the node
	ClosedAt      time.Time     // when the last session closed; zero: none has
	Seen          bool          // this process has seen its session, or its Serf entry alive
	LastHeartbeat time.Time     // zero: never in this process
	Reached       bool          // this leader has reached its node port before
	Refused       int           // dials to the node port refused since ClosedAt
	Unanswered    time.Duration // for how long both a Serf ping and a TLS handshake have gone unanswered
	Gossip        string        // alive | failed | left | unknown
	Goodbye       string        // the last goodbye this process heard
	GoodbyeAt     time.Time
}

// Signals is everything that Plan needs and the log does not hold.
type Signals struct {
	Nodes        map[string]NodeSignal // by node id
	ProcessStart time.Time
	Holders      func(digest string) []string      // nodes that have an artifact; may be nil
	Size         func(digest string) int64         // bytes of an artifact, 0 if that is not known; may be nil
	Held         func(bucket string) schedule.Held // what nodes have of a bucket; may be nil
	FullDisks    map[string]string                 // what nodes, by id, say of a disk that takes nothing new
	// Prepared tells whether a node has a version that it was told to prepare; nil: every one has.
	Prepared func(nodeID, uid string, version uint64) bool
}

// Result is what to do.
type Result struct {
	Commands []state.Command
	Next     time.Time // run again then even if nothing changes; zero: no need
	Probe    []string  // nodes whose port and Serf entry should be probed now, by id
}

// Plan says what to do next.
func Plan(v state.View, sig Signals, now time.Time) Result {
	p := &plan{view: v, sig: sig, now: now}
	p.watchNodes()
	if len(p.res.Commands) > 0 {
		p.wakeAt(now) // what this means for the replicas is planned on the state that it gives
		return p.res
	}
	p.planReplicas()
	return p.res
}

// plan is one Plan under way.
type plan struct {
	view state.View
	sig  Signals
	now  time.Time
	res  Result

	nodes   map[string]*api.Node
	cluster *schedule.Cluster // made when the first replica is to be placed
	placed  []api.Replica
	notes   int         // of replicas that found no node
	stops   []stopGroup // by reason, in order of first use
	forgets []string
	orphans []orphanGroup
	rejoins []string
	ids     int // counter of ids made
}

type stopGroup struct {
	reason string
	ids    []string
}

type orphanGroup struct {
	reason string
	ids    []string
}

func (p *plan) do(c state.Command) {
	c.At = p.now
	p.res.Commands = append(p.res.Commands, c)
}

// wakeAt asks for a run no later than t; a moment that has passed means at once.
func (p *plan) wakeAt(t time.Time) {
	if t.Before(p.now) {
		t = p.now
	}
	if p.res.Next.IsZero() || t.Before(p.res.Next) {
		p.res.Next = t
	}
}
