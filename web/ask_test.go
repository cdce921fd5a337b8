package web

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
)

func testConfig(m *memory) Config {
	plain := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "up 1\n")
	})
	return Config{Backend: m, Log: zerolog.Nop(), Metrics: plain, Schema: []byte(`{}`), Version: "1.2.3"}
}

func newTest(t *testing.T) (*memory, *server) {
	t.Helper()
	m := newMemory()
	return m, newServer(testConfig(m), defaultBudgets())
}

// ask sends one request in memory, as a role ("" for nobody); headers come in pairs.
func ask(s *server, role api.Role, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req := httptest.NewRequest(method, target, r)
	if role != "" {
		req.Header.Set("Authorization", "Bearer "+string(role))
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	s.echo.ServeHTTP(rec, req)
	return rec
}

// refusal reads the error envelope; the test fails if there is none.
func refusal(t *testing.T, rec *httptest.ResponseRecorder) *api.Error {
	t.Helper()
	var b api.ErrorBody
	if err := json.Unmarshal(rec.Body.Bytes(), &b); err != nil || b.Error == nil {
		t.Fatalf("status %d, no error envelope in %q", rec.Code, rec.Body)
	}
	return b.Error
}

func wantCode(t *testing.T, rec *httptest.ResponseRecorder, want api.Code) *api.Error {
	t.Helper()
	e := refusal(t, rec)
	if e.Code != want || rec.Code != want.HTTPStatus() {
		t.Fatalf("got %d %s (%s), want %d %s", rec.Code, e.Code, e.Message, want.HTTPStatus(), want)
	}
	return e
}

func wantStatus(t *testing.T, rec *httptest.ResponseRecorder, want int) {
	t.Helper()
	if rec.Code != want {
		t.Fatalf("status %d, want %d: %s", rec.Code, want, rec.Body)
	}
}

func manifest(name string) string {
	w := workload(name)
	w.Status = nil
	var buf bytes.Buffer
	json.NewEncoder(&buf).Encode(w)
	return buf.String()
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}
