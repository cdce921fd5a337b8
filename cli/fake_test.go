package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
)

// fakeAPI answers as a coordinator would, from memory.
type fakeAPI struct {
	mu        sync.Mutex
	workloads map[string]api.Workload
	artifacts map[string][]byte
	index     uint64
	ready     bool
	slow      []string
	auth      []string
	exec      http.HandlerFunc // outside the lock
	logs      http.HandlerFunc
	mux       *http.ServeMux
	handler   http.Handler
	events    []api.Event
}

func newFake(t *testing.T) (*fakeAPI, string) {
	f := &fakeAPI{workloads: map[string]api.Workload{}, artifacts: map[string][]byte{}, ready: true}
	f.logs = func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "line", r.URL.Query().Get("tail")) }
	mux := http.NewServeMux()
	f.mux = mux
	mux.HandleFunc("GET /v1/workloads", f.list)
	mux.HandleFunc("GET /v1/workloads/{ns}/{name}", f.get)
	mux.HandleFunc("GET /v1/workloads/{ns}/{name}/settled", f.settled)
	mux.HandleFunc("PUT /v1/workloads/{ns}/{name}", f.apply)
	mux.HandleFunc("POST /v1/workloads", f.create)
	mux.HandleFunc("POST /v1/workloads:plan", f.plan)
	mux.HandleFunc("POST /v1/workloads/{ns}/{name}/scale", f.scale)
	mux.HandleFunc("DELETE /v1/workloads/{ns}/{name}", f.remove)
	mux.HandleFunc("/v1/artifacts/{digest}", f.artifact)
	mux.HandleFunc("POST /v1/tokens", func(w http.ResponseWriter, _ *http.Request) { answer(w, api.Token{ID: "t-1", Secret: "cl_t-1_s"}) })
	mux.HandleFunc("GET /v1/nodes", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, api.List[api.Node]{Items: []api.Node{{Name: "edge-1", ID: "n-1", State: api.NodeReady}}, Index: 3})
	})
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, _ *http.Request) { answer(w, api.List[api.Event]{Items: f.events}) })
	mux.HandleFunc("GET /v1/usage", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, api.List[api.ReplicaUsage]{Items: []api.ReplicaUsage{
			{ReplicaID: "web-1", Namespace: "default", Workload: "web", Node: "b", CPU: 20, Memory: 3 << 20},
			{ReplicaID: "web-2", Namespace: "default", Workload: "web", Node: "a", CPU: 5, Memory: 1 << 20},
			{ReplicaID: "api-1", Namespace: "default", Workload: "api", Node: "a", CPU: 1500, Memory: 900 << 10},
		}})
	})
	mux.HandleFunc("GET /v1/services", func(w http.ResponseWriter, _ *http.Request) { answer(w, api.List[api.Service]{}) })
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { answer(w, map[string]string{"status": "ok"}) })
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) { answer(w, map[string]string{"status": "ok"}) })
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "cloudless_uptime_seconds 1") })
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { refuse(w, api.CodeForbidden, "viewers only") })
	mux.HandleFunc("GET /v1/workloads/{ns}/{name}/logs", func(w http.ResponseWriter, r *http.Request) { f.logs(w, r) })
	f.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.exec != nil && strings.HasSuffix(r.URL.Path, "/exec") {
			f.exec(w, r)
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.auth = append(f.auth, r.Header.Get("Authorization"))
		mux.ServeHTTP(w, r)
	})
	srv := httptest.NewServer(f.handler)
	t.Cleanup(srv.Close)
	return f, srv.URL
}

func answer(w http.ResponseWriter, v any) { json.NewEncoder(w).Encode(v) }

func refuse(w http.ResponseWriter, code api.Code, text string) {
	w.WriteHeader(code.HTTPStatus())
	answer(w, api.ErrorBody{Error: api.Errorf(code, "%s", text).WithHint("do something else")})
}

func key(r *http.Request) string { return r.PathValue("ns") + "/" + r.PathValue("name") }

func (f *fakeAPI) list(w http.ResponseWriter, r *http.Request) {
	out := api.List[api.Workload]{Index: f.index}
	for _, x := range f.workloads {
		if ns := r.URL.Query().Get("namespace"); ns == "" || ns == x.Metadata.Namespace {
			out.Items = append(out.Items, x)
		}
	}
	answer(w, out)
}

func (f *fakeAPI) get(w http.ResponseWriter, r *http.Request) {
	x, ok := f.workloads[key(r)]
	if !ok {
		refuse(w, api.CodeNotFound, "there is no workload "+key(r))
		return
	}
	answer(w, x)
}

func (f *fakeAPI) settled(w http.ResponseWriter, r *http.Request) {
	x, ok := f.workloads[key(r)]
	s := api.Settled{Ready: f.ready, Routed: len(f.slow) == 0, Slow: f.slow, Index: f.index}
	if ok {
		s.Workload = &x
	}
	answer(w, s)
}

func (f *fakeAPI) write(w http.ResponseWriter, r *http.Request, outcome string, x api.Workload) {
	f.index++
	x.Status = &api.WorkloadStatus{Phase: api.PhaseRunning, Desired: x.Spec.Count(), Ready: x.Spec.Count()}
	f.workloads[x.Ref().String()] = x
	answer(w, api.WriteResult{Workload: x, Outcome: outcome, Index: f.index})
}

func (f *fakeAPI) apply(w http.ResponseWriter, r *http.Request) {
	var x api.Workload
	json.NewDecoder(r.Body).Decode(&x)
	old, exists := f.workloads[key(r)]
	switch {
	case !exists:
		f.write(w, r, "created", x)
	case cmp.Equal(old.Spec, x.Spec):
		answer(w, api.WriteResult{Workload: old, Outcome: "unchanged", Index: f.index})
	default:
		f.write(w, r, "updated", x)
	}
}

func (f *fakeAPI) create(w http.ResponseWriter, r *http.Request) {
	var x api.Workload
	json.NewDecoder(r.Body).Decode(&x)
	if _, exists := f.workloads[x.Ref().String()]; exists {
		refuse(w, api.CodeConflict, "it exists")
		return
	}
	f.write(w, r, "created", x)
}

func (f *fakeAPI) plan(w http.ResponseWriter, r *http.Request) {
	answer(w, api.Plan{Outcome: "update", Changes: []api.PlanChange{{Field: "spec.replicas", Old: "1", New: "2"}}, Beyond: []api.Grant{{Field: "spec.egress.allow", Value: "a.example:443"}}})
}

func (f *fakeAPI) scale(w http.ResponseWriter, r *http.Request) {
	var s api.ScaleRequest
	json.NewDecoder(r.Body).Decode(&s)
	x, ok := f.workloads[key(r)]
	if !ok {
		refuse(w, api.CodeNotFound, "there is no workload "+key(r))
		return
	}
	x.Spec.Replicas = &s.Replicas
	f.write(w, r, "scaled", x)
}

func (f *fakeAPI) remove(w http.ResponseWriter, r *http.Request) {
	x, ok := f.workloads[key(r)]
	if !ok {
		refuse(w, api.CodeNotFound, "there is no workload "+key(r))
		return
	}
	delete(f.workloads, key(r))
	f.index++
	answer(w, api.WriteResult{Workload: x, Outcome: "deleted", Index: f.index})
}

func (f *fakeAPI) artifact(w http.ResponseWriter, r *http.Request) {
	digest := r.PathValue("digest")
	if r.Method == http.MethodHead {
		if _, ok := f.artifacts[digest]; !ok {
			w.WriteHeader(http.StatusNotFound)
		}
		return
	}
	f.artifacts[digest], _ = io.ReadAll(r.Body)
	answer(w, api.Artifact{Digest: digest, Kind: r.URL.Query().Get("kind")})
}

// session runs commands against one fake cluster.
type session struct {
	t     *testing.T
	api   *fakeAPI
	env   map[string]string
	dir   string
	out   bytes.Buffer
	err   bytes.Buffer
	stdin string
}

func newSession(t *testing.T) *session {
	f, url := newFake(t)
	dir := t.TempDir()
	return &session{t: t, api: f, dir: dir, env: map[string]string{"CLOUDLESS_ADDRESS": url, "CLOUDLESS_CONFIG": filepath.Join(dir, "config.yaml")}}
}

func (s *session) run(args ...string) int {
	s.out.Reset()
	s.err.Reset()
	e := &Env{In: strings.NewReader(s.stdin), Out: &s.out, Err: &s.err, Getenv: func(k string) string { return s.env[k] }, Now: time.Now}
	return e.Main(args)
}

// want runs a command and compares exit code, output and a part of the error output.
func (s *session) want(code int, out, err string, args ...string) {
	s.t.Helper()
	if got := s.run(args...); got != code {
		s.t.Errorf("%v: exit code %d, want %d\n%s%s", args, got, code, s.out.String(), s.err.String())
	}
	if d := cmp.Diff(out, s.out.String()); d != "" {
		s.t.Errorf("%v: output:\n%s", args, d)
	}
	if !strings.Contains(s.err.String(), err) || err == "" && s.err.Len() > 0 {
		s.t.Errorf("%v: error output %q, want %q in it", args, s.err.String(), err)
	}
}

func (s *session) file(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}
