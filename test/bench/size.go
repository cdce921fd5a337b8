package main

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"time"

	"github.com/cloudless/cloudless/test/process"
)

const (
	idleFor   = 10 * time.Second
	idleBatch = 5 // clusters that idle side by side
)

// measureBinary weighs the file as it is: 'make build' strips it.
func measureBinary(_ context.Context, l *lab) result {
	info, err := os.Stat(l.binary)
	if err != nil {
		return result{err: err}
	}
	return result{runs: sample{float64(info.Size())}, remark: fmt.Sprintf("one file, %.1f MiB%s", float64(info.Size())/(1<<20), sections(l.binary))}
}

// sections tells what the largest parts of a binary are.
func sections(path string) string {
	f, err := elf.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	text := ""
	for _, s := range []struct{ name, what string }{{".text", "code"}, {".gopclntab", "Go's table of functions and lines, which stripping keeps"}, {".rodata", "constants and types"}} {
		if part := f.Section(s.name); part != nil {
			text += fmt.Sprintf("; %s %s", megabytes(float64(part.Size)), s.what)
		}
	}
	return text
}

var cpuPerOp = regexp.MustCompile(`(?m)^Benchmark.*\s([\d.]+) cpu-ns/op`)

// placement runs one of the scheduler's own benchmarks, once for each run.
func placement(benchmark string) func(context.Context, *lab) result {
	return func(ctx context.Context, l *lab) result { return l.placement(ctx, benchmark) }
}

func (l *lab) placement(ctx context.Context, benchmark string) result {
	ctx, cancel := context.WithTimeout(ctx, rowTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^"+benchmark+"$", "-benchmem", "-benchtime", "300ms",
		"-count", strconv.Itoa(l.runs), "./coordinator/schedule")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return result{err: fmt.Errorf("%w: %s", err, out)}
	}
	var res result
	for _, m := range cpuPerOp.FindAllSubmatch(out, -1) {
		ns, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			return result{err: err}
		}
		res.runs = append(res.runs, ns)
	}
	if len(res.runs) == 0 {
		return result{err: fmt.Errorf("the benchmark printed no figure: %s", out)}
	}
	res.remark = "processor time of all threads, the garbage collector's too"
	return res
}

// idleRole and idleKind choose a column of the idle measurements, which are made once for all four rows.
type (
	idleRole int
	idleKind int
)

const (
	agentRole idleRole = iota
	coordinatorRole
)

const (
	residentMemory idleKind = iota
	anonymousMemory
)

// idleFigures are [role][kind] samples.
type idleFigures [2][2]sample

// idle is a row of the idle measurements.
func idle(role idleRole, kind idleKind) func(context.Context, *lab) result {
	return func(ctx context.Context, l *lab) result {
		if l.idle == nil {
			l.idle = &idleFigures{}
			l.idleErr = l.measureIdle(ctx)
		}
		return result{runs: l.idle[role][kind], err: l.idleErr, remark: "containers off; " + idleFor.String() + " after the cluster was whole"}
	}
}

// measureIdle starts clusters of one coordinator and one agent, a few side by side, and looks at
// their memory after they had nothing to do for a while.
func (l *lab) measureIdle(ctx context.Context) error {
	for left := l.runs; left > 0; left -= idleBatch {
		if err := l.idleSome(ctx, min(left, idleBatch)); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) idleSome(ctx context.Context, n int) (err error) {
	var clusters []*cluster
	defer func() {
		for _, k := range clusters {
			err = errors.Join(err, k.close())
		}
	}()
	for range n {
		k, err := l.newCluster(ctx, 1, 1, "off")
		if err != nil {
			return err
		}
		clusters = append(clusters, k)
	}
	if err := rest(ctx, idleFor); err != nil {
		return err
	}
	for _, k := range clusters {
		for role, p := range []*process.Process{agentRole: k.agents[0], coordinatorRole: k.coords[0]} {
			resident, anonymous, err := p.Memory()
			if err != nil {
				return err
			}
			f := &l.idle[role]
			f[residentMemory], f[anonymousMemory] = append(f[residentMemory], resident), append(f[anonymousMemory], anonymous)
		}
	}
	return nil
}

// rest lets time pass: being idle is what is measured.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
