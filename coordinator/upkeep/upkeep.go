// Package upkeep keeps every chunk of the object store where it belongs, with as many copies as it is
// to have: it repairs what is short, moves what a node that joined has won, empties nodes that drain,
// and drops what is too much. The leader runs it; it ends with the leadership, and the next leader
// begins anew, for all that it knows can be asked for again.
//
// It looks at all chunks (survey.go): what the metadata names, beside what each node says that it has,
// both in the order of digests, a page at a time. place.Plan says for each page what is to be done, and
// a bounded worklist keeps what is most urgent (work.go). Then that is done (carry.go): the node that is
// to have a chunk fetches it from one that has it, and a copy is dropped only when all who are to keep
// the chunk have just said that they have it. What does not fit into the worklist, or fails, is found
// again by the next look. So it is safe to stop at any moment, and no list of things to do needs to be
// kept anywhere.
//
// It looks when it begins, when the members change, when somebody asks, and every hour. Chunks of which
// somebody tells that they are short are looked at at once (hints.go). When all that is done, chunks of
// cold objects are put into groups (group.go); the next look takes the copies away that they need no more.
package upkeep

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/chunkstore/erasure"
	"github.com/cloudless/cloudless/chunkstore/split"
	"github.com/cloudless/cloudless/coordinator/objects"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/internal/telemetry"
)

// Times of upkeep.
const (
	lookEvery   = time.Hour        // at all chunks, though nothing has changed
	pollEvery   = time.Second      // at the members
	firstRetry  = 2 * time.Second  // doubles, up to
	lastRetry   = 5 * time.Minute  //
	patience    = 75 * time.Second // with a member that does not tell what it has, as while it starts again; then it counts as lost
	settleTime  = 30 * time.Second // between two looks that are broken off because the members changed
	tellAfter   = 5 * time.Second  // that a chunk has been short while all nodes are there
	askTimeout  = 15 * time.Second
	dropTimeout = 30 * time.Second
)

// Nodes are the chunks of nodes, by their ids: what transfer.Client offers.
type Nodes interface {
	// List is a page of a node's chunks, as chunkstore.Chunks.List gives it.
	List(ctx context.Context, node, after string, limit int) ([]chunkstore.ChunkInfo, error)
	// Missing are those of the chunks of which the node has no good copy.
	Missing(ctx context.Context, node string, digests ...string) ([]string, error)
	// Copy makes the node to fetch chunks from another. Done are those that are durable there then,
	// whatever the error, which says why the others are not.
	Copy(ctx context.Context, to, from string, digests ...string) (done []string, err error)
	// Drop removes a node's copies, but for those that somebody pins there.
	Drop(ctx context.Context, node string, digests ...string) (kept []string, err error)
}

// Refs is what the metadata names, as it is at the time of the call.
type Refs interface {
	// Referenced is a page in the order of digests, behind after.
	Referenced(after [32]byte, limit int) ([]objects.Ref, error)
	// Reference is what is asked of one chunk.
	Reference(chunk [32]byte) (objects.Ref, error)
}

// Groups are chunks that are kept once each, with parity (package erasure): what the gateway offers.
type Groups interface {
	// Seal makes a group of chunks, which it may refuse as CodeConflict: they are others by now.
	Seal(ctx context.Context, chunks [erasure.Data]split.Chunk) error
	// Rebuild makes a chunk of the others of its group, and stores it on a node. When too few can be
	// read, gateway.ErrGroupLost is the cause.
	Rebuild(ctx context.Context, node string, chunk split.Chunk) error
}

// Config is what upkeep needs.
type Config struct {
	Nodes   Nodes
	Groups  Groups
	Refs    Refs
	Members func() api.StoreMembers
	Event   func(kind string, severity api.Severity, resource, message string)
	Tel     *telemetry.Metrics
	Log     zerolog.Logger
}

// Upkeep is one leader's. Look, Hint and Report may be called at any time, from anywhere.
type Upkeep struct {
	cfg   Config
	hints *hints
	look  chan struct{} // holds one: somebody asks for a look at all chunks
	state *progress
	tries map[string]int  // of copies that failed, by digest; see carry.go
	gone  map[string]bool // chunks that could not be made of their groups; see group.go
	known map[string]bool // chunks that the last look found lost or stuck: hints of them are no news

	mu     sync.Mutex
	silent map[string]time.Time    // members that do not tell what they have, since when
	seen   string                  // the members that the present look began with, by key
	stop   context.CancelCauseFunc // breaks the present look off; nil when there is none
	broken time.Time               // when one was broken off last
}

// New makes it; Run begins.
func New(c Config) *Upkeep {
	return &Upkeep{
		cfg: c, look: make(chan struct{}, 1), hints: newHints(), tries: map[string]int{}, gone: map[string]bool{}, silent: map[string]time.Time{},
		state: newProgress(c, time.Now()),
	}
}

// Look asks for a look at all chunks soon.
func (u *Upkeep) Look() {
	select {
	case u.look <- struct{}{}:
	default:
	}
}

// Hint says that chunks may be short. It never blocks: what it cannot keep is found by a look at all.
func (u *Upkeep) Hint(digests ...string) {
	if !u.hints.add(digests, time.Now()) {
		u.Look()
	}
}

// Report is how far it is.
func (u *Upkeep) Report() api.StorageUpkeep { return u.state.show(time.Now()) }

// Run works until ctx ends.
func (u *Upkeep) Run(ctx context.Context) error {
	g := run.New(ctx)
	g.Go("members", u.watch)
	g.Go("chunks", u.work)
	return g.Wait()
}

// watch breaks off what was planned for other members than there are now; it ends with ctx.
func (u *Upkeep) watch(ctx context.Context) error {
	for run.Sleep(ctx, pollEvery) == nil {
		u.state.tick(time.Now())
		u.hints.tick(time.Now())
		u.compare(keyOf(u.cfg.Members().Members), time.Now())
	}
	return nil
}

// compare asks for another look if the members are others than those of the present one, and breaks that
// one off, unless the members come and go so often that it would never end.
func (u *Upkeep) compare(key string, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if key == u.seen {
		return
	}
	u.Look()
	if u.stop != nil && now.Sub(u.broken) >= settleTime {
		u.broken = now
		u.stop(errMoved)
	}
}

// work looks at all chunks and does what is to be done, again and again; it ends with ctx.
func (u *Upkeep) work(ctx context.Context) error {
	retry, last := time.Duration(0), int64(math.MaxInt64)
	for ctx.Err() == nil {
		began := time.Now()
		f, done, err := u.pass(ctx)
		pause := lookEvery
		switch {
		case errors.Is(err, errMoved):
			err, pause = nil, 0
		case err == nil && done == 0 && !f.work.more:
			retry, last = 0, math.MaxInt64
		case err == nil && f.outstanding() < last: // look at what has become of it, and what is left
			retry, last, pause = 0, f.outstanding(), 0
		default: // also when all is said to be done and nothing changes
			if retry = min(2*retry, lastRetry); done > 0 || retry == 0 {
				retry = firstRetry
			}
			pause, last = retry, math.MaxInt64
			u.cfg.Log.Debug().Err(err).Int("done", done).Dur("pause", pause).Msg("not every chunk is where it belongs; looking again")
		}
		u.state.resting(err, time.Now().Add(pause))
		u.rest(ctx, pause, min(time.Since(began), settleTime))
	}
	return nil
}

// pass looks at all chunks and does what is to be done, unless the members change meanwhile.
func (u *Upkeep) pass(ctx context.Context) (*findings, int, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	u.breakable(cancel)
	defer u.breakable(nil)
	u.state.begin()
	f, err := u.survey(ctx)
	done := 0
	if err == nil {
		tasks := f.work.sorted()
		u.known, u.gone = set(f.hopeless), set(f.still)
		u.state.found(f, time.Now())
		done, err = u.carryOut(ctx, keyOf(f.named), tasks)
	}
	if err == nil {
		var sealed int
		sealed, err = u.seal(ctx, f)
		done += sealed
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return f, done, err
}

// errMoved ends a look for members, or for wishes of objects, that are others by now.
var errMoved = errors.New("the members or the wishes of objects have changed")

func (u *Upkeep) breakable(stop context.CancelCauseFunc) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stop = stop
}

// rest waits for the next look, and meanwhile mends chunks that are told to be short. It does not end
// before least has passed, though somebody asks, so that nodes are not asked without end what they have.
func (u *Upkeep) rest(ctx context.Context, pause, least time.Duration) {
	if pause == 0 {
		return
	}
	due := time.Now().Add(pause)
	next, soonest := time.NewTimer(pause), time.NewTimer(min(least, pause))
	defer next.Stop()
	defer soonest.Stop()
	var asked chan struct{}
	for time.Now().Before(due) {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
			return
		case <-soonest.C:
			asked = u.look
		case <-asked:
			return
		case <-u.hints.due:
			if err, sooner := u.mend(ctx), time.Now().Add(firstRetry); err != nil && sooner.Before(due) {
				due = sooner // but no later for hints that come and fail without end
				next.Reset(firstRetry)
			}
		}
	}
}
