package coordinator

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/reconcile"
	"github.com/cloudless/cloudless/internal/gossip"
	"github.com/cloudless/cloudless/internal/pki"
)

// Times of probing a node that has fallen silent.
const (
	probeTimeout  = 300 * time.Millisecond // of the dial, and of the ping after it
	probeInterval = 100 * time.Millisecond
)

// nodeSignal is what this process knows of one node that is not in the log.
type nodeSignal struct {
	reconcile.NodeSignal
	heartbeat     api.Heartbeat
	usage         []api.ReplicaUsage // of the last measurement
	endpointIndex uint64
	unansweredAt  time.Time // since when probes go unanswered
	probing       bool
	lastProbe     time.Time
	stock         *stock // replaced, never changed
}

// stock is what a node said that it has at hand.
type stock struct {
	revision  uint64
	artifacts map[string]bool
	prepared  map[string]bool  // by api.VersionKey
	buckets   map[string]int64 // bytes held of each
}

func newStock(inv *api.Inventory) *stock {
	st := &stock{revision: inv.Revision, artifacts: map[string]bool{}, prepared: map[string]bool{}}
	for _, d := range inv.Artifacts[:min(len(inv.Artifacts), api.MaxInventory)] {
		st.artifacts[d] = true
	}
	for _, key := range inv.Prepared[:min(len(inv.Prepared), api.MaxInventory)] {
		st.prepared[key] = true
	}
	if len(inv.Buckets) <= api.MaxInventory { // no agent tells more
		st.buckets = inv.Buckets
	}
	return st
}

// signals gathers sessions, heartbeats, gossip and probes. Every coordinator keeps its own, leader
// or not, so that a new leader knows from its first moment.
type signals struct {
	mu    sync.Mutex
	nodes map[string]*nodeSignal
	acks  chan struct{} // closed when what behind looks at has changed
	full  uint64        // counts the changes of fullStores
}

func newSignals() *signals {
	return &signals{nodes: map[string]*nodeSignal{}, acks: make(chan struct{})}
}

// acked is closed when a node acknowledges a newer endpoint table, connects or disconnects.
func (g *signals) acked() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.acks
}

// update changes what is known of a node under the lock.
func (g *signals) update(id string, f func(n *nodeSignal)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, ok := g.nodes[id]
	if !ok {
		n = &nodeSignal{NodeSignal: reconcile.NodeSignal{Gossip: "unknown"}}
		g.nodes[id] = n
	}
	session, index, full := n.Session, n.endpointIndex, n.storeFull()
	f(n)
	if n.storeFull() != full {
		g.full++
	}
	if n.Session != session || n.endpointIndex != index {
		close(g.acks)
		g.acks = make(chan struct{})
	}
}

// get copies what is known of a node.
func (g *signals) get(id string) nodeSignal {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n, ok := g.nodes[id]; ok {
		return *n
	}
	return nodeSignal{NodeSignal: reconcile.NodeSignal{Gossip: "unknown"}}
}

// all is the reconciler's view at a moment.
func (g *signals) all(now time.Time) map[string]reconcile.NodeSignal {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make(map[string]reconcile.NodeSignal, len(g.nodes))
	for id, n := range g.nodes {
		sig := n.NodeSignal
		if !n.unansweredAt.IsZero() {
			sig.Unanswered = now.Sub(n.unansweredAt)
		}
		out[id] = sig
	}
	return out
}

// storeFull tells whether the node's chunk store takes nothing.
func (n *nodeSignal) storeFull() bool {
	return n.heartbeat.Store != nil && (n.heartbeat.Store.Full || n.heartbeat.Store.Failed != "")
}

// fullStores are the nodes whose chunk stores take nothing; the number is another one after every change.
func (g *signals) fullStores() (full map[string]bool, change uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	full = map[string]bool{}
	for id, n := range g.nodes {
		if n.storeFull() {
			full[id] = true
		}
	}
	return full, g.full
}

// storeChanges is the number of fullStores.
func (g *signals) storeChanges() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.full
}

// forget drops what is known of nodes that are no more and have no session.
func (g *signals) forget(gone func(id string) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, n := range g.nodes {
		if n.Session || !gone(id) {
			continue
		}
		if n.storeFull() {
			g.full++
		}
		delete(g.nodes, id)
	}
}

// wake makes the leader's loop look again; the channel holds one, so it never blocks.
func (s *Server) wake() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

func (s *Server) sessionOpened(nodeID string) {
	s.signals.update(nodeID, func(n *nodeSignal) {
		n.Session, n.Seen, n.ClosedAt, n.Refused, n.unansweredAt = true, true, time.Time{}, 0, time.Time{}
		n.LastHeartbeat = time.Now() // opening it is a sign of life, too
		n.Goodbye, n.GoodbyeAt = "", time.Time{}
	})
	s.wake()
	s.probe(nodeID)
}

func (s *Server) sessionClosed(nodeID string) {
	s.signals.update(nodeID, func(n *nodeSignal) { n.Session, n.ClosedAt, n.Refused = false, time.Now(), 0 })
	s.wake()
}

// heartbeatFrom takes a heartbeat in, and returns the revision of the node's inventory that is known now.
func (s *Server) heartbeatFrom(nodeID string, hb api.Heartbeat) (inventory uint64) {
	news := hb.Inventory
	hb.Inventory = nil
	hb.DiskFull = hb.DiskFull[:min(len(hb.DiskFull), api.MaxDiskFullBytes)]
	changed := news != nil
	s.signals.update(nodeID, func(n *nodeSignal) {
		n.LastHeartbeat, n.Seen, n.unansweredAt = time.Now(), true, time.Time{}
		if !hb.MeasuredAt.Equal(n.heartbeat.MeasuredAt) || len(hb.ReplicaUsage) > 0 {
			n.usage = hb.ReplicaUsage
		}
		changed = changed || (hb.DiskFull == "") != (n.heartbeat.DiskFull == "")
		n.heartbeat = hb
		n.endpointIndex = max(n.endpointIndex, hb.EndpointIndex)
		if news != nil {
			n.stock = newStock(news)
		}
		if n.stock != nil {
			inventory = n.stock.revision
		}
	})
	if changed {
		s.wake() // a rollout may have waited for what is at hand, a replica for room
	}
	return inventory
}

// stocks is what every node said that it has at hand, by node id.
func (g *signals) stocks() map[string]*stock {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make(map[string]*stock, len(g.nodes))
	for id, n := range g.nodes {
		if n.stock != nil {
			out[id] = n.stock
		}
	}
	return out
}

// fullDisks is what nodes, by id, say of a disk that takes nothing new.
func (g *signals) fullDisks() map[string]string {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := map[string]string{}
	for id, n := range g.nodes {
		if n.heartbeat.DiskFull != "" {
			out[id] = n.heartbeat.DiskFull
		}
	}
	return out
}

// onGossip takes Serf's word as a hint. A member that is not enrolled, or a name claimed from a
// second address, is an event and nothing else.
func (s *Server) onGossip(e gossip.Event) {
	id := e.Member.Name
	v := s.store.View()
	_, isNode := v.Node(id)
	_, isMember := v.Member(id)
	switch {
	case e.Kind == gossip.EventClaim:
		s.ownEvent(api.EventNameClaimed, api.SeverityWarning, "gossip/"+id, "the name "+id+" is claimed from a second address, "+e.Member.Addr)
		return
	case !isNode && !isMember:
		if e.Kind == gossip.EventJoin && v.Meta().ClusterID != "" && id != s.id.ID {
			s.ownEvent(api.EventStrangerGossip, api.SeverityWarning, "gossip/"+id, "a member that is not enrolled gossips: "+id+" at "+e.Member.Addr)
		}
		return
	case !isNode:
		return
	}
	s.signals.update(id, func(n *nodeSignal) {
		n.Gossip = e.Member.Status
		n.Seen = n.Seen || e.Member.Status == gossip.StatusAlive
	})
	s.wake()
}

// probe dials a node's port and pings it by Serf, once, unless a probe is under way. A refused dial
// counts, an answer clears the suspicion, silence is timed.
func (s *Server) probe(nodeID string) {
	addr, known := s.nodeAddr(nodeID)
	if !known {
		return // it has not registered yet: silence means nothing
	}
	start := false
	s.signals.update(nodeID, func(n *nodeSignal) {
		if !n.probing && time.Since(n.lastProbe) >= probeInterval {
			n.probing, n.lastProbe, start = true, time.Now(), true
		}
	})
	if !start {
		return
	}
	s.group.Go("probe", func(ctx context.Context) error {
		answered, refused := s.probeOnce(ctx, nodeID, addr)
		s.signals.update(nodeID, func(n *nodeSignal) {
			n.probing = false
			switch {
			case answered:
				n.Reached, n.Refused, n.unansweredAt = true, 0, time.Time{}
			case refused && n.Reached:
				n.Refused++
			case n.unansweredAt.IsZero():
				n.unansweredAt = time.Now()
			}
		})
		s.wake()
		return nil
	})
}

// probeOnce reports whether the node's TLS or its Serf answered, else whether the dial was refused. A dial that
// merely connects proves nothing: the kernel accepts for a frozen process.
func (s *Server) probeOnce(ctx context.Context, nodeID, addr string) (answered, refused bool) {
	switch err := s.greet(ctx, nodeID, addr); {
	case err == nil:
		return true, false
	case errors.Is(err, syscall.ECONNREFUSED):
		return false, true
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err := s.gossip.Ping(ctx, nodeID)
	return err == nil, false
}

// greet shakes hands with a node's port.
func (s *Server) greet(ctx context.Context, nodeID, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := s.dialer.Dial(ctx, addr, api.ALPNNode, pki.Identity{Cluster: s.id.ClusterID, Role: api.RoleNode, ID: nodeID})
	if err != nil {
		return err
	}
	conn.Close() // nothing was sent that could be lost
	return nil
}
