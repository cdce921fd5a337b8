package reconcile

import (
	"fmt"
	"slices"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

// The times of the liveness rules (docs/ARCHITECTURE.md).
const (
	suspectAfter   = 2500 * time.Millisecond // of silence
	lostAfter      = 4500 * time.Millisecond // of silence, if Serf or probes agree
	unansweredFor  = time.Second
	reconnectGrace = 300 * time.Millisecond // for a closed session to come back
	refusalsNeeded = 2
	strangerGrace  = 60 * time.Second // from the process's start, for a node that it has not seen
	massWindow     = 10 * time.Second
	massSilence    = 15 * time.Second // what a mass failure must last
	massMinNodes   = 4
	probeInterval  = 250 * time.Millisecond // between looks at a node under suspicion
)

// contact is what is known of one node's last sign of life.
type contact struct {
	node  *api.Node
	sig   NodeSignal
	bye   string    // goodbye in force
	byeAt time.Time //
	last  time.Time // last sign of life
	quiet bool      // the session closed, or was silent for suspectAfter
}

// watchNodes compares every node's liveness with its signs of life.
func (p *plan) watchNodes() {
	var contacts []*contact
	for _, n := range p.view.Nodes() {
		if n.Liveness != api.NodeLeft && n.Liveness != api.NodeJoining {
			contacts = append(contacts, p.contact(n))
		}
	}
	held := p.massFailure(contacts)
	for _, c := range contacts {
		p.judge(c, held[c.node.ID])
	}
}

func (p *plan) contact(n *api.Node) *contact {
	c := &contact{node: n, sig: p.sig.Nodes[n.ID]}
	c.bye, c.byeAt = c.goodbye()
	switch {
	case !c.sig.LastHeartbeat.IsZero():
		c.last = c.sig.LastHeartbeat
	case c.sig.Session: // just opened: its first heartbeat is on its way
		c.last = p.now
	default:
		c.last = later(p.sig.ProcessStart, c.sig.ClosedAt)
	}
	closed := !c.sig.Session && !c.sig.ClosedAt.IsZero()
	if at := n.ChangedAt; n.Liveness == api.NodeReady && !at.After(p.now) {
		c.last = later(c.last, at) // it registered, maybe with another coordinator: its session with this one is on its way
		closed = closed && !at.After(c.sig.ClosedAt)
	}
	c.quiet = closed || p.silence(c) >= suspectAfter
	return c
}

// goodbye is the node's last word, if it is still in force. The log's is cleared when the node
// registers again; one that only this process heard counts until the node is known to be back.
func (c *contact) goodbye() (string, time.Time) {
	at := c.sig.GoodbyeAt
	switch {
	case c.node.Goodbye != "":
		if at.IsZero() || c.sig.Goodbye != c.node.Goodbye {
			at = c.node.ChangedAt
		}
		return c.node.Goodbye, at
	case c.sig.Goodbye != "" && (!c.sig.Session || at.After(c.node.ChangedAt)):
		return c.sig.Goodbye, at
	}
	return "", time.Time{}
}

func (p *plan) silence(c *contact) time.Duration { return p.now.Sub(c.last) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// judge says what has become of one node.
func (p *plan) judge(c *contact, held bool) {
	switch {
	case c.bye == api.GoodbyeLeave:
		p.set(c, api.NodeLeft, "said goodbye")
	case c.bye == api.GoodbyeRestart:
		p.judgeRestart(c)
	case c.sig.Session && !c.quiet:
		p.set(c, api.NodeReady, "answers again")
		p.wakeAt(c.last.Add(suspectAfter))
	case c.node.Liveness == api.NodeLost:
	case !c.sig.Seen:
		p.judgeStranger(c)
	case !c.quiet:
		p.wakeAt(c.last.Add(suspectAfter))
	default:
		p.judgeQuiet(c, held)
	}
}

// set changes a node's liveness unless it is so already.
func (p *plan) set(c *contact, to api.NodeState, format string, args ...any) {
	if c.node.Liveness != to {
		p.do(state.Command{SetLiveness: &state.SetLiveness{ID: c.node.ID, Liveness: to, Reason: fmt.Sprintf(format, args...)}})
	}
}

// suspect never softens what is known already.
func (p *plan) suspect(c *contact, format string, args ...any) {
	if c.node.Liveness == api.NodeReady {
		p.set(c, api.NodeSuspect, format, args...)
	}
}

// judgeRestart waits for a node that said that it restarts; meanwhile nothing new goes there.
func (p *plan) judgeRestart(c *contact) {
	due := c.byeAt.Add(api.GoodbyeGrace)
	switch {
	case c.node.Liveness == api.NodeLost:
	case p.now.Before(due) || c.sig.Session && !c.quiet: // still here: it says goodbye before it stops
		p.suspect(c, "restarts")
		p.wakeAt(later(due, p.now.Add(probeInterval)))
	case c.sig.Seen || !p.now.Before(p.strangerDue(c)):
		p.set(c, api.NodeLost, "did not come back within %s of its restart", api.GoodbyeGrace)
	default:
		p.suspect(c, "restarts")
		p.wakeAt(p.strangerDue(c))
	}
}

// judgeStranger deals with a node that this process has never seen: unknown is not lost.
func (p *plan) judgeStranger(c *contact) {
	due := p.strangerDue(c)
	if !p.now.Before(due) {
		p.set(c, api.NodeLost, "has not been seen for %s since this coordinator started", strangerGrace)
		return
	}
	p.wakeAt(due)
	if doubt := later(p.sig.ProcessStart, c.node.ChangedAt).Add(suspectAfter); p.now.Before(doubt) {
		p.wakeAt(doubt)
		return
	}
	p.suspect(c, "has not been seen since this coordinator started")
}

// strangerDue is when a node that was never seen counts as lost. One that registered with another
// coordinator after this process began gets the time from then.
func (p *plan) strangerDue(c *contact) time.Time {
	from := later(p.sig.ProcessStart, c.node.JoinedAt)
	if c.node.Liveness == api.NodeReady {
		from = later(from, c.node.ChangedAt)
	}
	return from.Add(strangerGrace)
}

// judgeQuiet deals with a node that was seen and is silent now: suspect at once, lost on proof.
func (p *plan) judgeQuiet(c *contact, held bool) {
	p.res.Probe = append(p.res.Probe, c.node.ID)
	reason, lost := p.proof(c)
	if lost && !held {
		p.set(c, api.NodeLost, "%s", reason)
		return
	}
	if c.sig.Session {
		p.suspect(c, "has been silent for %s", suspectAfter)
	} else {
		p.suspect(c, "closed its session")
	}
	p.wakeAt(p.now.Add(probeInterval))
}

// proof tells whether a quiet node is lost. That a dial connects proves nothing, and Serf alone
// does not either.
func (p *plan) proof(c *contact) (string, bool) {
	s := c.sig
	closedFor := p.now.Sub(later(s.ClosedAt, c.last))
	if !s.Session && !s.ClosedAt.IsZero() && closedFor >= reconnectGrace && s.Reached && s.Refused >= refusalsNeeded {
		return "its session closed and its port refuses connections", true
	}
	if p.silence(c) < lostAfter {
		return "", false
	}
	switch {
	case s.Gossip == "failed":
		return fmt.Sprintf("silent for %s, and gossip says that it failed", lostAfter), true
	case s.Unanswered >= unansweredFor:
		return fmt.Sprintf("silent for %s, and it answers neither ping nor handshake", lostAfter), true
	}
	return "", false
}

// massFailure finds the nodes that went together with more than half of all others. It is likelier
// then that this leader's own network failed, so they are held back until massSilence.
func (p *plan) massFailure(all []*contact) map[string]bool {
	var gone []*contact
	members := 0
	for _, c := range all {
		longLost := c.node.Liveness == api.NodeLost && p.now.Sub(c.node.ChangedAt) > massSilence
		if !c.sig.Seen || longLost {
			continue
		}
		members++
		if c.quiet && c.bye == "" {
			gone = append(gone, c)
		}
	}
	held := map[string]bool{}
	p.holdStragglers(gone, held)
	if members < massMinNodes || 2*len(gone) <= members {
		return held
	}
	slices.SortStableFunc(gone, func(a, b *contact) int { return a.last.Compare(b.last) })
	var first, last time.Time
	count := 0
	for _, c := range together(gone, members/2) {
		if p.now.Sub(c.last) >= massSilence {
			continue
		}
		if count == 0 {
			first = c.last
		}
		held[c.node.ID], last = true, c.last
		count++
	}
	if count > 0 {
		p.reportIsolation(count, members, first)
		p.wakeAt(last.Add(massSilence))
	}
	return held
}

// holdStragglers holds back those that went in a mass failure that was told, though others of it may
// be back already: when a network heals, nodes return over seconds, and the last ones are no more lost
// than the first.
func (p *plan) holdStragglers(gone []*contact, held map[string]bool) {
	if len(gone) == 0 {
		return
	}
	told := p.view.Events(api.EventQuery{Type: api.EventClusterIsolated, Limit: 1}) // the newest one
	if len(told) == 0 {
		return
	}
	for _, c := range gone {
		after := told[0].Time.Sub(c.last)
		if c.node.Liveness == api.NodeLost || p.silence(c) >= massSilence || after < 0 || after > massWindow+suspectAfter {
			continue
		}
		held[c.node.ID] = true
		p.wakeAt(c.last.Add(massSilence))
	}
}

// together is those of gone, which is in order of time, that went with more than n within massWindow.
func together(gone []*contact, n int) []*contact {
	var out []*contact
	from, done := 0, 0
	for to := range gone {
		for gone[to].last.Sub(gone[from].last) > massWindow {
			from++
		}
		if to-from+1 > n {
			out = append(out, gone[max(from, done):to+1]...)
			done = to + 1
		}
	}
	return out
}

// reportIsolation raises the event once for each such failure.
func (p *plan) reportIsolation(gone, members int, since time.Time) {
	told := p.view.Events(api.EventQuery{Type: api.EventClusterIsolated, Since: since, Limit: 1})
	if len(told) > 0 {
		return
	}
	p.do(state.Command{RecordEvent: &api.Event{
		Time: p.now, Type: api.EventClusterIsolated, Severity: api.SeverityError, Resource: "cluster",
		Message: fmt.Sprintf("%d of %d nodes went within %s: this coordinator's own network may have failed; none is given up before %s", gone, members, massWindow, massSilence),
	}})
}
