package api

import (
	"strings"
	"testing"
)

func storageNode(name string, state StoreMemberState) StorageNode {
	return StorageNode{StoreMember: StoreMember{ID: "id-" + name, Name: name, State: state}, Stats: StoreStats{Capacity: 100, Used: 10, Chunks: 3, Quarantined: 1}}
}

func TestHealthOfTheStore(t *testing.T) {
	ready, full, lost := storageNode("a", StoreReady), storageNode("b", StoreFull), storageNode("c", StoreLost)
	failed := storageNode("d", StoreReady)
	failed.Stats.Failed = "the disk gave an error"
	for name, c := range map[string]struct {
		r      StorageReport
		health string
		says   string
	}{
		"all is well":         {StorageReport{Nodes: []StorageNode{ready, ready}}, StorageOK, ""},
		"draining is no harm": {StorageReport{Nodes: []StorageNode{ready, ready, storageNode("e", StoreDraining)}}, StorageOK, ""},
		"no node":             {StorageReport{}, StorageUnavailable, "no node keeps chunks"},
		"one of three away":   {StorageReport{Nodes: []StorageNode{ready, ready, lost}}, StorageDegraded, "nodes that cannot be reached: c"},
		"half away":           {StorageReport{Nodes: []StorageNode{ready, lost}}, StorageUnavailable, "writes may be refused"},
		"one full":            {StorageReport{Nodes: []StorageNode{ready, ready, full}}, StorageDegraded, "nodes that take no chunks: b"},
		"a store that failed": {StorageReport{Nodes: []StorageNode{ready, failed}}, StorageDegraded, "node d takes no chunks until its agent starts again: the disk gave an error"},
		"copies missing":      {StorageReport{Nodes: []StorageNode{ready}, Upkeep: StorageUpkeep{Short: 2, Missing: 3}}, StorageDegraded, "3 copies of 2 chunks are missing"},
		"chunks lost":         {StorageReport{Nodes: []StorageNode{ready}, Upkeep: StorageUpkeep{Lost: 1}}, StorageDegraded, "1 chunks are on no node"},
		"no room for copies":  {StorageReport{Nodes: []StorageNode{ready}, Upkeep: StorageUpkeep{Stuck: 4}}, StorageDegraded, "no node has room"},
		"repair in trouble":   {StorageReport{Nodes: []StorageNode{ready}, Upkeep: StorageUpkeep{Trouble: "no reason"}}, StorageDegraded, "repair cannot go on: no reason"},
	} {
		c.r.Sum()
		if said := strings.Join(c.r.Reasons, "; "); c.r.Health != c.health || !strings.Contains(said, c.says) || c.says == "" && said != "" {
			t.Errorf("%s: %s: %s", name, c.r.Health, said)
		}
		if n := int64(len(c.r.Nodes)); c.r.Capacity != 100*n || c.r.Used != 10*n || c.r.Chunks != 3*n || c.r.Quarantined != n {
			t.Errorf("%s: sums of %d nodes: %+v", name, n, c.r)
		}
	}
}
