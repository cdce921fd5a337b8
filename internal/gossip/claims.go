package gossip

import (
	"sync"
	"time"

	"github.com/hashicorp/serf/serf"
)

// claims finds out when somebody uses the name of a member that is alive at another address. Serf
// has a hook for that but keeps it to itself; it does show every announcement of a member before it
// is judged, and that is what is watched here. Nothing is refused: memberlist itself ignores the
// second claimant.
type claims struct {
	queue chan Member

	mu    sync.Mutex
	alive map[string]string    // name to address; as large as the cluster
	told  map[string]time.Time // name and address; at most claimsKnown
}

func newClaims() *claims {
	return &claims{queue: make(chan Member, claimQueue), alive: map[string]string{}, told: map[string]time.Time{}}
}

// NotifyMerge implements serf.MergeDelegate. Memberlist calls it with its lock held.
func (c *claims) NotifyMerge(members []*serf.Member) error {
	for _, m := range members {
		if m.Status != serf.StatusLeft {
			c.announced(memberOf(m), time.Now())
		}
	}
	return nil
}

func (c *claims) announced(m Member, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	addr, ok := c.alive[m.Name]
	if !ok || addr == m.Addr || now.Sub(c.told[m.Name+" "+m.Addr]) < claimEvery {
		return
	}
	if len(c.told) >= claimsKnown {
		clear(c.told) // some are told twice then
	}
	select {
	case c.queue <- m:
		c.told[m.Name+" "+m.Addr] = now
	default: // full: it will be announced again
	}
}

// see follows who is alive and where.
func (c *claims) see(t serf.EventType, m Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch t {
	case serf.EventMemberJoin, serf.EventMemberUpdate:
		c.alive[m.Name] = m.Addr
	case serf.EventMemberFailed, serf.EventMemberLeave, serf.EventMemberReap:
		delete(c.alive, m.Name)
	}
}
