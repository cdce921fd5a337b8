package telemetry

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// seriesMax bounds the label combinations of one metric; beyond it new ones are dropped, so that
// names made by users cannot eat the process's memory.
const seriesMax = 10_000

// separator cannot occur in valid UTF-8, which label values are.
const separator = "\xff"

// family is one metric's values by label. It is its own collector because the contract's names
// demand untyped metrics with labels, which the client library has no vector for.
type family struct {
	descs  []described
	labels int

	mu     sync.Mutex
	series map[string]*series
}

// described is one way a family is exposed: some counters are exposed twice, see newCounter.
type described struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

type series struct {
	labels []string
	value  float64
}

func newFamily(labels []string, ways ...described) *family {
	f := &family{descs: ways, labels: len(labels), series: map[string]*series{}}
	if len(labels) == 0 { // a metric without labels exists from the start, as 0
		f.update(nil, func(v float64) float64 { return v })
	}
	return f
}

// Describe implements prometheus.Collector.
func (f *family) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range f.descs {
		ch <- d.desc
	}
}

// Collect implements prometheus.Collector.
func (f *family) Collect(ch chan<- prometheus.Metric) {
	for _, s := range f.snapshot() {
		for _, d := range f.descs {
			ch <- prometheus.MustNewConstMetric(d.desc, d.kind, s.value, s.labels...)
		}
	}
}

func (f *family) snapshot() []series {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]series, 0, len(f.series))
	for _, s := range f.series {
		out = append(out, *s)
	}
	return out
}

func (f *family) update(labels []string, next func(float64) float64) {
	f.check(labels)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.set(labels, next)
}

// set needs the lock.
func (f *family) set(labels []string, next func(float64) float64) {
	key := strings.Join(labels, separator)
	s, ok := f.series[key]
	if !ok {
		if len(f.series) >= seriesMax {
			return
		}
		s = &series{labels: cleaned(labels)}
		f.series[key] = s
	}
	s.value = next(s.value)
}

// cleaned copies labels as valid UTF-8: anything else would fail the whole scrape.
func cleaned(labels []string) []string {
	out := slices.Clone(labels)
	for i := range out {
		out[i] = strings.ToValidUTF8(out[i], "�")
	}
	return out
}

func (f *family) check(labels []string) {
	if len(labels) != f.labels {
		panic(fmt.Sprintf("%v: %d label values, want %d", f.descs[0].desc, len(labels), f.labels))
	}
}

func (f *family) remove(labels []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.series, strings.Join(labels, separator))
}

// Counter only grows. Label values are given in the order of the metric's field in Metrics.
type Counter struct{ f *family }

// from makes the series of all combinations of these label values exist from the start, as 0: a rate
// sees the first count only of a series that was there before it.
func (c Counter) from(values ...words) Counter {
	combine(values, func(labels []string) { c.Add(0, labels...) })
	return c
}

// combine calls do with each choice of one word for each label.
func combine(values []words, do func(labels []string), chosen ...string) {
	if len(values) == 0 {
		do(chosen)
		return
	}
	for _, w := range values[0] {
		combine(values[1:], do, append(chosen[:len(chosen):len(chosen)], w)...)
	}
}

// Inc adds one.
func (c Counter) Inc(labels ...string) { c.Add(1, labels...) }

// Add adds v, which must not be negative.
func (c Counter) Add(v float64, labels ...string) {
	if v >= 0 {
		c.f.update(labels, func(old float64) float64 { return old + v })
	}
}

// Raise lifts the counter to v if it is lower, for a source that counts by itself.
func (c Counter) Raise(v float64, labels ...string) {
	c.f.update(labels, func(old float64) float64 { return max(old, v) })
}

// Delete forgets the series of something that is gone.
func (c Counter) Delete(labels ...string) { c.f.remove(labels) }

// Gauge goes up and down.
type Gauge struct{ f *family }

// Set replaces the value.
func (g Gauge) Set(v float64, labels ...string) {
	g.f.update(labels, func(float64) float64 { return v })
}

// Add adds v, which may be negative.
func (g Gauge) Add(v float64, labels ...string) {
	g.f.update(labels, func(old float64) float64 { return old + v })
}

// Delete forgets the series of something that is gone.
func (g Gauge) Delete(labels ...string) { g.f.remove(labels) }

// Sample is one value for Replace.
type Sample struct {
	Labels []string
	Value  float64
}

// Replace sets exactly these series, as one step: a scrape sees all of the old or all of the new.
func (g Gauge) Replace(samples []Sample) {
	for _, s := range samples {
		g.f.check(s.Labels)
	}
	g.f.mu.Lock()
	defer g.f.mu.Unlock()
	clear(g.f.series)
	for _, s := range samples {
		g.f.set(s.Labels, func(float64) float64 { return s.Value })
	}
}

// Histogram counts observations by size.
type Histogram struct{ vec *prometheus.HistogramVec }

// from is Counter.from for a histogram.
func (h Histogram) from(values ...words) Histogram {
	combine(values, func(labels []string) { h.vec.WithLabelValues(labels...) })
	return h
}

// Observe counts v.
func (h Histogram) Observe(v float64, labels ...string) {
	h.vec.WithLabelValues(cleaned(labels)...).Observe(v)
}
