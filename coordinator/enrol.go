package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
	"github.com/cloudless/cloudless/internal/pki"
)

// maxEnrolBytes bounds what a stranger may send: a token, a request for a certificate, labels and taints.
const maxEnrolBytes = 256 << 10

// joinAPI is all that a caller without a certificate can reach.
func (s *Server) joinAPI() http.Handler {
	limit := newEnrolLimit()
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+api.PathEnrol, func(w http.ResponseWriter, r *http.Request) {
		if err := limit.allow(r.RemoteAddr); err != nil {
			writeError(w, err)
			return
		}
		var req api.EnrolRequest
		r.Body = http.MaxBytesReader(w, r.Body, maxEnrolBytes)
		if !readJSON(w, r, &req) {
			return
		}
		var resp *api.EnrolResponse
		line := auditLine{Who: "join", What: "enrol " + string(req.Role), Source: r.RemoteAddr}
		err := s.audit.audited(line, func() string { return req.Name }, func() (err error) {
			resp, err = s.enrolPeer(r.Context(), req)
			return err
		})
		if err != nil {
			s.tellEvent(api.EventTokenRefused, api.SeverityWarning, "gossip/"+req.Name, "enrolment of "+req.Name+" from "+r.RemoteAddr+" refused: "+api.AsError(err).Message)
		}
		answer(w, resp, err)
	})
	return mux
}

// enrolPeer checks a join token and issues a certificate. The name in it is the server's choice; of
// the request's CSR only the key counts.
func (s *Server) enrolPeer(ctx context.Context, req api.EnrolRequest) (*api.EnrolResponse, error) {
	id, err := s.checkJoinToken(req)
	if err != nil {
		return nil, err
	}
	errs := append(api.ValidateLabels("labels", req.Labels), api.ValidateTaints("taints", req.Taints)...)
	if !api.ValidName(req.Name) {
		return nil, api.Errorf(api.CodeInvalid, "name: %q is not a name: use a-z, 0-9 and '-' inside, 1 to %d characters", req.Name, api.MaxNameLen)
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	t := s.trust.Load()
	resp := &api.EnrolResponse{ClusterID: s.id.ClusterID, CA: string(t.bundle), GossipKey: t.gossip[0]}
	var cmd state.Command
	if req.Role == api.RoleNode {
		resp.ID = api.NewID("n")
		node := api.Node{ID: resp.ID, Name: req.Name, Region: req.Region, Zone: req.Zone, Labels: req.Labels, Taints: req.Taints}
		cmd.EnrolNode = &state.EnrolNode{Node: node, TokenID: id}
	} else {
		resp.ID, resp.CAKey = api.NewID("s"), string(t.issuer.KeyPEM())
		cmd.UseToken = &state.UseToken{TokenID: id, Role: req.Role, Name: req.Name}
	}
	cert, err := t.issuer.Issue([]byte(req.CSR), pki.Identity{Cluster: s.id.ClusterID, Role: req.Role, ID: resp.ID}, nil, time.Now(), api.LeafLifetime)
	if err != nil {
		return nil, err
	}
	if _, _, err := s.propose(ctx, cmd); err != nil {
		s.tel().NodeEnrollments.Inc("refused")
		return nil, err
	}
	s.tel().NodeEnrollments.Inc("ok")
	resp.Cert, resp.Coordinators = string(cert), s.membersNow()
	return resp, nil
}

// checkJoinToken compares the secret; what else the token demands is checked where it is spent.
func (s *Server) checkJoinToken(req api.EnrolRequest) (id string, err error) {
	if !req.Role.Joins() {
		return "", api.Errorf(api.CodeInvalid, "role: %q is not node or server", req.Role)
	}
	tok, err := pki.ParseJoinToken(req.Token)
	if err != nil {
		return "", err
	}
	row, ok := s.store.View().Token(tok.ID)
	if !ok || !sameHash(row.Hash, hashSecret(tok.Secret)) {
		return "", api.Errorf(api.CodeUnauthorized, "the join token is unknown or was revoked").WithHint("make one with 'cloudless token create --role %s'", req.Role)
	}
	return tok.ID, nil
}

// renew issues a certificate with the caller's own name.
func (s *Server) renew(id pki.Identity, csr string) (*api.RenewResponse, error) {
	t := s.trust.Load()
	cert, err := t.issuer.Issue([]byte(csr), id, nil, time.Now(), api.LeafLifetime)
	if err != nil {
		return nil, err
	}
	return &api.RenewResponse{Cert: string(cert), CA: string(t.bundle)}, nil
}

// readJSON decodes a bounded body strictly; on failure it has answered.
func readJSON(w http.ResponseWriter, r *http.Request, v any) bool {
	err := readStrictly(http.MaxBytesReader(w, r.Body, api.MaxBodyBytes), v)
	if err != nil {
		writeError(w, err)
	}
	return err == nil
}

// readStrictly reads JSON, and refuses fields that it does not know.
func readStrictly(r io.Reader, v any) error {
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return unexpected(err)
	}
	return nil
}

func unexpected(err error) error {
	return api.Errorf(api.CodeInvalid, "the body is not what was expected: %v", err)
}

// writeJSON answers with v, or with what is JSON already. When that fails the peer is gone; nobody is left to tell.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if encoded, ok := v.(json.RawMessage); ok {
		_, _ = w.Write(encoded)
		return
	}
	_ = json.NewEncoder(w).Encode(v)
}

func writeError(w http.ResponseWriter, err error) {
	e := api.AsError(err)
	if errors.Is(err, errNotSent) {
		c := *e
		c.Code, e = api.CodeNotLeader, &c
		writeJSON(w, http.StatusServiceUnavailable, api.ErrorBody{Error: e})
		return
	}
	writeJSON(w, e.Code.HTTPStatus(), api.ErrorBody{Error: e})
}

func answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, v)
}
