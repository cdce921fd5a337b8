package coordinator

import (
	"cmp"
	"context"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

// checkWorkload fills defaults in and refuses what is wrong, all of it at once.
func checkWorkload(w *api.Workload) error {
	w.Default()
	w.Status = nil
	return w.Validate().Err()
}

func (s *Server) writeWorkload(ctx context.Context, c api.Caller, ref api.Ref, cmd state.Command) (api.WriteResult, error) {
	cmd.By = &c
	res, _, err := s.propose(ctx, cmd)
	if err != nil {
		return api.WriteResult{}, err
	}
	out := *res.Write
	v := s.store.View()
	if row, ok := v.Workload(ref); ok {
		out.Workload = v.Describe(row)
	}
	return out, nil
}

// PutWorkload creates or updates a workload. What needs privileges (a container as root or with
// capabilities, the host's network) needs role admin.
func (s *Server) PutWorkload(ctx context.Context, c api.Caller, w api.Workload, create bool, ifMatch uint64) (api.WriteResult, error) {
	if err := checkWorkload(&w); err != nil {
		return api.WriteResult{}, err
	}
	if err := checkPrivileges(c, &w); err != nil {
		return api.WriteResult{}, err
	}
	if err := s.admitWorkload(ctx, s.store.View(), &w); err != nil {
		return api.WriteResult{}, err
	}
	put := &state.PutWorkload{Workload: w, UID: api.NewID("w"), Create: create, IfMatch: ifMatch}
	return s.writeWorkload(ctx, c, w.Ref(), state.Command{PutWorkload: put})
}

func checkPrivileges(c api.Caller, w *api.Workload) error {
	k := w.Spec.Container
	if k == nil || c.Role == api.RoleAdmin {
		return nil
	}
	for _, privilege := range []struct {
		field string
		set   bool
	}{
		{"spec.container.runAsRoot", k.RunAsRoot}, {"spec.container.capabilities", len(k.Capabilities) > 0}, {"spec.container.network", k.Network == "host"},
	} {
		if privilege.set {
			return api.Errorf(api.CodeForbidden, "%s needs a token of role admin", privilege.field)
		}
	}
	return nil
}

// DeleteWorkload begins to stop a workload.
func (s *Server) DeleteWorkload(ctx context.Context, c api.Caller, ns, name string, ifMatch uint64) (api.WriteResult, error) {
	ref := api.Ref{Namespace: ns, Name: name}
	return s.writeWorkload(ctx, c, ref, state.Command{DeleteWorkload: &state.ByRef{Ref: ref, IfMatch: ifMatch}})
}

// ScaleWorkload changes the number of replicas.
func (s *Server) ScaleWorkload(ctx context.Context, c api.Caller, ns, name string, replicas int, ifMatch uint64) (api.WriteResult, error) {
	if replicas < 0 || replicas > api.MaxReplicas {
		return api.WriteResult{}, api.Errorf(api.CodeInvalid, "replicas: %d is not between 0 and %d", replicas, api.MaxReplicas)
	}
	ref := api.Ref{Namespace: ns, Name: name}
	s.tel().WorkloadScaleOperations.Inc()
	return s.writeWorkload(ctx, c, ref, state.Command{ScaleWorkload: &state.ScaleWorkload{Ref: ref, Replicas: replicas, IfMatch: ifMatch}})
}

// RestartWorkload replaces all replicas, one at a time.
func (s *Server) RestartWorkload(ctx context.Context, c api.Caller, ns, name string, ifMatch uint64) (api.WriteResult, error) {
	ref := api.Ref{Namespace: ns, Name: name}
	return s.writeWorkload(ctx, c, ref, state.Command{RestartWorkload: &state.ByRef{Ref: ref, IfMatch: ifMatch}})
}

// RollbackWorkload makes an earlier spec current again.
func (s *Server) RollbackWorkload(ctx context.Context, c api.Caller, ns, name string, version, ifMatch uint64) (api.WriteResult, error) {
	ref := api.Ref{Namespace: ns, Name: name}
	if err := s.admitRollback(ctx, c, s.store.View(), ref, version); err != nil {
		return api.WriteResult{}, err
	}
	return s.writeWorkload(ctx, c, ref, state.Command{RollbackWork: &state.RollbackWork{Ref: ref, Version: version, IfMatch: ifMatch}})
}

func (s *Server) writeNode(ctx context.Context, c api.Caller, idOrName string, cmd func(id string) state.Command) (api.Node, error) {
	n, err := s.findNode(s.store.View(), idOrName)
	if err != nil {
		return api.Node{}, err
	}
	command := cmd(n.ID)
	command.By = &c
	_, _, err = s.propose(ctx, command)
	if err != nil {
		return api.Node{}, err
	}
	v := s.store.View()
	if row, ok := v.Node(n.ID); ok {
		return s.describeNode(v, row), nil
	}
	return *n, nil
}

// DrainNode empties a node and keeps new replicas off it.
func (s *Server) DrainNode(ctx context.Context, c api.Caller, idOrName string, r api.DrainRequest) (api.Node, error) {
	if r.Deadline < 0 {
		return api.Node{}, api.Errorf(api.CodeInvalid, "deadline: %s is less than 0", r.Deadline.D())
	}
	d := &api.Drain{Graceful: r.Graceful, Started: time.Now().UTC()}
	if r.Deadline > 0 {
		d.Deadline = d.Started.Add(r.Deadline.D())
	}
	return s.writeNode(ctx, c, idOrName, func(id string) state.Command {
		return state.Command{Drain: &state.DrainNode{ID: id, Drain: d}}
	})
}

// CordonNode keeps new replicas off a node, or lets them again (which ends a drain too).
func (s *Server) CordonNode(ctx context.Context, c api.Caller, idOrName string, cordon bool) (api.Node, error) {
	return s.writeNode(ctx, c, idOrName, func(id string) state.Command {
		return state.Command{Cordon: &state.Cordon{ID: id, Cordoned: cordon}}
	})
}

// RemoveNode takes a node out of the cluster for good.
func (s *Server) RemoveNode(ctx context.Context, c api.Caller, idOrName string) error {
	_, err := s.writeNode(ctx, c, idOrName, func(id string) state.Command {
		return state.Command{RemoveNode: &state.ByID{ID: id}}
	})
	return err
}

// RevokeNode takes a node out that is not trusted any more. Its connections are cut everywhere.
func (s *Server) RevokeNode(ctx context.Context, c api.Caller, idOrName, reason string) error {
	if len(reason) > api.MaxLabelValueLen {
		return api.Errorf(api.CodeTooLarge, "reason: more than %d bytes", api.MaxLabelValueLen)
	}
	_, err := s.writeNode(ctx, c, idOrName, func(id string) state.Command {
		return state.Command{RevokeNode: &state.RevokeNode{ID: id, Reason: cmp.Or(reason, "no reason given")}}
	})
	return err
}

// RemoveMember takes a coordinator out of the group for good.
func (s *Server) RemoveMember(ctx context.Context, _ api.Caller, idOrName string) error {
	for _, m := range s.members() {
		if m.ID == idOrName || m.Name == idOrName {
			return s.removeMember(ctx, m.ID)
		}
	}
	return api.Errorf(api.CodeNotFound, "no coordinator %s", idOrName).WithHint("see 'cloudless status'")
}

// Idempotent runs do once for a key: a repeated request gets the answer of the first, whichever coordinator that
// was asked of, and waits for it if that is under way here. Two that are under way at two coordinators are both done.
func (s *Server) Idempotent(ctx context.Context, c api.Caller, key, fingerprint string, do func() (int, []byte, error)) (status int, body []byte, replay bool, err error) {
	full := c.TokenID + "|" + key
	end, err := s.writing.take(ctx, full)
	if err != nil {
		return 0, nil, false, err
	}
	defer end()
	if err := s.fresh(ctx); err != nil { // another coordinator may have answered the first a moment ago
		return 0, nil, false, err
	}
	if a, ok := s.store.View().Answer(full); ok && a.Expires.After(time.Now()) {
		if a.Fingerprint != fingerprint {
			return 0, nil, false, api.Errorf(api.CodeConflict, "Idempotency-Key %q was used for another request", key)
		}
		return a.Status, a.Body, true, nil
	}
	if status, body, err = do(); err != nil {
		return status, body, false, err
	}
	row := &state.Answer{Key: full, Fingerprint: fingerprint, Status: status, Body: body, Expires: time.Now().UTC().Add(api.IdempotencyWindow)}
	if _, _, e := s.propose(ctx, state.Command{Remember: row}); e != nil {
		s.log.Warn().Err(e).Msg("answer not remembered for its idempotency key")
	}
	return status, body, false, nil
}
