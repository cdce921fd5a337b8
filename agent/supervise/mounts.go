package supervise

import (
	"context"

	"github.com/cloudless/cloudless/agent/volume"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// mount makes the replica's volumes, or finds those of an earlier start.
func (r *replica) mount(ctx context.Context) ([]sandbox.Mount, error) {
	switch {
	case len(r.spec.Volumes) == 0:
		return nil, nil
	case r.s.cfg.Volumes == nil:
		return nil, api.Errorf(api.CodeUnsupported, "this node makes no volumes")
	}
	ctx, cancel := context.WithTimeout(ctx, mountTimeout)
	defer cancel()
	return r.s.cfg.Volumes.Mount(ctx, volume.Request{Replica: r.id, Variant: r.assignment.Variant, Volumes: r.spec.Volumes})
}

// remount takes up the volumes of a replica that was adopted with its mounts: it does not wait for them.
func (r *replica) remount() {
	if len(r.spec.Volumes) == 0 {
		return
	}
	r.attend("volumes of "+r.id, func(ctx context.Context) {
		if _, err := r.mount(ctx); err != nil && ctx.Err() == nil {
			r.s.trouble("volumes of the adopted replica "+r.id+" are not kept in step", err)
		}
	})
}

// release gives the replica's volumes back, before its end is told: whoever waits for that finds in buckets
// what it wrote.
func (r *replica) release() {
	if len(r.spec.Volumes) == 0 || r.s.cfg.Volumes == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	r.s.cfg.Volumes.Release(ctx, r.id)
}
