package coordinator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/objects"
	"github.com/cloudless/cloudless/internal/run"
)

// StorageReport tells how the object store fares, as far as this coordinator has heard.
func (s *Server) StorageReport(ctx context.Context) (api.StorageReport, error) {
	if err := s.fresh(ctx); err != nil {
		return api.StorageReport{}, err
	}
	out := s.storageNow(ctx)
	v := s.objects.View()
	buckets, used, err := totals(v)
	out.Buckets, out.Objects, out.Bytes = buckets, used.Objects, used.Bytes
	return out, errors.Join(err, v.Close())
}

// totals sums up what all buckets hold.
func totals(v *objects.View) (buckets int, used api.BucketUsage, err error) {
	all, err := objects.Buckets(v)
	for _, b := range all {
		u, e := objects.Usage(v, b.Name)
		used, err = used.Add(u), errors.Join(err, e)
	}
	return len(all), used, err
}

// storageNow is what the nodes have told, and the leader.
func (s *Server) storageNow(ctx context.Context) api.StorageReport {
	members := s.storeMembers()
	out := api.StorageReport{HeldUntil: members.HeldUntil, Nodes: []api.StorageNode{}}
	for _, m := range members.Members {
		n := api.StorageNode{StoreMember: m}
		if sig := s.signals.get(m.ID); sig.heartbeat.Store != nil {
			n.Stats, n.SeenAt = *sig.heartbeat.Store, sig.LastHeartbeat
		}
		out.Nodes = append(out.Nodes, n)
	}
	out.Upkeep = s.upkeepReport(ctx)
	out.Sum()
	return out
}

// storageStatus is the line about it in the status of the cluster.
func (s *Server) storageStatus(ctx context.Context) api.StorageStatus {
	now := s.storageNow(ctx)
	return api.StorageStatus{Health: now.Health, Reasons: now.Reasons, Nodes: len(now.Nodes), Capacity: now.Capacity, Used: now.Used, Missing: now.Upkeep.Missing}
}

// ScrubStorage makes a node, or every node that keeps chunks, read them all now.
func (s *Server) ScrubStorage(ctx context.Context, _ api.Caller, node string) error {
	return s.askStores(ctx, node, api.PathStoreScrub, struct{}{})
}

// CollectStorage makes every node delete the chunks that nobody refers to.
func (s *Server) CollectStorage(ctx context.Context, _ api.Caller, anyway bool) error {
	return s.askStores(ctx, "", api.PathStoreCollect, api.StoreCollect{Anyway: anyway})
}

// askStores sends a request to the store of a node, or of all. Those that are lost are passed over when
// all are meant.
func (s *Server) askStores(ctx context.Context, node, path string, body any) error {
	nodes, err := s.storesNamed(node)
	if err != nil {
		return err
	}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	errs := make([]error, len(nodes))
	g := run.New(ctx)
	for i, id := range nodes {
		g.Go("ask a store", func(ctx context.Context) error {
			resp, err := s.nodeDo(ctx, id, http.MethodPost, path, nil, bytes.NewReader(text))
			if err == nil {
				err = resp.Body.Close()
			}
			errs[i] = err
			return nil
		})
	}
	return errors.Join(g.Wait(), errors.Join(errs...))
}

// storesNamed are the ids of one node, or of all that keep chunks and are not lost.
func (s *Server) storesNamed(node string) (ids []string, err error) {
	id := ""
	if node != "" {
		n, err := s.findNode(s.store.View(), node)
		if err != nil {
			return nil, err
		}
		id = n.ID
	}
	for _, m := range s.storeMembers().Members {
		if m.ID == id || id == "" && m.State != api.StoreLost {
			ids = append(ids, m.ID)
		}
	}
	if len(ids) == 0 && node != "" {
		return nil, api.Errorf(api.CodeConflict, "node %s keeps no chunks", node)
	}
	return ids, nil
}
