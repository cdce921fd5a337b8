// Package gateway writes and reads objects. It cuts what it is given into chunks, stores enough copies
// of each on the nodes, and then lets the coordinators name them by a manifest; what it reads it takes
// from the nearest node that has it, and checks it. Every door (S3, REST, guests, the agents' own
// artifacts) goes through it, on agents and on coordinators alike.
//
// It knows the rest of the cluster by two interfaces: Meta, the coordinators' strongly consistent
// metadata, and Peers, the chunks of a node by its id.
//
//	put.go, ingest.go, source.go   an object on its way in: read, cut, stored a few chunks at a time
//	spread.go, straggler.go        one chunk onto W of R nodes; the copies that come later
//	lease.go                       the upload session that keeps chunks until an object names them
//	upload.go                      the same in steps, for a client that cuts for itself
//	open.go, stream.go, fetch.go   an object on its way out; one chunk from whoever has it
//	group.go                       chunks that are kept once each, with parity: made, read, made anew
//	meta.go                        asking the coordinators, again where that is safe
package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/internal/run"
)

// Meta is the strongly consistent metadata that the coordinators keep.
type Meta interface {
	// Apply asks for changes. An error is no refusal, those are in the results: the metadata could not
	// be reached, or nobody knows what happened. If meta.ErrNotSent is its cause, nothing has happened.
	Apply(ctx context.Context, cmds ...meta.Command) (*meta.Results, error)
	Read(ctx context.Context, q meta.Query) (*meta.Answer, error)
}

// Peers are the chunks of nodes, by their ids, the own node among them.
type Peers interface {
	// Put stores chunks durably, as chunkstore.Chunks.Put does. When it has returned, it reads no more of
	// their bytes.
	Put(ctx context.Context, node string, o chunkstore.PutOptions, chunks ...chunkstore.Chunk) error
	// Get appends a chunk to buf; its bytes are those of the digest. Of one that is not there the error
	// is CodeNotFound; of one that is damaged there, chunkstore.ErrCorrupt is the cause.
	Get(ctx context.Context, node, digest string, buf []byte) ([]byte, error)
	// Ref pins those of the chunks that are there, durably, and returns the others.
	Ref(ctx context.Context, node, owner string, digests ...string) (missing []string, err error)
}

// Observation is one operation that has ended, for metrics.
type Observation struct {
	Op    string // put, put_part, put_chunk or get
	Bytes int64
	Took  time.Duration
	Err   error
}

// Config is what a gateway needs.
type Config struct {
	Self    string // the id of this node; "" where there are no chunks of one's own, as on a coordinator
	Zone    string
	Meta    Meta
	Peers   Peers
	Members func() api.StoreMembers
	// Short hears of chunks that have fewer copies than they should, or a damaged one. It never blocks.
	Short   func(digests ...string)
	Small   bool // the profile of boards with little memory
	Observe func(Observation)
	Log     zerolog.Logger
}

// SessionOwner is by what name a node pins the chunks of an upload session.
func SessionOwner(session string) string { return SessionOwnerPrefix + session }

// SessionOwnerPrefix begins the owners that are upload sessions.
const SessionOwnerPrefix = "session/"

// What a gateway holds in memory, beside the one chunk that every upload and every read has in hand, and
// the stragglers.
const (
	spareBytes      = 64 << 20 // further chunks of uploads, and those that are read ahead
	smallSpareBytes = 8 << 20
)

// Gateway reads and writes objects. It is safe for concurrent use.
type Gateway struct {
	cfg        Config
	spare      *semaphore.Weighted
	coding     *semaphore.Weighted // groups that are in memory at once
	stragglers *stragglers
	buckets    bucketCache
	tempos     tempos

	mu     sync.Mutex // guards the group's Go against Close
	closed bool
	group  *run.Group
}

// New makes a gateway; Close ends it.
func New(c Config) *Gateway {
	spare, late, groups := int64(spareBytes), int64(stragglerBytes), int64(groupsAtOnce)
	if c.Small {
		spare, late, groups = smallSpareBytes, smallStragglerBytes, 1
	}
	if c.Short == nil {
		c.Short = func(...string) {}
	}
	if c.Observe == nil {
		c.Observe = func(Observation) {}
	}
	return &Gateway{
		cfg: c, group: run.New(context.Background()),
		spare: semaphore.NewWeighted(spare), coding: semaphore.NewWeighted(groups), stragglers: newStragglers(late),
	}
}

// Close ends what goes on: writes and reads, and copies that were on their way after their write was
// acknowledged. What is lost by that is repaired.
func (g *Gateway) Close() error {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	return g.group.Close()
}

// errEnded is the error of what was cut off by Close.
var errEnded = api.Errorf(api.CodeUnavailable, "this process is ending").WithHint("try again at another node")

// spawn runs f beside its caller, and then always, which whoever waits for it relies on: also when f has
// panicked, and when it is not run at all because the gateway is closed.
func (g *Gateway) spawn(name string, f func(ctx context.Context), always func()) {
	g.mu.Lock()
	closed := g.closed
	if !closed {
		g.group.Go(name, func(ctx context.Context) error {
			defer always()
			f(ctx)
			return nil
		})
	}
	g.mu.Unlock()
	if closed {
		always()
	}
}

// bound gives a context that ends with the gateway too.
func (g *Gateway) bound(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(g.group.Context(), func() { cancel(errEnded) })
	return ctx, func(why error) { stop(); cancel(why) }
}

// observed tells how an operation went.
func (g *Gateway) observed(op string, began time.Time, bytes int64, err error) {
	g.cfg.Observe(Observation{Op: op, Bytes: bytes, Took: time.Since(began), Err: err})
}
