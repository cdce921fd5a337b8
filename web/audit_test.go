package web

import (
	"net/http"
	"strings"
	"testing"

	"github.com/cloudless/cloudless/api"
)

// later tells whether a route belongs to a part that is not built: it changes nothing.
func later(s *server, r route) bool {
	for _, l := range s.laterRoutes() {
		if label(l) == label(r) {
			return true
		}
	}
	return false
}

// Security 12: every route that changes something leaves one line, before the reply, whether it
// worked, was wrong or was forbidden; a read leaves none.
func TestEveryMutatingRouteLeavesOneAuditLine(t *testing.T) {
	_, table := newTest(t)
	for _, r := range table.routes() {
		if strings.HasSuffix(r.path, "/exec") {
			continue // a WebSocket: see TestExec
		}
		for _, who := range []api.Role{api.RoleAdmin, api.RoleViewer} {
			t.Run(label(r)+" as "+string(who), func(t *testing.T) {
				m, s := newTest(t)
				target, body := sample(r)
				ask(s, who, r.method, target, body)
				want := 0
				quiet := strings.HasSuffix(r.path, ":plan") || strings.HasPrefix(r.path, "/v1/uploads") && !strings.HasSuffix(r.path, "/commit")
				if changesState(r.method) && !quiet && r.role != rolePublic && !later(s, r) {
					want = 1
				}
				if len(m.audits) != want {
					t.Fatalf("%d lines, want %d: %q", len(m.audits), want, m.audits)
				}
				if want == 1 && (!strings.HasPrefix(m.audits[0], label(r)+" | ") || strings.Contains(m.audits[0], " |  | ")) {
					t.Errorf("the line says %q", m.audits[0])
				}
				if want == 1 && who == api.RoleViewer && !strings.HasSuffix(m.audits[0], "| "+string(api.CodeForbidden)) {
					t.Errorf("a refusal is written as %q", m.audits[0])
				}
			})
		}
	}
}

func TestAuditLinesNameTheObject(t *testing.T) {
	m, s := newTest(t)
	ask(s, api.RoleOperator, http.MethodPost, "/v1/workloads", manifest("fresh"))
	ask(s, api.RoleAdmin, http.MethodPost, "/v1/tokens", `{"role":"viewer"}`)
	ask(s, api.RoleAdmin, http.MethodPost, "/v1/nodes/one/revoke", `{"reason":"stolen"}`)
	ask(s, api.RoleOperator, http.MethodPost, hello+"/scale", `{"replicas":-1,"x":1}`)
	want := []string{
		"POST /v1/workloads | workloads/default/fresh | ",
		"POST /v1/tokens | tokens/t-new of role viewer | ",
		"POST /v1/nodes/:id/revoke | nodes/one/revoke: stolen | ",
		"POST /v1/workloads/:ns/:name/scale | workloads/default/hello/scale | invalid",
	}
	if got := strings.Join(m.audits, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

// Security 12: what cannot be audited is not done.
func TestWithoutAnAuditLogNothingIsChanged(t *testing.T) {
	_, table := newTest(t)
	for _, r := range table.routes() {
		if !r.audit() || later(table, r) || strings.HasSuffix(r.path, "/exec") {
			continue
		}
		m, s := newTest(t)
		m.auditFull = api.Errorf(api.CodeUnavailable, "the audit log cannot be written")
		target, body := sample(r)
		wantCode(t, ask(s, api.RoleAdmin, r.method, target, body), api.CodeUnavailable)
		if len(m.writers()) > 0 {
			t.Errorf("%s changed something all the same", label(r))
		}
	}
	m, s := newTest(t)
	m.auditFull = api.Errorf(api.CodeUnavailable, "the audit log cannot be written")
	wantStatus(t, ask(s, api.RoleViewer, http.MethodGet, "/v1/nodes", ""), http.StatusOK)
}
