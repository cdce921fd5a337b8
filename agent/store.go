package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cloudless/cloudless/agent/upkeep"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/chunkstore/gateway"
	"github.com/cloudless/cloudless/chunkstore/transfer"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/pki"
	"github.com/cloudless/cloudless/internal/run"
)

// Storage says how much of the disk a node's chunk store may use.
type Storage struct {
	Off      bool  // this node keeps no chunks
	Capacity int64 // bytes; 0: storePart of the disk
	Sharing  int   // how many stores share that part of the disk; 0: one
	Reserve  int64 // bytes kept for a full disk; 0: the store's own
}

const (
	// storePart is how much of the disk the store may use by itself: the rest is for what workloads
	// write, and for images and modules.
	storePart = 0.8
	// smallMemory is below what a node is a small board, whose store keeps less in memory.
	smallMemory = api.Bytes(1 << 30)
	// smallGarbage is by how many percent the heap may grow there before it is collected: half of Go's.
	smallGarbage = 50

	storeInterval  = time.Second           // between two looks at the store, and two questions who its members are
	firstInterval  = 50 * time.Millisecond // between these questions until one is answered: nothing is stored before
	membersTimeout = 5 * time.Second
)

// store is this node's part in the object store.
type store struct {
	chunks   *chunkstore.Chunks // nil when this node keeps none, or failed says why not
	failed   string
	capacity int64
	small    bool // the profile of boards with little memory
	pace     *upkeep.Pacer
	keeper   *upkeep.Keeper // nil without chunks
	client   *transfer.Client
	meta     *metadata
	short    *shorts
	requests atomic.Int64 // for chunks, under way
	stats    atomic.Pointer[api.StoreStats]
	members  atomic.Pointer[api.StoreMembers]
}

// openStore opens what this node keeps of the object store, and its gateway to all of it.
func (a *Agent) openStore(context.Context) error {
	s := &store{
		meta: newMetadata(a.sessions.askLine, a.sessions.ask),
		short: newShorts(func(ctx context.Context, short api.StoreShort) error {
			return a.sessions.call(ctx, api.PathStoreShort, short, &struct{}{})
		}),
	}
	s.members.Store(&api.StoreMembers{})
	if s.small = memInfo("MemTotal") < smallMemory; s.small {
		debug.SetGCPercent(smallGarbage)
	}
	a.store = s
	if !a.cfg.Storage.Off {
		if err := a.openChunks(); err != nil { // what runs here does not need it
			s.failed = api.AsError(err).Message
			a.log.Error().Err(err).Msg("this node keeps no chunks until it starts again")
		}
	}
	a.lookAtStore()
	s.client = &transfer.Client{Dial: a.nodes.Dial, Self: a.id.ID, Local: s.chunks}
	a.gateway = gateway.New(gateway.Config{
		Self: a.id.ID, Zone: a.cfg.Zone, Meta: s.meta, Peers: s.client, Members: func() api.StoreMembers { return *s.members.Load() },
		Short: s.short.add, Small: s.small, Log: a.log, Observe: a.observeStorage,
	})
	return nil
}

func (a *Agent) openChunks() (err error) {
	s := a.store
	if s.capacity = a.cfg.Storage.Capacity; s.capacity == 0 {
		s.capacity = int64(float64(a.storage().total)*storePart) / int64(max(a.cfg.Storage.Sharing, 1))
	}
	s.pace = upkeep.NewPacer(s.small, s.busy)
	s.chunks, err = chunkstore.Open(nil, a.path("chunks"), chunkstore.Options{
		Small: s.small, Capacity: s.capacity, ReserveBytes: a.cfg.Storage.Reserve, Pace: s.pace.Wait, OnDamage: a.onDamage, Log: a.log,
	})
	if err != nil {
		return err
	}
	s.keeper, err = upkeep.New(upkeep.Config{
		Chunks: s.chunks, Capacity: s.capacity, Ask: s.meta.Read,
		HeldUntil: func() time.Time { return s.members.Load().HeldUntil },
		DiskFull:  func() bool { return a.disk.full() != "" },
		Session:   func(owner string) (string, bool) { return strings.CutPrefix(owner, gateway.SessionOwnerPrefix) },
		Damaged:   s.short.add, Tell: a.tellStore, Log: a.log,
	})
	return err
}

// serveStore starts what the store does by itself, and what others may ask of it.
func (a *Agent) serveStore(ctx context.Context, g *run.Group) {
	s := a.store
	g.Go("store members", a.keepStoreMembers)
	g.Go("store", a.keepStore)
	g.Go("chunks to repair", s.short.run)
	if s.chunks == nil {
		return
	}
	chunks := a.mux.Handle(api.ALPNChunks, api.RoleServer, api.RoleNode)
	server := &transfer.Server{
		Chunks: s.chunks, Client: s.client, Small: s.small, Log: a.log,
		Pace: upkeep.NewPullPacer(s.small, s.busy).Wait, Pinned: s.keeper.EndPins,
		Maintains: func(r *http.Request) bool { id, ok := link.PeerOfRequest(r); return ok && id.Role == api.RoleServer },
	}
	g.Go("chunks", func(context.Context) error { return link.ServeHTTP1(ctx, chunks, s.counted(server), a.log) })
	g.Go("scrub", s.keeper.Scrub)
	g.Go("collection", s.keeper.Collect)
}

// busy tells whether somebody waits for chunks, for whom what is done in the background makes room.
func (s *store) busy() bool { return s.requests.Load() > 0 }

// counted notes how many requests are under way for which somebody waits.
func (s *store) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !transfer.ForUpkeep(r) {
			s.requests.Add(1)
			defer s.requests.Add(-1)
		}
		h.ServeHTTP(w, r)
	})
}

// close releases the store; nothing asks for it any more.
func (s *store) close() error {
	s.client.Close()
	err := s.meta.close()
	if s.chunks != nil {
		err = errors.Join(err, s.chunks.Close())
	}
	return err
}

// keepStoreMembers asks again and again who keeps chunks; it ends with the agent. What was known last
// stays while no coordinator answers.
func (a *Agent) keepStoreMembers(ctx context.Context) error {
	for {
		if err := a.askStoreMembers(ctx); err != nil {
			a.log.Debug().Err(err).Msg("members of the store not learnt")
		}
		pause := storeInterval
		if len(a.store.members.Load().Members) == 0 {
			pause = firstInterval
		}
		if run.Sleep(ctx, pause) != nil {
			return nil
		}
	}
}

func (a *Agent) askStoreMembers(ctx context.Context) (err error) {
	path := fmt.Sprintf("%s?revision=%d", api.PathStoreMembers, a.store.members.Load().Revision)
	for _, s := range a.sessions.inOrder() {
		var m api.StoreMembers
		var size int64
		if size, err = s.get(ctx, membersTimeout, path, &m); err == nil {
			if size > 0 {
				a.store.members.Store(&m)
			}
			return nil
		}
	}
	return err
}

// keepStore keeps the figures of the store, and tells when it is full or no longer; it ends with the agent.
func (a *Agent) keepStore(ctx context.Context) error {
	for run.Sleep(ctx, storeInterval) == nil {
		a.lookAtStore()
	}
	return nil
}

func (a *Agent) lookAtStore() {
	s := a.store
	now := s.look()
	was := s.stats.Swap(now)
	if now == nil {
		return
	}
	m := a.cfg.Tel.Metrics
	m.StorageChunks.Set(float64(now.Chunks))
	m.StorageUsed.Set(float64(now.Used))
	m.StorageCapacity.Set(float64(now.Capacity))
	switch {
	case now.Full && (was == nil || !was.Full):
		a.tellStore(api.EventStoreFull, api.SeverityError, fmt.Sprintf("the chunk store of this node is full: %d of %d bytes are used; it takes no more until there is room", now.Used, now.Capacity))
	case !now.Full && was != nil && was.Full:
		a.tellStore(api.EventStoreRoom, api.SeverityInfo, "the chunk store of this node has room again")
	}
}

// look is what the store says of itself; nil when there is to be none here.
func (s *store) look() *api.StoreStats {
	if s.chunks == nil {
		if s.failed == "" {
			return nil
		}
		return &api.StoreStats{Full: true, Failed: s.failed}
	}
	st := s.chunks.Stats()
	out := &api.StoreStats{
		Capacity: s.capacity, Used: st.UsedBytes, Chunks: st.Chunks, ChunkBytes: st.RawBytes, Quarantined: st.Quarantined,
		Held: s.keeper.HeldBytes(), Full: st.Full, ScrubbedAt: s.keeper.ScrubbedAt(),
	}
	if st.Failed {
		out.Failed = "a write to its disk failed; start the agent again when the disk is mended"
	}
	return out
}

// onDamage takes in that a chunk was found damaged here.
func (a *Agent) onDamage(digest string, why error) {
	a.tellStore(api.EventChunkDamaged, api.SeverityWarning, fmt.Sprintf("chunk %s is damaged on this node (%v); it is fetched again from another", digest, why))
	a.store.short.add(digest)
}

// tellStore makes an event of something about this node's store.
func (a *Agent) tellStore(eventType string, severity api.Severity, message string) {
	a.log.Warn().Str("type", eventType).Msg(message)
	a.events.add(api.Event{Time: time.Now().UTC(), Type: eventType, Severity: severity, Resource: "node/" + a.id.Name, Node: a.id.ID, Message: message})
}

// observeStorage counts one operation on the object store.
func (a *Agent) observeStorage(o gateway.Observation) {
	result := "ok"
	if o.Err != nil {
		result = "error"
	}
	a.cfg.Tel.Metrics.StorageOperations.Inc(o.Op, result)
	a.cfg.Tel.Metrics.StorageOperationDuration.Observe(o.Took.Seconds(), o.Op)
}

// storeRoutes are what coordinators may ask of the store.
func (a *Agent) storeRoutes() map[string]nodeRoute {
	return map[string]nodeRoute{
		"POST " + api.PathStoreScrub:   {a.withChunks, a.handleScrub},
		"POST " + api.PathStoreCollect: {a.withChunks, a.handleCollect},
	}
}

// withChunks lets coordinators in if there is a store to ask.
func (a *Agent) withChunks(id pki.Identity, r *http.Request) error {
	if err := onlyCoordinators(id, r); err != nil {
		return err
	}
	if a.store.keeper == nil {
		return api.Errorf(api.CodeUnavailable, "node %s keeps no chunks: %s", a.id.Name, a.store.failed).WithHint("leave it out, or start its agent with a --storage-capacity")
	}
	return nil
}

func (a *Agent) handleScrub(w http.ResponseWriter, _ *http.Request) {
	a.store.keeper.ScrubNow()
	writeJSON(w, struct{}{})
}

func (a *Agent) handleCollect(w http.ResponseWriter, r *http.Request) {
	var req api.StoreCollect
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<10)).Decode(&req); err != nil {
		writeError(w, api.Errorf(api.CodeInvalid, "the body is not what was expected: %v", err))
		return
	}
	a.store.keeper.CollectNow(req.Anyway)
	writeJSON(w, struct{}{})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the caller is gone; nobody is left to tell
}
