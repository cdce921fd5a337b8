package bubble

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudless/cloudless/agent"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator"
	"github.com/cloudless/cloudless/internal/telemetry"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/fake"
	"github.com/cloudless/cloudless/test/simnet"
)

const (
	portNode, portGossip, portIngress = 7701, 7702, 7780

	startTime = 20 * time.Millisecond // that a replica takes to start
	logLines  = 40                    // of each process, shown when a story fails
	drainTime = 10 * time.Minute      // in which goroutines of the libraries end that wait for a timer
)

// admin is who writes.
var admin = api.Caller{TokenID: "t-test", Role: api.RoleAdmin}

// machine is a host with a data folder and what of a process is there.
type machine struct {
	w     *world
	name  string
	host  *simnet.Host
	dir   string
	log   *tail
	ended chan struct{} // closed when the last process here is gone; nil before there was one
}

// coord is a machine for a coordinator; Server is nil while it is down.
type coord struct {
	machine
	*coordinator.Server
}

// node is a machine for an agent; Agent is nil while it is down. The driver is the machine's: its
// replicas outlive the agent, and end when the machine does.
type node struct {
	machine
	*agent.Agent
	id     string
	driver *fake.Driver
}

// world is the cluster of one story.
type world struct {
	t      *testing.T
	net    *simnet.Network
	coords []*coord
	nodes  []*node
	tokens map[api.Role]string
	began  time.Time
	trace  []string
}

// story runs f on a settled cluster of three coordinators and ten agents, in a bubble.
func story(t *testing.T, f func(w *world)) {
	t.Helper()
	small(t, 3, 10, f)
}

// small is story for as many as it says, where fewer show the same.
func small(t *testing.T, coords, nodes int, f func(w *world)) {
	t.Helper()
	// Pools of the libraries may hold channels and timers of an earlier bubble, which may not be used
	// in this one. The second collection frees what the first has put aside.
	runtime.GC()
	runtime.GC()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: simnet.New(), tokens: map[api.Role]string{}, began: time.Now()}
		defer w.close()
		w.raise(coords, nodes)
		f(w)
	})
}

func (w *world) raise(coords, nodes int) {
	for i := range coords {
		c := &coord{machine: w.machine(fmt.Sprintf("c%d", i+1))}
		w.coords = append(w.coords, c)
		w.boot(c)
		if i == 0 {
			w.eventually("a founded cluster", 30*time.Second, func() bool { return c.Ready(w.t.Context()) == nil })
			for _, role := range []api.Role{api.RoleServer, api.RoleNode} {
				tok, err := c.CreateToken(w.t.Context(), admin, api.TokenRequest{Role: role})
				w.check(err)
				w.tokens[role] = tok.Secret
			}
		}
	}
	w.eventually("all to vote", time.Minute, func() bool { return w.voters() == coords })
	for i := range nodes {
		n := &node{machine: w.machine(fmt.Sprintf("n%d", i+1))}
		w.nodes = append(w.nodes, n)
		w.start(n)
	}
	w.eventually("all nodes to be ready", time.Minute, func() bool { return len(w.inState(api.NodeReady)) == nodes })
}

func (w *world) machine(name string) machine {
	dir := filepath.Join(w.t.TempDir(), name)
	w.check(os.MkdirAll(dir, 0o700))
	return machine{w: w, name: name, host: w.net.Host(name), dir: dir, log: &tail{}}
}

func (m *machine) listen(port int) net.Listener {
	m.w.t.Helper()
	ln, err := m.host.Listen(port)
	m.w.check(err)
	return ln
}

func (m *machine) telemetry(role string) *telemetry.Telemetry {
	tel, err := telemetry.New(telemetry.Config{Role: role, Node: m.name, Version: "test", LogWriter: m.log, LogLevel: "debug"})
	m.w.check(err)
	return tel
}

// boot starts a coordinator on what its folder holds.
func (w *world) boot(c *coord) {
	w.t.Helper()
	w.tell("boot %s", c.name)
	c.await()
	tel := c.telemetry("coordinator")
	gossip, err := c.host.Gossip(portGossip)
	w.check(err)
	cfg := coordinator.Config{
		DataDir: c.dir, Name: c.name, Listener: c.listen(portNode), AdvertiseNode: c.host.Addr(portNode), AdvertiseHTTP: "https://" + c.host.Addr(7700),
		AdvertiseHost: c.host.IP, GossipNet: gossip, NetDial: c.host.Dial, Version: "test", Tel: tel, Log: tel.Log,
	}
	if token := w.tokens[api.RoleServer]; token != "" {
		cfg.Join, cfg.Token = []string{w.coords[0].host.Addr(portNode)}, token
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	c.Server, err = coordinator.Open(ctx, cfg)
	w.check(err)
}

// start starts an agent on what its folder holds.
func (w *world) start(n *node) {
	w.t.Helper()
	w.tell("start %s", n.name)
	n.await()
	tel := n.telemetry("agent")
	gossip, err := n.host.Gossip(portGossip)
	w.check(err)
	if n.driver == nil {
		n.driver = fake.New(fake.Script{Adoptable: true, Start: takeTime, Handler: n.answer})
	}
	n.Agent, err = agent.Open(w.t.Context(), agent.Config{
		DataDir: n.dir, Name: n.name, Zone: "z" + n.name, Listener: n.listen(portNode), Ingress: n.listen(portIngress), AdvertiseHost: n.host.IP,
		GossipNet: gossip, NetDial: n.host.Dial, Join: []string{w.coords[0].host.Addr(portNode)}, Token: w.tokens[api.RoleNode], Version: "test", Tel: tel, Log: tel.Log, Storage: agent.Storage{Capacity: 1 << 30, Reserve: 1 << 20},
		Drivers: func(agent.Identity, func() []netip.AddrPort) (map[api.Variant]sandbox.Driver, error) {
			return map[api.Variant]sandbox.Driver{api.VariantContainer: n.driver}, nil
		},
	})
	w.check(err)
	n.id = n.Agent.ID()
}

func takeTime(ctx context.Context, _ sandbox.Spec) error {
	select {
	case <-time.After(startTime):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answer is what a replica on this machine says.
func (n *node) answer(spec sandbox.Spec) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprintf(rw, "%s on %s", spec.ID, n.name) })
}

// crash ends a coordinator as kill -9 would: the others see its connections reset. What is left of
// the process is cut off, and closes in the background.
func (w *world) crash(c *coord) {
	w.tell("crash %s", c.name)
	c.end(c.Server.Close)
	c.Server = nil
}

// kill ends an agent as kill -9 would; its containers run on.
func (w *world) kill(n *node) {
	w.tell("kill %s", n.name)
	n.end(n.Agent.Close)
	n.Agent = nil
}

// powerOff ends an agent with its whole machine.
func (w *world) powerOff(n *node) {
	w.kill(n)
	<-n.ended
	w.tell("power off %s", n.name)
	w.check(n.driver.Clean(w.t.Context(), nil))
	n.driver = nil
}

func (m *machine) end(closeIt func() error) {
	m.host.Crash()
	m.ended = make(chan struct{})
	go func() {
		defer close(m.ended)
		if err := closeIt(); err != nil {
			fmt.Fprintf(m.log, "cut off, it closed with: %v\n", err)
		}
	}()
}

// await waits until what ran here before has let go of its folder and its host.
func (m *machine) await() {
	if m.ended != nil {
		<-m.ended
	}
	m.host.Start()
}

// move gives a coordinator that is down another machine, with its folder; nobody is at the old address.
func (w *world) move(c *coord) {
	<-c.ended
	old := c.host
	c.host = w.net.Host(c.name)
	w.part(simnet.Drop, []*simnet.Host{old}, w.hosts())
	w.tell("%s moves from %s to %s", c.name, old.IP, c.host.IP)
}

// off ends all processes and machines, and lets a time go by, which costs nothing.
func (w *world) off(d time.Duration) {
	for _, c := range w.coords {
		w.crash(c)
	}
	for _, n := range w.nodes {
		w.powerOff(n)
	}
	for _, c := range w.coords {
		<-c.ended
	}
	w.pass(d)
}

// close ends everything, so that no goroutine is left in the bubble, and tells what happened if the
// story has failed.
func (w *world) close() {
	if w.t.Failed() {
		w.t.Logf("the cluster's own account:\n%s", w.account())
	}
	w.net.Heal()
	for _, n := range w.nodes {
		if n.Agent != nil {
			w.kill(n)
		}
	}
	for _, n := range w.nodes {
		n.await()
		if n.driver != nil {
			_ = n.driver.Clean(context.Background(), nil) // of the fake, it cannot fail
		}
	}
	for _, c := range w.coords {
		if c.Server != nil {
			w.crash(c)
		}
	}
	for _, c := range w.coords {
		c.await()
	}
	w.pass(drainTime)
	w.t.Logf("what was done:\n%s", strings.Join(w.trace, "\n"))
	if !w.t.Failed() {
		return
	}
	for _, c := range w.coords {
		w.t.Logf("the last of %s's log:\n%s", c.name, c.log)
	}
	for _, n := range w.nodes {
		w.t.Logf("the last of %s's log:\n%s", n.name, n.log)
	}
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("at %s: %v", w.now(), err)
	}
}

func (w *world) now() time.Duration { return time.Since(w.began) }

// tell notes what happened, for a failure's sake.
func (w *world) tell(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%8.3fs ", w.now().Seconds())+fmt.Sprintf(format, args...))
}

// pass lets the bubble's time pass.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// eventually looks often enough that the time it returns is right to 20 ms.
func (w *world) eventually(what string, within time.Duration, ok func() bool) (took time.Duration) {
	w.t.Helper()
	began := time.Now()
	for !ok() {
		if time.Since(began) > within {
			w.t.Fatalf("at %s: waited %s in vain for %s\n%s", w.now(), within, what, w.picture())
		}
		w.pass(20 * time.Millisecond)
	}
	took = time.Since(began)
	w.tell("%s, after %s", what, took)
	return took
}

// tail keeps the last lines of a log.
type tail struct {
	mu    sync.Mutex
	lines []string
}

// Write implements io.Writer; zerolog writes whole lines.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == logLines {
		t.lines = slices.Delete(t.lines, 0, 1)
	}
	t.lines = append(t.lines, string(bytes.TrimSpace(b)))
	return len(b), nil
}

// String is the log's end.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}
