package web

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/cloudless/cloudless/api"
)

func TestBodyLimit(t *testing.T) {
	_, s := newTest(t)
	for size, want := range map[int]int{api.MaxBodyBytes - 1: 200, api.MaxBodyBytes: 200, api.MaxBodyBytes + 1: 413} {
		body := `{"replicas":1}`
		body += strings.Repeat(" ", size-len(body))
		if rec := ask(s, api.RoleOperator, http.MethodPost, hello+"/scale", body); rec.Code != want {
			t.Errorf("%d bytes: %d %s", size, rec.Code, rec.Body)
		}
	}
}

// What is left of a body that is too large is never taken for a body.
func TestTheEndOfALargeBodyIsNotTaken(t *testing.T) {
	m, s := newTest(t)
	body := strings.Repeat(" ", api.MaxBodyBytes+1) + manifest("tail")
	wantCode(t, ask(s, api.RoleOperator, http.MethodPost, "/v1/workloads", body), api.CodeTooLarge)
	if _, there := m.workloads["default/tail"]; there {
		t.Error("a workload was made of the end")
	}
}

func TestHeadLimit(t *testing.T) {
	_, s := newTest(t)
	req := func(pad int) *http.Request {
		r := httptest.NewRequest(http.MethodGet, "/health", nil)
		r.Header.Set("X-Pad", strings.Repeat("a", pad))
		return r
	}
	exact := api.MaxHeaderBytes - headBytes(req(0))
	for pad, want := range map[int]int{exact - 1: 200, exact: 200, exact + 1: 413} {
		rec := httptest.NewRecorder()
		s.echo.ServeHTTP(rec, req(pad))
		if rec.Code != want {
			t.Errorf("%d: status %d", pad, rec.Code)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestArtifactLimit(t *testing.T) {
	_, s := newTest(t)
	put := func(size int64, announced bool) int {
		r := httptest.NewRequest(http.MethodPut, "/v1/artifacts/"+digest+"?kind=wasm", io.LimitReader(zeros{}, size))
		r.Header.Set("Authorization", "Bearer operator")
		r.ContentLength = -1
		if announced {
			r.ContentLength = size
		}
		rec := httptest.NewRecorder()
		s.echo.ServeHTTP(rec, r)
		return rec.Code
	}
	for size, want := range map[int64]int{api.MaxModuleBytes - 1: 201, api.MaxModuleBytes: 201, api.MaxModuleBytes + 1: 413} {
		if got := put(size, true); got != want {
			t.Errorf("%d bytes announced: %d", size, got)
		}
		if got := put(size, false); got != want {
			t.Errorf("%d bytes not announced: %d", size, got)
		}
	}
	if api.ArtifactLimit(api.ArtifactOCI) != api.MaxArtifactBytes {
		t.Error("an image has another limit")
	}
	wantCode(t, ask(s, api.RoleOperator, http.MethodPut, "/v1/artifacts/"+digest+"?kind=elf", "x"), api.CodeInvalid)
}

func TestRateByTokenAndAddress(t *testing.T) {
	b := defaultBudgets()
	b.rates[classRead] = budget{0.001, 3}
	s := newServer(testConfig(newMemory()), b)
	from := func(address string, role api.Role) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "/v1/nodes", nil)
		r.RemoteAddr = address + ":999"
		r.Header.Set("Authorization", "Bearer "+string(role))
		r.Header.Set("X-Forwarded-For", "9.9.9."+strconv.Itoa(len(address))) // is not believed
		rec := httptest.NewRecorder()
		s.echo.ServeHTTP(rec, r)
		return rec
	}
	for range 3 {
		wantStatus(t, from("10.0.0.1", api.RoleViewer), 200)
	}
	over := from("10.0.0.1", api.RoleViewer)
	wantCode(t, over, api.CodeRateLimited)
	if over.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	wantStatus(t, from("10.0.0.2", api.RoleViewer), 200)
	wantStatus(t, from("10.0.0.1", api.RoleAdmin), 200)
}

func TestStrangersAreLimitedBeforeTheirTokenIsLookedAt(t *testing.T) {
	b := defaultBudgets()
	b.rates[classAddress] = budget{0.001, 2}
	s := newServer(testConfig(newMemory()), b)
	wantCode(t, ask(s, "wrong", http.MethodGet, "/v1/nodes", ""), api.CodeUnauthorized)
	wantStatus(t, ask(s, "", http.MethodGet, "/health", ""), 200)
	wantCode(t, ask(s, "wrong", http.MethodGet, "/v1/nodes", ""), api.CodeRateLimited)
}

func TestRatesRememberOnlySoMany(t *testing.T) {
	b := defaultBudgets()
	b.callers = 10
	r := newRates(b)
	for i := range 100 {
		if err := r.allow(classRead, strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
		if len(r.byKey) > 10 || r.recent.Len() != len(r.byKey) {
			t.Fatalf("%d remembered, %d listed", len(r.byKey), r.recent.Len())
		}
	}
	if _, kept := r.byKey[rateKey{classRead, "99"}]; !kept {
		t.Error("the last one was forgotten")
	}
}

func TestSessionsAreBounded(t *testing.T) {
	b := defaultBudgets()
	b.sessions, b.callerSessions = 3, 2
	s := newSessions(b)
	var ends []func()
	for _, c := range []struct {
		who string
		ok  bool
	}{{"a", true}, {"a", true}, {"a", false}, {"b", true}, {"c", false}} {
		end, err := s.open(c.who)
		if (err == nil) != c.ok {
			t.Fatalf("%s: %v", c.who, err)
		}
		if end != nil {
			ends = append(ends, end, end) // twice does no harm
		}
	}
	for _, end := range ends {
		end()
	}
	if s.total != 0 || len(s.byWho) != 0 {
		t.Errorf("%d left, %v", s.total, s.byWho)
	}
}
