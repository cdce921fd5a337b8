package web

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
)

const hello = "/v1/workloads/default/hello"

func TestBodiesAreReadStrictly(t *testing.T) {
	good := manifest("fresh")
	for name, c := range map[string]struct{ body, names string }{
		"unknown field":        {strings.Replace(good, `"spec":{`, `"spec":{"replcias":3,`, 1), "replcias"},
		"unknown at the top":   {`{"colour":"red",` + good[1:], "colour"},
		"wrong type":           {strings.Replace(good, `"name":"fresh"`, `"name":7`, 1), "metadata.name"},
		"not JSON":             {`{"kind":`, "not JSON"},
		"broken JSON":          {`{"kind";1}`, "byte"},
		"two values":           {good + good, "goes on"},
		"nothing":              {"", "no body"},
		"a list, not a object": {"[]", "cannot be a array"},
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

// zeros is an endless body that is not held in memory.
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
	if artifactLimit(api.ArtifactOCI) != api.MaxArtifactBytes {
		t.Error("an image has another limit")
	}
	wantCode(t, ask(s, api.RoleOperator, http.MethodPut, "/v1/artifacts/"+digest+"?kind=elf", "x"), api.CodeInvalid)
}

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

func TestRequestIDs(t *testing.T) {
	var log bytes.Buffer
	m := newMemory()
	cfg := testConfig(m)
	cfg.Log = zerolog.New(&log)
	s := newServer(cfg, defaultBudgets())
	trace := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	rec := ask(s, api.RoleOperator, http.MethodPost, hello+"/restart", "", "X-Request-ID", "mine-1", "X-Correlation-ID", "all-2", "traceparent", trace)
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
	for k, v := range map[string]any{"request_id": "mine-1", "correlation_id": "all-2", "trace_id": trace[3:35], "status": 200.0, "token_id": "t-operator"} {
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

func TestInternalsAreLoggedNotShown(t *testing.T) {
	for name, boom := range map[string]func(){
		"panic": func() { panic("the-inside") },
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

func TestBlockingRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := newTest(t)
		start := time.Now()
		if ask(s, api.RoleViewer, http.MethodGet, "/v1/workloads?index=4&wait=10s", ""); time.Since(start) != 0 {
			t.Error("it waited though the state is past the index")
		}
		rec := ask(s, api.RoleViewer, http.MethodGet, "/v1/workloads?index=5&wait=10s", "")
		wantStatus(t, rec, 200)
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("without a change it took %s", took)
		}
		done := make(chan *httptest.ResponseRecorder)
		start = time.Now()
		go func() { done <- ask(s, api.RoleViewer, http.MethodGet, hello+"?index=5", "") }()
		time.Sleep(3 * time.Second) // of the bubble's own time
		m.change(nil)
		rec = <-done
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("the change was seen after %s", took)
		}
		if rec.Header().Get("X-Cloudless-Index") != "6" {
			t.Errorf("index %q", rec.Header().Get("X-Cloudless-Index"))
		}
		start = time.Now()
		ask(s, api.RoleViewer, http.MethodGet, "/v1/nodes?index=6&wait=9h", "")
		if took := time.Since(start); took != api.MaxBlockingWait {
			t.Errorf("the longest wait took %s", took)
		}
		if s.sessions.total != 0 {
			t.Errorf("%d sessions left open", s.sessions.total)
		}
	})
}

func event(id string, index uint64) api.Event {
	return api.Event{ID: id, Index: index, Type: "node.ready", Severity: api.SeverityInfo, Resource: "node/one"}
}

// listen follows events on a real connection and returns a function that gives the next block.
func listen(t *testing.T, base, query, last string) func() string {
	t.Helper()
	req, _ := http.NewRequestWithContext(deadline(t), http.MethodGet, base+"/v1/events?follow=true"+query, nil)
	req.Header.Set("Authorization", "Bearer viewer")
	req.Header.Set("Last-Event-ID", last)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Fatalf("%d %s", resp.StatusCode, ct)
	}
	lines := bufio.NewScanner(resp.Body)
	return func() string {
		t.Helper()
		for lines.Scan() {
			if id, found := strings.CutPrefix(lines.Text(), "data: "); found {
				var e api.Event
				if err := json.Unmarshal([]byte(id), &e); err != nil {
					t.Fatal(err)
				}
				return e.ID
			}
		}
		t.Fatalf("the stream ended: %v", lines.Err())
		return ""
	}
}

func serve(t *testing.T, s *server) string {
	t.Helper()
	h := httptest.NewServer(s.echo)
	t.Cleanup(h.Close)
	return h.URL
}

func TestFollowedEventsComeOnceAndInOrder(t *testing.T) {
	m, s := newTest(t)
	m.events = []api.Event{event("3", 3), event("one/1", 0), event("4", 4)}
	next := listen(t, serve(t, s), "", "")
	for _, want := range []string{"3", "one/1", "4"} {
		if got := next(); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	for _, e := range []api.Event{event("6", 6), event("6-1", 6), event("one/2", 0), event("9", 9)} {
		m.emit(e)
		if got := next(); got != e.ID {
			t.Fatalf("got %s, want %s", got, e.ID)
		}
	}
}

func TestEventsResume(t *testing.T) {
	m, s := newTest(t)
	m.events = []api.Event{event("3", 3), event("4", 4), event("4-1", 4), event("4-2", 4), event("7", 7)}
	base := serve(t, s)
	for last, want := range map[string][]string{"3": {"4", "4-1", "4-2", "7"}, "4": {"4-1", "4-2", "7"}, "4-1": {"4-2", "7"}, "4-9": {"4", "4-1", "4-2", "7"}, "5": {"7"}} {
		next := listen(t, base, "", last)
		for _, id := range want {
			if got := next(); got != id {
				t.Errorf("after %s: got %s, want %s", last, got, id)
			}
		}
	}
	next := listen(t, base, "&after=4", "")
	if got := next(); got != "7" {
		t.Errorf("?after=4 begins with %s", got)
	}
	wantCode(t, ask(s, api.RoleViewer, http.MethodGet, "/v1/events?follow=true", "", "Last-Event-ID", "one/2"), api.CodeInvalid)
}

// A quiet stream shows life, and ends when its client leaves.
func TestQuietStreamBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := newTest(t)
		ctx, leave := context.WithTimeout(context.Background(), 40*time.Second)
		defer leave()
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/events?follow=true", nil)
		r.Header.Set("Authorization", "Bearer viewer")
		rec := httptest.NewRecorder()
		s.echo.ServeHTTP(rec, r)
		if beats := strings.Count(rec.Body.String(), ": alive\n\n"); beats != 2 {
			t.Errorf("%d beats in 40 s: %q", beats, rec.Body)
		}
		if s.sessions.total != 0 {
			t.Errorf("%d sessions left open", s.sessions.total)
		}
	})
}

func TestLogsStreamAsTheyCome(t *testing.T) {
	m, s := newTest(t)
	r, w := io.Pipe()
	m.log = r
	req, _ := http.NewRequestWithContext(deadline(t), http.MethodGet, serve(t, s)+hello+"/logs?follow=true", nil)
	req.Header.Set("Authorization", "Bearer viewer")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); ct != "text/plain; charset=utf-8" {
		t.Error(ct)
	}
	lines := bufio.NewReader(resp.Body)
	for _, want := range []string{"one\n", "<script>two</script>\n"} {
		io.WriteString(w, want)
		if got, err := lines.ReadString('\n'); got != want || err != nil {
			t.Fatalf("%q %v", got, err)
		}
	}
	w.CloseWithError(errors.New("the node went away"))
	if _, err := lines.ReadString('\n'); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a broken log looks like one that ended: %v", err)
	}
}

func dial(t *testing.T, base, query string, role api.Role, origin string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	h := http.Header{"Authorization": {"Bearer " + string(role)}}
	if origin != "" {
		h.Set("Origin", origin)
	}
	return websocket.Dial(deadline(t), base+hello+"/exec"+query, &websocket.DialOptions{HTTPHeader: h})
}

func TestExec(t *testing.T) {
	m, s := newTest(t)
	m.exec.closed = make(chan struct{})
	ws, _, err := dial(t, serve(t, s), "?cmd=sh&cmd=-c&stdin=true", api.RoleOperator, "")
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	ctx := deadline(t)
	in := append([]byte{api.ExecStdin}, "ls\n"...)
	if err := ws.Write(ctx, websocket.MessageBinary, in); err != nil {
		t.Fatal(err)
	}
	if got := <-m.exec.in; !bytes.Equal(got, in) {
		t.Errorf("the command got %q", got)
	}
	exit := append([]byte{api.ExecExit}, `{"code":3}`...)
	m.exec.out <- append([]byte{api.ExecStdout}, "file\n"...)
	m.exec.out <- exit
	close(m.exec.out)
	for _, want := range []string{"\x01file\n", string(exit)} {
		if _, got, err := ws.Read(ctx); err != nil || string(got) != want {
			t.Fatalf("%q %v", got, err)
		}
	}
	if _, _, err := ws.Read(ctx); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("the end was %v", err)
	}
	<-m.exec.closed
}

func TestExecEndsWhenTheClientLeavesOrMisbehaves(t *testing.T) {
	for name, act := range map[string]func(context.Context, *websocket.Conn) error{
		"leaves":       func(_ context.Context, ws *websocket.Conn) error { return ws.CloseNow() },
		"says goodbye": func(_ context.Context, ws *websocket.Conn) error { return ws.Close(websocket.StatusNormalClosure, "") },
		"sends text": func(ctx context.Context, ws *websocket.Conn) error {
			return ws.Write(ctx, websocket.MessageText, []byte("hi"))
		},
		"sends output": func(ctx context.Context, ws *websocket.Conn) error {
			return ws.Write(ctx, websocket.MessageBinary, []byte{api.ExecStdout})
		},
		"sends nothing": func(ctx context.Context, ws *websocket.Conn) error {
			return ws.Write(ctx, websocket.MessageBinary, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, s := newTest(t)
			m.exec.closed = make(chan struct{})
			ws, _, err := dial(t, serve(t, s), "?cmd=sh", api.RoleOperator, "")
			if err != nil {
				t.Fatal(err)
			}
			defer ws.CloseNow()
			if err := act(deadline(t), ws); err != nil {
				t.Fatal(err)
			}
			go ws.Read(context.Background()) // answers the server's goodbye; ends with the connection
			<-m.exec.closed
		})
	}
}

func TestExecRefusals(t *testing.T) {
	m, s := newTest(t)
	base := serve(t, s)
	for name, c := range map[string]struct {
		query, origin string
		role          api.Role
		want          int
	}{
		"another site's page": {"?cmd=sh", "https://evil.test", api.RoleOperator, 403},
		"a viewer":            {"?cmd=sh", "", api.RoleViewer, 403},
		"a stranger":          {"?cmd=sh", "", "wrong", 401},
		"no command":          {"", "", api.RoleOperator, 400},
		"unknown command":     {"?cmd=missing", "", api.RoleOperator, 404},
	} {
		ws, resp, err := dial(t, base, c.query, c.role, c.origin)
		if err == nil {
			ws.CloseNow()
		}
		if resp == nil || resp.StatusCode != c.want {
			t.Errorf("%s: %v, %v", name, resp, err)
		}
	}
	if n := len(m.writers()); n != 1 { // the unknown command got through to the backend
		t.Errorf("the backend was asked %d times", n)
	}
}

// What a client may send in an If-Match, a Last-Event-ID or a query never breaks the server.
func FuzzRequest(f *testing.F) {
	f.Add("/v1/workloads?label=a=b&limit=3", "5", `{"kind":"Workload"}`)
	f.Add("/v1/events?since=10m", "7-1", "")
	f.Add("/v1/workloads/%2e%2e/x", "\"4\"", "[]")
	s := newServer(testConfig(newMemory()), defaultBudgets())
	f.Fuzz(func(t *testing.T, target, header, body string) {
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost} {
			r, err := http.NewRequest(method, target, strings.NewReader(body))
			if err != nil || strings.Contains(target, "follow") || strings.Contains(target, "index") {
				return
			}
			r.RemoteAddr = "10.0.0.1:1"
			r.Header = http.Header{"Authorization": {"Bearer operator"}, "If-Match": {header}, "Last-Event-Id": {header}, "X-Request-Id": {header}, "Idempotency-Key": {header}}
			rec := httptest.NewRecorder()
			s.echo.ServeHTTP(rec, r)
			if rec.Code == http.StatusInternalServerError {
				t.Fatalf("%s %q: %s", method, target, rec.Body)
			}
		}
	})
}
