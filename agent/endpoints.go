package agent

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/datadir"
	"github.com/cloudless/cloudless/internal/pki"
	"github.com/cloudless/cloudless/internal/run"
)

// fileEndpoints keeps the last endpoint table, by which a node routes that starts with no
// coordinator in sight.
const (
	fileEndpoints = "endpoints.json"
	tableInterval = time.Second // between two writes of it
)

// tableBox holds the newest endpoint table, but for its services, which the ingress has.
type tableBox struct {
	mu      sync.Mutex
	table   *api.EndpointTable // nil before the first; it is replaced, never changed
	revoked map[string]bool    // its members that are no longer trusted; replaced with it
	unkept  *api.EndpointTable // all of it, until it is written down
}

// takeEndpoints keeps and routes by a table, unless an older one comes late.
func (a *Agent) takeEndpoints(t *api.EndpointTable) {
	a.table.mu.Lock()
	defer a.table.mu.Unlock()
	if old := a.table.table; old != nil && !api.Older(old.Epoch, old.Index, t.Epoch, t.Index) {
		return
	}
	head := *t
	head.Services = nil
	a.table.table, a.table.unkept = &head, t
	a.table.revoked = idSet(t.Revoked)
	a.ingress.Update(t)
	if n := a.mux.Peers.Cut(func(id pki.Identity) bool { return a.table.revoked[id.ID] }); n > 0 {
		a.log.Warn().Int("connections", n).Msg("connections of revoked members cut")
	}
}

func idSet(ids []string) map[string]bool {
	set := make(map[string]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return set
}

// verifyPeer refuses members that the coordinators have revoked, as far as this node has heard.
func (a *Agent) verifyPeer(id pki.Identity) error {
	a.table.mu.Lock()
	defer a.table.mu.Unlock()
	if a.table.revoked[id.ID] {
		return api.Errorf(api.CodeForbidden, "%s %s is not part of the cluster any more", id.Role, id.ID)
	}
	return nil
}

// have is the pair of the table in use.
func (b *tableBox) have() (epoch, index uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.table == nil {
		return 0, 0
	}
	return b.table.Epoch, b.table.Index
}

// loadTable routes by the table of the last start until a coordinator gives a newer one.
func (a *Agent) loadTable() {
	var t api.EndpointTable
	data, err := os.ReadFile(a.path(fileEndpoints))
	if err == nil {
		err = json.Unmarshal(data, &t)
	}
	switch {
	case err == nil:
		a.takeEndpoints(&t)
		a.table.takeUnkept() // it is kept
	case !errors.Is(err, os.ErrNotExist): // which is a new node
		a.log.Warn().Err(err).Msg("the kept endpoint table cannot be read; waiting for a coordinator's")
	}
}

// keepTable writes the table down when it has changed, at most once in tableInterval, and at the end of
// the agent, whose next start is to route by the newest.
func (a *Agent) keepTable(ctx context.Context) error {
	for ending := false; !ending; {
		ending = run.Sleep(ctx, tableInterval) != nil
		t := a.table.takeUnkept()
		if t == nil {
			continue
		}
		if err := a.writeTable(t); err != nil {
			a.log.Warn().Err(err).Msg("endpoint table not kept")
			a.table.putBack(t)
		}
	}
	return nil
}

// takeUnkept is the newest table if it is not written down yet, for whoever does that.
func (b *tableBox) takeUnkept() *api.EndpointTable {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.unkept
	b.unkept = nil
	return t
}

// putBack notes that a table was not written, unless there is a newer one to write.
func (b *tableBox) putBack(t *api.EndpointTable) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.unkept == nil {
		b.unkept = t
	}
}

func (a *Agent) writeTable(t *api.EndpointTable) error {
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return datadir.WriteFile(a.path(fileEndpoints), data)
}

// addr is a node's port, if the table has it.
func (b *tableBox) addr(nodeID string) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.table == nil {
		return "", false
	}
	n, ok := b.table.Nodes[nodeID]
	return n.Addr, ok && n.Addr != ""
}
