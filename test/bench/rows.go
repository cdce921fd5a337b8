package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// rowTimeout bounds one row: what was measured by then is reported, with the number of runs.
const rowTimeout = 5 * time.Minute

// row is one line of the table.
type row struct {
	name, what, reach, peer string
	goal                    goal
	unit                    unit
	run                     func(context.Context, *lab) result
}

// result is what came of a row. A row whose remark is empty and whose goal is missed has no excuse.
type result struct {
	runs    sample
	remark  string
	skipped string // why it could not be measured here
	err     error  // what went wrong, with what was measured until then
}

// sheet is one table of rows, in the order in which they are measured and shown. It is a section of
// docs/BENCHMARKS.md.
type sheet struct {
	name    string // of the section
	command string // that makes it
	peer    string // heading of the column of another system's figures
	notes   string
	rows    []row
}

var clusterSheet = sheet{"cluster", "make bench-report", "Nomad 2.0.6 on such a machine", clusterNotes, []row{
	{"binary", "binary, stripped", "≤ 40 MB", "107 MB", goal{median: 40e6}, megabytes, measureBinary},
	{"place", "one placement, 1,000 nodes, all nodes scored", "≤ 20 µs CPU", "130 to 770 µs", goal{median: 20e3}, microseconds, placement("BenchmarkPlace1000")},
	{"place-first", "the same, the first of a workload's version in a plan", "≤ 20 µs CPU", "130 to 770 µs", goal{median: 20e3}, microseconds, placement("BenchmarkPlaceFirst1000")},
	{"idle-agent", "idle agent, resident memory", "≤ 45 MB", "82 MB", goal{median: 45e6}, megabytes, idle(agentRole, residentMemory)},
	{"idle-agent-anon", "idle agent, anonymous part of it", "", "", goal{}, megabytes, idle(agentRole, anonymousMemory)},
	{"idle-coordinator", "idle coordinator, resident memory", "≤ 60 MB", "85 MB", goal{median: 60e6}, megabytes, idle(coordinatorRole, residentMemory)},
	{"idle-coordinator-anon", "idle coordinator, anonymous part of it", "", "", goal{}, megabytes, idle(coordinatorRole, anonymousMemory)},
	{"run", "`workload run` of a small module → seen ready through the API; the module is in the store", "p50 ≤ 50 ms", "755 ms", goal{median: 0.050}, milliseconds, measureRun},
	{"run-upload", "the same, a module that the cluster has never seen: upload, compilation and start", "p50 ≤ 50 ms", "755 ms", goal{median: 0.050}, milliseconds, measureUpload},
	{"run-cli", "the same by the command line: start to end of `cloudless workload run FILE --wait=ready`", "", "", goal{}, milliseconds, measureCommand},
	{"oci", "the same through the API for an OCI image already on the node", "p50 ≤ 400 ms", "755 ms (raw process)", goal{median: 0.400}, milliseconds, measureImage},
	{"thousand", "starts of a small module on one node, 1,000 replicas", "≥ 1,000/s", "10 to 53/s", goal{median: 1000, atLeast: true}, perSecond, measureThousand},
	{"thousand-served", "the same, each replica has answered an HTTP readiness probe", "≥ 1,000/s", "10 to 53/s", goal{median: 1000, atLeast: true}, perSecond, measureThousandServed},
	{"kill-agent", "kill -9 of an agent → replacement answers through the ingress of another", "median ≤ 1 s, p95 ≤ 3 s", "20 s", goal{median: 1, p95: 3}, seconds, measureKill},
	{"freeze-agent", "SIGSTOP of an agent → the same", "median ≤ 7 s, p95 ≤ 10 s", "20 s", goal{median: 7, p95: 10}, seconds, measureFreeze},
	{"kill-leader", "kill -9 of the leader of three → first write accepted", "median ≤ 2 s", "3 s", goal{median: 2}, seconds, measureLeader},
}}

// repeat measures n times within rowTimeout and stops at the first error.
func repeat(ctx context.Context, n int, once func(ctx context.Context, run int) (float64, error)) result {
	ctx, cancel := context.WithTimeout(ctx, rowTimeout)
	defer cancel()
	var out result
	for i := range n {
		v, err := once(ctx, i)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) && len(out.runs) > 0 {
			out.remark = fmt.Sprintf("%d runs in the %s that a row gets", len(out.runs), rowTimeout)
			return out
		}
		if err != nil {
			out.err = fmt.Errorf("run %d: %w", i+1, err)
			return out
		}
		out.runs = append(out.runs, v)
	}
	return out
}

// onCluster measures n times on one cluster, which it starts and ends.
func (l *lab) onCluster(ctx context.Context, n, coordinators, agents int, once func(ctx context.Context, k *cluster, run int) (float64, error)) result {
	k, err := l.newCluster(ctx, coordinators, agents, "off")
	if err != nil {
		return result{err: err}
	}
	out := repeat(ctx, n, func(ctx context.Context, run int) (float64, error) { return once(ctx, k, run) })
	out.err = errors.Join(out.err, k.close())
	return out
}
