package oci

import (
	"context"
	"errors"
	"fmt"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"

	"github.com/cloudless/cloudless/api"
)

// snapshotters in the order in which they are tried: native copies every layer, but works anywhere.
var snapshotters = []string{"overlayfs", "native"}

const trialTimeout = 10 * time.Second

// pickSnapshotter returns the first that can mount a layer on a layer on this machine's disk. Overlay
// on overlay, or on a file system without extended attributes, looks well until that is done.
func pickSnapshotter(ctx context.Context, c *containerd.Client, cfg Config) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, trialTimeout)
	defer cancel()
	var errs []error
	for _, name := range snapshotters {
		err := trySnapshotter(ctx, c, name, cfg)
		if err == nil {
			return name, nil
		}
		cfg.Log.Info().Str("snapshotter", name).Err(err).Msg("snapshotter does not work here")
		errs = append(errs, fmt.Errorf("%s: %w", name, err))
	}
	return "", errors.Join(errs...)
}

// trySnapshotter makes two layers and mounts them. Its lease lets containerd collect what it made,
// should the agent die half-way.
func trySnapshotter(ctx context.Context, c *containerd.Client, name string, cfg Config) (err error) {
	ctx, done, err := c.WithLease(ctx)
	if err != nil {
		return err
	}
	defer done(context.WithoutCancel(ctx))
	s := c.SnapshotService(name)
	owned := snapshots.WithLabels(map[string]string{labelCluster: cfg.Cluster, labelNode: cfg.NodeID})
	key := api.NewID(cfg.NodeID + "-trial")
	lower, upper := key+"-lower", key+"-upper"
	if _, err := s.Prepare(ctx, key, "", owned); err != nil {
		return err
	}
	if err := s.Commit(ctx, lower, key, owned); err != nil {
		s.Remove(ctx, key)
		return err
	}
	defer s.Remove(ctx, lower)
	mounts, err := s.Prepare(ctx, upper, lower, owned)
	if err != nil {
		return err
	}
	defer s.Remove(ctx, upper)
	return mount.WithTempMount(ctx, mounts, func(string) error { return nil })
}

// ownSnapshots lists the containers' snapshots of this node.
func (d *Driver) ownSnapshots(ctx context.Context) ([]string, error) {
	var keys []string
	err := d.client.SnapshotService(d.snapshotter).Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		keys = append(keys, info.Name)
		return nil
	}, ownFilter(d.cfg))
	return keys, err
}

// ownFilter selects what carries this node's labels.
func ownFilter(cfg Config) string {
	return fmt.Sprintf("labels.%q==%q,labels.%q==%q", labelCluster, cfg.Cluster, labelNode, cfg.NodeID)
}
