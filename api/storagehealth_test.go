package api

import (
	"strings"
	"testing"
)

func keeper(name string, state StoreMemberState, stats StoreStats) StorageNode {
	return StorageNode{StoreMember: StoreMember{ID: "id-" + name, Name: name, State: state}, Stats: stats}
}

// The health of the store names all that is wrong, and says when a write would be refused.
func TestHealthOfTheStore(t *testing.T) {
	ready, lost := keeper("a", StoreReady, StoreStats{}), keeper("c", StoreLost, StoreStats{})
	with := func(n StorageNode) StorageReport { return StorageReport{Nodes: []StorageNode{ready, ready, n}} }
	upkeep := func(u StorageUpkeep) StorageReport { return StorageReport{Nodes: []StorageNode{ready}, Upkeep: u} }
	for name, c := range map[string]struct {
		r      StorageReport
		health string
		says   string
	}{
		"all is well":       {with(ready), StorageOK, ""},
		"one node":          {StorageReport{Nodes: []StorageNode{ready}}, StorageOK, ""},
		"no node":           {StorageReport{}, StorageUnavailable, "0 of 0 nodes take chunks, and a write needs 1"},
		"one drains":        {with(keeper("b", StoreDraining, StoreStats{})), StorageOK, ""},
		"one lost":          {with(lost), StorageDegraded, "node c is lost"},
		"two of three lost": {StorageReport{Nodes: []StorageNode{ready, lost, lost}}, StorageUnavailable, "1 of 3 nodes take chunks, and a write needs 2|node c is lost|node c is lost"},
		"two of four lost":  {StorageReport{Nodes: []StorageNode{ready, ready, lost, lost}}, StorageDegraded, "node c is lost|node c is lost"},
		"one of two lost":   {StorageReport{Nodes: []StorageNode{ready, lost}}, StorageUnavailable, "1 of 2 nodes take chunks, and a write needs 2|node c is lost"},
		"one full":          {with(keeper("b", StoreFull, StoreStats{Full: true})), StorageDegraded, "node b is full"},
		"one away":          {with(keeper("b", StoreFull, StoreStats{})), StorageDegraded, "node b is away"},
		"a bad disk":        {with(keeper("b", StoreFull, StoreStats{Failed: "no disk"})), StorageDegraded, "node b takes no chunks: no disk"},
		"damaged chunks":    {with(keeper("b", StoreReady, StoreStats{Quarantined: 2})), StorageDegraded, "node b has moved 2 damaged chunks aside"},
		"copies missing":    {upkeep(StorageUpkeep{Short: 2, Missing: 3}), StorageDegraded, "3 copies of 2 chunks are missing"},
		"chunks lost":       {upkeep(StorageUpkeep{Lost: 1}), StorageDegraded, "1 chunks are on no node that can be reached"},
		"no room":           {upkeep(StorageUpkeep{Stuck: 4}), StorageDegraded, "no node has room for copies of 4 chunks"},
		"repair in trouble": {upkeep(StorageUpkeep{Trouble: "no reason"}), StorageDegraded, "repair cannot go on: no reason"},
		"copies to move":    {upkeep(StorageUpkeep{Misplaced: 5, Awaited: 6, Waiting: 5}), StorageOK, ""},
	} {
		c.r.Sum()
		if said := strings.Join(c.r.Reasons, "|"); c.r.Health != c.health || said != c.says {
			t.Errorf("%s: %s: %s", name, c.r.Health, said)
		}
	}
}

func TestTotalsOfTheStore(t *testing.T) {
	n := keeper("a", StoreReady, StoreStats{Capacity: 100, Used: 10, Chunks: 3, Quarantined: 1})
	r := StorageReport{Nodes: []StorageNode{n, n}, Capacity: 1, Used: 1, Chunks: 1, Quarantined: 1}
	r.Sum()
	if r.Capacity != 200 || r.Used != 20 || r.Chunks != 6 || r.Quarantined != 2 {
		t.Errorf("%+v", r)
	}
}
