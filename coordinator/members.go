package coordinator

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
	"github.com/cloudless/cloudless/internal/gossip"
	"github.com/cloudless/cloudless/internal/run"
)

// promoteGap is how far behind the leader's log a non-voter may be to become a voter.
const promoteGap = 100

func (s *Server) self() api.Member {
	return api.Member{ID: s.id.ID, Name: s.cfg.Name, NodeAddr: s.cfg.AdvertiseNode, HTTPAddr: s.cfg.AdvertiseHTTP, GossipAddr: s.advertisedGossip(), Version: s.cfg.Version}
}

func (s *Server) advertisedGossip() string {
	_, port, err := net.SplitHostPort(s.gossip.Addr())
	if err != nil {
		return s.gossip.Addr()
	}
	return net.JoinHostPort(s.cfg.AdvertiseHost, port)
}

// enter makes this coordinator a member of the Raft group: as its founder, by asking the leader, or
// by being one already.
func (s *Server) enter(ctx context.Context) error {
	servers, err := s.raft.Servers()
	if err != nil {
		return err
	}
	if len(servers) > 0 {
		return nil
	}
	if s.id.Founder {
		return s.raft.Bootstrap()
	}
	for {
		err := s.askToJoin(ctx)
		if err == nil {
			return nil
		}
		s.log.Warn().Err(err).Msg("not a member yet; asking again")
		if e := run.Sleep(ctx, 500*time.Millisecond); e != nil {
			return err
		}
	}
}

// askToJoin asks every coordinator that is known; the one that leads, or can forward to it, agrees.
func (s *Server) askToJoin(ctx context.Context) error {
	err := error(api.Errorf(api.CodeUnavailable, "no coordinator is known"))
	body, _ := json.Marshal(s.self()) // a struct of strings cannot fail
	asked := map[string]bool{s.id.ID: true}
	for _, m := range s.everKnown() {
		if asked[m.ID] {
			continue
		}
		asked[m.ID] = true
		rctx, cancel := context.WithTimeout(ctx, proposeTimeout)
		err = s.peerCall(rctx, m.ID, http.MethodPost, api.PathPeerJoin, jsonBody(body), nil)
		cancel()
		if err == nil {
			return nil
		}
	}
	return err
}

// changeMembers waits until no other membership change is under way; done ends this one. A change may
// take as long as a commit does, so waiting for it ends with ctx.
func (s *Server) changeMembers(ctx context.Context) (done func(), err error) {
	select {
	case s.joining <- struct{}{}:
		return func() { <-s.joining }, nil
	case <-ctx.Done():
		return nil, api.Errorf(api.CodeTimeout, "another change of the coordinators is still under way: %w", ctx.Err())
	}
}

// admit adds a coordinator to the group as a non-voter; keepVoters makes it a voter later.
func (s *Server) admit(ctx context.Context, m api.Member) error {
	if _, _, err := s.propose(ctx, state.Command{PutMember: &m}); err != nil {
		return err
	}
	done, err := s.changeMembers(ctx)
	if err != nil {
		return err
	}
	defer done()
	servers, err := s.raft.Servers()
	if err != nil {
		return err
	}
	for _, sv := range servers {
		if sv.ID == m.ID {
			return nil
		}
	}
	return s.raft.AddNonvoter(ctx, m.ID)
}

// keepVoters promotes non-voters that have caught up, one at a time, while this coordinator leads.
func (s *Server) keepVoters(ctx context.Context) error {
	for run.Sleep(ctx, 200*time.Millisecond) == nil {
		servers, err := s.raft.Servers()
		if err != nil {
			continue
		}
		for _, sv := range servers {
			if !sv.Voter && s.caughtUp(ctx, sv.ID) {
				s.promote(ctx, sv.ID)
				break
			}
		}
	}
	return nil
}

func (s *Server) promote(ctx context.Context, id string) {
	done, err := s.changeMembers(ctx)
	if err != nil {
		return
	}
	defer done()
	if err := s.raft.Promote(ctx, id); err != nil {
		s.log.Warn().Err(err).Str("server", id).Msg("not made a voter yet")
		return
	}
	s.log.Info().Str("server", id).Msg("made a voter")
}

func (s *Server) caughtUp(ctx context.Context, id string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var info api.PeerInfo
	if err := s.peerCall(ctx, id, http.MethodGet, api.PathPeerInfo, nil, &info); err != nil {
		return false
	}
	return info.Applied+promoteGap >= s.raft.LastIndex()
}

// keepMemberEntry keeps this coordinator's row true: it is how others find it after a restart on
// another address.
func (s *Server) keepMemberEntry(ctx context.Context) error {
	for ctx.Err() == nil {
		want := s.self()
		if have, ok := s.store.View().Member(s.id.ID); ok && sameAddress(*have, want) {
			_, changed := s.store.View().Mark(state.MarkMembers)
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		pctx, cancel := context.WithTimeout(ctx, proposeTimeout)
		if s.raft.LeaderID() != "" {
			if _, _, err := s.propose(pctx, state.Command{PutMember: &want}); err != nil {
				s.log.Debug().Err(err).Msg("own entry not written yet")
			}
		} else {
			// A leader that knows only the old address cannot make itself known here, so it is looked for.
			if err := s.askToJoin(pctx); err != nil {
				s.log.Debug().Err(err).Msg("the leader has not heard of this address yet")
			}
		}
		cancel()
		if run.Sleep(ctx, 100*time.Millisecond) != nil {
			break
		}
	}
	return nil
}

func sameAddress(a, b api.Member) bool {
	return a.NodeAddr == b.NodeAddr && a.HTTPAddr == b.HTTPAddr && a.GossipAddr == b.GossipAddr && a.Name == b.Name && a.Version == b.Version
}

// keepMemberFile keeps the last known coordinators beside the identity: the state itself may be
// behind at a restart, when addresses are needed most.
func (s *Server) keepMemberFile(ctx context.Context) error {
	for ctx.Err() == nil {
		v := s.store.View()
		_, changed := v.Mark(state.MarkMembers)
		members := s.members()
		if len(members) > 0 && s.meet(members) {
			if err := s.saveIdentityFile(); err != nil {
				s.log.Error().Err(err).Msg("members not written to the data folder")
			}
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
	return nil
}

// meet notes the members that the next start is to know; false when they are known already.
func (s *Server) meet(members []api.Member) bool {
	s.knownMu.Lock()
	defer s.knownMu.Unlock()
	if slices.Equal(members, s.id.Members) {
		return false
	}
	s.id.Members = members
	return true
}

// hear notes where a coordinator, which has shown its certificate, says that it is. When most of them
// have moved, nobody can be elected to write their new addresses into the state before they are found.
// It is an address to try and nothing more; one for each certificate that was shown.
func (s *Server) hear(m api.Member) {
	s.knownMu.Lock()
	defer s.knownMu.Unlock()
	s.heard[m.ID] = m.NodeAddr
}

func (s *Server) heardFrom(id string) []string {
	s.knownMu.Lock()
	defer s.knownMu.Unlock()
	if addr := s.heard[id]; addr != "" {
		return []string{addr}
	}
	return nil
}

// everKnown lists the coordinators of the state, then those of the last start, whose addresses may
// be newer or older.
func (s *Server) everKnown() []api.Member {
	s.knownMu.Lock()
	defer s.knownMu.Unlock()
	return append(s.members(), s.id.Members...)
}

// announceFor is how long a new process meets others of the gossip again and again: if it came back at
// another address, they take it in only once they have given the old one up, and Serf by itself would
// tell them after half a minute or more.
const announceFor = time.Minute

// keepGossipJoined joins the gossip of the other coordinators, and again whenever one is not in sight.
// When all have moved, the nodes, which Serf has noted in its file, are how they find each other, and
// how the nodes find them.
func (s *Server) keepGossipJoined(ctx context.Context) error {
	for {
		var addrs []string
		if time.Since(s.started) < announceFor {
			addrs = s.someoneAlive()
		}
		for _, m := range s.everKnown() {
			if m.ID != s.id.ID && m.GossipAddr != "" && s.gossip.Status(m.ID) != gossip.StatusAlive && !slices.Contains(addrs, m.GossipAddr) {
				addrs = append(addrs, m.GossipAddr)
			}
		}
		if len(addrs) > 0 {
			jctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			if _, err := s.gossip.Join(jctx, addrs); err != nil {
				s.log.Debug().Err(err).Msg("gossip not joined yet")
			}
			cancel()
		}
		if run.Sleep(ctx, 3*time.Second) != nil {
			return nil
		}
	}
}

// someoneAlive is the gossip address of any other member that is there.
func (s *Server) someoneAlive() []string {
	others := slices.DeleteFunc(s.gossip.Members(), func(m gossip.Member) bool { return m.Name == s.id.ID || m.Status != gossip.StatusAlive })
	if len(others) == 0 {
		return nil
	}
	return []string{others[rand.IntN(len(others))].Addr}
}

// Alone tells whether this coordinator is the only member of its group.
func (s *Server) Alone() bool {
	servers, err := s.raft.Servers()
	return err == nil && len(servers) == 1
}

// membersNow lists the coordinators with what is true at this moment.
func (s *Server) membersNow() []api.Member {
	voters := map[string]bool{}
	if servers, err := s.raft.Servers(); err == nil {
		for _, sv := range servers {
			voters[sv.ID] = sv.Voter
		}
	}
	leader := s.raft.LeaderID()
	out := s.members()
	if !slices.ContainsFunc(out, func(m api.Member) bool { return m.ID == s.id.ID }) {
		out = append(out, s.self()) // its row is on the way
	}
	for i := range out {
		m := &out[i]
		m.Voter, m.Leader = voters[m.ID], m.ID == leader
		m.Healthy = m.ID == s.id.ID || s.gossip.Status(m.ID) == gossip.StatusAlive
	}
	return out
}
