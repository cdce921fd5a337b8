package coordinator

import (
	"context"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
	"github.com/cloudless/cloudless/internal/gossip"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/run"
)

// listening is a coordinator that gathers signals and nothing else. Whatever it dials is refused.
func listening() *Server {
	return &Server{
		store: state.New(), signals: newSignals(), poke: make(chan struct{}, 1), group: run.New(context.Background()),
		dialer: &link.Dialer{Net: func(context.Context, string, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED }},
	}
}

// woken tells whether the leader's loop was asked to look again since the last call.
func woken(s *Server) bool {
	select {
	case <-s.poke:
		return true
	default:
		return false
	}
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// A session that opens is a sign of life that ends every suspicion; when it closes, the time is kept,
// and refused dials are counted from then. Both are looked at at once.
func TestSessionsAreSigns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := listening()
		if sig := s.signals.get("n1"); sig.Seen || sig.Session || sig.Gossip != "unknown" {
			t.Errorf("of a node that nobody has seen: %+v", sig.NodeSignal)
		}
		s.signals.update("n1", func(n *nodeSignal) {
			n.Refused, n.unansweredAt, n.Goodbye, n.GoodbyeAt = 3, time.Now(), api.GoodbyeRestart, time.Now()
		})
		acks := s.signals.acked()
		time.Sleep(time.Second)

		s.sessionOpened("n1")
		sig := s.signals.all(time.Now())["n1"]
		if !sig.Session || !sig.Seen || !sig.LastHeartbeat.Equal(time.Now()) || sig.Refused != 0 || sig.Unanswered != 0 || sig.Goodbye != "" || !sig.GoodbyeAt.IsZero() {
			t.Errorf("after it opened: %+v", sig)
		}
		if !woken(s) || !closed(acks) {
			t.Error("nobody looks")
		}

		s.signals.update("n1", func(n *nodeSignal) { n.Refused = 1 })
		acks = s.signals.acked()
		time.Sleep(time.Second)
		s.sessionClosed("n1")
		sig = s.signals.all(time.Now())["n1"]
		if sig.Session || !sig.Seen || !sig.ClosedAt.Equal(time.Now()) || !sig.LastHeartbeat.Equal(time.Now().Add(-time.Second)) || sig.Refused != 0 {
			t.Errorf("after it closed: %+v", sig)
		}
		if !woken(s) || !closed(acks) {
			t.Error("nobody looks")
		}
	})
}

// A heartbeat ends the time of silence. What it says of the endpoint table never goes back, and what
// it leaves out, the last usage and inventory, stays known.
func TestAHeartbeatIsASign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := listening()
		s.signals.update("n1", func(n *nodeSignal) { n.unansweredAt = time.Now() })
		time.Sleep(3 * time.Second)
		if sig := s.signals.all(time.Now())["n1"]; sig.Unanswered != 3*time.Second {
			t.Errorf("silent for %s", sig.Unanswered)
		}
		measured := time.Now()
		usage := []api.ReplicaUsage{{ReplicaID: "hello-1"}}
		known := s.heartbeatFrom("n1", api.Heartbeat{Seq: 1, EndpointIndex: 7, MeasuredAt: measured, ReplicaUsage: usage, Inventory: &api.Inventory{Revision: 4, Artifacts: []string{"a"}}})
		if sig := s.signals.all(time.Now())["n1"]; !sig.Seen || sig.Session || sig.Unanswered != 0 || !sig.LastHeartbeat.Equal(time.Now()) {
			t.Errorf("after a heartbeat: %+v", sig)
		}
		if known != 4 || !woken(s) {
			t.Errorf("inventory %d is known, which a rollout may wait for", known)
		}

		acks := s.signals.acked()
		known = s.heartbeatFrom("n1", api.Heartbeat{Seq: 2, EndpointIndex: 5, MeasuredAt: measured})
		sig := s.signals.get("n1")
		if known != 4 || sig.heartbeat.Seq != 2 || sig.endpointIndex != 7 || len(sig.usage) != 1 || !sig.stock.artifacts["a"] {
			t.Errorf("after a short one: %+v, inventory %d", sig, known)
		}
		if woken(s) || closed(acks) {
			t.Error("it said nothing new, and the leader looks again")
		}
		s.heartbeatFrom("n1", api.Heartbeat{Seq: 3, EndpointIndex: 8, MeasuredAt: measured.Add(time.Second)})
		if sig := s.signals.get("n1"); len(sig.usage) != 0 || !closed(acks) {
			t.Errorf("after a new measurement of nothing and a newer table: %+v", sig)
		}
		if s.signals.get("n2").Seen {
			t.Error("a heartbeat counted for another node")
		}
	})
}

// A refused dial counts only for a node whose port could be reached before; until then it is silence,
// timed from the first probe. One node is probed by one dial at a time, and not too often.
func TestProbesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := listening()
		defer func() {
			if err := s.group.Close(); err != nil {
				t.Error(err)
			}
		}()
		s.probe("n1") // has no address yet
		synctest.Wait()
		if _, known := s.signals.all(time.Now())["n1"]; known || woken(s) {
			t.Error("a node without an address was probed")
		}
		for i, cmd := range []state.Command{
			{PutToken: &api.Token{ID: "t", Role: api.RoleNode}},
			{EnrolNode: &state.EnrolNode{Node: api.Node{ID: "n1", Name: "n1"}, TokenID: "t"}},
			{RegisterNode: &state.RegisterNode{ID: "n1", Info: api.RegisterRequest{Addr: api.NodeAddr{Node: "192.0.2.1:7711"}}}},
		} {
			if res := s.store.Apply(uint64(i+1), cmd); res.Err != nil {
				t.Fatal(res.Err)
			}
		}
		probe := func() {
			s.probe("n1")
			synctest.Wait()
		}
		probe()
		time.Sleep(probeInterval)
		probe()
		if sig := s.signals.all(time.Now())["n1"]; sig.Refused != 0 || sig.Reached || sig.Unanswered != probeInterval || !woken(s) {
			t.Errorf("refused, and never reached: %+v", sig)
		}

		s.signals.update("n1", func(n *nodeSignal) { n.Reached, n.unansweredAt = true, time.Time{} })
		for want := range 3 {
			time.Sleep(probeInterval)
			probe()
			probe() // too soon
			if sig := s.signals.all(time.Now())["n1"]; sig.Refused != want+1 || sig.Unanswered != 0 || !woken(s) {
				t.Errorf("refused %d times: %+v", want+1, sig)
			}
		}
	})
}

// A goodbye is known to the coordinator that heard it and to all by the state; what is none is refused
// and changes nothing. A session that opens later ends it.
func TestAGoodbyeIsASign(t *testing.T) {
	t.Parallel()
	s := openServer(t)
	id, cert := enrolled(t, s, "a")
	say := func(kind string) int {
		return askNode(s, cert, "POST "+api.PathGoodbye, "", api.Goodbye{Kind: kind}).Code
	}
	if code := say("for-ever"); code != http.StatusBadRequest || s.signals.get(id).Goodbye != "" {
		t.Errorf("an unknown kind: %d, %+v", code, s.signals.get(id).NodeSignal)
	}
	before := time.Now()
	if code := say(api.GoodbyeRestart); code != http.StatusOK {
		t.Fatal(code)
	}
	if sig := s.signals.get(id); sig.Goodbye != api.GoodbyeRestart || sig.GoodbyeAt.Before(before) {
		t.Errorf("after a goodbye: %+v", sig.NodeSignal)
	}
	if n, ok := s.store.View().Node(id); !ok || n.Goodbye != api.GoodbyeRestart {
		t.Errorf("the state says %+v", n)
	}
	s.sessionOpened(id)
	if sig := s.signals.get(id); sig.Goodbye != "" || !sig.GoodbyeAt.IsZero() {
		t.Errorf("after it came back: %+v", sig.NodeSignal)
	}
}

// A node that says that its disk is full is known by its words, cut to their limit, until it says
// nothing of it; the leader looks again when that changes, and only then.
func TestAFullDiskIsASign(t *testing.T) {
	s := listening()
	for _, step := range []struct {
		say, want string
		wakes     bool
	}{
		{"", "", false},
		{"no space left", "no space left", true},
		{"no space left, still", "no space left, still", false},
		{strings.Repeat("x", api.MaxDiskFullBytes), strings.Repeat("x", api.MaxDiskFullBytes), false},
		{strings.Repeat("x", api.MaxDiskFullBytes+1), strings.Repeat("x", api.MaxDiskFullBytes), false},
		{"", "", true},
	} {
		s.heartbeatFrom("n1", api.Heartbeat{DiskFull: step.say})
		if got := s.signals.fullDisks()["n1"]; got != step.want || woken(s) != step.wakes {
			t.Errorf("after %.20q: known as %.20q, want it to wake the leader: %t", step.say, got, step.wakes)
		}
	}
}

// What a node told goes with it, but not while it has a session: a coordinator that is behind does not
// know yet whom that is.
func TestNodesThatAreGoneAreForgotten(t *testing.T) {
	g := newSignals()
	g.update("here", func(n *nodeSignal) { n.Seen = true })
	g.update("gone", func(n *nodeSignal) { n.heartbeat.Store = &api.StoreStats{Full: true} })
	g.update("new", func(n *nodeSignal) { n.Session = true })
	before := g.storeChanges()
	g.forget(func(id string) bool { return id != "here" })
	left := g.all(time.Now())
	if !left["here"].Seen || !left["new"].Session || len(left) != 2 || g.storeChanges() == before {
		t.Errorf("left are %v", left)
	}
}

// A node whose port takes connections and says nothing is asked by Serf, too, which has a time of its own: an
// agent that is busy, or behind a network that swallows its TLS, is not one that answers nothing.
func TestASilentPortIsNotASilentNode(t *testing.T) {
	t.Parallel()
	s := openServer(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes connections for it
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	key, err := gossip.ParseKey(s.id.GossipKey)
	if err != nil {
		t.Fatal(err)
	}
	node, err := gossip.New(gossip.Config{Name: "n1", Bind: "127.0.0.1:0", Advertise: "127.0.0.1", Key: key, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	if _, err := node.Join(t.Context(), []string{s.GossipAddr()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node to be known", func() bool { return s.gossip.Status("n1") == gossip.StatusAlive })
	eventually(t, "an answer", func() bool {
		answered, _ := s.probeOnce(t.Context(), "n1", ln.Addr().String())
		return answered
	})
}
