package agent

import (
	"context"
	"time"

	"github.com/cloudless/cloudless/agent/supervise"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/telemetry"
	"github.com/cloudless/cloudless/sandbox"
)

// observeTraffic counts one request or TCP connection of the workloads' users.
func (a *Agent) observeTraffic(kind string, in, out int64, took time.Duration) {
	m := a.cfg.Tel.Metrics
	m.NetworkConnections.Inc(kind)
	m.NetworkBytes.Add(float64(in), "in")
	m.NetworkBytes.Add(float64(out), "out")
	m.NetworkLatency.Observe(took.Seconds(), kind)
}

// observeDial counts one try to reach another node.
func (a *Agent) observeDial(way link.Way, took time.Duration) {
	m := a.cfg.Tel.Metrics
	m.NATTraversalAttempts.Inc(string(way))
	if way != link.WayFailed {
		m.NetworkConnections.Inc("node")
		m.NetworkLatency.Observe(took.Seconds(), "node")
	}
}

func (a *Agent) observeRestart(w api.Ref) {
	a.cfg.Tel.Metrics.WorkloadReplicaRestarts.Inc(w.Namespace, w.Name)
}

func (a *Agent) observeFailedProbe(w api.Ref, probe string) {
	a.cfg.Tel.Metrics.WorkloadHealthCheckFailures.Inc(w.Namespace, w.Name, probe)
}

// forgetWorkload drops what was counted of a workload that has no replica here any more: each metric has room for
// so many names, and those that come and go would keep out new ones.
func (a *Agent) forgetWorkload(w api.Ref) {
	m := a.cfg.Tel.Metrics
	m.WasmFuel.Delete(w.Namespace, w.Name)
	m.WorkloadReplicaRestarts.Delete(w.Namespace, w.Name)
	for _, probe := range []string{supervise.Readiness, supervise.Liveness} {
		m.WorkloadHealthCheckFailures.Delete(w.Namespace, w.Name, probe)
	}
}

// observeInstances tells how many wasm instances each workload has here.
func (a *Agent) observeInstances(guests map[api.Ref]int) {
	var samples []telemetry.Sample
	for w, n := range guests {
		samples = append(samples, telemetry.Sample{Labels: []string{w.Namespace, w.Name}, Value: float64(n)})
	}
	a.cfg.Tel.Metrics.WasmInstances.Replace(samples)
}

// metered gives drivers whose operations are counted and timed.
func metered(drivers map[api.Variant]sandbox.Driver, m *telemetry.Metrics) map[api.Variant]sandbox.Driver {
	out := make(map[api.Variant]sandbox.Driver, len(drivers))
	for v, d := range drivers {
		out[v] = &meteredDriver{d, m}
	}
	return out
}

type meteredDriver struct {
	sandbox.Driver
	metrics *telemetry.Metrics
}

// timed counts one operation on a sandbox.
func timed[T any](m *telemetry.Metrics, operation string, do func() (T, error)) (T, error) {
	start, result := time.Now(), "ok"
	v, err := do()
	if err != nil {
		result = "error"
	}
	m.ContainerOperations.Inc(operation, result)
	m.ContainerOperationDuration.Observe(time.Since(start).Seconds(), operation)
	return v, err
}

func (d *meteredDriver) Prepare(ctx context.Context, spec sandbox.Spec) error {
	_, err := timed(d.metrics, "prepare", func() (struct{}, error) { return struct{}{}, d.Driver.Prepare(ctx, spec) })
	return err
}

func (d *meteredDriver) Start(ctx context.Context, spec sandbox.Spec) (sandbox.Handle, error) {
	return d.handle("start", func() (sandbox.Handle, error) { return d.Driver.Start(ctx, spec) })
}

func (d *meteredDriver) Adopt(ctx context.Context, spec sandbox.Spec) (sandbox.Handle, error) {
	return d.handle("adopt", func() (sandbox.Handle, error) { return d.Driver.Adopt(ctx, spec) })
}

func (d *meteredDriver) handle(operation string, do func() (sandbox.Handle, error)) (sandbox.Handle, error) {
	h, err := timed(d.metrics, operation, do)
	if err != nil {
		return nil, err
	}
	return &meteredHandle{h, d.metrics}, nil
}

// Trim passes on what drivers that are Trimmers do.
func (d *meteredDriver) Trim(ctx context.Context, keep map[string]bool) error {
	if t, ok := d.Driver.(sandbox.Trimmer); ok {
		return t.Trim(ctx, keep)
	}
	return nil
}

type meteredHandle struct {
	sandbox.Handle
	metrics *telemetry.Metrics
}

func (h *meteredHandle) Stop(ctx context.Context, grace time.Duration) error {
	_, err := timed(h.metrics, "stop", func() (struct{}, error) { return struct{}{}, h.Handle.Stop(ctx, grace) })
	return err
}

func (h *meteredHandle) Exec(ctx context.Context, req sandbox.ExecRequest) (int, error) {
	return timed(h.metrics, "exec", func() (int, error) { return h.Handle.Exec(ctx, req) })
}
