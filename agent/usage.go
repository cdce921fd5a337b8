package agent

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
)

// usageInterval is how often replicas are measured: each measurement of a container is a call of
// containerd, and people who look at loads look for minutes.
const (
	usageInterval = 5 * time.Second
	usageTimeout  = 2 * time.Second // for one replica
)

// measurement is what this machine and its replicas used in the last interval.
type measurement struct {
	at       time.Time
	cpu      api.MilliCPU // of the whole machine
	replicas []api.ReplicaUsage

	busy  time.Duration           // CPU time of the machine so far
	spent map[string]sandbox.Cost // by each replica so far
	here  map[api.Ref]bool        // workloads with a replica on this node
}

// keepUsage measures again and again; it ends with the agent.
func (a *Agent) keepUsage(ctx context.Context) error {
	last := a.measure(ctx, nil, time.Now())
	for run.Sleep(ctx, usageInterval) == nil {
		last = a.measure(ctx, last, time.Now())
		a.measured.Store(last)
	}
	return nil
}

// measure gives rates since last; the first measurement of anything has none.
func (a *Agent) measure(ctx context.Context, last *measurement, now time.Time) *measurement {
	m := &measurement{at: now.UTC(), busy: busyTime(), spent: map[string]sandbox.Cost{}, here: map[api.Ref]bool{}}
	if last != nil {
		m.cpu = rate(m.busy-last.busy, m.at.Sub(last.at))
	} else {
		last = &measurement{at: m.at}
	}
	guests := map[api.Ref]int{}
	running := a.runningHere(m.here)
	m.replicas = make([]api.ReplicaUsage, 0, len(running))
	for _, as := range running {
		id, w := as.ReplicaID, as.Workload
		one, cancel := context.WithTimeout(ctx, usageTimeout)
		u, err := a.sup.Usage(one, id)
		cancel()
		if err != nil {
			continue // it ended meanwhile, or will be measured the next time
		}
		m.spent[id] = sandbox.Cost{Fuel: u.Fuel, CPU: u.CPUTime}
		before, known := last.spent[id]
		out := api.ReplicaUsage{ReplicaID: id, Memory: api.Bytes(u.Memory)}
		if known {
			out.CPU = rate(u.CPUTime-before.CPU, m.at.Sub(last.at))
		}
		m.replicas = append(m.replicas, out)
		if u.Instances > 0 {
			guests[w] += u.Instances
		}
		if used := burnt(u.Fuel, before.Fuel); used > 0 {
			a.cfg.Tel.Metrics.WasmFuel.Add(used, w.Namespace, w.Name)
		}
	}
	a.observeInstances(guests)
	for w := range last.here {
		if !m.here[w] {
			a.forgetWorkload(w)
		}
	}
	return m
}

// runningHere is what runs; here gets the workloads of all that there is.
func (a *Agent) runningHere(here map[api.Ref]bool) (running []*api.Assignment) {
	for as, state := range a.sup.Each() {
		here[as.Workload] = true
		if state == api.ReplicaRunning {
			running = append(running, as)
		}
	}
	return running
}

// burnt is fuel used since before, or since a replica was started anew.
func burnt(now, before int64) float64 {
	if now < before {
		before = 0
	}
	return float64(now - before)
}

// rate is CPU time over time, in thousandths of a core. A clock that starts anew, as that of a
// restarted replica, counts for nothing.
func rate(used, over time.Duration) api.MilliCPU {
	if used <= 0 || over <= 0 {
		return 0
	}
	return api.MilliCPU(1000 * used / over)
}

// ticksPerSecond is the unit of /proc/stat, the same on all of Linux.
const ticksPerSecond = 100

func busyTime() time.Duration {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	return busyOf(string(data))
}

// busyOf sums up the first line of /proc/stat without idle and iowait, and without guests, which
// user holds already.
func busyOf(stat string) time.Duration {
	line, _, _ := strings.Cut(stat, "\n")
	var ticks int64
	for i, f := range strings.Fields(line) {
		if n, err := strconv.ParseInt(f, 10, 64); err == nil && i != 4 && i != 5 && i < 9 {
			ticks += n
		}
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond
}
