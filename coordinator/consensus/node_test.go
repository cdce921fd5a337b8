package consensus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
)

// journal is an FSM that remembers every command.
type journal struct {
	mu   sync.Mutex
	rows []row
}

type row struct {
	Index uint64
	Cmd   string
}

func (j *journal) Apply(index uint64, cmd []byte) any {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.rows = append(j.rows, row{index, string(cmd)})
	return fmt.Sprintf("applied %s", cmd)
}

func (j *journal) Snapshot() (Snapshot, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return journalSnapshot(slices.Clone(j.rows)), nil
}

func (j *journal) Restore(r io.ReadCloser) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.rows = nil
	return json.NewDecoder(r).Decode(&j.rows)
}

func (j *journal) commands() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []string
	for _, r := range j.rows {
		out = append(out, r.Cmd)
	}
	return out
}

type journalSnapshot []row

func (s journalSnapshot) Write(w io.Writer) error { return json.NewEncoder(w).Encode([]row(s)) }
func (journalSnapshot) Release()                  {}

// network connects members in memory, by id.
type network struct {
	mu        sync.Mutex
	listeners map[string]*pipeListener
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return memberAddr("an address that does not matter") }

func (n *network) listen(id string) net.Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	n.listeners[id] = l
	return l
}

func (n *network) dial(ctx context.Context, id string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[id]
	n.mu.Unlock()
	if l == nil {
		return nil, errors.New("nobody listens")
	}
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type member struct {
	*Node
	fsm *journal
}

// cluster runs members on one network, each on a disk of its own that survives a restart.
type cluster struct {
	t       *testing.T
	net     *network
	disks   map[string]vfs.FS
	members map[string]*member
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, net: &network{listeners: map[string]*pipeListener{}}, disks: map[string]vfs.FS{}, members: map[string]*member{}}
	t.Cleanup(func() {
		for id := range c.members {
			c.stop(id)
		}
	})
	return c
}

func (c *cluster) start(id string) *member {
	c.t.Helper()
	if c.disks[id] == nil {
		c.disks[id] = vfs.NewMem()
	}
	m := &member{fsm: &journal{}}
	node, err := Open(Config{
		ID: id, DataDir: "data", FS: c.disks[id], FSM: m.fsm, Listener: c.net.listen(id), Dial: c.net.dial, Log: zerolog.Nop(),
		Heartbeat: 100 * time.Millisecond, Election: 100 * time.Millisecond, LeaderLease: 50 * time.Millisecond, Commit: 5 * time.Millisecond,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	m.Node = node
	c.members[id] = m
	return m
}

func (c *cluster) stop(id string) {
	if m := c.members[id]; m != nil {
		delete(c.members, id)
		if err := m.Close(); err != nil {
			c.t.Errorf("close %s: %v", id, err)
		}
	}
}

// three starts a cluster of three voters led by a.
func three(t *testing.T) *cluster {
	c := newCluster(t)
	a := c.start("a")
	if err := a.Bootstrap(); err != nil {
		t.Fatal(err)
	}
	c.leader()
	for _, id := range []string{"b", "c"} {
		c.start(id)
		must(t, a.AddNonvoter(t.Context(), id))
		must(t, a.Promote(t.Context(), id))
	}
	return c
}

// leader waits for one that a majority confirms.
func (c *cluster) leader() *member {
	c.t.Helper()
	var leader *member
	eventually(c.t, "a leader", func() bool {
		for _, m := range c.members {
			if m.IsLeader() && m.VerifyLeader(c.t.Context()) == nil {
				leader = m
				return true
			}
		}
		return false
	})
	return leader
}

func (c *cluster) wantCommands(id string, want []string) {
	c.t.Helper()
	var got []string
	eventually(c.t, "the commands of "+id, func() bool {
		got = c.members[id].fsm.commands()
		return len(got) >= len(want)
	})
	if d := cmp.Diff(want, got); d != "" {
		c.t.Errorf("%s: %s", id, d)
	}
}

// eventually polls what Raft's goroutines change.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func propose(t *testing.T, m *member, cmd string) uint64 {
	t.Helper()
	index, result, err := m.Propose(t.Context(), []byte(cmd))
	must(t, err)
	if result != "applied "+cmd {
		t.Errorf("result %v", result)
	}
	return index
}

func TestAClusterOfOneKeepsItsStateOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		a := c.start("a")
		must(t, a.Bootstrap())
		if err := a.Bootstrap(); api.CodeOf(err) != api.CodeConflict {
			t.Errorf("founded twice: %v", err)
		}
		a = c.leader()
		var want []string
		for i := range 20 {
			want = append(want, fmt.Sprint("x", i))
			propose(t, a, want[i])
			if i == 9 {
				must(t, a.Snapshot(t.Context()))
			}
		}
		c.stop("a")
		c.start("a")
		a = c.leader()
		must(t, a.Barrier(t.Context()))
		c.wantCommands("a", want)
		if a.AppliedIndex() > a.LastIndex() || a.LastIndex() == 0 || a.Stats()["state"] != "Leader" {
			t.Errorf("applied %d, last %d, %v", a.AppliedIndex(), a.LastIndex(), a.Stats())
		}
	})
}

func TestANewLeaderKeepsWhatWasAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := three(t)
		a := c.leader()
		var want []string
		for i := range 50 {
			want = append(want, fmt.Sprint("before", i))
			propose(t, a, want[i])
		}
		old := a.LeaderID()
		c.stop(old)
		start := time.Now()
		b := c.leader()
		t.Logf("a new leader after %v", time.Since(start))
		want = append(want, "after")
		propose(t, b, "after")
		for id := range c.members {
			c.wantCommands(id, want)
		}
		back := c.start(old) // gets what it missed, under another address
		c.wantCommands(old, want)
		eventually(t, "the old leader to know the new one", func() bool { return back.LeaderID() == c.leader().LeaderID() })
	})
}

func TestAMajorityIsNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := three(t)
		a := c.leader()
		for id := range c.members {
			if id != a.cfg.ID {
				c.stop(id)
			}
		}
		_, _, err := a.Propose(t.Context(), []byte("lost?"))
		if api.CodeOf(err) != api.CodeUnavailable {
			t.Fatalf("error %v, want unavailable", err)
		}
		eventually(t, "the leader to step down", func() bool { return !a.IsLeader() })
		_, _, err = a.Propose(t.Context(), []byte("refused"))
		if api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(err.Error(), "not the leader") || !strings.Contains(err.Error(), "majority") {
			t.Errorf("error %v", err)
		}
		if err := a.VerifyLeader(t.Context()); api.CodeOf(err) != api.CodeUnavailable {
			t.Errorf("verify: %v", err)
		}
	})
}

func TestAFollowerRefusesAndNamesTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := three(t)
		leader := c.leader().cfg.ID
		for id, m := range c.members {
			if id == leader {
				continue
			}
			eventually(t, "the follower to know the leader", func() bool { return m.LeaderID() == leader })
			for op, err := range map[string]error{
				"propose": proposeError(t, m), "add": m.AddNonvoter(t.Context(), "d"), "barrier": m.Barrier(t.Context()),
			} {
				if api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(api.AsError(err).Hint, leader) {
					t.Errorf("%s: error %v, want unavailable naming %s", op, err, leader)
				}
			}
		}
	})
}

func proposeError(t *testing.T, m *member) error {
	_, _, err := m.Propose(t.Context(), []byte("x"))
	return err
}

func TestMembersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		a := c.start("a")
		must(t, a.Bootstrap())
		a = c.leader()
		if err := a.Remove(t.Context(), "a"); api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), "last voter") {
			t.Errorf("the last voter: %v", err)
		}
		for op, err := range map[string]error{"remove": a.Remove(t.Context(), "x"), "promote": a.Promote(t.Context(), "x")} {
			if api.CodeOf(err) != api.CodeNotFound {
				t.Errorf("%s a stranger: %v", op, err)
			}
		}
		propose(t, a, "early")
		must(t, a.Snapshot(t.Context())) // so that the new member may get it that way
		b := c.start("b")
		must(t, a.AddNonvoter(t.Context(), "b"))
		must(t, a.AddNonvoter(t.Context(), "b")) // twice is once
		c.wantCommands("b", []string{"early"})
		wantServers(t, a, Server{"a", true}, Server{"b", false})
		if err := a.Remove(t.Context(), "a"); api.CodeOf(err) != api.CodeConflict {
			t.Errorf("the last voter beside a non-voter: %v", err)
		}
		must(t, a.Promote(t.Context(), "b"))
		must(t, a.Promote(t.Context(), "b"))
		wantServers(t, a, Server{"a", true}, Server{"b", true})
		must(t, a.TransferLeadership(t.Context()))
		eventually(t, "b to lead", func() bool { return b.IsLeader() && b.VerifyLeader(t.Context()) == nil })
		must(t, b.Remove(t.Context(), "a"))
		wantServers(t, b, Server{"b", true})
		propose(t, b, "late")
		c.wantCommands("b", []string{"early", "late"})
	})
}

func wantServers(t *testing.T, m *member, want ...Server) {
	t.Helper()
	got, err := m.Servers()
	must(t, err)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestLeadershipAlternates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := three(t)
		a := c.leader()
		if !receive(t, a) {
			t.Fatal("the first value is not true")
		}
		// Nobody reads while the lead goes away and comes back: that must not look like one lead.
		for range 3 {
			must(t, a.TransferLeadership(t.Context()))
			eventually(t, "another leader", func() bool { return c.leader() != a })
			must(t, leadBy(c.leader(), a))
		}
		if receive(t, a) {
			t.Error("a lost leadership was not shown")
		}
		if !receive(t, a) {
			t.Error("a new leadership was not shown")
		}
	})
}

// leadBy hands the lead of from over to one member; the exported call lets the library choose.
func leadBy(from, to *member) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if to.IsLeader() && to.VerifyLeader(ctx) == nil {
			return nil
		}
		id := raft.ServerID(to.cfg.ID)
		if err := from.raft.LeadershipTransferToServer(id, raft.ServerAddress(id)).Error(); err != nil && from.IsLeader() {
			return err
		}
	}
	return ctx.Err()
}

func receive(t *testing.T, m *member) bool {
	t.Helper()
	select {
	case v := <-m.Leadership():
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("no change of leadership was told")
		return false
	}
}

func TestProposalsThatCannotBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		a := c.start("a")
		must(t, a.Bootstrap())
		a = c.leader()
		if _, _, err := a.Propose(t.Context(), make([]byte, MaxCommandBytes+1)); api.CodeOf(err) != api.CodeTooLarge {
			t.Errorf("too large: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := a.Propose(ctx, []byte("x")); err != nil && api.CodeOf(err) != api.CodeTimeout {
			t.Errorf("cancelled: %v", err)
		}
		c.stop("a")
		if err := proposeError(t, a); api.CodeOf(err) != api.CodeUnavailable {
			t.Errorf("stopped: %v", err)
		}
	})
}

func TestManyProposeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := three(t)
		a := c.leader()
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := range 25 {
					if _, _, err := a.Propose(t.Context(), fmt.Appendf(nil, "%d-%d", w, i)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		want := a.fsm.commands()
		if len(want) != 200 {
			t.Fatalf("%d commands", len(want))
		}
		for id := range c.members {
			c.wantCommands(id, want)
		}
	})
}

func TestAMemberOfOneNeedsNoNetwork(t *testing.T) {
	fsm := &journal{}
	n, err := Open(Config{ID: "a", DataDir: t.TempDir(), FSM: fsm, Log: zerolog.Nop()})
	must(t, err)
	must(t, n.Bootstrap())
	if !receive(t, &member{Node: n}) {
		t.Error("no leadership")
	}
	propose(t, &member{Node: n}, "alone")
	must(t, n.Close())
	must(t, n.Close())
}

func TestASecondMemberOnTheFolderIsRefused(t *testing.T) {
	dir := t.TempDir()
	n, err := Open(Config{ID: "a", DataDir: dir, FSM: &journal{}, Log: zerolog.Nop()})
	must(t, err)
	if _, err := Open(Config{ID: "a", DataDir: dir, FSM: &journal{}, Log: zerolog.Nop()}); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("error %v, want conflict", err)
	}
	must(t, n.Close())
}

func TestTheLibraryLogsThroughOurs(t *testing.T) {
	var out bytes.Buffer
	log := newHCLog(zerolog.New(&out).Level(zerolog.InfoLevel)).With("peer", "b")
	log.Debug("not shown")
	log.Warn("heartbeat failed", "error", errors.New("refused"), "count", 3)
	want := `{"level":"warn","component":"raft","peer":"b","error":"refused","count":"3","message":"heartbeat failed"}`
	if got := strings.TrimSpace(out.String()); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}
