package coordinator

import (
	"fmt"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
)

func storeNode(f func(n *api.Node)) *api.Node {
	n := &api.Node{ID: "n1", Name: "one", Zone: "z", StoreCapacity: 10 << 20, Liveness: api.NodeReady}
	f(n)
	return n
}

// Every node that has a store counts as a member whatever its state, so that an outage lowers no quorum;
// what it takes part in follows from what is known of it.
func TestStoreMembersAndTheirStates(t *testing.T) {
	for name, c := range map[string]struct {
		node *api.Node
		full bool
		want api.StoreMemberState // "" is no member
	}{
		"ready":           {storeNode(func(*api.Node) {}), false, api.StoreReady},
		"cordoned":        {storeNode(func(n *api.Node) { n.Cordoned = true }), false, api.StoreReady},
		"full disk":       {storeNode(func(*api.Node) {}), true, api.StoreFull},
		"suspect":         {storeNode(func(n *api.Node) { n.Liveness = api.NodeSuspect }), false, api.StoreFull},
		"back soon":       {storeNode(func(n *api.Node) { n.Goodbye = api.GoodbyeRestart }), false, api.StoreFull},
		"stops":           {storeNode(func(n *api.Node) { n.Drain = &api.Drain{Self: true} }), false, api.StoreFull},
		"drained":         {storeNode(func(n *api.Node) { n.Drain = &api.Drain{} }), true, api.StoreDraining},
		"lost":            {storeNode(func(n *api.Node) { n.Liveness = api.NodeLost; n.Drain = &api.Drain{} }), false, api.StoreLost},
		"left":            {storeNode(func(n *api.Node) { n.Liveness = api.NodeLeft }), false, ""},
		"without a store": {storeNode(func(n *api.Node) { n.StoreCapacity = 0 }), false, ""},
	} {
		table := membersTable([]*api.Node{c.node}, map[string]bool{"n1": c.full}, time.Time{})
		switch {
		case c.want == "" && len(table.Members) != 0:
			t.Errorf("%s: is a member: %+v", name, table.Members)
		case c.want != "" && (len(table.Members) != 1 || table.Members[0].State != c.want):
			t.Errorf("%s: %+v, want %s", name, table.Members, c.want)
		}
	}
}

func TestTheRevisionOfStoreMembersFollowsWhatTheySay(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	base := membersTable([]*api.Node{storeNode(func(*api.Node) {})}, nil, time.Time{})
	if again := membersTable([]*api.Node{storeNode(func(n *api.Node) { n.Labels = map[string]string{"a": "b"} })}, nil, time.Time{}); again.Revision != base.Revision || base.Revision == 0 {
		t.Errorf("revisions %d and %d of the same table", base.Revision, again.Revision)
	}
	for name, other := range map[string]api.StoreMembers{
		"full":     membersTable([]*api.Node{storeNode(func(*api.Node) {})}, map[string]bool{"n1": true}, time.Time{}),
		"zone":     membersTable([]*api.Node{storeNode(func(n *api.Node) { n.Zone = "y" })}, nil, time.Time{}),
		"capacity": membersTable([]*api.Node{storeNode(func(n *api.Node) { n.StoreCapacity = 11 << 20 })}, nil, time.Time{}),
		"held":     membersTable([]*api.Node{storeNode(func(*api.Node) {})}, nil, now),
		"none":     membersTable(nil, nil, time.Time{}),
	} {
		if other.Revision == base.Revision {
			t.Errorf("%s: the same revision", name)
		}
	}
	for capacity, want := range map[int64]uint64{1: 1, 1<<20 - 1: 1, 1 << 20: 1, 2 << 20: 2} {
		table := membersTable([]*api.Node{storeNode(func(n *api.Node) { n.StoreCapacity = capacity })}, nil, time.Time{})
		if got := table.Members[0].Weight; got != want {
			t.Errorf("weight %d of %d bytes", got, capacity)
		}
	}
}

// For 24 hours after another epoch has begun no node collects; a cluster that was just founded has
// nothing to lose.
func TestCollectionIsHeldForADay(t *testing.T) {
	began := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	end := began.Add(24 * time.Hour)
	for _, c := range []struct {
		began, now, want time.Time
	}{
		{time.Time{}, began, time.Time{}},
		{began, began, end},
		{began, end.Add(-time.Nanosecond), end},
		{began, end, time.Time{}},
	} {
		if got := heldUntil(c.began, c.now); !got.Equal(c.want) {
			t.Errorf("begun %v, at %v: held until %v, want %v", c.began, c.now, got, c.want)
		}
	}
}

// A store that says in a heartbeat that it is full is one that takes nothing, at once.
func TestAFullStoreIsKnownAtOnce(t *testing.T) {
	g := newSignals()
	g.update("n1", func(n *nodeSignal) { n.heartbeat = api.Heartbeat{Store: &api.StoreStats{}} })
	_, before := g.fullStores()
	g.update("n1", func(n *nodeSignal) { n.heartbeat = api.Heartbeat{Store: &api.StoreStats{Used: 1}} })
	if full, change := g.fullStores(); len(full) != 0 || change != before {
		t.Errorf("%v, change %d after %d", full, change, before)
	}
	for _, stats := range []*api.StoreStats{{Full: true}, {Failed: "the disk"}} {
		g.update("n1", func(n *nodeSignal) { n.heartbeat = api.Heartbeat{Store: stats} })
		if full, change := g.fullStores(); !full["n1"] || change == before {
			t.Errorf("%v, change %d after %d", full, change, before)
		}
	}
}

func TestTheQueueOfChunksToRepair(t *testing.T) {
	q := newShortQueue()
	for i := range maxShort + 1 {
		q.add(fmt.Sprint(i))
		q.add(fmt.Sprint(i))
	}
	<-q.some
	if got := q.take(3); fmt.Sprint(got) != "[0 1 2]" {
		t.Errorf("took %v", got)
	}
	<-q.some // there is more
	if got := q.take(2 * maxShort); len(got) != maxShort-3 || got[len(got)-1] != fmt.Sprint(maxShort-1) {
		t.Errorf("took %d, the last %s", len(got), got[len(got)-1])
	}
	q.add("0")
	if got := q.take(10); len(got) != 1 {
		t.Errorf("took %v: what was taken may come again", got)
	}
}
