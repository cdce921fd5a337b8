package coordinator

import (
	"encoding/json"
	"hash/fnv"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

// holdCollection is how long no node collects after a restore or at the beginning of a new epoch: what
// the metadata says may be older than what the nodes hold, and there must be time to find that out.
const holdCollection = 24 * time.Hour

// memberTable is the last StoreMembers that was made, and of what: a put asks for it, and it seldom changes.
type memberTable struct {
	mu    sync.Mutex
	made  bool
	nodes uint64 // index of the last change of nodes
	full  uint64 // number of the last change of stores that are full
	held  time.Time
	table api.StoreMembers
}

// storeMembers are the nodes that keep chunks, as this coordinator knows them.
func (s *Server) storeMembers() api.StoreMembers {
	v := s.store.View()
	nodes, _ := v.Mark(state.MarkNodes)
	held, changes := heldUntil(laterOf(v.Meta().RenewedAt, s.objects.Restored()), time.Now()), s.signals.storeChanges()
	m := &s.storeTable
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.made || m.nodes != nodes || m.full != changes || !m.held.Equal(held) {
		var full map[string]bool
		full, changes = s.signals.fullStores()
		m.table = membersTable(v.Nodes(), full, held)
		m.made, m.nodes, m.full, m.held = true, nodes, changes, held
	}
	return m.table
}

func laterOf(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// heldUntil is the end of the hold that began at a time; zero when it is over.
func heldUntil(began, now time.Time) time.Time {
	if began.IsZero() || !now.Before(began.Add(holdCollection)) {
		return time.Time{}
	}
	return began.Add(holdCollection)
}

// membersTable makes the table of nodes, which are in the order of ids. Its revision is drawn from what
// it says, so that all coordinators give equal tables the same one.
func membersTable(nodes []*api.Node, full map[string]bool, held time.Time) api.StoreMembers {
	t := api.StoreMembers{Members: []api.StoreMember{}, HeldUntil: held}
	for _, n := range nodes {
		if n.StoreCapacity == 0 || n.Liveness == api.NodeLeft {
			continue
		}
		t.Members = append(t.Members, api.StoreMember{
			ID: n.ID, Name: n.Name, Region: n.Region, Zone: n.Zone,
			Weight: max(1, uint64(n.StoreCapacity)>>20), State: storeState(n, full[n.ID]),
		})
	}
	text, _ := json.Marshal(t) // strings, numbers and a time cannot fail
	sum := fnv.New64a()
	_, _ = sum.Write(text)
	t.Revision = max(1, sum.Sum64()) // 0 is what one asks with who has none
	return t
}

// storeState is what a node takes part in. One that only stops for a while, by itself or by a goodbye,
// keeps its chunks; they are not moved for that.
func storeState(n *api.Node, full bool) api.StoreMemberState {
	switch {
	case n.Liveness == api.NodeLost:
		return api.StoreLost
	case n.Drain != nil && !n.Drain.Self:
		return api.StoreDraining
	case full, n.Liveness != api.NodeReady, n.Drain != nil, n.Goodbye != "":
		return api.StoreFull
	}
	return api.StoreReady
}
