package gossip

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/serf/serf"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/cloudless/cloudless/api"
)

// A probe that is under way when memberlist stops ends by itself, with its timeout.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"))
}

// recorder keeps events, in order.
type recorder struct {
	mu     sync.Mutex
	events []Event
}

func (r *recorder) add(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) has(kind, name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.events, func(e Event) bool { return e.Kind == kind && e.Member.Name == name })
}

type node struct {
	*Gossip
	*recorder
}

func start(t *testing.T, name string, key []byte, change ...func(*Config)) *node {
	t.Helper()
	r := &recorder{}
	cfg := Config{Name: name, Bind: "127.0.0.1:0", Key: key, Tags: map[string]string{"role": "agent"}, Log: zerolog.Nop(), OnEvent: r.add}
	for _, c := range change {
		c(&cfg)
	}
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return &node{g, r}
}

func join(t *testing.T, n *node, to ...*node) {
	t.Helper()
	var addrs []string
	for _, o := range to {
		addrs = append(addrs, o.Addr())
	}
	if count, err := n.Join(t.Context(), addrs); err != nil || count != len(to) {
		t.Fatalf("joined %d, %v", count, err)
	}
}

// eventually polls real sockets and processes, for as long as a slow machine may need.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestMembersMeetAndMeasureEachOther(t *testing.T) {
	key := NewKey()
	a, b, c := start(t, "a", key), start(t, "b", key), start(t, "c", key)
	join(t, b, a)
	join(t, c, a)
	for _, n := range []*node{a, b, c} {
		for _, name := range []string{"a", "b", "c"} {
			eventually(t, name+" to be alive", func() bool { return n.Status(name) == StatusAlive && n.has(EventJoin, name) })
		}
	}
	i := slices.IndexFunc(a.Members(), func(m Member) bool { return m.Name == "b" })
	want := Member{Name: "b", Addr: b.Addr(), Tags: map[string]string{"role": "agent"}, Status: StatusAlive}
	if d := cmp.Diff(want, a.Members()[i]); d != "" {
		t.Error(d)
	}
	if rtt, err := a.Ping(t.Context(), "b"); err != nil || rtt <= 0 {
		t.Errorf("ping %v, %v", rtt, err)
	}
	eventually(t, "a coordinate", func() bool { _, ok := a.RTT("a", "b"); return ok })
	if rtt, _ := a.RTT("a", "b"); rtt > time.Second {
		t.Errorf("round trip on loopback %v", rtt)
	}
	if _, ok := a.RTT("a", "nobody"); ok {
		t.Error("a round trip to nobody")
	}
	if s := a.Status("nobody"); s != StatusNone {
		t.Errorf("status of nobody: %s", s)
	}
	if _, err := a.Ping(t.Context(), "nobody"); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("ping nobody: %v", err)
	}
}

func TestASilentMemberFailsSoonAndALeavingOneLeaves(t *testing.T) {
	key := NewKey()
	a, b, c := start(t, "a", key), start(t, "b", key), start(t, "c", key)
	join(t, b, a)
	join(t, c, a)
	eventually(t, "all", func() bool {
		return a.Status("b") == StatusAlive && a.Status("c") == StatusAlive && b.Status("c") == StatusAlive
	})
	if err := c.serf.Leave(); err != nil { // as a stock serf does
		t.Fatal(err)
	}
	eventually(t, "c to have left", func() bool { return a.has(EventLeave, "c") && a.Status("c") == StatusLeft })
	began := time.Now()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Ping(t.Context(), "b"); api.CodeOf(err) != api.CodeTimeout {
		t.Errorf("ping of a silent member: %v", err)
	}
	eventually(t, "b to fail", func() bool { return a.has(EventFailed, "b") && a.Status("b") == StatusFailed })
	t.Logf("failed after %v", time.Since(began))
	if a.has(EventFailed, "c") {
		t.Error("one that left was taken for failed")
	}
	// It comes back at another address, which a failed member may.
	again := start(t, "b", key)
	time0 := time.Now()
	eventually(t, "b to be back", func() bool {
		_, err := again.Join(t.Context(), []string{a.Addr()})
		return err == nil && a.Status("b") == StatusAlive
	})
	t.Logf("back after %v", time.Since(time0))
}

func TestASecondClaimantIsAnEventAndNothingElse(t *testing.T) {
	key := NewKey()
	a, b := start(t, "a", key), start(t, "b", key)
	join(t, b, a)
	eventually(t, "b", func() bool { return a.Status("b") == StatusAlive })
	imposter := start(t, "b", key)
	if _, err := imposter.Join(t.Context(), []string{a.Addr()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the claim", func() bool { return a.has(EventClaim, "b") })
	for _, m := range a.Members() {
		if m.Name == "b" && m.Addr != b.Addr() {
			t.Errorf("the name went to %s", m.Addr)
		}
	}
	if b.Status("b") != StatusAlive {
		t.Error("the true b gave in")
	}
}

func TestClaimsAreToldOnceAMinute(t *testing.T) {
	c := newClaims()
	c.see(serf.EventMemberJoin, Member{Name: "b", Addr: "1:1"})
	now := time.Unix(1000, 0)
	for _, step := range []struct {
		after time.Duration
		m     Member
		told  bool
	}{
		{0, Member{Name: "b", Addr: "1:1"}, false}, // itself
		{0, Member{Name: "x", Addr: "2:2"}, false}, // a new one
		{0, Member{Name: "b", Addr: "2:2"}, true},
		{30 * time.Second, Member{Name: "b", Addr: "2:2"}, false},
		{30 * time.Second, Member{Name: "b", Addr: "3:3"}, true},
		{61 * time.Second, Member{Name: "b", Addr: "2:2"}, true},
	} {
		c.announced(step.m, now.Add(step.after))
		if told := len(c.queue) > 0; told != step.told {
			t.Errorf("%v %v: told %v, want %v", step.after, step.m, told, step.told)
		}
		for len(c.queue) > 0 {
			<-c.queue
		}
	}
	c.see(serf.EventMemberFailed, Member{Name: "b"})
	c.announced(Member{Name: "b", Addr: "4:4"}, now)
	if len(c.queue) != 0 {
		t.Error("the name of a failed member is free")
	}
	c.see(serf.EventMemberJoin, Member{Name: "b", Addr: "1:1"})
	for i := range 5 * claimQueue { // nobody reads: bounded, and never blocks
		c.announced(Member{Name: "b", Addr: "5:" + string(rune('a'+i))}, now)
	}
	if len(c.queue) != claimQueue {
		t.Errorf("%d claims wait", len(c.queue))
	}
}

func TestTheWrongKeyIsRefused(t *testing.T) {
	a, stranger := start(t, "a", NewKey()), start(t, "stranger", NewKey())
	_, err := stranger.Join(t.Context(), []string{a.Addr()})
	if api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(err.Error(), "key") {
		t.Errorf("error %v", err)
	}
	if len(a.Members()) != 1 {
		t.Errorf("members %v", a.Members())
	}
}

func TestARestartFindsTheOthersByItself(t *testing.T) {
	key, snapshot := NewKey(), filepath.Join(t.TempDir(), "serf.snapshot")
	a := start(t, "a", key)
	b := start(t, "b", key, func(c *Config) { c.SnapshotPath = snapshot })
	join(t, b, a)
	eventually(t, "a", func() bool { return b.Status("a") == StatusAlive && a.Status("b") == StatusAlive })
	if info, err := os.Stat(snapshot); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the snapshot: %v, %v", info, err)
	}
	bound := b.Addr()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = start(t, "b", key, func(c *Config) { c.SnapshotPath, c.Bind = snapshot, bound })
	eventually(t, "a again", func() bool { return b.Status("a") == StatusAlive })
}

func TestKeys(t *testing.T) {
	key := NewKey()
	got, err := ParseKey(" " + FormatKey(key) + "\n")
	if err != nil || !bytes.Equal(got, key) {
		t.Errorf("%x, %v", got, err)
	}
	if bytes.Equal(key, NewKey()) {
		t.Error("the same key twice")
	}
	for _, bad := range []string{"", "c2hvcnQ=", "not base64!"} {
		if _, err := ParseKey(bad); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestWrongConfigurationIsRefused(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, change := range map[string]func(*Config){
		"no key":      func(c *Config) { c.Key = nil },
		"short key":   func(c *Config) { c.Key = c.Key[:16] },
		"no port":     func(c *Config) { c.Bind = "127.0.0.1" },
		"bad port":    func(c *Config) { c.Bind = "127.0.0.1:70000" },
		"port taken":  func(c *Config) { c.Bind = taken.Addr().String() },
		"bad name":    func(c *Config) { c.Name = "no spaces" },
		"long tags":   func(c *Config) { c.Tags = map[string]string{"x": strings.Repeat("y", 600)} },
		"bad to tell": func(c *Config) { c.Advertise = "host.invalid" },
		"bad tell":    func(c *Config) { c.Advertise = "127.0.0.1:x" },
	} {
		cfg := Config{Name: "a", Bind: "127.0.0.1:0", Key: NewKey(), Log: zerolog.Nop()}
		change(&cfg)
		g, err := New(cfg)
		if err == nil {
			t.Errorf("%s was accepted", name)
			g.Close()
		}
		if code := api.CodeOf(err); err != nil && code != api.CodeInvalid && code != api.CodeUnavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAdvertise(t *testing.T) {
	for _, c := range []struct{ advertise, host string }{{"127.0.0.2", "127.0.0.2"}, {"127.0.0.3:4000", "127.0.0.3"}, {"127.0.0.4:0", "127.0.0.4"}} {
		n := start(t, "a", NewKey(), func(cfg *Config) { cfg.Advertise = c.advertise })
		_, bound, _ := net.SplitHostPort(n.Addr())
		want := net.JoinHostPort(c.host, bound)
		if strings.HasSuffix(c.advertise, ":4000") {
			want = c.advertise
		}
		if got := n.Members()[0].Addr; got != want {
			t.Errorf("%s: told %s, want %s", c.advertise, got, want)
		}
	}
}

func TestCallsAfterCloseFail(t *testing.T) {
	n := start(t, "a", NewKey())
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Join(t.Context(), []string{"127.0.0.1:1"}); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("join: %v", err)
	}
}

func TestLogLevels(t *testing.T) {
	var out bytes.Buffer
	l := newLogger(zerolog.New(&out).Level(zerolog.InfoLevel))
	l.Print("[DEBUG] memberlist: quiet")
	l.Printf("[WARN] memberlist: loud %d", 1)
	want := `{"level":"warn","component":"gossip","message":"memberlist: loud 1"}`
	if got := strings.TrimSpace(out.String()); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// serfBinary is Debian's; the contract promises that it can join, so the test cannot do without it.
func serfBinary(t *testing.T) string {
	path, err := exec.LookPath("serf")
	if err != nil {
		t.Skip("NOT TESTED: that a stock Serf agent joins. Install it with: apt-get install serf")
	}
	return path
}

// stockAgent runs a stock Serf agent that joins to, and returns the address of its RPC.
func stockAgent(t *testing.T, binary, name, key string, to *node) string {
	t.Helper()
	bind, rpc := freeAddr(t), freeAddr(t)
	ctx, cancel := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, binary, "agent", "-node", name, "-bind", bind, "-rpc-addr", rpc,
		"-encrypt", key, "-retry-join", to.Addr(), "-retry-interval", "1s", "-retry-max", "3")
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = command.Wait() // it was killed
		if t.Failed() {
			t.Logf("serf agent: %s", out.String())
		}
	})
	return rpc
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// stockMembers asks a stock agent whom it sees alive.
func stockMembers(binary, rpc string) []string {
	out, err := exec.Command(binary, "members", "-rpc-addr", rpc, "-format", "json", "-status", "alive").Output()
	var answer struct{ Members []struct{ Name string } }
	if err != nil || json.Unmarshal(out, &answer) != nil {
		return nil
	}
	var names []string
	for _, m := range answer.Members {
		names = append(names, m.Name)
	}
	slices.Sort(names)
	return names
}

func TestAStockSerfAgentJoinsAndLists(t *testing.T) {
	binary, key := serfBinary(t), NewKey()
	a, b := start(t, "a", key), start(t, "b", key)
	join(t, b, a)
	rpc := stockAgent(t, binary, "stock", FormatKey(key), a)
	eventually(t, "the stock agent in our list", func() bool { return b.Status("stock") == StatusAlive })
	eventually(t, "us in the stock agent's list", func() bool {
		return slices.Equal(stockMembers(binary, rpc), []string{"a", "b", "stock"})
	})
	if _, err := a.Ping(t.Context(), "stock"); err != nil {
		t.Error(err)
	}
}

func TestAStockSerfAgentWithAnotherKeyIsRefused(t *testing.T) {
	binary := serfBinary(t)
	a := start(t, "a", NewKey())
	rpc := stockAgent(t, binary, "stock", FormatKey(NewKey()), a)
	eventually(t, "the stock agent to answer", func() bool { return stockMembers(binary, rpc) != nil })
	join := exec.Command(binary, "join", "-rpc-addr", rpc, a.Addr())
	if out, err := join.CombinedOutput(); err == nil {
		t.Errorf("it joined: %s", out)
	}
	if d := cmp.Diff([]string{"stock"}, stockMembers(binary, rpc)); d != "" {
		t.Error(d)
	}
	if a.Status("stock") != StatusNone {
		t.Error("it is in our list")
	}
}
