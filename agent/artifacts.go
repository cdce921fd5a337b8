package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/datadir"
	"github.com/cloudless/cloudless/internal/pki"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
)

// Bounds of the artifact cache.
const (
	fetchTimeout  = 10 * time.Minute
	cacheBytes    = 8 << 30 // beyond this the least used goes, but nothing that an assignment names
	cacheInterval = 5 * time.Minute
)

// fetch gives the local, verified file of an artifact: from the cache, or from the object store. Concurrent
// fetches of one digest share one download.
func (a *Agent) fetch(ctx context.Context, digest string) (string, error) {
	if a.artifacts.Has(digest) {
		return a.artifacts.Path(digest)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	release, err := a.table.lockDigest(ctx, digest)
	if err != nil {
		return "", err
	}
	defer release()
	if !a.artifacts.Has(digest) {
		if err := a.download(ctx, digest); err != nil {
			return "", err
		}
	}
	return a.artifacts.Path(digest)
}

func (a *Agent) download(ctx context.Context, digest string) error {
	r, err := a.gateway.Open(ctx, api.ArtifactBucket, api.ArtifactKey(digest))
	if err != nil {
		return fmt.Errorf("artifact %s: %w", digest, err)
	}
	body := r.Range(ctx, 0, -1)
	_, err = a.artifacts.Put(ctx, digest, body)
	return errors.Join(err, body.Close())
}

// keepCache bounds what is kept so that starts are quick: artifacts, and what the drivers made of
// them. What an assignment names stays. It ends with the agent.
func (a *Agent) keepCache(ctx context.Context) error {
	for run.Sleep(ctx, cacheInterval) == nil {
		kept, err := a.ledger.Set()
		if err != nil {
			a.log.Warn().Err(err).Msg("assignments not read; nothing is trimmed")
			continue
		}
		var set *api.AssignmentSet
		if kept != nil {
			set = &kept.AssignmentSet
		}
		a.trim(ctx, named(set))
	}
	return nil
}

// named is every digest and image reference that a set names.
func named(set *api.AssignmentSet) map[string]bool {
	keep := map[string]bool{}
	if set == nil {
		return keep
	}
	for _, s := range slices.Concat(set.Specs, set.Prepare) {
		if s.Spec.Container != nil {
			keep[s.Spec.Container.Image] = true
		}
		if d, ok := s.Spec.Digest(api.VariantWasm); ok {
			keep[d] = true
		}
	}
	return keep
}

func (a *Agent) trim(ctx context.Context, keep map[string]bool) {
	if freed, err := a.artifacts.Evict(keep, cacheBytes); err != nil {
		a.log.Warn().Err(err).Msg("artifact cache not trimmed")
	} else if freed > 0 {
		a.log.Info().Int64("bytes", freed).Msg("artifact cache trimmed")
	}
	for v, d := range a.drivers {
		if t, ok := d.(sandbox.Trimmer); ok {
			if err := t.Trim(ctx, keep); err != nil {
				a.log.Warn().Err(err).Str("variant", string(v)).Msg("not trimmed")
			}
		}
	}
}

// fileEndpoints keeps the last endpoint table, by which a node routes that starts with no
// coordinator in sight.
const (
	fileEndpoints = "endpoints.json"
	tableInterval = time.Second // between two writes of it
)

// tableBox holds the newest endpoint table and the downloads under way.
type tableBox struct {
	mu    sync.Mutex
	table *api.EndpointTable
	locks map[string]chan struct{}
	// revoked members of the table; the map is replaced, never changed
	revoked map[string]bool
}

// takeEndpoints keeps and routes by a table, unless an older one comes late.
func (a *Agent) takeEndpoints(t *api.EndpointTable) {
	a.table.mu.Lock()
	defer a.table.mu.Unlock()
	if old := a.table.table; old != nil && !api.Older(old.Epoch, old.Index, t.Epoch, t.Index) {
		return
	}
	a.table.table = t
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
	data, err := os.ReadFile(a.path(fileEndpoints))
	if err != nil {
		return // a new node
	}
	var t api.EndpointTable
	if err := json.Unmarshal(data, &t); err != nil {
		a.log.Warn().Err(err).Msg("the kept endpoint table is damaged; waiting for a coordinator's")
		return
	}
	a.takeEndpoints(&t)
}

// keepTable writes the table down when it has changed, at most once in tableInterval, and at the end of
// the agent, whose next start is to route by the newest.
func (a *Agent) keepTable(ctx context.Context) error {
	var kept *api.EndpointTable
	for ending := false; !ending; {
		ending = run.Sleep(ctx, tableInterval) != nil
		a.table.mu.Lock()
		t := a.table.table
		a.table.mu.Unlock()
		if t == kept {
			continue
		}
		if err := a.writeTable(t); err != nil {
			a.log.Warn().Err(err).Msg("endpoint table not kept")
			continue
		}
		kept = t
	}
	return nil
}

func (a *Agent) writeTable(t *api.EndpointTable) error {
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return datadir.WriteFile(a.path(fileEndpoints), data)
}

func (b *tableBox) addr(nodeID string) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.table == nil {
		return "", false
	}
	n, ok := b.table.Nodes[nodeID]
	return n.Addr, ok && n.Addr != ""
}

// lockDigest lets one download of a digest go on at a time.
func (b *tableBox) lockDigest(ctx context.Context, digest string) (release func(), err error) {
	for {
		b.mu.Lock()
		if b.locks == nil {
			b.locks = map[string]chan struct{}{}
		}
		busy, ok := b.locks[digest]
		if !ok {
			done := make(chan struct{})
			b.locks[digest] = done
			b.mu.Unlock()
			return func() {
				b.mu.Lock()
				delete(b.locks, digest)
				b.mu.Unlock()
				close(done)
			}, nil
		}
		b.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-busy:
		}
	}
}
