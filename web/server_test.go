package web

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/cloudless/cloudless/api"
)

const hello = "/v1/workloads/default/hello"

func TestBodiesAreReadStrictly(t *testing.T) {
	good := manifest("fresh")
	for name, c := range map[string]struct{ body, names string }{
		"unknown field":        {strings.Replace(good, `"spec":{`, `"spec":{"replcias":3,`, 1), "did you mean replicas"},
		"unknown at the top":   {`{"colour":"red",` + good[1:], "colour"},
		"wrong type":           {strings.Replace(good, `"name":"fresh"`, `"name":7`, 1), "metadata.name"},
		"not JSON":             {`{"kind":`, "not JSON"},
		"broken JSON":          {`{"kind";1}`, "byte"},
		"two values":           {good + good, "goes on"},
		"nothing":              {"", "no body"},
		"a list, not a object": {"[]", "is a list"},
		"a bad quantity":       {strings.Replace(good, `"memory":"64Mi"`, `"memory":"much"`, 1), "much"},
	} {
		t.Run(name, func(t *testing.T) {
			m, s := newTest(t)
			e := wantCode(t, ask(s, api.RoleOperator, http.MethodPost, "/v1/workloads", c.body), api.CodeInvalid)
			if !strings.Contains(e.Message, c.names) {
				t.Errorf("%q does not name %q", e.Message, c.names)
			}
			if len(m.writers()) > 0 {
				t.Error("it was written")
			}
		})
	}
}

func TestAManifestMayBeYAML(t *testing.T) {
	m, s := newTest(t)
	wantStatus(t, ask(s, api.RoleOperator, http.MethodPost, "/v1/workloads", "kind: Workload\nmetadata: {name: fresh}\nspec:\n  container: {image: a.example/b:1}\n"), 201)
	if len(m.writers()) != 1 {
		t.Error("it was not written")
	}
	e := wantCode(t, ask(s, api.RoleOperator, http.MethodPost, "/v1/workloads", "metadata: {nam: a}\nspec: {replcias: 2}\n"), api.CodeInvalid)
	for _, part := range []string{"body:1:12", "did you mean name", "body:2:8", "did you mean replicas"} {
		if !strings.Contains(e.Message, part) {
			t.Errorf("%q does not say %q", e.Message, part)
		}
	}
}

func TestScaleKnowsZeroFromAbsent(t *testing.T) {
	_, s := newTest(t)
	for body, want := range map[string]int{`{"replicas":0}`: 200, `{}`: 400, `{"replicas":-1}`: 400, `{"replicas":10000}`: 200, `{"replicas":10001}`: 400} {
		if rec := ask(s, api.RoleOperator, http.MethodPost, hello+"/scale", body); rec.Code != want {
			t.Errorf("%s: %d", body, rec.Code)
		}
	}
}

func TestQueriesAreReadStrictly(t *testing.T) {
	_, s := newTest(t)
	for target, want := range map[string]int{
		"/v1/workloads?labels=a=b":                                400,
		"/v1/workloads?label=a":                                   400,
		"/v1/workloads?label=a=b&label=c=d=e":                     200,
		"/v1/workloads?limit=0":                                   400,
		"/v1/workloads?limit=1":                                   200,
		"/v1/workloads?limit=10000":                               200,
		"/v1/workloads?limit=10001":                               400,
		"/v1/workloads?namespace=No":                              400,
		"/v1/workloads?index=x":                                   400,
		"/v1/workloads?wait=soon":                                 400,
		"/v1/workloads?wait=-1s":                                  400,
		"/v1/events?severity=loud":                                400,
		"/v1/events?since=10m&until=2030-01-01T00:00Z":            400,
		"/v1/events?since=10m":                                    200,
		"/v1/events?follow=perhaps":                               400,
		hello + "/logs?tail=-2":                                   400,
		hello + "/logs?tail=-1":                                   200,
		hello + "/exec":                                           400,
		"/v1/artifacts/sha256:abc":                                400,
		"/v1/artifacts/" + strings.ReplaceAll(digest, ":", "%3A"): 200,
	} {
		if rec := ask(s, api.RoleOperator, http.MethodGet, target, ""); rec.Code != want {
			t.Errorf("%s: %d %s", target, rec.Code, rec.Body)
		}
	}
}

func TestListQueryReachesTheBackend(t *testing.T) {
	m, s := newTest(t)
	wantStatus(t, ask(s, api.RoleViewer, http.MethodGet, "/v1/workloads?namespace=prod&label=app%3Dweb&limit=7&cursor=next&index=1", ""), 200)
	want := api.ListQuery{Namespace: "prod", Label: map[string]string{"app": "web"}, Limit: 7, Cursor: "next"}
	if d := cmp.Diff(want, m.query); d != "" {
		t.Error(d)
	}
}

// zeros is an endless body that is not held in memory.
func TestHeadOfAnArtifact(t *testing.T) {
	m, s := newTest(t)
	wantStatus(t, ask(s, api.RoleViewer, http.MethodHead, "/v1/artifacts/"+digest, ""), 200)
	delete(m.artifacts, digest)
	wantStatus(t, ask(s, api.RoleViewer, http.MethodHead, "/v1/artifacts/"+digest, ""), 404)
}

func TestApplyNamesAgree(t *testing.T) {
	m, s := newTest(t)
	wantCode(t, ask(s, api.RoleOperator, http.MethodPut, hello, manifest("other")), api.CodeInvalid)
	nameless := strings.Replace(manifest("hello"), `"name":"hello","namespace":"default"`, `"labels":{}`, 1)
	wantStatus(t, ask(s, api.RoleOperator, http.MethodPut, hello, nameless), 200)
	wantStatus(t, ask(s, api.RoleOperator, http.MethodPut, "/v1/workloads/default/new", strings.Replace(manifest("new"), "}\n", "}", 1)), 201)
	if m.workloads["default/new"].Status != nil {
		t.Error("the caller's status was taken in")
	}
}

func TestCreateApplyAndIfMatch(t *testing.T) {
	_, s := newTest(t)
	post := func(query, match string) *httptest.ResponseRecorder {
		return ask(s, api.RoleOperator, http.MethodPost, "/v1/workloads"+query, manifest("hello"), "If-Match", match)
	}
	wantCode(t, post("", ""), api.CodeConflict)
	wantCode(t, post("?mode=apply", "3"), api.CodeConflict)
	wantCode(t, post("?mode=apply", "three"), api.CodeInvalid)
	wantCode(t, post("?mode=maybe", ""), api.CodeInvalid)
	wantStatus(t, post("?mode=apply", `"4"`), 200)
	for _, write := range []struct{ method, path, body string }{
		{http.MethodDelete, hello, ""}, {http.MethodPost, hello + "/scale", `{"replicas":2}`}, {http.MethodPost, hello + "/restart", ""}, {http.MethodPost, hello + "/rollback", ""},
	} {
		wantCode(t, ask(s, api.RoleOperator, write.method, write.path, write.body, "If-Match", "3"), api.CodeConflict)
		wantCode(t, ask(s, api.RoleOperator, write.method, write.path, write.body, "If-Match", "three"), api.CodeInvalid)
	}
}

func TestIdempotencyKey(t *testing.T) {
	m, s := newTest(t)
	scale := func(body, key string) *httptest.ResponseRecorder {
		return ask(s, api.RoleOperator, http.MethodPost, hello+"/scale", body, "Idempotency-Key", key)
	}
	first, again := scale(`{"replicas":2}`, "k1"), scale(`{"replicas":2}`, "k1")
	wantStatus(t, first, 200)
	wantStatus(t, again, 200)
	if first.Body.String() != again.Body.String() || again.Header().Get("Idempotency-Replayed") != "true" {
		t.Errorf("the answers differ: %s %s", first.Body, again.Body)
	}
	if n := len(m.writers()); n != 1 {
		t.Errorf("done %d times", n)
	}
	wantCode(t, scale(`{"replicas":3}`, "k1"), api.CodeConflict)
	wantCode(t, scale(`{"replicas":3}`, strings.Repeat("k", api.MaxIdempotencyKeyLen+1)), api.CodeInvalid)
	wantStatus(t, scale(`{"replicas":3}`, strings.Repeat("k", api.MaxIdempotencyKeyLen)), 200)
	wantCode(t, scale(`{"replicas":-3}`, "k2"), api.CodeInvalid)
	if _, kept := m.answers["t-operator/k2"]; kept {
		t.Error("a refusal was remembered")
	}
}

// Security 11: the secret is in the first answer, and nowhere in what the cluster remembers.
func TestTokenSecretIsNotRemembered(t *testing.T) {
	m, s := newTest(t)
	create := func() string {
		rec := ask(s, api.RoleAdmin, http.MethodPost, "/v1/tokens", `{"role":"viewer"}`, "Idempotency-Key", "k")
		wantStatus(t, rec, 201)
		return rec.Body.String()
	}
	if first := create(); !strings.Contains(first, "cl_t_secret") || strings.Contains(first, "hash") {
		t.Error(first)
	}
	if again := create(); strings.Contains(again, "cl_t_secret") || !strings.Contains(again, "t-new") {
		t.Error(again)
	}
	for _, a := range m.answers {
		if bytes.Contains(a.body, []byte("secret")) {
			t.Errorf("remembered: %s", a.body)
		}
	}
	if l := ask(s, api.RoleAdmin, http.MethodGet, "/v1/tokens", "").Body.String(); strings.Contains(l, "secret") || strings.Contains(l, "hash") {
		t.Error(l)
	}
}

func TestRequestIDs(t *testing.T) {
	var log bytes.Buffer
	m := newMemory()
	cfg := testConfig(m)
	cfg.Log = zerolog.New(&log)
	s := newServer(cfg, defaultBudgets())
	parent := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	rec := ask(s, api.RoleOperator, http.MethodPost, hello+"/restart", "", "X-Request-ID", "mine-1", "X-Correlation-ID", "all-2", "traceparent", parent)
	if rec.Header().Get("X-Request-ID") != "mine-1" || rec.Header().Get("X-Correlation-ID") != "all-2" {
		t.Error(rec.Header())
	}
	want := api.Caller{TokenID: "t-operator", Role: api.RoleOperator, Source: "192.0.2.1", RequestID: "mine-1", CorrelationID: "all-2"}
	if d := cmp.Diff([]api.Caller{want}, m.writers()); d != "" {
		t.Error(d)
	}
	var line map[string]any
	if err := json.Unmarshal(log.Bytes(), &line); err != nil {
		t.Fatalf("%v in %s", err, &log)
	}
	for k, v := range map[string]any{"request_id": "mine-1", "correlation_id": "all-2", "trace_id": parent[3:35], "status": 200.0, "token_id": "t-operator"} {
		if line[k] != v {
			t.Errorf("log has %s=%v, want %v", k, line[k], v)
		}
	}
	for _, bad := range []string{"", "two words", "new\nline", `"quoted"`, strings.Repeat("x", 129)} {
		e := wantCode(t, ask(s, "", http.MethodGet, "/v1/status", "", "X-Request-ID", bad), api.CodeUnauthorized)
		if e.RequestID == bad || e.RequestID == "" {
			t.Errorf("%q was answered with %q", bad, e.RequestID)
		}
	}
}

func TestASpanAlreadyBegunIsKept(t *testing.T) {
	outer := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if got := trace.SpanContextFromContext(traced(r)).SpanID().String(); got != "b7ad6b7169203331" {
		t.Errorf("the caller's span became %s", got)
	}
	r = r.WithContext(trace.ContextWithSpanContext(r.Context(), outer))
	if got := trace.SpanContextFromContext(traced(r)); !got.Equal(outer) {
		t.Errorf("the wrapper's span became %v", got)
	}
}

func TestInternalsAreLoggedNotShown(t *testing.T) {
	for name, boom := range map[string]func() error{
		"panic": func() error { panic("the-inside") },
		"error": func() error { return errors.New("the-inside") },
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			m := newMemory()
			m.boom = boom
			cfg := testConfig(m)
			cfg.Log = zerolog.New(&log)
			rec := ask(newServer(cfg, defaultBudgets()), api.RoleViewer, http.MethodGet, "/v1/status", "")
			e := wantCode(t, rec, api.CodeInternal)
			if e.RequestID == "" || strings.Contains(rec.Body.String(), "the-inside") {
				t.Errorf("answer %s", rec.Body)
			}
			if !strings.Contains(log.String(), "the-inside") || !strings.Contains(log.String(), e.RequestID) {
				t.Errorf("log %s", &log)
			}
		})
	}
}

func TestTokensStayOutOfTheLog(t *testing.T) {
	var log bytes.Buffer
	cfg := testConfig(newMemory())
	cfg.Log = zerolog.New(&log)
	s := newServer(cfg, defaultBudgets())
	ask(s, "canary-secret", http.MethodGet, "/v1/nodes?cursor=canary-secret", "")
	if log.Len() == 0 || strings.Contains(log.String(), "canary-secret") {
		t.Error(log.String())
	}
}

func TestReadyTellsTheTruth(t *testing.T) {
	m, s := newTest(t)
	wantStatus(t, ask(s, "", http.MethodGet, "/ready", ""), 200)
	m.ready = api.Errorf(api.CodeUnavailable, "there is no leader")
	wantCode(t, ask(s, "", http.MethodGet, "/ready", ""), api.CodeUnavailable)
}

func TestSecurityHeaders(t *testing.T) {
	_, s := newTest(t)
	want := map[string]string{
		"Content-Security-Policy": policyAPI, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
		"Cache-Control": "no-store", "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "Strict-Transport-Security": "",
	}
	for _, target := range []string{"/v1/nodes", "/nowhere", hello + "/logs"} {
		h := ask(s, api.RoleViewer, http.MethodGet, target, "").Header()
		for k, v := range want {
			if h.Get(k) != v {
				t.Errorf("%s: %s is %q, want %q", target, k, h.Get(k), v)
			}
		}
	}
	r := httptest.NewRequest(http.MethodGet, "/health", nil)
	r.TLS = &tls.ConnectionState{}
	rec := httptest.NewRecorder()
	s.echo.ServeHTTP(rec, r)
	if rec.Header().Get("Strict-Transport-Security") == "" {
		t.Error("no HSTS over TLS")
	}
}

func TestOtherSitesPagesMayNotWrite(t *testing.T) {
	m, s := newTest(t)
	for origin, want := range map[string]int{"": 200, "http://example.com": 200, "https://evil.test": 403, "null": 403, "http://example.com.evil.test": 403} {
		if rec := ask(s, api.RoleOperator, http.MethodPost, hello+"/restart", "", "Origin", origin); rec.Code != want {
			t.Errorf("origin %q: %d", origin, rec.Code)
		}
	}
	if len(m.writers()) != 2 {
		t.Errorf("%d writes", len(m.writers()))
	}
	wantStatus(t, ask(s, api.RoleViewer, http.MethodGet, "/v1/nodes", "", "Origin", "https://evil.test"), 200)
}

// listen follows events on a real connection and returns a function that gives the next block.
// A quiet stream shows life, and ends when its client leaves.
// What a client may send in an If-Match, a Last-Event-ID or a query never breaks the server.
func FuzzRequest(f *testing.F) {
	f.Add("/v1/workloads?label=a=b&limit=3", "5", `{"kind":"Workload"}`)
	f.Add("/v1/events?since=10m", "7-1", "")
	f.Add("/v1/workloads/%2e%2e/x", "\"4\"", "[]")
	f.Add("/v1/objects/photos/%2e%2e//%2F?metadata=true", `"a", W/"b"`, "bytes")
	f.Add("/v1/uploads/s-1/commit", "bytes=-5", `{"bucket":"photos","key":"k","manifest":"Q0xNMQ=="}`)
	b := defaultBudgets()
	for c := range b.rates {
		b.rates[c] = budget{rate.Inf, 1} // or most requests would go no further than the limit
	}
	s := newServer(testConfig(newMemory()), b)
	f.Fuzz(func(t *testing.T, target, header, body string) {
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost} {
			r, err := http.NewRequest(method, target, strings.NewReader(body))
			if err != nil || strings.Contains(target, "follow") || strings.Contains(target, "index") {
				return
			}
			r.RemoteAddr = "10.0.0.1:1"
			r.Header = http.Header{"Authorization": {"Bearer operator"}, "If-Match": {header}, "Last-Event-Id": {header}, "Range": {header}, "If-Range": {header}, "If-None-Match": {header}, "Content-Digest": {header}, "X-Request-Id": {header}, "Idempotency-Key": {header}}
			rec := httptest.NewRecorder()
			s.echo.ServeHTTP(rec, r)
			if rec.Code == http.StatusInternalServerError {
				t.Fatalf("%s %q: %s", method, target, rec.Body)
			}
		}
	})
}
