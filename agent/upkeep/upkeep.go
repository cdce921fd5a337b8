// Package upkeep looks after the chunks of one node: it reads them all again and again to find damage
// before it matters, removes what nobody refers to any more, and compacts what that leaves behind.
//
// A Keeper has two loops, Scrub and Collect. Each looks at the store as it is, does a little, and looks
// again; both may be asked to go on at once. What they read is slowed by a Pacer, more so while people
// wait. What chunks elsewhere need is not their affair: the leader of the coordinators sees to copies.
package upkeep

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore"
)

// Config is what a Keeper needs.
type Config struct {
	Chunks   *chunkstore.Chunks
	Capacity int64 // bytes that the store may use
	// Ask answers queries of the metadata, as new as every change before them.
	Ask func(ctx context.Context, q meta.Query) (*meta.Answer, error)
	// HeldUntil is before when the coordinators want nothing collected.
	HeldUntil func() time.Time
	// DiskFull tells whether others have filled the disk.
	DiskFull func() bool
	// Session is the upload session that an owner of pins is; false if it is another.
	Session func(owner string) (id string, ok bool)
	// Damaged hears of chunks that are damaged here, again until they are healed.
	Damaged func(digests ...string)
	Tell    func(eventType string, severity api.Severity, message string)
	Log     zerolog.Logger
}

// Keeper looks after one store.
type Keeper struct {
	cfg        Config
	scrubbed   atomic.Pointer[time.Time]
	scrubNow   chan struct{}
	collectNow chan bool
	pinsNow    chan struct{}
	held       atomic.Int64 // bytes that the last pass left because they are so many
}

// New makes a keeper; its loops do the work.
func New(c Config) (*Keeper, error) {
	k := &Keeper{cfg: c, scrubNow: make(chan struct{}, 1), collectNow: make(chan bool, 1), pinsNow: make(chan struct{}, 1)}
	at, err := c.Chunks.ScrubbedAt()
	k.scrubbed.Store(&at)
	return k, err
}

// ScrubbedAt is when the whole store had been read last; zero if it never was.
func (k *Keeper) ScrubbedAt() time.Time { return *k.scrubbed.Load() }

// HeldBytes is how much nobody refers to and is kept all the same, for a day, since it is so much.
func (k *Keeper) HeldBytes() int64 { return k.held.Load() }

// ScrubNow has the whole store read without the pauses. It does not wait for that.
func (k *Keeper) ScrubNow() {
	select {
	case k.scrubNow <- struct{}{}:
	default: // it was asked for, and has not begun
	}
}

// EndPins has the pins of uploads that have ended removed now: somebody waits for a chunk to go. It does
// not wait for that.
func (k *Keeper) EndPins() {
	select {
	case k.pinsNow <- struct{}{}:
	default: // it was asked for, and has not begun
	}
}

// CollectNow has a pass made; anyway goes on where it would be held. It does not wait for that.
func (k *Keeper) CollectNow(anyway bool) {
	for {
		select {
		case k.collectNow <- anyway:
			return
		case before := <-k.collectNow: // it was asked for, and has not begun: one pass does for both
			anyway = anyway || before
		}
	}
}
