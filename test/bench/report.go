package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// report is what was measured, on what, under which load.
type report struct {
	began, ended          time.Time
	loadBefore, loadAfter string
	command, version      string
	sheet                 sheet
	lines                 []line
}

// line is a row with what came of it.
type line struct {
	row
	result
	load string // of the machine when the row ended
}

func newReport(ctx context.Context, l *lab, s sheet) *report {
	args := append([]string{"go run ./test/bench"}, os.Args[1:]...)
	r := &report{began: time.Now(), loadBefore: load(), command: strings.Join(args, " "), sheet: s}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, l.binary, "version").Output()
	r.version = strings.Join(strings.Fields(string(out)), " ")
	if err != nil {
		r.version = "unknown: " + err.Error()
	}
	return r
}

func (r *report) add(w row, res result) { r.lines = append(r.lines, line{w, res, load()}) }

func (r *report) finish() { r.ended, r.loadAfter = time.Now(), load() }

// verdict says whether the goal was reached, in a word.
func (l line) verdict() string {
	switch {
	case l.skipped != "":
		return "skipped"
	case len(l.runs) == 0:
		return "failed"
	case !l.goal.asked():
		return ""
	case l.goal.met(l.runs):
		return "reached"
	}
	return "missed"
}

func (l line) figures() (median, p95 string) {
	if len(l.runs) == 0 {
		return "–", "–"
	}
	// of a rate the bad tail is the low one
	q := 0.95
	if l.goal.atLeast {
		q = 0.05
	}
	return l.unit(l.runs.median()), l.unit(l.runs.quantile(q))
}

// remarks joins what is to be said, errors by their first line.
func (l line) remarks() string {
	text := join(l.skipped, l.remark)
	if busy, _ := strconv.ParseFloat(strings.Fields(l.load + " ?")[0], 64); l.verdict() == "missed" && busy > float64(runtime.NumCPU()) {
		text = join(text, fmt.Sprintf("others kept the machine busy: load %.0f on %d cores", busy, runtime.NumCPU()))
	}
	if l.err != nil {
		msg, _, _ := strings.Cut(l.err.Error(), "\n")
		text = join(text, msg)
	}
	return text
}

// cells are one line's columns.
func (l line) cells() []string {
	median, p95 := l.figures()
	load1, _, _ := strings.Cut(l.load, " ")
	return []string{l.what, median, p95, fmt.Sprint(len(l.runs)), l.reach, l.verdict(), l.peer, load1, l.remarks()}
}

func (r *report) headings() []string {
	return []string{"what", "median", "95th percentile", "runs", "reach", "verdict", r.sheet.peer, "load", "remark"}
}

// table is for a terminal.
func (r *report) table() string {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(r.headings(), "\t"))
	for _, l := range r.lines {
		fmt.Fprintln(w, strings.Join(l.cells(), "\t"))
	}
	w.Flush()
	fmt.Fprintf(&b, "load average before %s, after %s\n", r.loadBefore, r.loadAfter)
	return b.String()
}

const clusterNotes = `The last column but one is the machine's load average over one minute when the row ended: on a machine that does
other work at the same time every figure of time is longer than on a quiet one. The 95th percentile is the nearest
rank, a value that was measured; of a rate it is the slow end, the 5th. MB is 10⁶ bytes. All processes run on one
machine over loopback. "Seen ready" is a blocking read that tells that all replicas are ready. After a fault the ingress
of another agent, or the coordinators that are left, are asked every 20 ms by new requests that do not wait for the ones
before; the time ends with the first good answer.
`

// markdown is a section of a page of docs.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "The last result of `%s`, missed figures too.\n\n", r.sheet.command)
	fmt.Fprintf(&b, "- command: `%s`\n- date: %s, took %s\n", r.command, r.began.UTC().Format("2006-01-02 15:04 MST"), r.ended.Sub(r.began).Round(time.Second))
	fmt.Fprintf(&b, "- binary: `%s`\n", r.version)
	fmt.Fprintf(&b, "- machine: %d cores (%s), %s memory, Linux %s, %s\n", runtime.NumCPU(), processor(), memory(), kernel(), runtime.Version())
	fmt.Fprintf(&b, "- load average (1, 5, 15 min; running/all; last pid): before `%s`, after `%s`\n\n", r.loadBefore, r.loadAfter)
	writeRow(&b, r.headings())
	writeRow(&b, strings.Split(strings.Repeat("---,", len(r.headings())-1)+"---", ","))
	for _, l := range r.lines {
		writeRow(&b, l.cells())
	}
	b.WriteString("\n" + r.sheet.notes)
	return b.String()
}

func writeRow(b *strings.Builder, cells []string) {
	for _, c := range cells {
		b.WriteString("| " + strings.ReplaceAll(c, "|", `\|`) + " ")
	}
	b.WriteString("|\n")
}

// load is /proc/loadavg, "unknown" where there is none.
func load() string { return procText("/proc/loadavg") }

func kernel() string { return procText("/proc/sys/kernel/osrelease") }

func procText(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(data))
}

func memory() string {
	var kib float64
	for text := range strings.Lines(procText("/proc/meminfo")) {
		if n, _ := fmt.Sscanf(text, "MemTotal: %f kB", &kib); n == 1 {
			return fmt.Sprintf("%.0f GiB", kib/(1<<20))
		}
	}
	return "unknown"
}

func processor() string {
	for text := range strings.Lines(procText("/proc/cpuinfo")) {
		if key, value, ok := strings.Cut(text, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
