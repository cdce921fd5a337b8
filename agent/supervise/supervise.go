// Package supervise runs replicas: each has one owner, a goroutine that fetches its artifact, starts
// it, starts it again as its policy says, and stops it when told. While it just runs nothing of ours
// runs beside it, but for its probes. What is to run is agent/converge's decision; how a replica is run
// is its sandbox driver's.
//
// A replica's record is in the ledger before it starts, so that whatever runs is known after a
// restart of the agent. Ending the agent is not ending a replica: its record stays, containers run
// on and are adopted, wasm replicas are started anew.
package supervise

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/agent/converge"
	"github.com/cloudless/cloudless/agent/ledger"
	"github.com/cloudless/cloudless/agent/volume"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
)

const (
	startsPerCore  = 4  // replicas of one variant that start at the same time, per core
	maxPreparing   = 64 // artifacts of one variant that are pulled or compiled at the same time
	fetchTimeout   = 10 * time.Minute
	prepareTimeout = 10 * time.Minute
	startTimeout   = 2 * time.Minute
	adoptTimeout   = 15 * time.Second // of one try to take up what runs; a stop waits for it
	stopGrace      = 10 * time.Second // between the polite and the forced end
	stopTimeout    = 30 * time.Second // of one try to stop
	retryMax       = 30 * time.Second // between tries to stop what would not stop
	mountTimeout   = 10 * time.Minute // to bring buckets in
	releaseTimeout = 30 * time.Second // to send what an ended replica wrote to buckets; then it goes on in the background
	retryPrepare   = 10 * time.Second // between tries to prepare
)

// Modes of Stop.
const (
	StopRestart = "restart" // end wasm replicas, leave containers running for adoption
	StopKill    = "kill"    // end everything
)

// Ledger is what must survive a restart; *ledger.Ledger implements it. SaveReplica returns when the
// record is durable.
type Ledger interface {
	SaveReplica(ledger.Record) error
	DeleteReplica(id string) error
}

// Volumes makes the folders that replicas mount; *volume.Manager implements it.
type Volumes interface {
	// Mount makes a replica's volumes, or finds those that it has.
	Mount(context.Context, volume.Request) ([]sandbox.Mount, error)
	// Release ends a replica's volumes, once nothing of it runs.
	Release(ctx context.Context, replica string)
}

// Config is what a Supervisor needs.
type Config struct {
	NodeID, Cluster string
	Drivers         map[api.Variant]sandbox.Driver
	// Fetch gives the verified local file of an artifact. It is called for many replicas at once.
	Fetch func(ctx context.Context, digest string) (path string, err error)
	// Admit tells why the policy of a workload's namespace keeps it from starting, nil if it does not.
	// It is asked before each start, with the file of its artifact; "" is a registry's.
	Admit func(a api.Assignment, w *api.WorkloadSpec, path string) error
	// Volumes makes what replicas mount; nil: workloads with volumes do not start here.
	Volumes Volumes
	// Storage is what wasm guests reach of the cluster's buckets; nil: nothing.
	Storage sandbox.Storage
	Ledger  Ledger
	LogDir  string
	// OnStatus is told each transition, in order per replica. It must not block.
	OnStatus func(api.ReplicaReport)
	// OnEvent is told what no status tells. It must not block.
	OnEvent func(api.Event)
	// OnRestart and OnFailedProbe are told each one, for the metrics; probe is Readiness or Liveness.
	// They must not block, and may be nil.
	OnRestart     func(api.Ref)
	OnFailedProbe func(w api.Ref, probe string)
	Log           zerolog.Logger
}

// Supervisor owns all replicas of a node. All methods are safe for concurrent use.
type Supervisor struct {
	cfg       Config
	group     *run.Group // every goroutine, those of the replicas too
	starting  map[api.Variant]chan struct{}
	preparing map[api.Variant]chan struct{}
	poke      chan struct{} // something was forgotten

	mu        sync.RWMutex
	closed    bool
	replicas  map[string]*replica
	serving   map[api.Ref][]string // ready replicas; slices are replaced, never changed
	prepared  map[string]bool      // versions to prepare, by api.VersionKey; true once all is here
	forgotten []string
}

// New makes a supervisor that runs nothing yet.
func New(cfg Config) *Supervisor {
	if cfg.OnRestart == nil {
		cfg.OnRestart = func(api.Ref) {}
	}
	if cfg.OnFailedProbe == nil {
		cfg.OnFailedProbe = func(api.Ref, string) {}
	}
	s := &Supervisor{
		cfg: cfg, group: run.New(context.Background()), poke: make(chan struct{}, 1),
		starting: map[api.Variant]chan struct{}{}, preparing: map[api.Variant]chan struct{}{},
		replicas: map[string]*replica{}, serving: map[api.Ref][]string{}, prepared: map[string]bool{},
	}
	for v := range cfg.Drivers {
		s.starting[v] = make(chan struct{}, startsPerCore*runtime.GOMAXPROCS(0))
		s.preparing[v] = make(chan struct{}, maxPreparing)
	}
	s.group.Go("forgotten replicas", s.clean)
	s.group.Go("container logs", s.rotateLogs)
	return s
}

// Apply begins what converge decided and returns at once. Doing the same again changes nothing.
func (s *Supervisor) Apply(actions []converge.Action) {
	for _, a := range actions {
		switch a.Kind {
		case converge.Start:
			s.take(ledger.Record{ReplicaID: a.ReplicaID, Assignment: a.Assignment, Spec: a.Spec, State: api.ReplicaStarting}, false)
		case converge.Stop:
			s.stop(a)
		case converge.Refuse:
			s.take(ledger.Record{ReplicaID: a.ReplicaID, Assignment: a.Assignment, State: api.ReplicaFailed, Reason: a.Reason}, false)
		case converge.Forget:
			s.forget(a.ReplicaID)
		case converge.Prepare:
			s.prepare(a)
		}
	}
}

// Resume takes up what an earlier process of this agent ran: containers that still run are adopted,
// the rest is started anew, with the restarts counted so far; what had ended stays ended. Logs that
// belong to none of them are removed: their replica was stopped, or the agent was killed before it had
// removed them.
func (s *Supervisor) Resume(_ context.Context, records []ledger.Record) {
	known := map[string]bool{}
	for _, rec := range records {
		known[rec.ReplicaID] = true
	}
	folders, _ := os.ReadDir(s.cfg.LogDir) // absent before the first log
	for _, f := range folders {
		if !known[f.Name()] {
			s.removeLogs(f.Name())
		}
	}
	for _, rec := range records {
		s.take(rec, true)
	}
}

func (s *Supervisor) removeLogs(id string) {
	if err := os.RemoveAll(filepath.Join(s.cfg.LogDir, id)); err != nil {
		s.cfg.Log.Warn().Err(err).Str("replica", id).Msg("log not removed")
	}
}

// take makes a replica of a record. One that has ended has no owner.
func (s *Supervisor) take(rec ledger.Record, adopt bool) {
	s.mu.Lock()
	if _, here := s.replicas[rec.ReplicaID]; here || s.closed {
		s.mu.Unlock()
		return
	}
	r := newReplica(s, rec)
	s.replicas[rec.ReplicaID] = r
	if rec.State.Terminal() {
		close(r.done)
		s.mu.Unlock()
		r.change(func(*api.ReplicaReport) {})
		return
	}
	r.own(func(ctx context.Context) bool { return r.rise(ctx, adopt) })
	s.mu.Unlock()
}

func (s *Supervisor) stop(a converge.Action) {
	r := s.replica(a.ReplicaID)
	if r == nil {
		s.take(ledger.Record{ReplicaID: a.ReplicaID, Assignment: a.Assignment, State: api.ReplicaStopped, Reason: a.Reason}, false)
		return
	}
	select {
	case <-r.done: // it had ended by itself; now it is also not wanted
		r.change(func(rep *api.ReplicaReport) { rep.State = api.ReplicaStopped })
	default:
		r.endBy(stopOrder{reason: a.Reason})
	}
}

// forget drops a replica that has ended; its record and its logs go in the background.
func (s *Supervisor) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.replicas[id]
	if r == nil || !r.status().State.Terminal() {
		return
	}
	delete(s.replicas, id)
	s.forgotten = append(s.forgotten, id)
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// clean removes what is left of forgotten replicas. It ends with the supervisor; what it had no time
// for is forgotten again after the next start.
func (s *Supervisor) clean(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.poke:
		}
		s.mu.Lock()
		ids := s.forgotten
		s.forgotten = nil
		s.mu.Unlock()
		for _, id := range ids {
			s.removeLogs(id)
			if err := s.cfg.Ledger.DeleteReplica(id); err != nil {
				s.trouble("replica "+id+" is not forgotten", err)
			}
		}
	}
}

// Stop ends the supervisor, and of the replicas what mode says; their records stay, so that the next
// start takes them up. It returns when all has ended, or when ctx does.
func (s *Supervisor) Stop(ctx context.Context, mode string) error {
	s.mu.Lock()
	s.closed = true
	all := slices.Collect(maps.Values(s.replicas))
	s.mu.Unlock()
	for _, r := range all {
		r.endBy(leaveOrder{ctx: ctx, detach: mode == StopRestart && r.assignment.Variant == api.VariantContainer})
	}
	s.group.Stop()
	for _, r := range all {
		select {
		case <-r.done:
		case <-ctx.Done():
			return fmt.Errorf("replica %s has not ended: %w", r.id, ctx.Err())
		}
	}
	return s.group.Wait()
}

// serve notes whether a replica may get traffic.
func (s *Supervisor) serve(ref api.Ref, id string, ready bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	others := slices.DeleteFunc(slices.Clone(s.serving[ref]), func(have string) bool { return have == id })
	if ready {
		others = append(others, id)
	}
	if len(others) == 0 {
		delete(s.serving, ref)
		return
	}
	s.serving[ref] = others
}

// trouble logs what the node's people must know and tells it as an event.
func (s *Supervisor) trouble(what string, err error) {
	s.cfg.Log.Error().Err(err).Msg(what)
	s.event(api.SeverityError, api.EventNodeTrouble, "node/"+s.cfg.NodeID, fmt.Sprintf("%s: %v", what, err))
}

func (s *Supervisor) event(severity api.Severity, kind, resource, message string) {
	if s.cfg.OnEvent != nil {
		s.cfg.OnEvent(api.Event{Time: time.Now().UTC(), Type: kind, Severity: severity, Resource: resource, Message: message, Node: s.cfg.NodeID})
	}
}
