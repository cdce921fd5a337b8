package supervise

import (
	"context"
	"fmt"
	"maps"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// begin adopts the replica or starts it.
func (r *replica) begin(ctx context.Context, adopt bool) (sandbox.Handle, *ending) {
	driver, ok := r.s.cfg.Drivers[r.assignment.Variant]
	if !ok {
		return nil, &ending{err: api.Errorf(api.CodeUnsupported, "this node runs no %s replicas", r.assignment.Variant)}
	}
	if adopt {
		h, err := r.adopt(ctx, driver)
		if err == nil {
			return h, &ending{}
		}
		if api.CodeOf(err) != api.CodeNotFound {
			return nil, &ending{err: err, retryAdopt: true}
		}
	}
	r.change(func(rep *api.ReplicaReport) { rep.State, rep.Ready = api.ReplicaStarting, false })
	r.save(r.status())
	h, err := r.start(ctx, driver)
	return h, &ending{err: err}
}

func (r *replica) adopt(ctx context.Context, driver sandbox.Driver) (sandbox.Handle, error) {
	// A stop that comes meanwhile must find what runs, or it would run on and be called stopped.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), adoptTimeout)
	defer cancel()
	spec := sandboxSpec(r.s.cfg, r.assignment, r.spec)
	spec.Attempt, spec.LogPath = r.logs.number(), r.logs.path()
	h, err := driver.Adopt(ctx, spec)
	if err == nil {
		r.remount()
		r.s.event(api.SeverityInfo, api.EventReplicaAdopted, "replica/"+r.id, "replica "+r.id+" was running and has been taken up again")
	}
	return h, err
}

func (r *replica) start(ctx context.Context, driver sandbox.Driver) (sandbox.Handle, error) {
	spec, err := r.s.ready(ctx, driver, r.assignment, r.spec)
	if err != nil {
		return nil, err
	}
	if spec.Mounts, err = r.mount(ctx); err != nil {
		return nil, err
	}
	if err := r.logs.next(r.assignment.Variant == api.VariantContainer); err != nil {
		return nil, err
	}
	spec.Attempt, spec.LogPath, spec.Log = r.logs.number(), r.logs.path(), r.logs
	var h sandbox.Handle
	err = gated(ctx, r.s.starting[r.assignment.Variant], startTimeout, func(ctx context.Context) (err error) {
		h, err = driver.Start(ctx, spec)
		return err
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// sandboxSpec is what a driver is told of a replica, but for its artifact and its log.
func sandboxSpec(cfg Config, a api.Assignment, w *api.WorkloadSpec) sandbox.Spec {
	spec := sandbox.Spec{
		ID: a.ReplicaID, NodeID: cfg.NodeID, Cluster: cfg.Cluster, Workload: a.Workload, Hostname: a.ReplicaID,
		Env: maps.Clone(w.Env), CPU: w.Resources.CPU, Memory: w.Reserve(a.Variant).Memory, Ports: w.Ports,
	}
	if a.Variant == api.VariantWasm {
		spec.Wasm = w.Wasm
		if w.Egress != nil {
			spec.Egress = w.Egress.Allow
		}
		spec.Buckets, spec.Storage = w.Buckets, cfg.Storage
		return spec
	}
	spec.Container = w.Container
	if port, ok := w.HTTPPort(); ok && spec.Env["PORT"] == "" {
		if spec.Env == nil {
			spec.Env = map[string]string{}
		}
		spec.Env["PORT"] = fmt.Sprint(port)
	}
	return spec
}
