package consensus

import (
	"context"
	"errors"
	"math"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
)

// The default pace: a leader that dies is replaced in about one second. A follower without a
// heartbeat for one to two times defaultHeartbeat asks for an election.
const (
	defaultHeartbeat   = 500 * time.Millisecond
	defaultElection    = 500 * time.Millisecond
	defaultLeaderLease = 250 * time.Millisecond
	defaultCommit      = 20 * time.Millisecond
)

// Limits that suit a small machine.
const (
	MaxCommandBytes   = 8 << 20 // one command
	snapshotInterval  = 30 * time.Second
	snapshotThreshold = 4096 // entries since the last snapshot, at least; see snapshotDue
	trailingLogs      = 2048 // entries kept after one, so that a member that was away for a while needs no snapshot
	cachedEntries     = 32   // in memory; most have a few KiB, some a few MiB
	connectionsPooled = 3    // to each member
	// ioTimeout bounds one message to a member; an SD card may take seconds to sync.
	ioTimeout = 5 * time.Second
)

// Config is what a member needs.
type Config struct {
	ID       string
	DataDir  string       // the log is in DataDir/raft, the snapshots in DataDir/snapshots
	FS       vfs.FS       // nil: the machine's own
	FSM      FSM          // what commands are applied to
	Listener net.Listener // of connections that are already authenticated; nil: this member stays alone
	// Dial connects to the member with that id, wherever it is now.
	Dial func(ctx context.Context, serverID string) (net.Conn, error)
	Log  zerolog.Logger

	Heartbeat, Election, LeaderLease, Commit time.Duration // 0: the defaults
}

func (c Config) withDefaults() Config {
	if c.FS == nil {
		c.FS = vfs.Default
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.Heartbeat, defaultHeartbeat}, {&c.Election, defaultElection},
		{&c.LeaderLease, defaultLeaderLease}, {&c.Commit, defaultCommit},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return c
}

func (c Config) raft(log hclog.Logger) *raft.Config {
	r := raft.DefaultConfig()
	r.LocalID = raft.ServerID(c.ID)
	r.HeartbeatTimeout, r.ElectionTimeout = c.Heartbeat, c.Election
	r.LeaderLeaseTimeout, r.CommitTimeout = c.LeaderLease, c.Commit
	r.SnapshotInterval, r.SnapshotThreshold, r.TrailingLogs = snapshotInterval, math.MaxUint64, trailingLogs // keepSnapshots says when
	r.NoLegacyTelemetry = true
	r.Logger = log
	return r
}

// Node is one member. It is safe for concurrent use.
type Node struct {
	cfg       Config
	raft      *raft.Raft
	store     *store
	snapshots *snapshots
	closeNet  func() error
	group     *run.Group
	watch     *leadership
	closeOnce sync.Once
	closeErr  error
	barred    atomic.Uint64 // the term in which all of the terms before is applied here; see ReadBarrier

	mu      sync.Mutex
	closed  bool
	waiting sync.WaitGroup // goroutines of await
}

// Open starts a member with the state of its folder. A folder without state gives a member that
// does nothing until Bootstrap, or until a leader adds it.
func Open(cfg Config) (*Node, error) {
	cfg = cfg.withDefaults()
	log := newHCLog(cfg.Log)
	store, err := openStore(logDir(cfg.DataDir), cfg.FS, cfg.Log)
	if err != nil {
		return nil, err
	}
	snapshots, err := openSnapshots(snapshotDir(cfg.DataDir), cfg.FS, cfg.Log)
	if err == nil {
		index, _ := snapshots.last()
		err = store.verify(index)
	}
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	n := &Node{cfg: cfg, store: store, snapshots: snapshots, group: run.New(context.Background())}
	if err := n.start(log); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return n, nil
}

func (n *Node) start(log hclog.Logger) error {
	cached, err := raft.NewLogCache(cachedEntries, n.store)
	if err != nil {
		return err
	}
	var transport raft.Transport
	transport, n.closeNet = newTransport(n.cfg, log)
	n.raft, err = raft.NewRaft(n.cfg.raft(log), fsmAdapter{n.cfg.FSM}, cached, n.store, n.snapshots, transport)
	if err != nil {
		return errors.Join(damagedFolder(n.cfg.DataDir, err), n.closeNet())
	}
	n.watch = watchLeadership(n.raft, n.group)
	n.group.Go("snapshots", n.keepSnapshots)
	return nil
}

func logDir(dataDir string) string      { return filepath.Join(dataDir, "raft") }
func snapshotDir(dataDir string) string { return filepath.Join(dataDir, "snapshots") }

// Bootstrap founds a cluster of this one member. It is refused when there is state.
func (n *Node) Bootstrap() error {
	only := raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(n.cfg.ID), Address: raft.ServerAddress(n.cfg.ID)}
	err := n.raft.BootstrapCluster(raft.Configuration{Servers: []raft.Server{only}}).Error()
	if errors.Is(err, raft.ErrCantBootstrap) {
		return api.Errorf(api.CodeConflict, "the data folder %s belongs to a cluster already", n.cfg.DataDir).
			WithHint("start without founding, or choose an empty folder with --data-dir")
	}
	return n.explain("found the cluster", err)
}

// Propose appends a command and returns its index and what the local FSM returned for it. Only the
// leader can. An error of code unavailable or timeout whose message says that the outcome is
// unknown means that the command may still be applied.
func (n *Node) Propose(ctx context.Context, cmd []byte) (index uint64, result any, err error) {
	const op = "write to the Raft log"
	if len(cmd) > MaxCommandBytes {
		return 0, nil, api.Errorf(api.CodeTooLarge, "the command has %d bytes, the limit is %d", len(cmd), MaxCommandBytes)
	}
	future := n.raft.Apply(cmd, timeLeft(ctx))
	if err := n.await(ctx, op, future.Error); err != nil {
		return 0, nil, err
	}
	return future.Index(), future.Response(), nil
}

// Barrier returns when all that was committed before it is applied here. Only the leader can.
func (n *Node) Barrier(ctx context.Context) error {
	return n.await(ctx, "wait for the Raft log", n.raft.Barrier(timeLeft(ctx)).Error)
}

// VerifyLeader asks a majority whether this member still leads.
func (n *Node) VerifyLeader(ctx context.Context) error {
	return n.await(ctx, "confirm the leadership", n.raft.VerifyLeader().Error)
}

// ReadBarrier returns when a read of this member's FSM sees every command that was acknowledged before
// the call, by whomever. Only the leader can. Once in a term it waits for what the leaders before have
// left; after that it takes one round to a majority, and none when there is no other voter.
func (n *Node) ReadBarrier(ctx context.Context) error {
	const op = "confirm the leadership"
	term := n.raft.CurrentTerm()
	if !n.IsLeader() {
		return n.explain(op, raft.ErrNotLeader)
	}
	if n.barred.Load() != term {
		if err := n.Barrier(ctx); err != nil {
			return err
		}
		n.barred.Store(term)
	}
	if !n.onlyVoter() {
		if err := n.VerifyLeader(ctx); err != nil {
			return err
		}
	}
	if n.raft.CurrentTerm() != term { // it may have lost the lead and won it again, and not know yet what was written between
		return n.explain(op, raft.ErrNotLeader)
	}
	return nil
}

// onlyVoter tells whether nobody else could lead.
func (n *Node) onlyVoter() bool {
	servers, err := n.Servers()
	for _, s := range servers {
		if s.Voter && s.ID != n.cfg.ID {
			return false
		}
	}
	return err == nil
}

// NotWritten tells whether a Propose failed before the command could enter the log: it is safe to try again.
func NotWritten(err error) bool {
	return errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrEnqueueTimeout) || errors.Is(err, raft.ErrLeadershipTransferInProgress)
}

// LeaderID is the id of the leader that this member knows, "" for none.
func (n *Node) LeaderID() string {
	_, id := n.raft.LeaderWithID()
	return string(id)
}

// Term is the one in which this member leads, 0 when it does not.
func (n *Node) Term() uint64 { return n.watch.term() }

// IsLeader tells whether this member leads, as far as it knows; see VerifyLeader.
func (n *Node) IsLeader() bool { return n.raft.State() == raft.Leader }

// Leadership delivers true when this member becomes the leader and false when it no longer is. The
// values alternate, beginning with true. A change that nobody has read is replaced by what holds
// now, but a leadership that was lost and won again is never shown as one.
func (n *Node) Leadership() <-chan bool { return n.watch.out }

// Failed delivers the error of the first write to the log that failed. Nothing can be written from
// then on, and Raft ends the process when it next must, so the member is to be closed before.
func (n *Node) Failed() <-chan error { return n.store.broken }

// AppliedIndex is the index of the last entry applied to the FSM.
func (n *Node) AppliedIndex() uint64 { return n.raft.AppliedIndex() }

// LastIndex is the index of the last entry in the log.
func (n *Node) LastIndex() uint64 { return n.raft.LastIndex() }

// Stats describe the member for people.
func (n *Node) Stats() map[string]string { return n.raft.Stats() }

// Snapshot makes one now; what it covers need not be kept in the log. Nothing new is no error.
func (n *Node) Snapshot(ctx context.Context) error {
	return n.await(ctx, "make a snapshot", func() error {
		err := n.raft.Snapshot().Error()
		if errors.Is(err, raft.ErrNothingNewToSnapshot) {
			return nil
		}
		return err
	})
}

// TransferLeadership hands the lead to another voter that is up to date.
func (n *Node) TransferLeadership(ctx context.Context) error {
	return n.await(ctx, "hand over the leadership", func() error { return n.raft.LeadershipTransfer().Error() })
}

// Close stops the member and releases its folder. The listener is closed too.
func (n *Node) Close() error {
	n.closeOnce.Do(func() {
		n.mu.Lock()
		n.closed = true
		n.mu.Unlock()
		stopped := n.raft.Shutdown()
		n.closeErr = errors.Join(n.closeNet(), stopped.Error())
		n.waiting.Wait() // every future has been answered by the shutdown
		n.closeErr = errors.Join(n.closeErr, n.group.Close(), n.store.Close())
	})
	return n.closeErr
}

// timeLeft is how long ctx lets a call wait in Raft's queue; 0 stands for any time.
func timeLeft(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return max(time.Until(deadline), time.Nanosecond)
}

// await waits for a future, which knows no context, until ctx ends. The goroutine ends with the
// future, which Raft answers at the latest when it steps down or stops.
func (n *Node) await(ctx context.Context, op string, wait func() error) error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return n.explain(op, raft.ErrRaftShutdown)
	}
	answer := make(chan error, 1)
	n.waiting.Go(func() { answer <- wait() })
	n.mu.Unlock()
	select {
	case err := <-answer:
		return n.explain(op, err)
	case <-ctx.Done():
		return api.Errorf(api.CodeTimeout, "could not %s in time, the outcome is unknown: %w", op, ctx.Err()).
			WithHint("read the state before trying again")
	}
}

// explain turns the library's errors into ours.
func (n *Node) explain(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrNotVoter):
		return n.notLeader(op, err)
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrAbortedByRestore):
		return api.Errorf(api.CodeUnavailable, "could not %s: the leadership was lost meanwhile, the outcome is unknown: %w", op, err).
			WithHint("read the state before trying again")
	case errors.Is(err, raft.ErrRaftShutdown):
		return api.Errorf(api.CodeUnavailable, "could not %s: this coordinator is stopping: %w", op, err)
	case errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return api.Errorf(api.CodeUnavailable, "could not %s, nothing was written: %w", op, err).WithHint("try again")
	}
	return api.Errorf(api.CodeUnavailable, "could not %s: %w", op, err)
}

func (n *Node) notLeader(op string, err error) error {
	refused := api.Errorf(api.CodeUnavailable, "could not %s: this coordinator is not the leader: %w", op, err)
	if leader := n.LeaderID(); leader != "" {
		return refused.WithHint("ask the leader, %s", leader)
	}
	return refused.WithHint("there is no leader; it takes a majority of the coordinators")
}
