package coordinator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
	"github.com/cloudless/cloudless/internal/minisign"
)

// Namespaces lists the namespaces that have workloads or a policy.
func (s *Server) Namespaces(_ context.Context, q api.ListQuery) (api.List[api.Namespace], error) {
	v := s.store.View()
	works, _ := v.Mark(state.MarkWorkloads)
	policies, _ := v.Mark(state.MarkPolicies)
	return page(v.Namespaces(), func(n api.Namespace) string { return n.Name }, q, max(works, policies)), nil
}

// Namespace finds one of them.
func (s *Server) Namespace(_ context.Context, name string) (api.Namespace, error) {
	for _, n := range s.store.View().Namespaces() {
		if n.Name == name {
			return n, nil
		}
	}
	return api.Namespace{}, api.Errorf(api.CodeNotFound, "namespace %s has no workload and no policy", name)
}

// PutPolicy sets what a namespace demands of what starts there from now on.
func (s *Server) PutPolicy(ctx context.Context, c api.Caller, p api.NamespacePolicy) (api.NamespacePolicy, error) {
	if errs := p.Validate(); len(errs) > 0 {
		return p, api.Errorf(api.CodeInvalid, "%w", errs).WithHint("a key is the second line of minisign.pub")
	}
	if _, _, err := s.propose(ctx, state.Command{By: &c, PutPolicy: &p}); err != nil {
		return p, err
	}
	if row, ok := s.store.View().Policy(p.Namespace); ok {
		return *row, nil
	}
	return p, nil
}

// DeletePolicy lets a namespace demand nothing any more.
func (s *Server) DeletePolicy(ctx context.Context, c api.Caller, ns string) error {
	_, _, err := s.propose(ctx, state.Command{By: &c, DeletePolicy: &state.ByID{ID: ns}})
	return err
}

var errElsewhere = errors.New("the module is not in the store")

// admitWorkload refuses early what nodes would refuse at each start. A module that is not stored, as it was
// not uploaded yet, is left to them.
func (s *Server) admitWorkload(ctx context.Context, v state.View, w *api.Workload) error {
	p, ok := v.Policy(w.Metadata.Namespace)
	if !ok {
		return nil
	}
	err := minisign.Admit(p, &w.Spec, func() (io.ReadCloser, error) {
		f, err := s.openArtifact(ctx, w.Spec.Wasm.Module)
		if api.CodeOf(err) == api.CodeNotFound {
			return nil, errElsewhere
		}
		return f, err
	})
	if errors.Is(err, errElsewhere) {
		return nil
	}
	return err
}

// admitRollback refuses an earlier version, 0 for the one before, that the caller could not apply now. What
// is not there is for the log to refuse.
func (s *Server) admitRollback(ctx context.Context, c api.Caller, v state.View, ref api.Ref, version uint64) error {
	w, ok := v.Workload(ref)
	if !ok {
		return nil
	}
	old, ok := v.Version(ref, w.Metadata.UID, cmp.Or(version, w.Metadata.Version-1))
	if !ok {
		return nil
	}
	back := w.Workload
	back.Spec = old.Spec
	if err := checkPrivileges(c, &back); err != nil {
		return err
	}
	return s.admitWorkload(ctx, v, &back)
}

// policyNotes tells who plans what a policy means for what runs already.
func policyNotes(v state.View, ns string) []string {
	p, ok := v.Policy(ns)
	if !ok {
		return nil
	}
	return []string{fmt.Sprintf("namespace %s runs only modules that one of %d keys has signed; this is checked on the node at each start, so replicas that were running when the policy was set go on until they start again", ns, len(p.RequireSignature))}
}
