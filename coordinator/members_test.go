package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

// Whoever was written to, and whoever is asked: the writer finds its own write, and others do from the
// index that it was answered with.
func TestAReaderOfAnotherCoordinatorSeesItsOwnWrite(t *testing.T) {
	c := newCluster(t, 3)
	one := 1
	for i, s := range c.servers {
		w := api.Workload{APIVersion: api.APIVersion, Kind: api.KindWorkload, Metadata: api.Metadata{Namespace: "default", Name: "w" + string(rune('a'+i))}}
		w.Spec = api.WorkloadSpec{Replicas: &one, Container: &api.ContainerSpec{Image: "web:1"}}
		w.Default()
		res, err := s.PutWorkload(t.Context(), admin, w, false, 0)
		if err != nil {
			t.Fatalf("write at %d: %v", i, err)
		}
		if _, err := s.Workload(t.Context(), "default", w.Metadata.Name); err != nil {
			t.Errorf("read where it was written, at %d: %v", i, err)
		}
		for j, other := range c.servers {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			if err := other.Wait(ctx, state.MarkWorkloads, res.Index-1); err != nil {
				t.Errorf("wait at %d: %v", j, err)
			}
			cancel()
			if _, err := other.Workload(t.Context(), "default", w.Metadata.Name); err != nil {
				t.Errorf("written at %d, read at %d: %v", i, j, err)
			}
		}
	}
}

// A token is good on every coordinator as soon as it was made on one. A coordinator that cannot know
// says so with a code upon which clients ask another one, and never that the token is wrong.
func TestATokenIsGoodEverywhereAtOnce(t *testing.T) {
	c := newCluster(t, 3)
	for range 20 {
		tok, err := c.servers[c.leader()].CreateToken(t.Context(), admin, api.TokenRequest{Role: api.RoleViewer})
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range c.servers {
			if who, err := s.Authenticate(t.Context(), tok.Secret); err != nil || who.Role != api.RoleViewer {
				t.Errorf("at coordinator %d: %v, %v", i, who.Role, err)
			}
		}
	}
	stranger := "cl_t-unknown_" + api.NewSecret()
	for i, s := range c.servers {
		if _, err := s.Authenticate(t.Context(), stranger); api.CodeOf(err) != api.CodeUnauthorized {
			t.Errorf("an unknown token at coordinator %d: %v", i, err)
		}
	}
	down := c.followers()
	at := c.leader()
	c.stop(down[0])
	c.stop(down[1])
	c.eventually("the last one to give up leading", func() bool { return !c.servers[at].raft.IsLeader() })
	if _, err := c.servers[at].Authenticate(t.Context(), stranger); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("an unknown token without a majority: %v", err)
	}
}

// A coordinator that was removed, the leader too, stops, and its folder is refused from then on.
func TestARemovedCoordinatorStopsAndStaysOut(t *testing.T) {
	c := newCluster(t, 3)
	for _, left := range []int{2, 1} {
		gone, asked := c.leader(), 0
		if left == 1 {
			gone = c.followers()[0]
		}
		for i, s := range c.servers {
			if s != nil && i != gone {
				asked = i
			}
		}
		id := c.servers[gone].ID()
		if err := c.servers[asked].RemoveMember(t.Context(), admin, c.servers[gone].cfg.Name); err != nil {
			t.Fatalf("remove coordinator %d: %v", gone, err)
		}
		select {
		case <-c.servers[gone].Done():
		case <-time.After(patience):
			t.Fatal("the removed coordinator serves on")
		}
		c.stop(gone)
		s, err := c.open(gone)
		if e := api.AsError(err); s != nil || e.Code != api.CodeForbidden || e.Hint == "" {
			t.Errorf("started again: %v", err)
		}
		rest := c.servers[asked]
		c.eventually("the others to be without it", func() bool {
			known := slices.ContainsFunc(rest.membersNow(), func(m api.Member) bool { return m.ID == id })
			return !known && rest.voters() == left && rest.Ready(t.Context()) == nil
		})
	}
	last := c.servers[c.leader()]
	if err := last.RemoveMember(t.Context(), admin, last.cfg.Name); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("the last voter was removed: %v", err)
	}
	if err := last.RemoveMember(t.Context(), admin, "nobody"); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("nobody was removed: %v", err)
	}
	if _, err := upload(t, last, "still here"); err != nil {
		t.Errorf("the last one does not serve: %v", err)
	}
}

// A command that certainly did not enter the log is told apart from one that may have: only the first
// is tried again by itself.
func TestOnlyWhatWasCertainlyNotSentIsTriedAgain(t *testing.T) {
	c := newCluster(t, 2)
	follower := c.servers[c.followers()[0]]
	leader := c.servers[c.leader()]
	cmd := state.Command{At: time.Now(), RecordEvent: &api.Event{Type: "node.ready", Message: "once"}}
	data, err := cmd.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := leader.forward(t.Context(), follower.ID(), data); !errors.Is(err, errNotSent) {
		t.Errorf("a follower was asked: %v", err)
	}
	if _, _, err := follower.proposeHere(t.Context(), data); !errors.Is(err, errNotSent) {
		t.Errorf("a follower that thought it led: %v", err)
	}
	if _, _, err := follower.forward(t.Context(), "s-unknown", data); !errors.Is(err, errNotSent) {
		t.Errorf("a coordinator without an address: %v", err)
	}
	if _, _, err := follower.forward(t.Context(), leader.ID(), []byte("not a command")); err == nil || errors.Is(err, errNotSent) {
		t.Errorf("what cannot be read: %v", err)
	}
	if _, _, err := follower.forward(t.Context(), leader.ID(), data); err != nil {
		t.Errorf("the leader was asked: %v", err)
	}
	if events := follower.store.View().Events(api.EventQuery{Type: "node.ready"}); len(events) != 1 {
		t.Errorf("recorded %d times at the follower", len(events))
	}
	id := leader.ID()
	c.stop(c.leader())
	c.eventually("the other, to which the lead was handed, to give it up", func() bool { return !follower.raft.IsLeader() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, _, err := follower.propose(ctx, cmd); !errors.Is(err, errNotSent) {
		t.Errorf("without a majority: %v", err)
	}
	if err := follower.peerCall(t.Context(), id, http.MethodGet, api.PathPeerInfo, nil, nil); !errors.Is(err, errNotSent) {
		t.Errorf("a coordinator that is down: %v", err)
	}
}

// What one coordinator alone has seen is read at every other one.
func TestEventsOfOneCoordinatorAreReadAtAnother(t *testing.T) {
	c := newCluster(t, 2)
	c.servers[0].ownEvent(api.EventNameClaimed, api.SeverityWarning, "gossip/x", "seen here")
	c.eventually("the event at the other", func() bool {
		l, err := c.servers[1].Events(t.Context(), api.EventQuery{Type: api.EventNameClaimed})
		return err == nil && len(l.Items) == 1 && l.Items[0].Message == "seen here"
	})
}

// Where most coordinators have moved there is no leader to write their addresses into the state, so
// each is believed on where to look for it; a wrong address is tried and left, and another's word for it
// is refused.
func TestACoordinatorsOwnWordIsAnAddressToTry(t *testing.T) {
	c := newCluster(t, 3)
	at := c.followers()
	moved, other := c.servers[at[0]], c.servers[at[1]]
	m := moved.self()
	m.NodeAddr = "127.0.0.1:1" // nobody is there
	tell := func(by *Server) error {
		body, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return by.peerCall(t.Context(), other.id.ID, http.MethodPost, api.PathPeerJoin, jsonBody(body), nil)
	}
	leader := c.servers[c.leader()]
	if err := tell(leader); api.CodeOf(err) != api.CodeForbidden {
		t.Errorf("a coordinator that speaks for another: %v", err)
	}
	if got := other.memberAddrs(moved.id.ID); slices.Contains(got, m.NodeAddr) {
		t.Errorf("another's word is tried: %v", got)
	}
	if err := tell(moved); !errors.Is(err, errNotSent) {
		t.Errorf("a follower admits: %v", err)
	}
	if got := other.memberAddrs(moved.id.ID); got[0] != m.NodeAddr {
		t.Errorf("tried first: %v, want %s", got, m.NodeAddr)
	}
	conn, err := other.dialRaft(t.Context(), moved.id.ID)
	if err != nil {
		t.Fatalf("with a wrong address: %v", err)
	}
	conn.Close()
}
