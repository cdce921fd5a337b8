package coordinator

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
	"github.com/cloudless/cloudless/internal/datadir"
	"github.com/cloudless/cloudless/internal/link"
)

// fileRemoved marks the data folder of a coordinator that was removed: it is of no use any more.
const fileRemoved = "removed"

// tellRemovedTimeout is how long a removed coordinator may take to hear of it; it may well be down.
const tellRemovedTimeout = 2 * time.Second

// removeMember takes a coordinator out of the group for good. The leader does it.
func (s *Server) removeMember(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*proposeTimeout)
	defer cancel()
	return untilSent(ctx, func() error { return s.removeOnce(ctx, id) })
}

func (s *Server) voters() int {
	n := 0
	if servers, err := s.raft.Servers(); err == nil {
		for _, sv := range servers {
			if sv.Voter {
				n++
			}
		}
	}
	return n
}

// removeOnce removes a coordinator as the leader, or asks the leader to.
func (s *Server) removeOnce(ctx context.Context, id string) error {
	leader, here, err := s.whoLeads()
	switch {
	case err != nil:
		return err
	case here:
		return s.removeHere(ctx, id)
	}
	return s.peerCall(ctx, leader, http.MethodDelete, api.PathPeerJoin+"/"+id, nil, nil)
}

// removeHere takes a member out of the group, tells it, and revokes its certificate. It must be told
// before: nobody speaks to it afterwards. A leader that is to go hands its leadership over, so that
// there is one who can do all this.
func (s *Server) removeHere(ctx context.Context, id string) error {
	done, err := s.changeMembers(ctx)
	if err != nil {
		return err
	}
	defer done()
	if id == s.id.ID && s.voters() > 1 {
		return errors.Join(s.raft.TransferLeadership(ctx), notSent("coordinator %s hands its leadership over", s.cfg.Name))
	}
	err = s.raft.Remove(ctx, id)
	if _, known := s.store.View().Member(id); err != nil && !(known && api.CodeOf(err) == api.CodeNotFound) { // not found: an earlier try was cut short
		return err
	}
	tctx, cancel := context.WithTimeout(ctx, tellRemovedTimeout)
	defer cancel()
	if err := s.peerCall(tctx, id, http.MethodPost, api.PathPeerRemoved, nil, nil); err != nil {
		s.log.Info().Err(err).Str("server", id).Msg("the removed coordinator could not be told")
	}
	_, _, err = s.propose(ctx, state.Command{RemoveMember: &state.ByID{ID: id}})
	return err
}

// handlePeerRemoved ends this coordinator: another one says that it is no longer a member.
func (s *Server) handlePeerRemoved(w http.ResponseWriter, r *http.Request) {
	by, ok := link.PeerOfRequest(r)
	if !ok {
		writeError(w, api.Errorf(api.CodeForbidden, "this is for coordinators only"))
		return
	}
	s.log.Warn().Str("by", by.ID).Msg("removed from the cluster")
	err := datadir.WriteFile(s.path(fileRemoved), []byte("by "+by.ID+" at "+time.Now().UTC().Format(time.RFC3339)+"\n"))
	answer(w, struct{}{}, err)
	s.group.Go("membership", func(context.Context) error { return errRemoved(s.cfg.DataDir) })
}

// checkRemoved refuses a data folder whose coordinator was removed.
func (s *Server) checkRemoved() error {
	_, err := os.Stat(s.path(fileRemoved))
	switch {
	case err == nil:
		return errRemoved(s.cfg.DataDir)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return err
}

func errRemoved(dir string) error {
	return api.Errorf(api.CodeForbidden, "this coordinator was removed from its cluster").
		WithHint("to make this machine a member again, move %s away and start with --join and --token", dir)
}
