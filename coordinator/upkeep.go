package coordinator

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/transfer"
	"github.com/cloudless/cloudless/coordinator/objects"
	"github.com/cloudless/cloudless/coordinator/upkeep"
	"github.com/cloudless/cloudless/internal/run"
)

// references are what the rows of this coordinator say of chunks. Those of the leader, once it leads,
// are as new as any.
type references struct{ store *objects.Store }

// Referenced implements upkeep.Refs.
func (r references) Referenced(after [32]byte, limit int) ([]objects.Ref, error) {
	v := r.store.View()
	out, err := objects.Referenced(v, after, limit)
	return out, errors.Join(err, v.Close())
}

// Reference implements upkeep.Refs.
func (r references) Reference(chunk [32]byte) (objects.Ref, error) {
	v := r.store.View()
	out, err := objects.Reference(v, chunk)
	return out, errors.Join(err, v.Close())
}

// keepChunks keeps the chunks of all nodes where they belong, while this coordinator leads.
func (s *Server) keepChunks(ctx context.Context) error {
	lead := transfer.Lead{Epoch: s.store.View().Meta().Epoch, Term: s.raft.Term()}
	u := upkeep.New(upkeep.Config{
		Nodes: s.chunks.Leading(lead), Groups: s.gateway, Refs: references{s.objects}, Members: s.storeMembers,
		Event: s.tellEvent, Tel: s.tel(), Log: s.log,
	})
	s.upkeep.Store(u)
	defer s.upkeep.Store(nil)
	g := run.New(ctx)
	g.Go("upkeep", u.Run)
	g.Go("short chunks", func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-s.short.some:
				u.Hint(s.short.take(maxShort)...)
			}
		}
	})
	return g.Wait()
}

// askLeader is how long the leader may take to say how far it is.
const askLeader = time.Second

// upkeepReport is how far the leader is with the upkeep of the store.
func (s *Server) upkeepReport(ctx context.Context) (out api.StorageUpkeep) {
	if u := s.upkeep.Load(); u != nil {
		return u.Report()
	}
	ctx, cancel := context.WithTimeout(ctx, askLeader)
	defer cancel()
	if err := s.askUpkeep(ctx, http.MethodGet, &out); err != nil {
		out.Trouble = "the leader does not say how far it is: " + api.AsError(err).Message
	}
	return out
}

// RepairStorage makes the leader look at all chunks now.
func (s *Server) RepairStorage(ctx context.Context, _ api.Caller) error {
	if u := s.upkeep.Load(); u != nil {
		u.Look()
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	return untilSent(ctx, func() error { return s.askUpkeep(ctx, http.MethodPost, nil) })
}

func (s *Server) askUpkeep(ctx context.Context, method string, out any) error {
	leader, here, err := s.whoLeads()
	if err != nil {
		return err
	}
	if here {
		return notSent("the leader has only just begun")
	}
	return s.peerCall(ctx, leader, method, api.PathPeerUpkeep, nil, out)
}

// handlePeerUpkeep tells how far the upkeep is or, for a POST, makes it look at all chunks.
func (s *Server) handlePeerUpkeep(w http.ResponseWriter, r *http.Request) {
	u := s.upkeep.Load()
	if u == nil {
		writeError(w, notSent("coordinator %s does not lead", s.cfg.Name))
		return
	}
	if r.Method == http.MethodPost {
		u.Look()
	}
	writeJSON(w, http.StatusOK, u.Report())
}

// withStore adds to a node what is known of it as a keeper of chunks.
func withStore(n api.Node, u api.StorageUpkeep) api.Node {
	for i := range u.Nodes {
		if u.Nodes[i].Node == n.ID {
			n.Status.Upkeep = &u.Nodes[i]
		}
	}
	return n
}
