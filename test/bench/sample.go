package main

import (
	"fmt"
	"math"
	"slices"
)

// unit writes figures of one kind; the samples themselves are seconds, bytes, nanoseconds or starts.
type unit func(float64) string

func milliseconds(v float64) string { return fmt.Sprintf("%.0f ms", v*1000) }
func seconds(v float64) string      { return fmt.Sprintf("%.2f s", v) }
func megabytes(v float64) string    { return fmt.Sprintf("%.1f MB", v/1e6) }
func microseconds(v float64) string { return fmt.Sprintf("%.1f µs", v/1e3) }
func times(v float64) string        { return fmt.Sprintf("%.2f×", v) }
func kibibytes(v float64) string    { return fmt.Sprintf("%.1f KiB", v/1024) }
func percent(v float64) string      { return fmt.Sprintf("%.2f %%", v*100) }
func perSecond(v float64) string    { return fmt.Sprintf("%.0f/s", v) }

// sample is what the runs of one row measured.
type sample []float64

// quantile is the nearest-rank quantile: always a value that was measured.
func (s sample) quantile(q float64) float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

// median is the middle value, the mean of the two middle ones when their number is even.
func (s sample) median() float64 {
	if n := len(s); n > 0 && n%2 == 0 {
		sorted := slices.Sorted(slices.Values(s))
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return s.quantile(0.5)
}

// goal is what a row should reach. Zero means that nothing is asked.
type goal struct {
	median, p95 float64
	atLeast     bool // more is better
}

// asked tells whether there is anything to reach.
func (g goal) asked() bool { return g.median != 0 || g.p95 != 0 }

// met tells whether the sample reaches it.
func (g goal) met(s sample) bool {
	if g.atLeast {
		return s.median() >= g.median
	}
	return (g.median == 0 || s.median() <= g.median) && (g.p95 == 0 || s.quantile(0.95) <= g.p95)
}
