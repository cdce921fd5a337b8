package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// sandboxSheet is what isolating guests costs. What is inside of one process
// is measured by Go benchmarks of the packages, the rest by requests over loopback (http.go).
var sandboxSheet = sheet{"sandbox", "make bench-sandbox-report", "workerd", sandboxNotes, []row{
	{"fuel-loop", "tight loop, with fuel against without", "≤ 1.25×", "", goal{median: 1.25}, times, ratio(metering, "loop/guarded", "loop/plain", cpuTime)},
	{"fuel-calls", "calls of itself, the same", "≤ 1.25×", "", goal{median: 1.25}, times, ratio(metering, "fib/guarded", "fib/plain", cpuTime)},
	{"fuel-c", "a guest in C that sorts, hashes and multiplies, the same", "≤ 1.35×", "", goal{median: 1.35}, times, ratio(guestWork, "C/guarded", "C/plain", cpuTime)},
	{"fuel-rust", "the same in Rust", "≤ 1.35×", "", goal{median: 1.35}, times, ratio(guestWork, "Rust/guarded", "Rust/plain", cpuTime)},
	{"fuel-go", "the same in Go", "≤ 1.35×", "", goal{median: 1.35}, times, ratio(guestWork, "Go/guarded", "Go/plain", cpuTime)},

	{"stop-loop", "deadline of 50 ms: a loop is stopped after", "≤ 60 ms", "", goal{median: 0.060}, milliseconds, figure(deadline, "loop", "stopped-s")},
	{"stop-chain", "a chain of 2⁶⁰ calls", "≤ 60 ms", "", goal{median: 0.060}, milliseconds, figure(deadline, "chain", "stopped-s")},
	{"stop-recursion", "a recursion without end", "≤ 60 ms", "", goal{median: 0.060}, milliseconds, figure(deadline, "recursion", "stopped-s")},
	{"stop-fill", "memory.fill of 1 MB, for ever", "≤ 60 ms", "", goal{median: 0.060}, milliseconds, figure(deadline, "fill", "stopped-s")},
	{"stop-sleep", "a sleep of an hour", "≤ 60 ms", "", goal{median: 0.060}, milliseconds, figure(deadline, "sleep", "stopped-s")},
	{"neighbour", "slowest hundredth of a neighbour's requests beside the loop, against before", "≤ 1.2×", "", goal{median: 1.2}, times, neighbour},
	{"pause", "longest pause of Go's collector beside the loop", "< 10 ms", "", goal{median: 0.010}, milliseconds, figure(deadline, "loop", "gc-pause-s")},

	{"isolated-c", "request in process, C: isolated less pooled", "≤ 2 µs CPU", "", goal{median: 2e3}, microseconds, difference(request, "hello-c/request", "hello-c/instance", cpuTime)},
	{"isolated-as", "the same, AssemblyScript", "≤ 2 µs CPU", "", goal{median: 2e3}, microseconds, difference(request, "hello-as/request", "hello-as/instance", cpuTime)},
	{"isolated-rust", "isolated request in process, Rust, 1 MB of memory", "≤ 20 µs CPU", "", goal{median: 20e3}, microseconds, figure(request, "hello-rust/request", cpuTime)},
	{"isolated-go", "the same, Go", "≤ 60 µs CPU", "", goal{median: 60e3}, microseconds, figure(request, "hello-go/request", cpuTime)},
	{"allocations", "allocations of such a request, C", "", "", goal{}, count, figure(request, "hello-c/request", "allocs/op")},
	{"wagi-c", "WAGI request in process, a fresh instance, C", "≤ 60 µs CPU", "", goal{median: 60e3}, microseconds, figure(wagi, "C", cpuTime)},
	{"wagi-rust", "the same, Rust", "≤ 60 µs CPU", "", goal{median: 60e3}, microseconds, figure(wagi, "Rust", cpuTime)},
	{"wagi-go", "the same, Go, whose runtime starts each time", "", "", goal{}, microseconds, figure(wagi, "Go", cpuTime)},

	{"http-native", "GET over loopback: a Go handler that does the same, for comparison", "", "", goal{}, microseconds, cost("native")},
	{"http-c", "isolated guest in C: requests for each CPU second of the server, of the handler's", "≥ 85 %", "", goal{median: 0.85, atLeast: true}, percent, share("native", "c")},
	{"http-as", "the same, AssemblyScript", "≥ 85 %", "", goal{median: 0.85, atLeast: true}, percent, share("native", "as")},
	{"http-rust", "the same, Rust", "", "", goal{}, percent, share("native", "rust")},
	{"http-go", "the same, Go", "", "", goal{}, percent, share("native", "go")},
	{"listener", "a guest's own server (Go net/http on the listener)", "≥ 15,000/s", "", goal{median: 15_000, atLeast: true}, perSecond, rate("listener")},
	{"listener-stock", "the same guest on plain wazero, unmetered, for comparison", "", "", goal{atLeast: true}, perSecond, rate(stock)},
	{"listener-ratio", "requests to ours for each of its", "", "", goal{atLeast: true}, times, against("listener", stock)},
	{"listener-cost", "the listener's guest, CPU for a request", "", "", goal{}, microseconds, cost("listener")},
	{"listener-idle", "the same, processor used while idle", "< 0.1 %", "", goal{median: 0.001}, percent, idleServer("listener")},

	{"peer-js", "workerd with a handler in JavaScript, CPU for a request", "", "itself", goal{}, microseconds, cost(peerJS)},
	{"peer-reused", "the AssemblyScript guest, instance reused: workerd's CPU for a request, of ours", "≥ 3×", "the same module", goal{median: 3, atLeast: true}, times, share(peerReused, "as-pooled")},
	{"peer-isolated", "the same, an instance for each request", "≥ 7×", "the same module", goal{median: 7, atLeast: true}, times, share(peerIsolated, "as")},

	{"cold-c", "cold start from the disk cache: C", "≤ 5 ms", "", goal{median: 5e6}, microseconds, figure(coldStart, "C", "ns/op")},
	{"cold-go", "the same, Go", "≤ 80 ms", "", goal{median: 80e6}, microseconds, figure(coldStart, "Go", "ns/op")},
	{"idle-c", "resident memory of an idle instance: C", "≤ 32 KiB", "", goal{median: 32 << 10}, kibibytes, figure(idleInstance, "C", "B/instance")},
	{"idle-go", "the same, Go", "≤ 1 MiB", "", goal{median: 1 << 20}, kibibytes, figure(idleInstance, "Go", "B/instance")},
	{"modules", "10,000 idle modules on one driver: resident memory of the process", "≤ 200 MB", "", goal{median: 200e6}, megabytes, figure(idleModules, "", "rss-B")},
	{"modules-start", "the same: time to start them, known to the disk cache", "≤ 3 s", "", goal{median: 3}, seconds, figure(idleModules, "", "start-s")},
	{"agent", "10,000 idle modules on one agent: resident memory of the agent", "≤ 200 MB", "", goal{median: 200e6}, megabytes, crowd(func(f *crowdFigures) sample { return f.memory })},
	{"agent-start", "the same: from the start of the agent until it has started them all", "≤ 3 s", "", goal{median: 3}, seconds, crowd(func(f *crowdFigures) sample { return f.start })},
}}

const sandboxNotes = `CPU is processor time of all threads of the process that serves, the collector's too, so that what else the machine
does matters less; the time of a shared core is still longer than that of a quiet one. The 95th percentile is the
nearest rank; of a rate or a share it is the slow end. Over loopback 16 connections ask without pause, from another
process; each run asks every server in turn, and a share compares the two of the same run. All guests answer with
a greeting and log a line. An instance of workerd's for each request is ` + "`new WebAssembly.Instance`" + `, its functions of
the interface cl are written in JavaScript. What is in process is measured by the benchmarks of sandbox/wasm and
sandbox/rewrite; "with fuel" includes the guard of the stack.
`

func count(v float64) string { return fmt.Sprintf("%.0f", v) }

const cpuTime = "cpu-ns/op"

// benchmark is a Go benchmark of a package, and how long one run of it is.
type benchmark struct{ pkg, name, only, length string }

var (
	metering     = benchmark{"./sandbox/rewrite", "BenchmarkMetering", "/(loop|fib)/(plain|guarded)$", "300ms"}
	guestWork    = benchmark{"./sandbox/rewrite", "BenchmarkGuests", "", "300ms"}
	deadline     = benchmark{"./sandbox/wasm", "BenchmarkDeadline", "", "10x"}
	request      = benchmark{"./sandbox/wasm", "BenchmarkRequest", "/.*/(instance|request)$", "20000x"}
	wagi         = benchmark{"./sandbox/wasm", "BenchmarkWAGI", "", "500x"}
	coldStart    = benchmark{"./sandbox/wasm", "BenchmarkColdStart", "", "20x"}
	idleInstance = benchmark{"./sandbox/wasm", "BenchmarkIdleInstance", "", "1x"}
	storeWrite   = benchmark{"./chunkstore", "BenchmarkWrite", "/^1MiB$/^group8$", "200x"}
	rawAppend    = benchmark{"./chunkstore", "BenchmarkRawAppend", "/^1MiB$/^group8$", "200x"}
	idleModules  = benchmark{"./sandbox/wasm", "BenchmarkIdleModules", "", "1x"}
)

// figures are what benchmarks printed, by "name unit".
type figures map[string]sample

// sandboxRuns is how often each of the sandbox's rows is measured.
func (l *lab) sandboxRuns() int { return max(1, l.runs/4) }

// figuresOf runs a benchmark, once for all rows that show something of it.
func (l *lab) figuresOf(ctx context.Context, b benchmark) (figures, error) {
	if f, ok := l.goBench[b.name]; ok {
		return f, nil
	}
	ctx, cancel := context.WithTimeout(ctx, rowTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^"+b.name+"$"+b.only, "-benchtime", b.length,
		"-count", strconv.Itoa(l.sandboxRuns()), b.pkg)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	if l.goBench == nil {
		l.goBench = map[string]figures{}
	}
	l.goBench[b.name] = parseFigures(out)
	return l.goBench[b.name], nil
}

// parseFigures reads lines of "name-procs runs value unit value unit …".
func parseFigures(out []byte) figures {
	f := figures{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 4 || !strings.HasPrefix(words[0], "Benchmark") {
			continue
		}
		name := words[0]
		if i := strings.LastIndex(name, "-"); i > 0 {
			name = name[:i]
		}
		for i := 2; i+1 < len(words); i += 2 {
			if v, err := strconv.ParseFloat(words[i], 64); err == nil {
				key := name + " " + words[i+1]
				f[key] = append(f[key], v)
			}
		}
	}
	return f
}

// of is the sample of a benchmark's part.
func (f figures) of(b benchmark, part, unit string) (sample, error) {
	key := strings.TrimSuffix(b.name+"/"+part, "/") + " " + unit
	if s := f[key]; len(s) > 0 {
		return s, nil
	}
	return nil, fmt.Errorf("%s was not measured: 'make examples' builds guests that it may need", key)
}

// figure is a row of what a benchmark tells.
func figure(b benchmark, part, unit string) func(context.Context, *lab) result {
	return func(ctx context.Context, l *lab) result {
		f, err := l.figuresOf(ctx, b)
		if err != nil {
			return result{err: err}
		}
		s, err := f.of(b, part, unit)
		return result{runs: s, err: err}
	}
}

// combined is a row that compares two parts of a benchmark, run by run.
func combined(b benchmark, part, other, unit, otherUnit string, compare func(v, w float64) float64) func(context.Context, *lab) result {
	return func(ctx context.Context, l *lab) result {
		first, second := figure(b, part, unit)(ctx, l), figure(b, other, otherUnit)(ctx, l)
		if first.err != nil {
			return first
		}
		if second.err != nil {
			return second
		}
		var r result
		for i := range min(len(first.runs), len(second.runs)) {
			r.runs = append(r.runs, compare(first.runs[i], second.runs[i]))
		}
		return r
	}
}

func ratio(b benchmark, part, other, unit string) func(context.Context, *lab) result {
	return combined(b, part, other, unit, unit, func(v, w float64) float64 { return v / w })
}

func difference(b benchmark, part, other, unit string) func(context.Context, *lab) result {
	return combined(b, part, other, unit, unit, func(v, w float64) float64 { return v - w })
}

func neighbour(ctx context.Context, l *lab) result {
	return combined(deadline, "loop", "loop", "neighbour-p99-ns", "quiet-p99-ns", func(v, w float64) float64 { return v / w })(ctx, l)
}
