package oci

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

const (
	oomGrace   = 500 * time.Millisecond // for the event of an exit 137 whose cgroup cannot be read
	retryDelay = 500 * time.Millisecond // between attempts to reach a daemon that is away
	flushLimit = 10 * time.Second       // for the shim to write the last of the log
)

// handle follows one container until it has ended and is removed.
type handle struct {
	sandbox.Ending // once its log is complete

	d       *Driver
	id      string // container id
	spec    sandbox.Spec
	address string
	task    containerd.Task // stays good when the daemon restarts: it is an id and a connection

	oom    chan struct{} // holds one token once containerd has told of an OOM kill
	forced atomic.Bool   // Stop had to kill

	gone    chan struct{} // it has ended and everything of it is removed, or goneErr says what is not
	goneErr error
}

var _ sandbox.Handle = (*handle)(nil)

func (d *Driver) handle(id string) *handle {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.handles[id]
}

// follow makes the handle of a running task. Its goroutine ends when the container has ended and is
// removed, or with the driver.
func (d *Driver) follow(id string, spec sandbox.Spec, address string, task containerd.Task) *handle {
	h := &handle{d: d, id: id, spec: spec, address: address, task: task,
		oom: make(chan struct{}, 1), gone: make(chan struct{})}
	d.mu.Lock()
	d.handles[id] = h
	d.mu.Unlock()
	d.group.Go("container "+id, func(ctx context.Context) error {
		h.watch(d.scope(ctx))
		return nil
	})
	return h
}

// watch waits for the end, tells it, and removes what is left.
func (h *handle) watch(ctx context.Context) {
	code, at, err := h.await(ctx)
	if err != nil {
		return // the driver is closing, and the container runs on
	}
	exit := h.amended(ctx, h.d.exitOf(h.id, h.spec, code, at))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	flush, cancelFlush := context.WithTimeout(ctx, flushLimit)
	defer cancelFlush()
	if err := deleteTask(flush, h.task); err != nil {
		h.d.log.Warn().Err(err).Str("container", h.id).Msg("task of an ended container is not deleted yet")
	}
	h.End(exit)
	h.remove(ctx)
}

// remove takes everything of the ended container away and lets the id be used again.
func (h *handle) remove(ctx context.Context) {
	defer close(h.gone)
	unlock, err := h.d.keys.lock(ctx, h.id)
	if err != nil {
		h.goneErr = err
		return
	}
	defer unlock()
	if h.goneErr = h.d.release(ctx, h.id); h.goneErr != nil {
		h.d.log.Warn().Err(h.goneErr).Str("container", h.id).Msg("an ended container is not removed yet")
	}
	h.d.mu.Lock()
	delete(h.d.handles, h.id)
	h.d.mu.Unlock()
}

// await waits for the exit. An exit status that carries an error means that the daemon is away, not
// that the container ended: the wait begins again when the daemon is back.
func (h *handle) await(ctx context.Context) (code int, at time.Time, err error) {
	for {
		statusC, err := h.task.Wait(ctx)
		if err == nil {
			status := <-statusC
			if err = status.Error(); err == nil {
				return int(status.ExitCode()), status.ExitTime(), nil
			}
		}
		if ctx.Err() != nil {
			return 0, time.Time{}, ctx.Err()
		}
		if errdefs.IsNotFound(err) || strings.Contains(err.Error(), "not found") {
			return exitLost, time.Now(), nil
		}
		select {
		case <-time.After(retryDelay):
		case <-ctx.Done():
			return 0, time.Time{}, ctx.Err()
		}
	}
}

// exitLost is the code of a container that vanished: a reboot, or someone else's hand.
const exitLost = 255

const exitKilled = 128 + int(unix.SIGKILL)

// exitOf tells an exit in words. The cgroup still exists and knows of OOM kills.
func (d *Driver) exitOf(id string, spec sandbox.Spec, code int, at time.Time) sandbox.Exit {
	kills, _ := oomKills(cgroupRoot, cgroupPath(d.cfg.NodeID, id))
	e := sandbox.Exit{Code: code, At: at, OOM: kills > 0 && code != 0}
	e.Reason = reason(code, e.OOM, memoryLimit(spec))
	return e
}

func reason(code int, oom bool, limit api.Bytes) string {
	switch {
	case oom:
		return fmt.Sprintf("out of memory (limit %s)", limit)
	case code == exitKilled:
		return "killed (exit code 137)"
	}
	return fmt.Sprintf("exited with code %d", code)
}

// amended is the exit corrected by what only this process knows: that Stop killed, or an OOM event.
func (h *handle) amended(ctx context.Context, exit sandbox.Exit) sandbox.Exit {
	switch {
	case h.forced.Load() && exit.Code == exitKilled:
		exit.OOM, exit.Reason = false, "killed: it did not stop in time"
	case exit.Code == exitKilled && !exit.OOM && h.oomTold(ctx):
		exit.OOM, exit.Reason = true, reason(exit.Code, true, memoryLimit(h.spec))
	}
	return exit
}

// oomTold waits a little for an OOM event, unless the cgroup has already answered.
func (h *handle) oomTold(ctx context.Context) bool {
	if _, known := oomKills(cgroupRoot, cgroupPath(h.d.cfg.NodeID, h.id)); known {
		return false
	}
	select {
	case <-h.oom:
		return true
	case <-time.After(oomGrace):
	case <-ctx.Done():
	}
	return false
}

func (h *handle) ID() string                 { return h.spec.ID }
func (h *handle) Endpoint() sandbox.Endpoint { return sandbox.Endpoint{Host: h.address} }

// Stop sends the image's stop signal, SIGKILL after grace, and returns when all is removed.
func (h *handle) Stop(ctx context.Context, grace time.Duration) error {
	if err := h.end(h.d.scope(ctx), grace); err != nil {
		return err
	}
	timeout := time.After(releaseTimeout)
	select {
	case <-h.gone:
		return h.goneErr
	case <-h.d.group.Context().Done():
		return api.Errorf(api.CodeUnavailable, "the driver is closed; container %s runs on", h.id)
	case <-timeout:
		return api.Errorf(api.CodeTimeout, "container %s is not gone after %s", h.id, releaseTimeout)
	}
}

// end signals the process and waits for its end.
func (h *handle) end(ctx context.Context, grace time.Duration) error {
	if h.ended() {
		return nil
	}
	if grace > 0 && ctx.Err() == nil {
		if err := h.signal(ctx, h.stopSignal(ctx)); err == nil {
			select {
			case <-h.Done():
				return nil
			case <-time.After(grace):
			case <-ctx.Done():
			case <-h.d.group.Context().Done():
				return nil // Stop says so
			}
		}
	}
	if h.ended() {
		return nil
	}
	h.forced.Store(true)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err := h.signal(ctx, unix.SIGKILL, containerd.WithKillAll); err != nil {
		return classify(err, api.CodeInternal, "container %s cannot be killed: %w", h.id, err)
	}
	return nil
}

func (h *handle) ended() bool {
	select {
	case <-h.Done():
		return true
	default:
		return false
	}
}

// signal is no error for a process that has ended already.
func (h *handle) signal(ctx context.Context, sig unix.Signal, opts ...containerd.KillOpts) error {
	err := h.task.Kill(ctx, sig, opts...)
	if errdefs.IsNotFound(err) || errdefs.IsFailedPrecondition(err) {
		return nil
	}
	return err
}

func (h *handle) stopSignal(ctx context.Context) unix.Signal {
	c, err := h.d.client.LoadContainer(ctx, h.id)
	if err != nil {
		return unix.SIGTERM
	}
	sig, err := containerd.GetStopSignal(ctx, c, unix.SIGTERM)
	if err != nil {
		return unix.SIGTERM
	}
	return sig
}

// Usage reads the container's cgroup.
func (h *handle) Usage(ctx context.Context) (sandbox.Usage, error) {
	m, err := h.task.Metrics(h.d.scope(ctx))
	if errdefs.IsNotFound(err) || h.ended() {
		return sandbox.Usage{}, api.Errorf(api.CodeNotFound, "replica %s does not run", h.spec.ID)
	}
	if err != nil {
		return sandbox.Usage{}, classify(err, api.CodeInternal, "metrics of the container: %w", err)
	}
	return usage(m)
}
