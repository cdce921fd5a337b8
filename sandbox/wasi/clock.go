package wasi

import (
	"math"
	"time"
)

// DefaultResolution is how fine a guest's clocks are when its Config does not say. What is finer serves
// to measure a processor's caches, and so what others do.
const DefaultResolution = time.Microsecond

// The clocks of preview 1. There are two more, of the CPU time of process and thread; a guest's CPU time
// is counted by its host, in fuel.
const (
	clockRealtime  = 0
	clockMonotonic = 1
)

// start is where the default monotonic clock begins: a second before the agent's start, as guests take
// 0 for a clock that was never read. It is one for all worlds: an image of a guest that goes on in
// another instance finds a clock that has not gone back.
var start = time.Now().Add(-time.Second)

func sinceStart() time.Duration { return time.Since(start) }

// now reads a clock, in nanoseconds.
func (w *World) now(clock uint32) (uint64, error) {
	var t int64
	switch clock {
	case clockRealtime:
		t = w.config.Wall().UnixNano()
	case clockMonotonic:
		t = int64(w.config.Mono())
	default:
		return 0, eInval
	}
	return uint64(max(t, 0)), nil
}

func (w *World) resolution() uint64 { return uint64(w.config.Resolution) }

func clockResGet(w *World, m memory, a args) error {
	if _, err := w.now(a.u32(0)); err != nil {
		return err
	}
	return m.putU64(a.u32(1), w.resolution())
}

// clockTimeGet gives no more than the resolution, whatever precision is asked for. No two readings of
// the monotonic clock are the same, since programs divide by what lies between them: within the
// resolution each is a nanosecond more than the last, which tells a guest how often it has asked and
// nothing of the time.
func clockTimeGet(w *World, m memory, a args) error {
	t, err := w.now(a.u32(0))
	if err != nil {
		return err
	}
	t -= t % w.resolution()
	if a.u32(0) == clockMonotonic {
		t = max(t, w.lastMono+1)
		w.lastMono = t
	}
	return m.putU64(a.u32(2), t)
}

// tick is the first time from t on that the guest can see on its clocks; at the end of time t itself.
func (w *World) tick(t uint64) uint64 {
	if past := t % w.resolution(); past != 0 {
		return saturate(t, w.resolution()-past)
	}
	return t
}

// saturate adds times.
func saturate(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}
