package consensus

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/cloudless/cloudless/api"
)

// Server is a member of the cluster. One that is no voter gets the log but does not count.
type Server struct {
	ID    string
	Voter bool
}

// Servers lists the members by id, as this member knows them.
func (n *Node) Servers() ([]Server, error) {
	future := n.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return nil, n.explain("list the members", err)
	}
	return serversOf(future.Configuration()), nil
}

func serversOf(c raft.Configuration) []Server {
	var out []Server
	for _, s := range c.Servers {
		out = append(out, Server{ID: string(s.ID), Voter: s.Suffrage == raft.Voter})
	}
	slices.SortFunc(out, func(a, b Server) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// AddNonvoter adds a member that gets the log without a vote. A member stays what it is.
func (n *Node) AddNonvoter(ctx context.Context, id string) error {
	return n.change(ctx, "add the member "+id, func(c raft.ConfigurationFuture) (raft.IndexFuture, error) {
		if find(c, id) != nil {
			return nil, nil
		}
		return n.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(id), c.Index(), timeLeft(ctx)), nil
	})
}

// Promote gives a member its vote.
func (n *Node) Promote(ctx context.Context, id string) error {
	return n.change(ctx, "promote the member "+id, func(c raft.ConfigurationFuture) (raft.IndexFuture, error) {
		member := find(c, id)
		if member == nil {
			return nil, notMember(id)
		}
		if member.Voter {
			return nil, nil
		}
		return n.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(id), c.Index(), timeLeft(ctx)), nil
	})
}

// Remove takes a member out; a leader that removes itself steps down. The last voter stays.
func (n *Node) Remove(ctx context.Context, id string) error {
	return n.change(ctx, "remove the member "+id, func(c raft.ConfigurationFuture) (raft.IndexFuture, error) {
		member := find(c, id)
		if member == nil {
			return nil, notMember(id)
		}
		if member.Voter && voters(c) == 1 {
			return nil, api.Errorf(api.CodeConflict, "%s is the last voter; without it the cluster's state would be lost", id).
				WithHint("add another coordinator first")
		}
		return n.raft.RemoveServer(raft.ServerID(id), c.Index(), timeLeft(ctx)), nil
	})
}

// change makes one change that holds only if the members are still those it was decided on.
func (n *Node) change(ctx context.Context, op string, decide func(raft.ConfigurationFuture) (raft.IndexFuture, error)) error {
	if !n.IsLeader() {
		return n.notLeader(op, raft.ErrNotLeader)
	}
	current := n.raft.GetConfiguration()
	if err := current.Error(); err != nil {
		return n.explain(op, err)
	}
	future, err := decide(current)
	if err != nil || future == nil {
		return err
	}
	err = n.await(ctx, op, future.Error)
	if err != nil && strings.Contains(err.Error(), "configuration changed since") { // the library has no value for it
		return api.Errorf(api.CodeConflict, "could not %s: the members changed meanwhile: %w", op, errors.Unwrap(err)).WithHint("try again")
	}
	return err
}

func find(c raft.ConfigurationFuture, id string) *Server {
	for _, s := range serversOf(c.Configuration()) {
		if s.ID == id {
			return &s
		}
	}
	return nil
}

func voters(c raft.ConfigurationFuture) int {
	count := 0
	for _, s := range serversOf(c.Configuration()) {
		if s.Voter {
			count++
		}
	}
	return count
}

func notMember(id string) error {
	return api.Errorf(api.CodeNotFound, "no coordinator has the id %s", id)
}
