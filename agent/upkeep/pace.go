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
	rate float64 // bytes a second
	busy func() bool

	mu   sync.Mutex
	free time.Time // when what was let go before is done at that rate
}

// NewPacer makes a pacer; busy tells whether requests are under way.
func NewPacer(small bool, busy func() bool) *Pacer {
	if small {
		return &Pacer{rate: smallPaceBytes, busy: busy}
	}
	return &Pacer{rate: paceBytes, busy: busy}
}

// Wait returns when so many bytes may be read.
func (p *Pacer) Wait(ctx context.Context, bytes int64) error {
	rate := p.rate
	if p.busy() {
		rate /= yield
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
