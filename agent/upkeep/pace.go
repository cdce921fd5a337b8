package upkeep

import (
	"context"
	"sync"
	"time"

	"github.com/cloudless/cloudless/internal/run"
)

// How fast a store is read in the background.
const (
	paceBytes      = 32 << 20 // a second
	smallPaceBytes = 8 << 20  // on boards whose card is slow for everybody else meanwhile
	yield          = 4        // times slower while people's requests are under way
)

// Pacer slows down what is done in the background on a store.
type Pacer struct {
	rate   float64 // bytes a second; 0 is without limit
	yields float64 // while people's requests are under way
	busy   func() bool

	mu   sync.Mutex
	free time.Time // when what was let go before is done at that rate
}

// NewPacer makes a pacer; busy tells whether requests are under way that people wait for.
func NewPacer(small bool, busy func() bool) *Pacer {
	rate := pace(small)
	return &Pacer{rate: rate, yields: rate / yield, busy: busy}
}

// NewPullPacer makes one for chunks that are taken from other nodes. What is missing may be about to be
// lost, so it comes as fast as it can, unless people wait.
func NewPullPacer(small bool, busy func() bool) *Pacer {
	return &Pacer{yields: pace(small), busy: busy}
}

func pace(small bool) float64 {
	if small {
		return smallPaceBytes
	}
	return paceBytes
}

// Wait returns when so many bytes may be read.
func (p *Pacer) Wait(ctx context.Context, bytes int64) error {
	rate := p.rate
	if p.busy() {
		rate = p.yields
	}
	if rate == 0 {
		return ctx.Err()
	}
	took := time.Duration(float64(bytes) / rate * float64(time.Second))
	p.mu.Lock()
	now := time.Now()
	pause := max(p.free.Sub(now), 0)
	p.free = now.Add(pause + took)
	p.mu.Unlock()
	if pause == 0 {
		return ctx.Err()
	}
	return run.Sleep(ctx, pause)
}
