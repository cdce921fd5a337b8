package oci

import (
	"context"
	"time"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/typeurl/v2"
)

// watchOOM tells handles of the kernel's OOM kills, for machines whose cgroup files cannot be read.
// It subscribes anew when the daemon was away, and ends with the driver.
func (d *Driver) watchOOM(ctx context.Context) error {
	ctx = d.scope(ctx)
	for ctx.Err() == nil {
		d.readOOM(ctx)
		select {
		case <-time.After(retryDelay):
		case <-ctx.Done():
		}
	}
	return nil
}

func (d *Driver) readOOM(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	envelopes, errs := d.client.Subscribe(ctx, `topic=="/tasks/oom"`)
	for {
		select {
		case e := <-envelopes:
			if e == nil || e.Namespace != Namespace {
				continue
			}
			v, err := typeurl.UnmarshalAny(e.Event)
			if oom, ok := v.(*events.TaskOOM); ok && err == nil {
				d.tellOOM(oom.ContainerID)
			}
		case <-errs:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (d *Driver) tellOOM(id string) {
	h := d.handle(id)
	if h == nil {
		return
	}
	select {
	case h.oom <- struct{}{}:
	default: // it knows already
	}
}
