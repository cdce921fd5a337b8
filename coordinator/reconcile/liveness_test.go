package reconcile

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

// judge registers one node at epoch0 among others that are well, and plans at epoch0 + 1 hour.
func judge(t *testing.T, was api.NodeState, bye string, sig NodeSignal, started time.Time) (api.NodeState, Result) {
	t.Helper()
	w := newWorld(t)
	nodes(w, 3)
	if was != api.NodeReady {
		w.must(state.Command{SetLiveness: &state.SetLiveness{ID: "n0", Liveness: was}})
	}
	w.now = epoch0.Add(time.Hour)
	if bye != "" {
		w.must(state.Command{Goodbye: &state.NodeGoodbye{ID: "n0", Kind: bye}, At: sig.GoodbyeAt})
	}
	w.start = started
	s := w.signals()
	s.Nodes["n0"] = sig
	res := Plan(w.store.View(), s, w.now)
	for _, c := range res.Commands {
		w.must(c)
	}
	n, _ := w.store.View().Node("n0")
	return n.Liveness, res
}

func TestLiveness(t *testing.T) {
	now := epoch0.Add(time.Hour)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	ms := time.Millisecond
	tests := []struct {
		name    string
		was     api.NodeState
		bye     string
		sig     NodeSignal
		started time.Time // zero: an hour ago
		want    api.NodeState
	}{
		{"beats", api.NodeReady, "", NodeSignal{Session: true, Seen: true, LastHeartbeat: ago(2499 * ms)}, time.Time{}, api.NodeReady},
		{"silent for 2.5 s", api.NodeReady, "", NodeSignal{Session: true, Seen: true, LastHeartbeat: ago(2500 * ms)}, time.Time{}, api.NodeSuspect},
		{"session closed", api.NodeReady, "", NodeSignal{Seen: true, ClosedAt: ago(0), LastHeartbeat: ago(100 * ms)}, time.Time{}, api.NodeSuspect},
		{"refused twice", api.NodeReady, "", NodeSignal{Seen: true, ClosedAt: ago(300 * ms), LastHeartbeat: ago(900 * ms), Reached: true, Refused: 2}, time.Time{}, api.NodeLost},
		{"refused twice, too early", api.NodeReady, "", NodeSignal{Seen: true, ClosedAt: ago(299 * ms), LastHeartbeat: ago(900 * ms), Reached: true, Refused: 2}, time.Time{}, api.NodeSuspect},
		{"refused once", api.NodeReady, "", NodeSignal{Seen: true, ClosedAt: ago(time.Second), LastHeartbeat: ago(time.Second), Reached: true, Refused: 1}, time.Time{}, api.NodeSuspect},
		{"refused, never reached (NAT)", api.NodeReady, "", NodeSignal{Seen: true, ClosedAt: ago(time.Second), LastHeartbeat: ago(time.Second), Refused: 5}, time.Time{}, api.NodeSuspect},
		{"refused, came back", api.NodeSuspect, "", NodeSignal{Session: true, Seen: true, ClosedAt: ago(time.Second), LastHeartbeat: ago(500 * ms), Reached: true, Refused: 2}, time.Time{}, api.NodeReady},
		{"silent for 4.5 s, gossip failed", api.NodeSuspect, "", NodeSignal{Session: true, Seen: true, LastHeartbeat: ago(4500 * ms), Gossip: "failed"}, time.Time{}, api.NodeLost},
		{"silent for less, gossip failed", api.NodeSuspect, "", NodeSignal{Session: true, Seen: true, LastHeartbeat: ago(4499 * ms), Gossip: "failed"}, time.Time{}, api.NodeSuspect},
		{"silent, unanswered", api.NodeSuspect, "", NodeSignal{Session: true, Seen: true, LastHeartbeat: ago(4500 * ms), Gossip: "alive", Unanswered: time.Second}, time.Time{}, api.NodeLost},
		{"silent, unanswered too briefly", api.NodeSuspect, "", NodeSignal{Session: true, Seen: true, LastHeartbeat: ago(time.Minute), Gossip: "alive", Unanswered: 999 * ms}, time.Time{}, api.NodeSuspect},
		{"gossip alone moves nothing", api.NodeReady, "", NodeSignal{Session: true, Seen: true, LastHeartbeat: ago(ms), Gossip: "failed"}, time.Time{}, api.NodeReady},
		{"lost answers again", api.NodeLost, "", NodeSignal{Session: true, Seen: true, LastHeartbeat: ago(ms)}, time.Time{}, api.NodeReady},
		{"lost stays lost", api.NodeLost, "", NodeSignal{Seen: true, ClosedAt: ago(time.Minute), LastHeartbeat: ago(time.Minute)}, time.Time{}, api.NodeLost},
		{"unknown is not lost", api.NodeReady, "", NodeSignal{Gossip: "failed", Unanswered: time.Hour}, ago(59 * time.Second), api.NodeSuspect},
		{"unknown, just started", api.NodeReady, "", NodeSignal{}, ago(time.Second), api.NodeReady},
		{"unknown for 60 s", api.NodeReady, "", NodeSignal{}, ago(60 * time.Second), api.NodeLost},
		{"says it leaves", api.NodeReady, api.GoodbyeLeave, NodeSignal{Session: true, Seen: true, LastHeartbeat: ago(ms), GoodbyeAt: ago(ms)}, time.Time{}, api.NodeLeft},
		{"says it restarts", api.NodeReady, api.GoodbyeRestart, NodeSignal{Session: true, Seen: true, LastHeartbeat: ago(ms), GoodbyeAt: ago(ms)}, time.Time{}, api.NodeSuspect},
		{"restarts, refused", api.NodeSuspect, api.GoodbyeRestart, NodeSignal{Seen: true, ClosedAt: ago(59 * time.Second), LastHeartbeat: ago(59 * time.Second), Reached: true, Refused: 9, Goodbye: api.GoodbyeRestart, GoodbyeAt: ago(59 * time.Second)}, time.Time{}, api.NodeSuspect},
		{"restart took too long", api.NodeSuspect, api.GoodbyeRestart, NodeSignal{Seen: true, ClosedAt: ago(time.Minute), LastHeartbeat: ago(time.Minute), Goodbye: api.GoodbyeRestart, GoodbyeAt: ago(time.Minute)}, time.Time{}, api.NodeLost},
		{"goodbye not yet in the log", api.NodeReady, "", NodeSignal{Seen: true, ClosedAt: ago(time.Second), LastHeartbeat: ago(time.Second), Reached: true, Refused: 3, Goodbye: api.GoodbyeRestart, GoodbyeAt: ago(time.Second)}, time.Time{}, api.NodeSuspect},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.started.IsZero() {
				tt.started = epoch0
			}
			got, res := judge(t, tt.was, tt.bye, tt.sig, tt.started)
			if got != tt.want {
				t.Errorf("node is %s, want %s (%d commands)", got, tt.want, len(res.Commands))
			}
			if res.Next.IsZero() || res.Next.Before(now) {
				t.Errorf("next run at %v: there are nodes to watch", res.Next)
			}
		})
	}
}

// A node that was away registers, maybe with a follower, before the leader hears from it again.
func TestANodeThatHasJustRegisteredIsNotLost(t *testing.T) {
	now := epoch0.Add(time.Hour)
	away := now.Add(-8 * time.Second)
	for _, tt := range []struct {
		name       string
		registered time.Time
		sig        NodeSignal
		want       api.NodeState
	}{
		{"gossip says failed", now.Add(-100 * time.Millisecond), NodeSignal{Seen: true, ClosedAt: away, LastHeartbeat: away, Gossip: "failed"}, api.NodeReady},
		{"unanswered", now.Add(-100 * time.Millisecond), NodeSignal{Seen: true, ClosedAt: away, LastHeartbeat: away, Unanswered: time.Minute}, api.NodeReady},
		{"refused while away", now.Add(-100 * time.Millisecond), NodeSignal{Seen: true, ClosedAt: away, LastHeartbeat: away, Reached: true, Refused: 9}, api.NodeReady},
		{"and has been silent since", now.Add(-suspectAfter), NodeSignal{Seen: true, ClosedAt: away, LastHeartbeat: away}, api.NodeSuspect},
		{"and its new session closed", now.Add(-100 * time.Millisecond), NodeSignal{Seen: true, ClosedAt: now.Add(-time.Millisecond), LastHeartbeat: away}, api.NodeSuspect},
		{"and went again", now.Add(-lostAfter), NodeSignal{Seen: true, ClosedAt: away, LastHeartbeat: away, Gossip: "failed"}, api.NodeLost},
		{"by a clock that is ahead", now.Add(time.Hour), NodeSignal{Seen: true, ClosedAt: away, LastHeartbeat: away, Gossip: "failed"}, api.NodeLost},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			nodes(w, 3)
			w.must(state.Command{Goodbye: &state.NodeGoodbye{ID: "n0", Kind: api.GoodbyeRestart}, At: away})
			w.must(state.Command{SetLiveness: &state.SetLiveness{ID: "n0", Liveness: api.NodeSuspect}, At: away})
			n, _ := w.store.View().Node("n0")
			w.must(state.Command{RegisterNode: &state.RegisterNode{ID: "n0", Info: api.RegisterRequest{Addr: n.Addr, Capacity: n.Capacity, Runtimes: n.Runtimes}}, At: tt.registered})
			w.now = now
			s := w.signals()
			s.Nodes["n0"] = tt.sig
			for _, c := range Plan(w.store.View(), s, w.now).Commands {
				w.must(c)
			}
			if n, _ = w.store.View().Node("n0"); n.Liveness != tt.want {
				t.Errorf("node is %s (%s), want %s", n.Liveness, n.Reason, tt.want)
			}
		})
	}
}

func TestQuietNodesAreProbed(t *testing.T) {
	now := epoch0.Add(time.Hour)
	_, res := judge(t, api.NodeReady, "", NodeSignal{Session: true, Seen: true, LastHeartbeat: now.Add(-3 * time.Second)}, epoch0)
	if diff := cmp.Diff([]string{"n0"}, res.Probe); diff != "" {
		t.Error(diff)
	}
}

func lostCount(w *world) int {
	n := 0
	for _, node := range w.store.View().Nodes() {
		if node.Liveness == api.NodeLost {
			n++
		}
	}
	return n
}

func TestMassFailureWaits(t *testing.T) {
	for _, tt := range []struct {
		name       string
		nodes, die int
		early      int // lost after 5 s
	}{
		{"half of four", 4, 2, 2},
		{"three of four", 4, 3, 0},
		{"two of three", 3, 2, 2},
		{"all of five", 5, 5, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			nodes(w, tt.nodes)
			w.plan()
			w.signals()
			for i := range tt.die {
				w.kill("n" + string(rune('0'+i)))
			}
			for range 50 {
				w.now = w.now.Add(100 * time.Millisecond)
				w.plan()
			}
			if got := lostCount(w); got != tt.early {
				t.Errorf("%d nodes lost after 5 s, want %d", got, tt.early)
			}
			for range 110 {
				w.now = w.now.Add(100 * time.Millisecond)
				w.plan()
			}
			if got := lostCount(w); got != tt.die {
				t.Errorf("%d nodes lost after 16 s, want %d", got, tt.die)
			}
			events := w.store.View().Events(api.EventQuery{Type: api.EventClusterIsolated})
			if want := toInt(tt.early == 0); len(events) != want {
				t.Errorf("%d events of isolation, want %d", len(events), want)
			}
		})
	}
}

// When a network heals, nodes return one after the other; the last ones have been silent for longer
// than the rules of a single node allow by then.
func TestMassFailureThatHealsGivesUpNobody(t *testing.T) {
	w := newWorld(t)
	nodes(w, 6)
	w.plan()
	w.signals()
	ids := []string{"n0", "n1", "n2", "n3", "n4"}
	for _, id := range ids {
		w.kill(id)
	}
	pass := func(d time.Duration) {
		for end := w.now.Add(d); w.now.Before(end); {
			w.now = w.now.Add(100 * time.Millisecond)
			w.plan()
		}
	}
	pass(8 * time.Second)
	for _, id := range ids {
		w.revive(id)
		pass(time.Second)
		if got := lostCount(w); got != 0 {
			t.Fatalf("%d nodes lost when %s was back", got, id)
		}
	}
	w.kill("n0") // alone, and after it all
	pass(6 * time.Second)
	if got := lostCount(w); got != 1 {
		t.Errorf("%d nodes lost when one was killed afterwards, want 1", got)
	}
}

// A power cycle of the whole site: the coordinators are back, no agent is yet.
func TestPowerCycleMovesNothing(t *testing.T) {
	w := newWorld(t)
	nodes(w, 5)
	w.put("a", 6, nil)
	w.settle()
	before := w.store.View().Live(ref("a"))
	w.start, w.unseen = w.now, true
	for range 590 {
		w.now = w.now.Add(100 * time.Millisecond)
		w.plan()
	}
	if diff := cmp.Diff(before, w.store.View().Live(ref("a"))); diff != "" {
		t.Errorf("replicas moved:\n%s", diff)
	}
	w.unseen = false
	w.settle()
	if diff := cmp.Diff(before, w.store.View().Live(ref("a"))); diff != "" {
		t.Errorf("replicas moved when the nodes were back:\n%s", diff)
	}
}
