package web

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/cloudless/cloudless/api"
	manifests "github.com/cloudless/cloudless/api/manifest"
)

// full is a workload whose list of replicas is never null.
func full(w api.Workload) api.Workload {
	if w.Status != nil && w.Status.Replicas == nil {
		st := *w.Status
		st.Replicas = []api.ReplicaStatus{}
		w.Status = &st
	}
	return w
}

func (s *server) listWorkloads(c *call) (answer, error) {
	q, err := s.listQueryOf(c, TableWorkloads, TableReplicas)
	if err != nil {
		return failed(err)
	}
	l, err := s.backend.Workloads(c.context(), q)
	items := make([]api.Workload, len(l.Items))
	for i, w := range l.Items {
		items[i] = full(w)
	}
	l.Items = items
	return listOr(l, err)
}

func (s *server) getWorkload(c *call) (answer, error) {
	if err := s.awaitChange(c, TableWorkloads, TableReplicas); err != nil {
		return failed(err)
	}
	ns, name := c.workload()
	w, err := s.backend.Workload(c.context(), ns, name)
	return okOr(full(w), err)
}

// createWorkload is POST /v1/workloads: it refuses one that exists, or with ?mode=apply updates it.
func (s *server) createWorkload(c *call) (answer, error) {
	mode := PutCreate
	switch m := c.query("mode"); m {
	case "", "create":
	case "apply":
		mode = PutApply
	default:
		return failed(badQuery("mode", m, "create or apply"))
	}
	w, err := decodeWorkload(c)
	if err != nil {
		return failed(err)
	}
	return s.putWorkload(c, w, mode)
}

func (s *server) applyWorkload(c *call) (answer, error) {
	w, err := decodeWorkload(c)
	if err != nil {
		return failed(err)
	}
	ns, name := c.workload()
	if !agrees(&w.Metadata.Namespace, ns) || !agrees(&w.Metadata.Name, name) {
		return failed(api.Errorf(api.CodeInvalid, "the body is %s, the path %s/%s", w.Ref(), ns, name))
	}
	return s.putWorkload(c, w, PutApply)
}

// agrees tells whether a field of the body is what the path says, filling it in when it is absent.
func agrees(field *string, path string) bool {
	if *field == "" {
		*field = path
	}
	return *field == path
}

// decodeWorkload reads a manifest, as JSON or YAML. What is wrong with it is told all at once, with
// line and column, as the command line tells it of a file.
func decodeWorkload(c *call) (api.Workload, error) {
	var w api.Workload
	raw, err := c.body()
	switch {
	case err != nil:
		return w, err
	case len(raw) > api.MaxManifestBytes:
		return w, api.Errorf(api.CodeTooLarge, "the manifest is %d bytes, at most %d are allowed", len(raw), api.MaxManifestBytes)
	}
	if err = c.decode(&w); err != nil && (json.Valid(raw) || isYAML(raw)) {
		w = api.Workload{}
		err = manifests.Unmarshal("body", raw, &w)
	}
	w.Status = nil // as it was when the caller read it; not an input
	return w, err
}

// isYAML tells a body that cannot be meant as JSON.
func isYAML(raw []byte) bool {
	text := bytes.TrimSpace(raw)
	return len(text) > 0 && text[0] != '{' && text[0] != '['
}

func (s *server) putWorkload(c *call, w api.Workload, mode PutMode) (answer, error) {
	c.object = "workloads/" + w.Ref().String()
	match, err := ifMatch(c.request())
	if err != nil {
		return failed(err)
	}
	r, err := s.backend.PutWorkload(c.context(), c.caller, w, mode, match)
	a, err := result(r, err)
	if r.Outcome == "created" {
		a.status = http.StatusCreated
	}
	return a, err
}

// ifMatch reads If-Match, the modifyIndex that the workload must still have; quotes are allowed.
func ifMatch(r *http.Request) (uint64, error) {
	text := r.Header.Get("If-Match")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(strings.Trim(text, `"`), 10, 64)
	if err != nil || n == 0 {
		return 0, api.Errorf(api.CodeInvalid, "If-Match: %q is not a modifyIndex", text)
	}
	return n, nil
}

func result(r api.WriteResult, err error) (answer, error) {
	r.Workload = full(r.Workload)
	return okOr(r, err)
}

func (s *server) planWorkload(c *call) (answer, error) {
	w, err := decodeWorkload(c)
	if err != nil {
		return failed(err)
	}
	p, err := s.backend.PlanWorkload(c.context(), w)
	p.Explanation = explained(p.Explanation)
	return okOr(p, err)
}

func (s *server) deleteWorkload(c *call) (answer, error) {
	match, err := ifMatch(c.request())
	if err != nil {
		return failed(err)
	}
	ns, name := c.workload()
	return result(s.backend.DeleteWorkload(c.context(), c.caller, ns, name, match))
}

func (s *server) scaleWorkload(c *call) (answer, error) {
	var req struct {
		Replicas *int `json:"replicas"` // told apart from 0, which is a wish
	}
	if err := c.decode(&req); err != nil {
		return failed(err)
	}
	if req.Replicas == nil || *req.Replicas < 0 || *req.Replicas > api.MaxReplicas {
		return failed(api.Errorf(api.CodeInvalid, "replicas must be a number between 0 and %d", api.MaxReplicas))
	}
	match, err := ifMatch(c.request())
	if err != nil {
		return failed(err)
	}
	ns, name := c.workload()
	return result(s.backend.ScaleWorkload(c.context(), c.caller, ns, name, *req.Replicas, match))
}

func (s *server) restartWorkload(c *call) (answer, error) {
	match, err := ifMatch(c.request())
	if err != nil {
		return failed(err)
	}
	ns, name := c.workload()
	return result(s.backend.RestartWorkload(c.context(), c.caller, ns, name, match))
}

func (s *server) rollbackWorkload(c *call) (answer, error) {
	var req api.RollbackRequest
	if err := c.decodeOptional(&req); err != nil {
		return failed(err)
	}
	match, err := ifMatch(c.request())
	if err != nil {
		return failed(err)
	}
	ns, name := c.workload()
	return result(s.backend.RollbackWorkload(c.context(), c.caller, ns, name, req.Version, match))
}

func (s *server) history(c *call) (answer, error) {
	if err := s.awaitChange(c, TableWorkloads); err != nil {
		return failed(err)
	}
	ns, name := c.workload()
	return listOr(s.backend.History(c.context(), ns, name))
}

func (s *server) explain(c *call) (answer, error) {
	if err := s.awaitChange(c, TableWorkloads, TableReplicas, TableNodes); err != nil {
		return failed(err)
	}
	ns, name := c.workload()
	e, err := s.backend.Explain(c.context(), ns, name)
	return okOr(explained(e), err)
}

// explained is an explanation whose lists are never null.
func explained(e api.Explanation) api.Explanation {
	if e.Nodes == nil {
		e.Nodes = []api.NodeExplanation{}
	}
	if e.Replicas == nil {
		e.Replicas = []api.ReplicaDecision{}
	}
	return e
}

// settled waits, beside changes of the state, for the nodes that have not acknowledged the endpoint
// table yet.
func (s *server) settled(c *call) (answer, error) {
	ns, name := c.workload()
	err := s.awaitAny(c, func(index uint64) []mark {
		marks := marksOf(index, []string{TableWorkloads, TableReplicas})
		if st, err := s.backend.Settled(c.context(), ns, name); err == nil && !st.Routed {
			marks = append(marks, mark{TableAcks, st.EndpointIndex})
		}
		return marks
	})
	if err != nil {
		return failed(err)
	}
	st, err := s.backend.Settled(c.context(), ns, name)
	if st.Workload != nil {
		w := full(*st.Workload)
		st.Workload = &w
	}
	return okOr(st, err)
}

func (s *server) listReplicas(c *call) (answer, error) {
	if err := s.awaitChange(c, TableWorkloads, TableReplicas); err != nil {
		return failed(err)
	}
	ns, name := c.workload()
	index := s.backend.Index()
	w, err := s.backend.Workload(c.context(), ns, name)
	l := api.List[api.ReplicaStatus]{Index: index}
	if w.Status != nil {
		l.Items = w.Status.Replicas
	}
	return listOr(l, err)
}
