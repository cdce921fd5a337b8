package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// release removes everything of a container, in whatever state it is; what is gone already is no
// error. The folder goes last, so that what fails now is found again by Clean.
func (d *Driver) release(ctx context.Context, id string) error {
	if err := d.removeContainer(ctx, id); err != nil {
		return classify(err, api.CodeInternal, "container %s cannot be removed: %w", id, err)
	}
	if d.bridge != nil && d.bridge.holds(id) {
		if err := d.bridge.detach(ctx, id); err != nil {
			return api.Errorf(api.CodeInternal, "network of container %s cannot be removed: %w", id, err)
		}
	}
	if err := os.RemoveAll(d.folder(id)); err != nil {
		return api.Errorf(api.CodeInternal, "folder of container %s cannot be removed: %w", id, err)
	}
	return nil
}

func (d *Driver) removeContainer(ctx context.Context, id string) error {
	c, err := d.client.LoadContainer(ctx, id)
	if err == nil {
		if err := removeTask(ctx, c); err != nil {
			return err
		}
		err = c.Delete(ctx)
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	// By its key and not with the container: a start can fail between the two.
	err = d.client.SnapshotService(d.snapshotter).Remove(ctx, id)
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

func removeTask(ctx context.Context, c containerd.Container) error {
	task, err := c.Task(ctx, nil)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return deleteTask(ctx, task)
}

// deleteTask kills what runs, waits for the end, and deletes. containerd answers when the shim has
// written the last of the log.
func deleteTask(ctx context.Context, task containerd.Task) error {
	_, err := task.Delete(ctx, killAll)
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("task: %w", err)
	}
	return nil
}

// killAll ends every process of the container, those that exec started and left included.
func killAll(ctx context.Context, p containerd.Process) error {
	status, err := p.Status(ctx)
	if errdefs.IsNotFound(err) || err == nil && (status.Status == containerd.Stopped || status.Status == containerd.Created) {
		return nil
	}
	if err != nil {
		return err
	}
	ended, err := p.Wait(ctx)
	if err != nil {
		return err
	}
	if err := p.Kill(ctx, unix.SIGKILL, containerd.WithKillAll); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// own lists this node's containers.
func (d *Driver) own(ctx context.Context) ([]containerd.Container, error) {
	return d.client.Containers(ctx, ownFilter(d.cfg))
}

// Adopt takes up a running container that an earlier process started. One that has ended meanwhile
// is removed, and the error says how it ended.
func (d *Driver) Adopt(ctx context.Context, spec sandbox.Spec) (sandbox.Handle, error) {
	if err := d.ready(); err != nil {
		return nil, err
	}
	ctx = d.scope(ctx)
	id := containerID(d.cfg.NodeID, spec.ID)
	unlock, err := d.keys.lock(ctx, id)
	if err != nil {
		return nil, api.Errorf(api.CodeTimeout, "replica %s is busy: %w", spec.ID, err)
	}
	defer unlock()
	if h := d.handle(id); h != nil {
		return h, nil
	}
	task, address, err := d.find(ctx, id)
	if err != nil {
		return nil, classify(err, api.CodeInternal, "replica %s cannot be taken up: %w", spec.ID, err)
	}
	spec.NodeID, spec.Cluster = d.cfg.NodeID, d.cfg.Cluster
	fate := "is gone"
	if task != nil {
		status, err := task.Status(ctx)
		switch {
		case err != nil:
			return nil, classify(err, api.CodeInternal, "replica %s cannot be taken up: %w", spec.ID, err)
		case status.Status == containerd.Running:
			return d.follow(id, spec, address, task), nil
		case status.Status == containerd.Stopped:
			fate = d.exitOf(id, spec, int(status.ExitStatus), status.ExitTime).Reason + " while no agent watched"
		}
	}
	if err := d.release(ctx, id); err != nil {
		return nil, err
	}
	return nil, api.Errorf(api.CodeNotFound, "replica %s %s", spec.ID, fate)
}

// find returns the task of a container of ours; nil when there is none.
func (d *Driver) find(ctx context.Context, id string) (task containerd.Task, address string, err error) {
	c, err := d.client.LoadContainer(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	labels, err := c.Labels(ctx)
	if err != nil {
		return nil, "", err
	}
	task, err = c.Task(ctx, nil) // the log is a file, to which nothing can be attached
	if errdefs.IsNotFound(err) {
		return nil, "", nil
	}
	return task, labels[labelHost], err
}

// Clean removes this node's containers that no handle holds and keep does not name, together with
// whatever else a crash has left of one.
func (d *Driver) Clean(ctx context.Context, keep map[string]bool) error {
	if d.client == nil {
		return nil
	}
	ctx = d.scope(ctx)
	kept := map[string]bool{}
	for replica := range keep {
		kept[containerID(d.cfg.NodeID, replica)] = true
	}
	ids, err := d.known(ctx)
	if err != nil {
		return classify(err, api.CodeInternal, "containers cannot be listed: %w", err)
	}
	var errs []error
	for _, id := range ids {
		if !kept[id] {
			errs = append(errs, d.cleanOne(ctx, id))
		}
	}
	return errors.Join(errs...)
}

func (d *Driver) cleanOne(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	unlock, err := d.keys.lock(ctx, id)
	if err != nil {
		return api.Errorf(api.CodeTimeout, "container %s is busy: %w", id, err)
	}
	defer unlock()
	if d.handle(id) != nil {
		return nil // it runs, or its own watcher removes it
	}
	d.log.Info().Str("container", id).Msg("removing a leftover container")
	return d.release(ctx, id)
}

// known lists the ids of which anything exists: a container, a snapshot, a folder, a namespace.
func (d *Driver) known(ctx context.Context) ([]string, error) {
	containers, err := d.own(ctx)
	if err != nil {
		return nil, err
	}
	ids, err := d.ownSnapshots(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range containers {
		ids = append(ids, c.ID())
	}
	ids = append(ids, entries(filepath.Dir(d.folder("x")))...)
	ids = append(ids, entries(filepath.Join(d.cfg.RunDir, "netns"))...)
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// entries are the names in a folder, none if there is no such folder.
func entries(dir string) []string {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}
