package supervise

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cloudless/cloudless/agent/converge"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
)

// prepare fetches and compiles in the background, for each variant that this node can run, and tries
// again until it is done or the version is no longer to come.
func (s *Supervisor) prepare(a converge.Action) {
	key := api.VersionKey(a.Assignment.UID, a.Assignment.Version)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, asked := s.prepared[key]; asked || s.closed {
		return
	}
	s.prepared[key] = false
	s.group.Go("prepare "+key, func(ctx context.Context) error {
		for s.wanted(key) {
			err := s.prepareAll(ctx, a)
			if err == nil {
				s.warm(key)
				return nil
			}
			if ctx.Err() == nil {
				s.trouble(fmt.Sprintf("version %d of workload %s is not prepared", a.Assignment.Version, a.Assignment.Workload), err)
			}
			if run.Sleep(ctx, retryPrepare) != nil {
				return nil
			}
		}
		return nil
	})
}

func (s *Supervisor) wanted(key string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.prepared[key]
	return ok
}

func (s *Supervisor) warm(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.prepared[key]; ok {
		s.prepared[key] = true
	}
}

// KeepPrepared forgets the versions that are no longer to come: what was fetched for them stays in the
// caches, until those need the room.
func (s *Supervisor) KeepPrepared(next []api.AssignedSpec) {
	keep := map[string]bool{}
	for _, n := range next {
		keep[api.VersionKey(n.UID, n.Version)] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.prepared, func(key string, _ bool) bool { return !keep[key] })
}

// Warm names, in order, the versions that were to be prepared and are.
func (s *Supervisor) Warm() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var keys []string
	for key, warm := range s.prepared {
		if warm {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func (s *Supervisor) prepareAll(ctx context.Context, a converge.Action) error {
	var errs []error
	for v, driver := range s.cfg.Drivers {
		if !a.Spec.Has(v) || !driver.Info(ctx).Available {
			continue
		}
		a.Assignment.Variant = v
		a.Assignment.ReplicaID = "prepare-" + api.VersionKey(a.Assignment.UID, a.Assignment.Version)
		_, err := s.ready(ctx, driver, a.Assignment, &a.Spec)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ready fetches and prepares an artifact, and gives the spec to start it with.
func (s *Supervisor) ready(ctx context.Context, driver sandbox.Driver, a api.Assignment, w *api.WorkloadSpec) (sandbox.Spec, error) {
	spec := sandboxSpec(s.cfg, a, w)
	if digest, ok := w.Digest(a.Variant); ok {
		fctx, cancel := context.WithTimeout(ctx, fetchTimeout)
		defer cancel()
		path, err := s.cfg.Fetch(fctx, digest)
		if err != nil {
			return spec, err
		}
		spec.Artifact, spec.Digest = path, digest
	}
	if s.cfg.Admit != nil {
		if err := s.cfg.Admit(a, w, spec.Artifact); err != nil {
			return spec, err
		}
	}
	return spec, gated(ctx, s.preparing[a.Variant], prepareTimeout, func(ctx context.Context) error { return driver.Prepare(ctx, spec) })
}

// gated runs f when the gate has a free place; only f's own time counts for the timeout.
func gated(ctx context.Context, gate chan struct{}, timeout time.Duration, f func(context.Context) error) error {
	select {
	case gate <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-gate }()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return f(ctx)
}
