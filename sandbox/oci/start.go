package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// releaseTimeout bounds the removal of one container with all that belongs to it.
const releaseTimeout = 30 * time.Second

// folder is where a container's files are. It exists from before the first to after the last thing
// that belongs to the container.
func (d *Driver) folder(id string) string {
	return filepath.Join(d.cfg.DataDir, "containers", "replicas", id)
}

// Start creates the container and runs it.
func (d *Driver) Start(ctx context.Context, spec sandbox.Spec) (sandbox.Handle, error) {
	if err := d.ready(); err != nil {
		return nil, err
	}
	ctx = d.scope(ctx)
	p, err := d.plan(ctx, spec)
	if err != nil {
		return nil, err
	}
	unlock, err := d.keys.lock(ctx, p.id)
	if err != nil {
		return nil, api.Errorf(api.CodeTimeout, "waiting for the last run of %s to be removed: %w", spec.ID, err)
	}
	defer unlock()
	if d.handle(p.id) != nil {
		return nil, api.Errorf(api.CodeConflict, "replica %s runs already", spec.ID)
	}
	if err := d.releaseLeftover(ctx, p.id); err != nil {
		return nil, err
	}
	task, err := d.launch(ctx, p)
	if err != nil {
		return nil, d.abandon(ctx, p.id, err)
	}
	return d.follow(p.id, spec, p.address, task), nil
}

// plan decides all that needs no change to the machine.
func (d *Driver) plan(ctx context.Context, spec sandbox.Spec) (*plan, error) {
	if spec.LogPath == "" || !filepath.IsAbs(spec.LogPath) {
		return nil, api.Errorf(api.CodeInvalid, "replica %s has no log file", spec.ID)
	}
	img, err := d.image(ctx, spec, false)
	if err != nil {
		return nil, err
	}
	cfg, err := configOf(ctx, img, spec.Container.Image)
	if err != nil {
		return nil, err
	}
	argv, err := command(cfg, spec.Container)
	if err != nil {
		return nil, err
	}
	if spec.Container.Network != networkHost && d.bridge == nil {
		return nil, api.Errorf(api.CodeUnavailable, "no bridge network on this node: %w", d.bridgeErr)
	}
	id := containerID(d.cfg.NodeID, spec.ID)
	spec.NodeID, spec.Cluster = d.cfg.NodeID, d.cfg.Cluster
	if cfg.WorkingDir != "" && !path.IsAbs(cfg.WorkingDir) {
		return nil, api.Errorf(api.CodeInvalid, "image %s: its working folder %q is not an absolute path", spec.Container.Image, cfg.WorkingDir)
	}
	return &plan{id: id, spec: spec, image: img, config: cfg, argv: argv, dir: d.folder(id)}, nil
}

// releaseLeftover removes what an earlier run under the same id has left.
func (d *Driver) releaseLeftover(ctx context.Context, id string) error {
	if _, err := os.Stat(d.folder(id)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return d.release(ctx, id)
}

// launch makes folder, network, container and task, in this order. The caller cleans up on error.
func (d *Driver) launch(ctx context.Context, p *plan) (containerd.Task, error) {
	if err := os.MkdirAll(p.dir, 0o711); err != nil {
		return nil, fmt.Errorf("container's folder: %w", err)
	}
	address := "127.0.0.1"
	if p.spec.Container.Network != networkHost {
		var err error
		if p.netns, address, err = d.bridge.attach(ctx, p.id); err != nil {
			return nil, err
		}
	}
	p.address = address
	bridged := ""
	if p.netns != "" {
		bridged = address
	}
	if err := writeFiles(p.dir, p.hostname(), bridged); err != nil {
		return nil, err
	}
	c, err := d.client.NewContainer(ctx, p.id, d.containerOpts(p)...)
	if err != nil {
		return nil, startError(p, err)
	}
	task, err := c.NewTask(ctx, cio.LogFile(p.spec.LogPath))
	if err != nil {
		return nil, startError(p, err)
	}
	if err := task.Start(ctx); err != nil {
		return nil, startError(p, err)
	}
	return task, nil
}

func (d *Driver) containerOpts(p *plan) []containerd.NewContainerOpts {
	labels := map[string]string{
		labelCluster:  d.cfg.Cluster,
		labelNode:     d.cfg.NodeID,
		labelReplica:  p.spec.ID,
		labelWorkload: p.spec.Workload.String(),
		labelHost:     p.address,
	}
	return []containerd.NewContainerOpts{
		containerd.WithImage(p.image),
		containerd.WithSnapshotter(d.snapshotter),
		containerd.WithNewSnapshot(p.id, p.image, snapshots.WithLabels(labels)),
		containerd.WithImageStopSignal(p.image, "SIGTERM"),
		containerd.WithAdditionalContainerLabels(labels),
		containerd.WithNewSpec(p.specOpts()...),
	}
}

// startError keeps an answer of our own, and tells what the manifest can mend from what it cannot.
func startError(p *plan, err error) error {
	var own *api.Error
	if errors.As(err, &own) {
		return own
	}
	if dir := p.config.WorkingDir; dir != "" && (strings.Contains(err.Error(), "mkdir "+dir+":") || strings.Contains(err.Error(), "chdir to cwd")) {
		return api.Errorf(api.CodeInvalid, "container cannot start: the image's working folder %q cannot be entered: %w", dir, err)
	}
	if missing := missingProgram(err); missing {
		return api.Errorf(api.CodeInvalid, "container cannot start: %q is not in the image or cannot be executed: %w", p.argv[0], err)
	}
	if errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) {
		return classify(err, api.CodeInvalid, "container cannot start: %w", err)
	}
	return classify(err, api.CodeInternal, "container cannot start: %w", err)
}

// abandon removes what a failed start has made, even when ctx is what ended it.
func (d *Driver) abandon(ctx context.Context, id string, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err := d.release(ctx, id); err != nil {
		d.log.Warn().Err(err).Str("container", id).Msg("a failed start has left something; it is removed later")
	}
	var own *api.Error
	if errors.As(cause, &own) {
		return own
	}
	return classify(cause, api.CodeInternal, "container cannot start: %w", cause)
}
