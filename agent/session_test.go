package agent

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
)

const module = "module"

// A node enrols, says what it is, runs what it is assigned, routes to it, and tells all of it.
func TestANodeFromEnrolmentToGoodbye(t *testing.T) {
	c := newSite(t).coordinator("s-1", "127.0.0.1:0")
	digest := digestOf(module)
	c.artifacts[digest] = module
	d := wasmDriver(hello)
	cfg := c.config("one", d)
	cfg.Labels, cfg.Reserve = map[string]string{"disk": "ssd"}, api.Reserved{CPU: 1}
	a := c.open(cfg)
	c.sees("a registration", func() bool { return len(c.registers) > 0 })
	c.mu.Lock()
	req := c.registers[0]
	c.mu.Unlock()
	if req.Arch != runtime.GOARCH || req.Zone != "a" || req.Labels["disk"] != "ssd" || req.Runtimes.WasmEngine != "fake" || req.Runtimes.Containers {
		t.Errorf("registered as %+v", req)
	}
	if want := api.MilliCPU(runtime.NumCPU()*1000 - 1); req.Capacity.CPU != want || req.Capacity.Memory <= 0 || req.Capacity.Storage <= 0 {
		t.Errorf("capacity %+v, want cpu %v", req.Capacity, want)
	}
	if req.Addr.Node != a.cfg.Listener.Addr().String() || req.Addr.Ingress != a.cfg.Ingress.Addr().String() || req.Addr.Gossip == "" {
		t.Errorf("addresses %+v", req.Addr)
	}
	c.change(func() { c.set, c.table = assigned(1, 5, digest, "r-1", "r-2"), tableOf(7, nil) })
	c.sees("ready replicas", func() bool { return c.last("r-1").Ready && c.last("r-2").Ready })
	c.sees("a heartbeat of the new state", func() bool { return c.beat.Generation == 5 && c.beat.EndpointIndex == 7 && c.beat.Replicas == 2 })
	if status, body := a.ask(t); status != 200 || body != "hello" {
		t.Errorf("the ingress answers %d %s", status, body)
	}
	c.change(func() { c.set = assigned(1, 6, digest, "r-1") })
	c.sees("the end of one", func() bool { return c.last("r-2").State == api.ReplicaStopped })
	if got := d.Running(); !slices.Equal(got, []string{"r-1"}) {
		t.Errorf("%v runs", got)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	c.sees("a goodbye", func() bool { return slices.Equal(c.goodbyes, []string{api.GoodbyeRestart}) })
}

// An older set, or table, of a coordinator that lags behind changes nothing.
func TestWhatIsOlderIsRefused(t *testing.T) {
	s := newSite(t)
	c := s.coordinator("s-1", "127.0.0.1:0")
	digest := digestOf(module)
	c.artifacts[digest] = module
	c.set, c.table = assigned(2, 5, digest, "r-1"), tableOf(7, nil)
	d := wasmDriver(hello)
	a := c.open(c.config("one", d))
	c.sees("a ready replica", func() bool { return c.last("r-1").Ready && c.beat.Generation == 5 })
	for _, old := range []*api.AssignmentSet{assigned(2, 4, digest), assigned(1, 99, digest)} {
		a.intake.offer(old)
		eventually(t, "it was looked at", func() bool {
			a.intake.mu.Lock()
			defer a.intake.mu.Unlock()
			return a.intake.next == nil
		})
		if epoch, gen := a.intake.have(); epoch != 2 || gen != 5 || !slices.Equal(d.Running(), []string{"r-1"}) {
			t.Errorf("after a set of (%d, %d): has (%d, %d), runs %v", old.Epoch, old.Generation, epoch, gen, d.Running())
		}
	}
	a.takeEndpoints(tableOf(6, nil))
	if _, index := a.table.have(); index != 7 || a.ingress.Index() != 7 {
		t.Errorf("after an older table: index %d", index)
	}
}

// After a power cut, with no coordinator in sight, a node that has no token any more runs what it ran
// and routes by the last table.
func TestLifeWithoutCoordinators(t *testing.T) {
	c := newSite(t).coordinator("s-1", "127.0.0.1:0")
	digest := digestOf(module)
	c.artifacts[digest] = module
	c.set, c.table = assigned(1, 5, digest, "r-1"), tableOf(7, nil)
	cfg := c.config("one", wasmDriver(hello))
	a := c.open(cfg)
	c.sees("a ready replica", func() bool { return c.last("r-1").Ready })
	eventually(t, "the table is kept", func() bool { _, err := os.Stat(a.path(fileEndpoints)); return err == nil })
	c.stop()
	if status, body := a.ask(t); status != 200 || body != "hello" {
		t.Errorf("with the coordinator away: %d %s", status, body)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	d := wasmDriver(hello)
	again := c.config("one", d)
	again.DataDir, again.Join, again.Token = cfg.DataDir, nil, ""
	b := c.open(again)
	if b.ID() != a.ID() || b.ID() != "n-one" {
		t.Errorf("it was %s and is %s", a.ID(), b.ID())
	}
	eventually(t, "the replica runs again", func() bool { return slices.Equal(d.Running(), []string{"r-1"}) })
	eventually(t, "and is routed to", func() bool { status, _ := b.ask(t); return status == 200 })
	// The coordinator comes back at its address, which the node has kept.
	back := c.site.coordinator("s-1", c.addr)
	back.change(func() { back.set, back.table = assigned(1, 5, digest, "r-1"), tableOf(7, nil) })
	back.sees("the node", func() bool { return back.beat.Generation == 5 && back.last("r-1").Ready })
}

// A damaged copy of the table is not routed by, and keeps nothing from starting.
func TestADamagedTableIsLeft(t *testing.T) {
	c := newSite(t).coordinator("s-1", "127.0.0.1:0")
	cfg := c.config("one", wasmDriver(hello))
	a := c.open(cfg)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "{", "null", `{"nodes":7}`, `{"services":[{}],"nodes":{"x":{}}}`} {
		if err := os.WriteFile(a.path(fileEndpoints), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		b := c.open(cfg)
		if status, _ := b.ask(t); status != 404 {
			t.Errorf("with %q: %d", text, status)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A new epoch asks for all that runs, and stops nothing before it has decided.
func TestANewEpochIsToldEverything(t *testing.T) {
	c := newSite(t).coordinator("s-1", "127.0.0.1:0")
	digest := digestOf(module)
	c.artifacts[digest] = module
	c.set = assigned(1, 9, digest, "r-1")
	d := wasmDriver(hello)
	c.open(c.config("one", d))
	c.sees("a ready replica", func() bool { return c.last("r-1").Ready })
	fresh := assigned(2, 1, digest)
	fresh.Reported = false
	c.change(func() { c.set = fresh })
	var full *api.StatusReport
	c.sees("a full report", func() bool {
		for i := range c.reports {
			if c.reports[i].Full {
				full = &c.reports[i]
			}
		}
		return full != nil
	})
	if full.Epoch != 2 || len(full.Reports) != 1 || full.Reports[0].Assignment == nil || full.Reports[0].Assignment.ReplicaID != "r-1" {
		t.Errorf("the report is %+v", full)
	}
	if !slices.Equal(d.Running(), []string{"r-1"}) {
		t.Errorf("%v runs", d.Running())
	}
}

// Only the sets and tables of large clusters make a node wait before it asks for the next, and never long.
func TestAWatchRestsAfterALargeAnswer(t *testing.T) {
	const mib = 1 << 20
	for size, want := range map[int64]time.Duration{
		0: 0, smallAnswer: 0, smallAnswer + 1: (smallAnswer + 1) * restPerMiB / mib, mib: restPerMiB,
		10*mib - 1: (10*mib - 1) * restPerMiB / mib, 10 * mib: maxRest, 10*mib + 1: maxRest, maxWatchBody: maxRest,
	} {
		if got := restAfter(size); got != want {
			t.Errorf("after %d bytes it rests for %v, want %v", size, got, want)
		}
	}
}

func TestANodeWithoutAClusterSaysWhatItNeeds(t *testing.T) {
	c := newSite(t).coordinator("s-1", "127.0.0.1:0")
	cfg := c.config("one")
	cfg.Join, cfg.Token = nil, ""
	cfg.Listener, cfg.Ingress = c.listen("127.0.0.1:0"), c.listen("127.0.0.1:0")
	defer cfg.Listener.Close()
	defer cfg.Ingress.Close()
	_, err := Open(t.Context(), cfg)
	if api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), "--join and --token") {
		t.Error(err)
	}
}
