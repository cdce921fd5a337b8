package cli

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
)

// A node is drained when it has no replicas and nothing needs its chunks, if it keeps any.
func TestDrained(t *testing.T) {
	draining := func(replicas int, u *api.NodeUpkeep) api.Node {
		return api.Node{Name: "a", State: api.NodeDraining, StoreCapacity: 1, Status: &api.NodeStatus{Replicas: replicas, Upkeep: u}}
	}
	chunks := &api.NodeUpkeep{State: api.StoreDraining, Chunks: 3}
	safe := &api.NodeUpkeep{State: api.StoreDraining, SafeToRemove: true}
	lost := draining(2, safe)
	lost.State = api.NodeLost
	for name, c := range map[string]struct {
		node    api.Node
		drained bool
		remains string
	}{
		"replicas, no store":    {api.Node{Name: "a", State: api.NodeDraining, Status: &api.NodeStatus{Replicas: 2}}, false, "node a still has 2 replicas"},
		"no store":              {api.Node{Status: &api.NodeStatus{}}, true, ""},
		"never looked at":       {draining(0, nil), false, "node a still has chunks to be looked at"},
		"looked at before it":   {draining(1, &api.NodeUpkeep{State: api.StoreReady}), false, "node a still has 1 replica and chunks to be looked at"},
		"chunks":                {draining(0, chunks), false, "node a still has 3 chunks needed there"},
		"both":                  {draining(2, chunks), false, "node a still has 2 replicas and 3 chunks needed there"},
		"safe to remove":        {draining(0, safe), true, ""},
		"replicas alone now":    {draining(1, safe), false, "node a still has 1 replica"},
		"replicas out of reach": {lost, false, "node a, which is lost, still has 2 replicas"},
	} {
		if got := isDrained(c.node); got != c.drained {
			t.Errorf("%s: drained %v", name, got)
		}
		if text := remaining(c.node); !c.drained && text != c.remains {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// A wait for a drain ends: by itself, when its time is over, saying what is left, and when somebody has ended
// the drain. A deadline of the drain is one of the wait, too.
func TestAWaitForADrainEnds(t *testing.T) {
	s := newSession(t)
	node := api.Node{ID: "n-2", Name: "edge-2", State: api.NodeDraining, Drain: &api.Drain{}, Status: &api.NodeStatus{Replicas: 1}}
	node.ModifyIndex = 7
	now := node
	s.api.mux.HandleFunc("POST /v1/nodes/{id}/drain", func(w http.ResponseWriter, _ *http.Request) { answer(w, node) })
	s.api.mux.HandleFunc("GET /v1/nodes/{id}", func(w http.ResponseWriter, _ *http.Request) { answer(w, now) })
	s.want(6, "", "not drained after 10ms: node edge-2 still has 1 replica", "node", "drain", "edge-2", "--wait", "--timeout", "10ms", "--deadline", "1h")
	now.Drain, now.State = nil, api.NodeReady // as a coordinator shows it that has not heard of the drain yet
	now.ModifyIndex = 6
	s.want(6, "", "node edge-2, which is ready, still has 1 replica", "node", "drain", "edge-2", "--wait", "--timeout", "10ms")
	now.ModifyIndex = 8
	s.want(5, "", "was ended by somebody else", "node", "drain", "edge-2", "--wait")
	now = node
	now.Status = &api.NodeStatus{}
	s.want(0, "node edge-2 drained\n", "", "node", "drain", "edge-2", "--wait", "--deadline", "1ns")

	for deadline, want := range map[time.Duration]time.Duration{0: defaultWait, 1: drainGrace + 1, time.Hour: time.Hour + drainGrace} {
		if got := drainTimeout(deadline); got != want {
			t.Errorf("with a deadline of %s a wait lasts %s", deadline, got)
		}
	}
}

// Where no terminal is, a wait that takes long says what it waits for, and again when that has changed.
func TestALongWaitIsTold(t *testing.T) {
	var now time.Time
	wait := func(flags func(*Env), steps ...string) string {
		var told bytes.Buffer
		e := &Env{Err: &told, Now: func() time.Time { return now }}
		flags(e)
		p := e.progress()
		for _, step := range steps {
			what, soon := strings.CutSuffix(step, " soon")
			if now = now.Add(tellEvery); soon {
				now = now.Add(-time.Nanosecond)
			}
			p.waiting(what)
		}
		return told.String()
	}
	plain := func(*Env) {}
	for want, steps := range map[string][]string{
		"":                         {"a soon"},
		"waiting: a\n":             {"a", "a", "a"},
		"waiting: b\nwaiting: c\n": {"a soon", "b", "a soon", "c"},
	} {
		if got := wait(plain, steps...); got != want {
			t.Errorf("%q: %q", steps, got)
		}
	}
	for name, flags := range map[string]func(*Env){
		"quiet": func(e *Env) { e.flags.quiet = true }, "json": func(e *Env) { e.flags.output = "json" },
	} {
		if got := wait(flags, "a", "b"); got != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
}
