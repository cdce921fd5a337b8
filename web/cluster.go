package web

import (
	"net/http"
	"slices"

	"github.com/cloudless/cloudless/api"
)

func (s *server) status(c *call) (answer, error) {
	if err := s.awaitChange(c, TableWorkloads, TableReplicas, TableNodes); err != nil {
		return failed(err)
	}
	st, err := s.backend.Status(c.context())
	if st.Coordinators == nil {
		st.Coordinators = []api.Member{}
	}
	return okOr(st, err)
}

func (s *server) listNodes(c *call) (answer, error) {
	q, err := s.listQueryOf(c, TableNodes)
	if err != nil {
		return failed(err)
	}
	return listOr(s.backend.Nodes(c.context(), q))
}

func (s *server) getNode(c *call) (answer, error) {
	if err := s.awaitChange(c, TableNodes); err != nil {
		return failed(err)
	}
	return okOr(s.backend.Node(c.context(), c.param("id")))
}

func (s *server) removeNode(c *call) (answer, error) {
	return noContentOr(s.backend.RemoveNode(c.context(), c.caller, c.param("id")))
}

func (s *server) revokeNode(c *call) (answer, error) {
	var req api.RevokeRequest
	if err := c.decodeOptional(&req); err != nil {
		return failed(err)
	}
	c.object += ": " + req.Reason
	return noContentOr(s.backend.RevokeNode(c.context(), c.caller, c.param("id"), req.Reason))
}

func (s *server) drainNode(c *call) (answer, error) {
	var req api.DrainRequest
	if err := c.decodeOptional(&req); err != nil {
		return failed(err)
	}
	return okOr(s.backend.DrainNode(c.context(), c.caller, c.param("id"), req))
}

func (s *server) cordonNode(cordon bool) func(*call) (answer, error) {
	return func(c *call) (answer, error) {
		return okOr(s.backend.CordonNode(c.context(), c.caller, c.param("id"), cordon))
	}
}

func (s *server) listServices(c *call) (answer, error) {
	q, err := s.listQueryOf(c, TableServices)
	if err != nil {
		return failed(err)
	}
	l, err := s.backend.Services(c.context(), q)
	items := slices.Clone(l.Items)
	for i := range items {
		if items[i].Endpoints == nil {
			items[i].Endpoints = []api.Endpoint{}
		}
	}
	l.Items = items
	return listOr(l, err)
}

func (s *server) listEndpoints(c *call) (answer, error) {
	q, err := s.listQueryOf(c, TableServices)
	if err != nil {
		return failed(err)
	}
	return listOr(s.backend.Endpoints(c.context(), q))
}

func (s *server) listUsage(c *call) (answer, error) {
	q, err := s.listQueryOf(c, TableReplicas)
	if err != nil {
		return failed(err)
	}
	return listOr(s.backend.Usage(c.context(), q))
}

func (s *server) whoami(c *call) (answer, error) { return ok(c.caller) }

func (s *server) listTokens(c *call) (answer, error) {
	q, err := s.listQueryOf(c, TableTokens)
	if err != nil {
		return failed(err)
	}
	l, err := s.backend.Tokens(c.context())
	items := slices.Clone(l.Items)
	for i := range items {
		items[i] = items[i].Redacted()
	}
	l.Items = items
	return listOr(page(l, q, func(t api.Token) string { return t.ID }), err)
}

// createToken shows the secret in this one answer. What an Idempotency-Key remembers is the token
// without it: the replicated state holds no secrets in plain text.
func (s *server) createToken(c *call) (answer, error) {
	var req api.TokenRequest
	if err := c.decode(&req); err != nil {
		return failed(err)
	}
	t, err := s.backend.CreateToken(c.context(), c.caller, req)
	c.object = "tokens/" + t.ID + " of role " + string(t.Role)
	t.Hash = ""
	return answer{http.StatusCreated, t, t.Redacted()}, err
}

func (s *server) revokeToken(c *call) (answer, error) {
	return noContentOr(s.backend.RevokeToken(c.context(), c.caller, c.param("id")))
}

func (s *server) listNamespaces(c *call) (answer, error) {
	q, err := s.listQueryOf(c, TableWorkloads, TablePolicies)
	if err != nil {
		return failed(err)
	}
	return listOr(s.backend.Namespaces(c.context(), q))
}

func (s *server) getNamespace(c *call) (answer, error) {
	if err := s.awaitChange(c, TableWorkloads, TablePolicies); err != nil {
		return failed(err)
	}
	return okOr(s.backend.Namespace(c.context(), c.param("ns")))
}

func (s *server) putPolicy(c *call) (answer, error) {
	var p api.NamespacePolicy
	if err := c.decode(&p); err != nil {
		return failed(err)
	}
	if ns := c.param("ns"); !agrees(&p.Namespace, ns) {
		return failed(api.Errorf(api.CodeInvalid, "the body is of namespace %s, the path of %s", p.Namespace, ns))
	}
	return okOr(s.backend.PutPolicy(c.context(), c.caller, p))
}

func (s *server) deletePolicy(c *call) (answer, error) {
	return noContentOr(s.backend.DeletePolicy(c.context(), c.caller, c.param("ns")))
}

func (s *server) listRotations(c *call) (answer, error) {
	q, err := s.listQueryOf(c, TableEvents) // which tell of every step of a rotation
	if err != nil {
		return failed(err)
	}
	l, err := s.backend.Rotations(c.context())
	return listOr(page(l, q, func(r api.Rotation) string { return string(r.Kind) }), err)
}

// rotate answers as soon as the rotation has begun; it goes on by itself.
func (s *server) rotate(c *call) (answer, error) {
	var req api.RotationRequest
	if err := c.decode(&req); err != nil {
		return failed(err)
	}
	c.object = "rotations/" + string(req.Kind)
	r, err := s.backend.Rotate(c.context(), c.caller, req)
	return answer{status: http.StatusCreated, body: r}, err
}

// caPEM gives the CA's certificates, which everybody may know: two while the CA is rotated.
func (s *server) caPEM(c *call) error {
	return c.echo.Blob(http.StatusOK, "text/plain; charset=utf-8", s.backend.CAPEM())
}

func (s *server) listMembers(c *call) (answer, error) {
	q, err := s.listQueryOf(c, TableEvents) // which tell of every change of the members
	if err != nil {
		return failed(err)
	}
	index := s.backend.Index()
	ms, err := s.backend.Members(c.context())
	return listOr(page(api.List[api.Member]{Items: ms, Index: index}, q, func(m api.Member) string { return m.ID }), err)
}

func (s *server) getMember(c *call) (answer, error) {
	ms, err := s.backend.Members(c.context())
	if err != nil {
		return failed(err)
	}
	id := c.param("id")
	i := slices.IndexFunc(ms, func(m api.Member) bool { return m.ID == id || m.Name == id })
	if i < 0 {
		return failed(api.Errorf(api.CodeNotFound, "there is no coordinator %q", id).WithHint("'cloudless status' lists them"))
	}
	return ok(ms[i])
}

func (s *server) removeMember(c *call) (answer, error) {
	return noContentOr(s.backend.RemoveMember(c.context(), c.caller, c.param("id")))
}
