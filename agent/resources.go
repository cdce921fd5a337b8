package agent

import (
	"context"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/gossip"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/internal/telemetry"
)

// describe is what this node says of itself when it registers.
func (a *Agent) describe(ctx context.Context) api.RegisterRequest {
	set := a.settings.Load()
	req := api.RegisterRequest{
		Addr:   api.NodeAddr{Node: a.advertised(a.cfg.Listener), Ingress: a.advertised(a.cfg.Ingress), Gossip: a.gossip.Addr()},
		Region: a.cfg.Region, Zone: a.cfg.Zone, Labels: set.Labels, Taints: set.Taints, Capacity: a.capacity(set.Reserve),
		Arch: runtime.GOARCH, OS: runtime.GOOS, Version: a.cfg.Version, StoreCapacity: a.store.capacity,
	}
	if d, ok := a.drivers[api.VariantWasm]; ok {
		req.Runtimes.WasmEngine = d.Info(ctx).Engine
	}
	if d, ok := a.drivers[api.VariantContainer]; ok {
		info := d.Info(ctx)
		req.Runtimes.Containers, req.Runtimes.ContainersReason, req.Runtimes.ContainersVer = info.Available, info.Reason, info.Engine
	}
	return req
}

// capacity is what workloads may take of this machine.
func (a *Agent) capacity(reserve api.Reserved) api.Reserved {
	total := api.Reserved{CPU: api.MilliCPU(runtime.NumCPU() * 1000), Memory: memInfo("MemTotal"), Storage: a.storage().total}
	left := total.Sub(reserve)
	return api.Reserved{CPU: max(left.CPU, 0), Memory: max(left.Memory, 0), Storage: max(left.Storage, 0)}
}

// memInfo reads one line of /proc/meminfo, in bytes.
func memInfo(key string) api.Bytes {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == key+":" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0
			}
			return api.Bytes(kb << 10)
		}
	}
	return 0
}

func load1() float64 {
	data, err := os.ReadFile("/proc/loadavg")
	if f := strings.Fields(string(data)); err == nil && len(f) > 0 {
		if v, err := strconv.ParseFloat(f[0], 64); err == nil {
			return v
		}
	}
	return 0
}

func (a *Agent) usage() api.Usage {
	d := a.storage()
	load, cpu := load1(), api.MilliCPU(0)
	if m := a.measured.Load(); m != nil {
		cpu = m.cpu
	}
	return api.Usage{
		CPU: cpu, Memory: memInfo("MemTotal") - memInfo("MemAvailable"),
		Storage: d.total - d.free, StorageFree: d.free, Load1: load,
	}
}

// fillHeartbeat is the next heartbeat after prev, to a coordinator that has this node's inventory at
// a revision.
func (a *Agent) fillHeartbeat(prev api.Heartbeat, has uint64, now time.Time) api.Heartbeat {
	epoch, gen := a.intake.have()
	inv := a.stock.look(now)
	if inv != nil && inv.Revision == has {
		inv = nil
	}
	hb := api.Heartbeat{
		Seq: prev.Seq + 1, Sent: now.UTC(), Usage: a.usage(), Epoch: epoch, Generation: gen,
		EndpointIndex: a.ingress.Index(), Replicas: a.sup.Len(), RTTMillis: prev.RTTMillis, TrustIndex: a.trusted.Load(), Inventory: inv,
		MeasuredAt: prev.MeasuredAt, DiskFull: a.disk.full(), Store: a.store.stats.Load(),
	}
	if m := a.measured.Load(); m != nil && !m.at.Equal(prev.MeasuredAt) {
		hb.MeasuredAt, hb.ReplicaUsage = m.at, m.replicas
	}
	return hb
}

// keepGauges mirrors what runs here into the metrics, and has memory given back when that has changed
// much; it ends with the agent.
func (a *Agent) keepGauges(ctx context.Context) error {
	relief := newRelief()
	for run.Sleep(ctx, 2*time.Second) == nil {
		counts := map[api.Variant]float64{api.VariantWasm: 0, api.VariantContainer: 0}
		states := map[api.ReplicaState]int{}
		for as, state := range a.sup.Each() {
			states[state]++
			if state == api.ReplicaRunning {
				counts[as.Variant]++
			}
		}
		relief.look(states)
		a.cfg.Tel.Metrics.RunningContainers.Replace([]telemetry.Sample{
			{Labels: []string{string(api.VariantContainer)}, Value: counts[api.VariantContainer]},
			{Labels: []string{string(api.VariantWasm)}, Value: counts[api.VariantWasm]},
		})
	}
	return nil
}

// keepGossipJoined joins the coordinators' gossip, and again whenever none of them is in sight.
func (a *Agent) keepGossipJoined(ctx context.Context) error {
	for {
		var addrs []string
		seen := false
		for _, m := range a.sessions.members() {
			seen = seen || a.gossip.Status(m.ID) == gossip.StatusAlive
			if m.GossipAddr != "" && !slices.Contains(addrs, m.GossipAddr) {
				addrs = append(addrs, m.GossipAddr)
			}
		}
		if !seen && len(addrs) > 0 {
			jctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			if _, err := a.gossip.Join(jctx, addrs); err != nil {
				a.log.Debug().Err(err).Msg("gossip not joined yet")
			}
			cancel()
		}
		if run.Sleep(ctx, 3*time.Second) != nil {
			return nil
		}
	}
}
