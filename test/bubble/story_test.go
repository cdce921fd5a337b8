package bubble

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/test/simnet"
)

// soon is more than anything takes that nothing holds up.
const soon = 30 * time.Second

// settle applies a workload and waits for it.
func (w *world) settle(name string, replicas int) {
	w.t.Helper()
	w.check(w.put(w.mustLead(), name, replicas))
	w.eventually(name+" to settle", soon, func() bool { return w.settled(name, replicas) })
}

func TestTenReplicasSettleOnTenNodes(t *testing.T) {
	story(t, func(w *world) {
		w.settle("web", 10)
		w.sameState()
		for _, n := range w.nodes {
			if body, err := w.get(n, "web"); err != nil {
				w.t.Errorf("%s does not serve: %q, %v", n.name, body, err)
			}
		}
	})
}

func TestALeaderThatIsCutOffIsReplaced(t *testing.T) {
	story(t, func(w *world) {
		w.settle("web", 5)
		before, starts := w.homes("web"), w.starts()
		old := w.mustLead()
		others := slices.DeleteFunc(slices.Clone(w.coords), func(c *coord) bool { return c == old })
		w.part(simnet.Drop, coordHosts(old), coordHosts(others...))
		w.eventually("another leader", 10*time.Second, func() bool { l := w.leader(); return l != nil && l != old })
		w.settle("during", 2)
		if err := w.put(old, "refused", 1); api.CodeOf(err) != api.CodeUnavailable && api.CodeOf(err) != api.CodeTimeout {
			w.t.Errorf("the old leader answered a write with %v", err)
		}
		w.heal()
		w.eventually("one leader for all", soon, func() bool {
			l := w.leader()
			return l != nil && !slices.ContainsFunc(w.coords, func(c *coord) bool { return !c.leads(l.ID()) })
		})
		w.sameState()
		if _, there := w.workload("refused"); there {
			w.t.Error("a write that was refused was carried out")
		}
		w.pass(soon)
		if d := cmp.Diff(before, w.homes("web")); d != "" || w.starts() != starts+2 {
			w.t.Errorf("replicas moved with the leader (%d starts, then %d):\n%s", starts, w.starts(), d)
		}
	})
}

func TestANodeThatIsCutOffIsReplacedAndItsCopyStoppedOnReturn(t *testing.T) {
	story(t, func(w *world) {
		w.settle("web", 5)
		away := w.homeOf("web")
		w.isolate(away.host)
		took := w.eventually("it to be suspect", soon, func() bool { return w.stateOf(away) == api.NodeSuspect })
		w.between("suspicion", took, 1400*time.Millisecond, 2800*time.Millisecond)
		took += w.eventually("it to be lost", soon, func() bool { return w.stateOf(away) == api.NodeLost })
		w.between("loss", took, 3400*time.Millisecond, 5200*time.Millisecond)
		w.eventually("a replacement", 2*time.Second, func() bool { return w.readyElsewhere(away, "web") == 5 })
		if len(w.on(away, "web")) != 1 || len(w.running("web")) != 6 {
			w.t.Errorf("the node that is cut off should serve on; running: %v", w.running("web"))
		}
		if body, err := w.get(away, "web"); err != nil {
			w.t.Errorf("its own ingress does not serve: %q, %v", body, err)
		}
		w.heal()
		w.eventually("exactly five copies", soon, func() bool { return w.settled("web", 5) && w.stateOf(away) == api.NodeReady })
		if on := w.on(away, "web"); len(on) != 0 {
			w.t.Errorf("the copy that was replaced runs on: %v", on)
		}
		w.sameState()
		w.onceEach(away, api.EventNodeSuspect, api.EventNodeLost)
	})
}

// onceEach checks that a node went through each of these states once.
func (w *world) onceEach(n *node, kinds ...string) {
	w.t.Helper()
	for _, kind := range kinds {
		var told []string
		for _, e := range w.events(kind) {
			if e.Resource == "node/"+n.name {
				told = append(told, e.Message)
			}
		}
		if len(told) != 1 {
			w.t.Errorf("%s %d times: %q", kind, len(told), told)
		}
	}
}

// readyElsewhere counts the ready copies that are not on a node.
func (w *world) readyElsewhere(away *node, name string) int {
	got, _ := w.workload(name)
	count := 0
	if got.Status != nil {
		for _, r := range got.Status.Replicas {
			if r.Ready && !r.Orphan && r.NodeID != away.id {
				count++
			}
		}
	}
	return count
}

func TestACopyThatNobodyCouldReplaceIsKept(t *testing.T) {
	story(t, func(w *world) {
		away := w.nodes[3]
		only := container("pinned", 1)
		only.Spec.Placement.Zones = []string{"z" + away.name}
		_, err := w.mustLead().PutWorkload(w.t.Context(), admin, only, false, 0)
		w.check(err)
		w.eventually("it to run", soon, func() bool { return w.settled("pinned", 1) })
		before := w.homes("pinned")
		w.isolate(away.host)
		w.eventually("its node to be lost", soon, func() bool { return w.stateOf(away) == api.NodeLost })
		w.pass(20 * time.Second)
		w.heal()
		w.eventually("it to count again", soon, func() bool { return w.settled("pinned", 1) })
		if d := cmp.Diff(before, w.homes("pinned")); d != "" || away.driver.TotalStarts() != 1 {
			w.t.Errorf("the copy that served was not kept (%d starts):\n%s", away.driver.TotalStarts(), d)
		}
	})
}

func TestAKilledAgentIsReplacedInASecond(t *testing.T) {
	story(t, func(w *world) {
		w.settle("web", 5)
		w.pass(5 * time.Second)
		dead := w.homeOf("web")
		w.kill(dead)
		took := w.eventually("replacements", soon, func() bool { return w.readyElsewhere(dead, "web") == 5 })
		w.between("replacing a killed agent's replicas", took, 300*time.Millisecond, 1500*time.Millisecond)
		if len(w.on(dead, "web")) != 1 {
			w.t.Error("its container should run on")
		}
		w.start(dead)
		w.eventually("exactly five copies", soon, func() bool { return w.settled("web", 5) && w.stateOf(dead) == api.NodeReady })
		w.sameState()
	})
}

func TestWhenMostNodesGoTheLeaderWaits(t *testing.T) {
	story(t, func(w *world) {
		w.settle("web", 10)
		before := w.homes("web")
		gone := w.nodes[:6]
		w.part(simnet.Drop, nodeHosts(gone...), append(coordHosts(w.coords...), nodeHosts(w.nodes[6:]...)...))
		w.pass(13500 * time.Millisecond)
		if lost := w.inState(api.NodeLost); len(lost) != 0 {
			w.t.Errorf("%v were given up early", lost)
		}
		if d := cmp.Diff(before, w.homes("web")); d != "" {
			w.t.Errorf("replicas moved:\n%s", d)
		}
		if told := w.events(api.EventClusterIsolated); len(told) != 1 {
			w.t.Errorf("%d events that the leader suspects its own network, want 1", len(told))
		}
		took := w.eventually("them to be given up", soon, func() bool { return len(w.inState(api.NodeLost)) == 6 })
		w.between("the rest of the wait", took, 500*time.Millisecond, 2500*time.Millisecond)
		w.eventually("ten copies on four nodes", soon, func() bool {
			got, _ := w.workload("web")
			return got.Status.Ready == 10
		})
		w.heal()
		w.eventually("exactly ten copies", soon, func() bool { return w.settled("web", 10) && len(w.inState(api.NodeReady)) == 10 })
		w.sameState()
	})
}

func TestAMassFailureThatHealsInTimeMovesNothing(t *testing.T) {
	story(t, func(w *world) {
		w.settle("web", 10)
		before, starts := w.homes("web"), w.starts()
		w.part(simnet.Drop, nodeHosts(w.nodes[:8]...), coordHosts(w.coords...))
		w.pass(12 * time.Second)
		w.heal()
		w.eventually("all nodes to be ready", soon, func() bool { return len(w.inState(api.NodeReady)) == 10 })
		w.pass(soon)
		for _, n := range w.nodes[:8] {
			w.onceEach(n, api.EventNodeSuspect)
		}
		if d := cmp.Diff(before, w.homes("web")); d != "" || w.starts() != starts {
			w.t.Errorf("replicas moved (%d starts, then %d):\n%s", starts, w.starts(), d)
		}
	})
}

func TestAWorkloadDeletedWhileItsNodeIsAwayIsStopped(t *testing.T) {
	story(t, func(w *world) {
		w.settle("web", 5)
		away := w.homeOf("web")
		w.isolate(away.host)
		w.eventually("it to be lost", soon, func() bool { return w.stateOf(away) == api.NodeLost })
		_, err := w.mustLead().DeleteWorkload(w.t.Context(), admin, api.DefaultNamespace, "web", 0)
		w.check(err)
		w.eventually("the workload to be gone", soon, func() bool { _, there := w.workload("web"); return !there })
		if got := w.running("web"); len(got) != 1 || len(w.on(away, "web")) != 1 {
			w.t.Errorf("running after the deletion: %v, want the one on %s", got, away.name)
		}
		w.heal()
		w.eventually("nothing of it to run", soon, func() bool { return len(w.running("web")) == 0 })
		w.sameState()
	})
}

func TestAPowerCycleOfTheSiteMovesNothing(t *testing.T) {
	story(t, func(w *world) {
		w.settle("web", 10)
		w.pass(5 * time.Second) // endpoint tables are kept a second after they change
		before := w.homes("web")
		w.off(time.Hour)
		for _, n := range w.nodes {
			w.start(n)
		}
		w.eventually("all to serve with no coordinator", soon, func() bool {
			return !slices.ContainsFunc(w.nodes, func(n *node) bool { _, err := w.get(n, "web"); return err != nil })
		})
		if len(w.running("web")) != 10 {
			w.t.Errorf("running from the ledgers: %v", w.running("web"))
		}
		starts := w.starts()
		w.pass(soon)
		for _, c := range w.coords {
			w.boot(c)
		}
		w.mustLead()
		w.eventually("all nodes to be ready", soon, func() bool { return len(w.inState(api.NodeReady)) == 10 })
		w.eventually("all to be settled", soon, func() bool { return w.settled("web", 10) })
		w.pass(70 * time.Second)
		if d := cmp.Diff(before, w.homes("web")); d != "" || w.starts() != starts {
			w.t.Errorf("replicas moved (%d starts, then %d):\n%s", starts, w.starts(), d)
		}
		w.sameState()
	})
}

func TestANodeThatOnlyTheLeaderCannotReachIsReplacedOnce(t *testing.T) {
	story(t, func(w *world) {
		w.settle("web", 5)
		away, leader := w.homeOf("web"), w.mustLead()
		w.part(simnet.Drop, nodeHosts(away), coordHosts(leader))
		w.eventually("it to be lost", soon, func() bool { return w.stateOf(away) == api.NodeLost })
		w.eventually("a replacement", soon, func() bool { return w.readyElsewhere(away, "web") == 5 })
		starts := w.starts()
		w.pass(soon)
		if w.leader() != leader || w.starts() != starts || w.stateOf(away) != api.NodeLost {
			w.t.Errorf("it does not rest: leader %s, %d starts, then %d, %s is %s", w.leader().name, starts, w.starts(), away.name, w.stateOf(away))
		}
		if on := w.on(away, "web"); len(on) != 1 {
			w.t.Errorf("a lost node is told nothing, and serves on; it runs %v", on)
		}
		w.heal()
		w.eventually("exactly five copies", soon, func() bool { return w.settled("web", 5) && w.stateOf(away) == api.NodeReady })
		w.sameState()
	})
}

func TestANodeThatReachesOnlyTheLeaderStays(t *testing.T) {
	story(t, func(w *world) {
		w.settle("web", 5)
		before, starts := w.homes("web"), w.starts()
		away, leader := w.homeOf("web"), w.mustLead()
		rest := slices.DeleteFunc(w.hosts(), func(h *simnet.Host) bool { return h == away.host || h == leader.host })
		w.part(simnet.Drop, nodeHosts(away), rest)
		w.pass(soon)
		if d := cmp.Diff(before, w.homes("web")); d != "" || w.starts() != starts || w.stateOf(away) != api.NodeReady {
			w.t.Errorf("replicas moved (%d starts, then %d; %s is %s):\n%s", starts, w.starts(), away.name, w.stateOf(away), d)
		}
		w.heal()
		w.pass(soon)
		w.sameState()
	})
}

// A certificate lives 72 h, is backdated by one, and is renewed when a third of all that is left. The
// cluster runs over that moment, and again when the first certificates have ended; in between it is
// off, for such days cost nothing.
func TestCertificatesRenewWithoutDroppingASession(t *testing.T) {
	small(t, 1, 2, func(w *world) {
		w.settle("web", 2)
		before, renewal := w.homes("web"), api.LeafLifetime-(api.LeafLifetime+time.Hour)/3
		on := func() {
			for _, n := range w.nodes {
				w.start(n)
			}
			w.boot(w.coords[0])
			w.mustLead()
			w.eventually("all to be settled", soon, func() bool { return w.settled("web", 2) && len(w.inState(api.NodeReady)) == 2 })
		}
		w.off(renewal - time.Minute - w.now())
		on()
		suspects := len(w.events(api.EventNodeSuspect))
		w.pass(2 * time.Minute)
		if got := len(w.events(api.EventNodeSuspect)); got != suspects {
			w.t.Errorf("%d nodes were suspected while certificates were renewed", got-suspects)
		}
		w.off(api.LeafLifetime + time.Hour - w.now())
		on()
		if d := cmp.Diff(before, w.homes("web")); d != "" {
			w.t.Errorf("replicas moved:\n%s", d)
		}
	})
}

// Everyone knows only old addresses, at which nobody answers: the coordinators find each other through
// the nodes, and the nodes find them, by the gossip; certificates prove that it is them.
func TestCoordinatorsThatAllMoveAreFound(t *testing.T) {
	for _, count := range []int{1, 3} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			small(t, count, 4, func(w *world) {
				w.settle("web", 4)
				before, starts := w.homes("web"), w.starts()
				w.pass(soon) // what is in memory only is in files by now
				for _, c := range w.coords {
					w.crash(c)
				}
				for _, c := range w.coords {
					w.move(c)
				}
				for _, c := range w.coords {
					w.boot(c)
				}
				w.eventually("a leader", time.Minute, func() bool { return w.leader() != nil })
				w.eventually("all nodes to be ready", time.Minute, func() bool {
					return len(w.inState(api.NodeReady)) == 4 && w.connected() == 4*count
				})
				w.settle("later", 2)
				if d := cmp.Diff(before, w.homes("web")); d != "" || w.starts() != starts+2 {
					w.t.Errorf("replicas moved (%d starts, then %d):\n%s", starts, w.starts(), d)
				}
				w.sameState()
			})
		})
	}
}
