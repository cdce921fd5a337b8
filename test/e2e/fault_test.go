package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

// newHello is a cluster of three by three with the example module in one replica.
func newHello(t *testing.T) *cluster {
	t.Helper()
	k := newCluster(t, 3, 3, nil)
	k.cli.must("workload", "run", helloModule, "--name", "hi", "--http", "--wait", "--timeout", "60s")
	for _, a := range k.agents {
		k.served(a, "hi")
	}
	return k
}

// replaced waits until a workload's one replica is elsewhere, and served there.
func (k *cluster) replaced(victim *member, name string) {
	k.t.Helper()
	eventually(k.t, "the replica is replaced", func() bool { h := k.home(name); return h != nil && h != victim })
	for _, a := range k.agents {
		if a != victim {
			k.served(a, name)
		}
	}
}

func TestAnAgentThatFailsIsReplacedAndHeals(t *testing.T) {
	t.Parallel()
	k := newHello(t)
	for _, fault := range []struct {
		name string
		hurt func(*member)
		heal func(*member)
	}{
		{"killed", (*member).kill, func(m *member) { m.start() }},
		{"frozen", func(m *member) { m.signal(syscall.SIGSTOP) }, func(m *member) { m.signal(syscall.SIGCONT) }},
		{"cut off", func(m *member) { m.cut() }, func(m *member) { m.plug() }},
		{"deaf", func(m *member) { m.deafen() }, func(m *member) { m.hear() }},
		{"mute", func(m *member) { m.mute() }, func(m *member) { m.hear() }},
	} {
		ok := t.Run(fault.name, func(t *testing.T) {
			k := k.in(t)
			victim := k.home("hi")
			fault.hurt(victim)
			k.replaced(victim, "hi")
			kept := k.home("hi")
			fault.heal(victim)
			k.whole()
			k.settled("hi", 1)
			if home := k.home("hi"); home != kept {
				t.Errorf("%s serves, not %s, which did while %s was away", home.name, kept.name, victim.name)
			}
			k.served(victim, "hi")
		})
		if !ok {
			return // the rest would only tell the same
		}
	}
}

func TestAnAgentThatIsCutOffServesOn(t *testing.T) {
	t.Parallel()
	k := newHello(t)
	victim := k.home("hi")
	victim.cut()
	k.replaced(victim, "hi")
	if code, body := victim.fetchInside("http://127.0.0.1:7780", "hi.localhost", "/"); code != 200 {
		t.Errorf("the ingress of the node that is cut off: status %d: %s", code, body)
	}
	k.cli.must("workload", "delete", "hi")
	victim.plug()
	k.whole()
	eventually(t, "the node that was away has stopped what was deleted", func() bool {
		code, _ := fetch(victim.ingress(), "hi.localhost", "/")
		return code == 404
	})
}

func TestAcknowledgedWritesSurviveTheLeadersDeath(t *testing.T) {
	t.Parallel()
	k := newHello(t)
	before := k.replicas("hi")
	w := k.startWriting()
	w.await(t, 30)
	leader := k.leader()
	leader.kill()
	w.await(t, w.count()+30) // by the others
	leader.start()
	w.await(t, w.count()+30)
	written := w.stop()
	k.whole()
	for _, c := range k.coords {
		k.knows(c, written)
	}
	if after := k.replicas("hi"); after != before {
		t.Errorf("replicas were touched: %s, before %s", after, before)
	}
}

func TestALeaderThatIsCutOffIsFollowedByAnother(t *testing.T) {
	t.Parallel()
	k := newHello(t)
	before := k.replicas("hi")
	w := k.startWriting()
	w.await(t, 30)
	leader := k.leader()
	leader.cut()
	k.connect(leader)
	w.await(t, w.count()+30)
	written := w.stop()
	eventually(t, "another leads", func() bool { return k.leader() != leader })
	leader.plug()
	k.connect()
	k.whole()
	for _, c := range k.coords {
		k.knows(c, written)
	}
	if after := k.replicas("hi"); after != before {
		t.Errorf("replicas were touched: %s, before %s", after, before)
	}
}

func TestAPowerCutOfEverythingMovesNothing(t *testing.T) {
	t.Parallel()
	k := newHello(t)
	home, before := k.home("hi"), k.replicas("hi")
	for _, a := range k.agents {
		k.keptTable(a, "hi")
	}
	for _, m := range slices.Concat(k.coords, k.agents) {
		m.kill()
	}
	k.startAll(k.agents)
	for _, a := range k.agents {
		k.served(a, "hi") // with no coordinator, by the last table of endpoints
	}
	k.startAll(k.coords)
	k.whole()
	k.settled("hi", 1)
	if k.home("hi") != home || !strings.HasPrefix(k.replicas("hi"), strings.Split(before, " ")[0]) {
		t.Errorf("the replica moved: %s, before %s", k.replicas("hi"), before)
	}
}

// keptTable waits until an agent has written down where a workload is served and ready, which it does
// within a second of hearing of it.
func (k *cluster) keptTable(m *member, name string) {
	k.t.Helper()
	eventually(k.t, m.name+" has kept the table of endpoints", func() bool {
		var t api.EndpointTable
		data, err := os.ReadFile(filepath.Join(m.dir, "endpoints.json"))
		return err == nil && json.Unmarshal(data, &t) == nil && slices.ContainsFunc(t.Services, func(s api.Service) bool {
			return s.Name == name && slices.ContainsFunc(s.Endpoints, func(e api.Endpoint) bool { return e.Ready && t.Nodes[e.NodeID].Addr != "" })
		})
	})
}

// in is the cluster for a part of its test.
func (k *cluster) in(t *testing.T) *cluster {
	part := *k
	part.t, part.cli.t = t, t
	return &part
}

// writers write through each coordinator, as fast as they are answered.
type writers struct {
	cancel context.CancelFunc
	all    sync.WaitGroup
	mu     sync.Mutex
	ids    []string // acknowledged
}

func (k *cluster) startWriting() *writers {
	k.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &writers{cancel: cancel}
	k.t.Cleanup(func() { w.stop() })
	for _, c := range k.coords {
		to := k.dial(c.url())
		w.all.Go(func() {
			defer to.Close()
			for ctx.Err() == nil {
				w.write(ctx, to)
			}
		})
	}
	return w
}

// write makes the smallest entry of the log, a viewer's token; it counts only when acknowledged.
func (w *writers) write(ctx context.Context, to *client.Client) {
	made, err := to.CreateToken(ctx, api.TokenRequest{Role: api.RoleViewer})
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ids = append(w.ids, made.ID)
}

func (w *writers) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.ids)
}

func (w *writers) await(t *testing.T, n int) {
	t.Helper()
	eventually(t, "more writes are acknowledged", func() bool { return w.count() >= n })
}

// stop gives the ids of all that was acknowledged.
func (w *writers) stop() []string {
	w.cancel()
	w.all.Wait()
	return w.ids
}

// knows waits until a coordinator tells of all tokens; one that was away needs to catch up.
func (k *cluster) knows(c *member, ids []string) {
	k.t.Helper()
	from := k.dial(c.url())
	defer from.Close()
	eventually(k.t, c.name+" knows every acknowledged write", func() bool {
		have := map[string]bool{}
		for cursor := ""; ; {
			page, err := from.Tokens(context.Background(), api.ListQuery{Cursor: cursor})
			if err != nil {
				return false
			}
			for _, one := range page.Items {
				have[one.ID] = true
			}
			if cursor = page.Cursor; cursor == "" {
				break
			}
		}
		return !slices.ContainsFunc(ids, func(id string) bool { return !have[id] })
	})
}
