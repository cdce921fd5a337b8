package web

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cloudless/cloudless/api"
)

var sampleParams = strings.NewReplacer(`\:`, ":", ":ns", "default", ":name", "hello", ":id", "one", ":digest", digest, ":bucket", "photos", "*", "key")

// sample is a good request for a route.
func sample(r route) (target, body string) {
	target = sampleParams.Replace(r.path)
	switch {
	case strings.HasSuffix(r.path, "/scale"):
		body = `{"replicas":2}`
	case r.path == "/v1/tokens" && r.method == http.MethodPost:
		body = `{"role":"viewer","ttl":"1h"}`
	case r.path == "/v1/workloads" && r.method == http.MethodPost:
		body = manifest("fresh")
	case r.path == `/v1/workloads\:plan`, r.method == http.MethodPut && strings.HasSuffix(r.path, ":name"):
		body = manifest("hello")
	case strings.Contains(r.path, ":bucket"), strings.HasPrefix(r.path, "/v1/buckets"), strings.HasPrefix(r.path, "/v1/uploads"), strings.HasPrefix(r.path, "/v1/storage"):
		return storageSample(r, target)
	case r.path == "/v1/rotations":
		body = `{"kind":"ca"}`
	case r.method == http.MethodPut && strings.HasSuffix(r.path, "/policy"):
		body = `{"requireSignature":["RWQ"]}`
	case strings.HasSuffix(r.path, "/revoke"):
		body = `{"reason":"stolen"}`
	case strings.HasSuffix(r.path, "/drain"):
		body = `{"graceful":true,"deadline":"1m"}`
	case strings.HasSuffix(r.path, "/exec"):
		target += "?cmd=sh"
	case r.method == http.MethodPut && strings.HasPrefix(r.path, "/v1/artifacts"):
		target, body = target+"?kind=wasm", "module"
	}
	return target, body
}

// Security 9: a route without a declared permission fails the build.
func TestEveryRouteDeclaresWhoMayCallIt(t *testing.T) {
	_, s := newTest(t)
	declared := map[string]route{}
	for _, r := range s.routes() {
		declared[r.method+" "+r.path] = r
		if r.headed() {
			declared["HEAD "+r.path] = r
		}
		if (r.answer == nil) == (r.stream == nil) {
			t.Errorf("%s has not exactly one handler", label(r))
		}
	}
	for _, r := range s.echo.Routes() {
		d, found := declared[r.Method+" "+r.Path]
		if !found {
			t.Errorf("%s %s is served and not in the table", r.Method, r.Path)
			continue
		}
		if _, known := roleRank[d.role]; !known && d.role != rolePublic {
			t.Errorf("%s declares no permission (%q)", label(d), d.role)
		}
		if changesState(d.method) && d.role == rolePublic {
			t.Errorf("%s changes state and is open to all", label(d))
		}
	}
	if len(declared) != len(s.echo.Routes()) {
		t.Errorf("%d routes declared, %d served", len(declared), len(s.echo.Routes()))
	}
}

func TestARouteWithoutARoleAdmitsNobody(t *testing.T) {
	_, s := newTest(t)
	s.echo.GET("/forgotten", s.serve(route{method: http.MethodGet, answer: s.whoami}))
	wantCode(t, ask(s, api.RoleAdmin, http.MethodGet, "/forgotten", ""), api.CodeForbidden)
}

// Security 10: the matrix of roles and routes. Roles of join tokens may do nothing here.
func TestRolesByRoutes(t *testing.T) {
	callers := []api.Role{"", "wrong", api.RoleNode, api.RoleServer, api.RoleViewer, api.RoleOperator, api.RoleAdmin}
	_, table := newTest(t)
	for _, r := range table.routes() {
		for _, who := range callers {
			t.Run(label(r)+" as "+string(who), func(t *testing.T) {
				m, s := newTest(t)
				target, body := sample(r)
				rec := ask(s, who, r.method, target, body)
				refused := rec.Code == http.StatusUnauthorized || rec.Code == http.StatusForbidden
				if allowed := r.role == rolePublic || permits(who, r.role); allowed == refused {
					t.Fatalf("allowed %v, status %d", allowed, rec.Code)
				}
				if known := permits(who, api.RoleViewer) || who.Joins(); refused && known != (rec.Code == http.StatusForbidden) {
					t.Fatalf("status %d", rec.Code)
				}
				if refused && len(m.writers()) > 0 {
					t.Fatal("a refused request wrote")
				}
			})
		}
	}
}

// What the roles themselves are is fixed here once more, so that a slip in the table is seen.
func TestWhatRolesAreFor(t *testing.T) {
	_, s := newTest(t)
	for _, r := range s.routes() {
		later := slices.ContainsFunc(s.laterRoutes(), func(l route) bool { return label(l) == label(r) })
		want := api.RoleViewer
		switch {
		case !strings.HasPrefix(r.path, "/v1/"):
			want = rolePublic
			if r.path == "/metrics" {
				want = api.RoleViewer
			}
		case strings.HasPrefix(r.path, "/v1/tokens"), strings.HasPrefix(r.path, "/v1/members"), strings.HasPrefix(r.path, "/v1/rotations"), strings.HasSuffix(r.path, "/revoke"), strings.HasSuffix(r.path, "/policy"), strings.HasSuffix(r.path, ":restore"):
			want = api.RoleAdmin
		case later, strings.HasSuffix(r.path, ":plan"):
		case changesState(r.method), strings.HasSuffix(r.path, "/exec"), strings.HasSuffix(r.path, ":backup"):
			want = api.RoleOperator
		}
		if r.role != want {
			t.Errorf("%s needs %s, want %s", label(r), r.role, want)
		}
	}
}

func TestMetricsAreOpenInDevOnly(t *testing.T) {
	m := newMemory()
	cfg := testConfig(m)
	wantCode(t, ask(newServer(cfg, defaultBudgets()), "", http.MethodGet, "/metrics", ""), api.CodeUnauthorized)
	cfg.Dev = true
	wantStatus(t, ask(newServer(cfg, defaultBudgets()), "", http.MethodGet, "/metrics", ""), http.StatusOK)
}

func TestWhatIsNotThere(t *testing.T) {
	_, s := newTest(t)
	wantCode(t, ask(s, api.RoleAdmin, http.MethodGet, "/v1/nothing", ""), api.CodeNotFound)
	wantCode(t, ask(s, api.RoleAdmin, http.MethodGet, "/v1/secrets", ""), api.CodeUnsupported)
	wantCode(t, ask(s, api.RoleAdmin, http.MethodGet, "/v1/objects/photos/none", ""), api.CodeNotFound)
	rec := ask(s, api.RoleAdmin, http.MethodPatch, "/v1/nodes", "{}")
	if rec.Code != http.StatusMethodNotAllowed || rec.Header().Get("Allow") == "" {
		t.Fatalf("status %d, Allow %q", rec.Code, rec.Header().Get("Allow"))
	}
	refusal(t, rec)
}

func loadSpec(t *testing.T) (*openapi3.T, routers.Router) {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return doc, router
}

// Every route, driven with a good request, answers as openapi.yaml says; and the document tells the
// same role and query as the table.
func TestAnswersMatchOpenAPI(t *testing.T) {
	_, router := loadSpec(t)
	_, table := newTest(t)
	for _, r := range table.routes() {
		t.Run(label(r), func(t *testing.T) {
			m, s := newTest(t)
			m.events = []api.Event{{ID: "3", Index: 3, Type: "node.ready", Severity: api.SeverityInfo, Resource: "node/one"}}
			target, body := sample(r)
			rec := ask(s, api.RoleAdmin, r.method, target, body)
			checkAgainstSpec(t, router, r, target, body, rec)
		})
	}
}

func checkAgainstSpec(t *testing.T, router routers.Router, r route, target, body string, rec *httptest.ResponseRecorder) {
	t.Helper()
	req := httptest.NewRequest(r.method, target, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	if r.stream != nil && r.path != "/v1/objects/:bucket/*" {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	if r.path == "/ui/*" {
		return // files, by whatever name
	}
	found, params, err := router.FindRoute(req)
	if err != nil {
		t.Fatalf("openapi.yaml does not know it: %v", err)
	}
	checkOperation(t, found.Operation, found.PathItem, r)
	if strings.HasPrefix(rec.Header().Get("Content-Type"), "application/yaml") {
		return // a document, not an object
	}
	opts := &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true}
	in := &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: found, Options: opts}
	if err := openapi3filter.ValidateRequest(context.Background(), in); err != nil {
		t.Errorf("the request: %v", err)
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: rec.Code, Header: rec.Header(), Options: opts}
	if err := openapi3filter.ValidateResponse(context.Background(), out.SetBodyBytes(rec.Body.Bytes())); err != nil {
		t.Errorf("the answer %d %s: %v", rec.Code, rec.Body, err)
	}
}

func checkOperation(t *testing.T, op *openapi3.Operation, _ *openapi3.PathItem, r route) {
	t.Helper()
	if role, has := op.Extensions["x-role"]; has != (r.role != rolePublic) || has && role != string(r.role) {
		t.Errorf("openapi.yaml says role %v, the table %s", role, r.role)
	}
	var query []string
	for _, p := range op.Parameters {
		if p.Value.In == openapi3.ParameterInQuery {
			query = append(query, p.Value.Name)
		}
	}
	have := slices.Clone(r.query)
	slices.Sort(query)
	slices.Sort(have)
	if !slices.Equal(query, have) {
		t.Errorf("openapi.yaml says query %v, the table %v", query, have)
	}
}

// The document has no path that the table lacks.
func TestOpenAPIHasNoMore(t *testing.T) {
	doc, _ := loadSpec(t)
	_, s := newTest(t)
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			target := strings.NewReplacer("{", "", "}", "").Replace(path)
			rec := ask(s, "", method, target, "")
			if rec.Code == http.StatusNotFound || rec.Code == http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, path, rec.Code)
			}
		}
	}
}

// The schemas list the same fields as the types that are sent.
func TestSchemasMatchTypes(t *testing.T) {
	doc, _ := loadSpec(t)
	seen := map[reflect.Type]bool{}
	for _, v := range []any{
		api.Workload{}, api.Node{}, api.Service{}, api.ReplicaUsage{}, api.Event{}, api.Token{}, api.Member{}, api.WriteResult{}, api.Plan{}, api.WorkloadVersion{}, api.Namespace{}, api.NamespacePolicy{},
		api.Settled{}, api.ClusterStatus{}, api.ScaleRequest{}, api.RollbackRequest{}, api.DrainRequest{}, api.RevokeRequest{}, api.RotationRequest{}, api.Rotation{}, api.TokenRequest{}, api.Caller{}, api.Artifact{},
		api.ErrorBody{}, api.Bucket{}, api.BucketView{}, api.ObjectList{}, api.ObjectCopy{}, api.Upload{}, api.UploadRequest{}, api.UploadSession{}, api.MissingRequest{}, api.MissingAnswer{}, api.UploadCommit{},
		api.StorageReport{}, api.ScrubRequest{}, api.CollectRequest{},
	} {
		compareType(t, doc, reflect.TypeOf(v), seen)
	}
}

func compareType(t *testing.T, doc *openapi3.T, typ reflect.Type, seen map[reflect.Type]bool) {
	t.Helper()
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || typ.PkgPath() != reflect.TypeFor[api.Node]().PkgPath() || seen[typ] {
		return
	}
	seen[typ] = true
	schema := doc.Components.Schemas[typ.Name()]
	if schema == nil {
		t.Errorf("openapi.yaml has no schema %s", typ.Name())
		return
	}
	fields := map[string]bool{}
	for _, f := range reflect.VisibleFields(typ) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || f.Anonymous {
			continue
		}
		fields[name] = true
		if schema.Value.Properties[name] == nil {
			t.Errorf("schema %s lacks %s", typ.Name(), name)
		}
		compareType(t, doc, f.Type, seen)
	}
	for name := range schema.Value.Properties {
		if !fields[name] {
			t.Errorf("schema %s has %s, which the type has not", typ.Name(), name)
		}
	}
}

// HEAD needs what GET needs, and has its status; what is followed has no HEAD.
func TestHeadIsAnsweredAsGetIs(t *testing.T) {
	_, s := newTest(t)
	for path, want := range map[string]int{"/health": 200, "/ui/": 200, "/openapi.yaml": 200, "/v1/workloads": 200, "/v1/workloads/default/nobody": 404,
		"/v1/workloads/default/web/logs": 405, "/v1/events": 405, "/v1/workloads/default/web/exec": 405} {
		get := ask(s, api.RoleViewer, http.MethodGet, path, "")
		head := ask(s, api.RoleViewer, http.MethodHead, path, "")
		if head.Code != want || want != 405 && get.Code != want {
			t.Errorf("%s: HEAD %d, GET %d, want %d", path, head.Code, get.Code, want)
		}
	}
	wantStatus(t, ask(s, "", http.MethodHead, "/v1/workloads", ""), http.StatusUnauthorized)
}

// Lists that are whole in the backend are cut into pages here.
func TestPagesOfAWholeList(t *testing.T) {
	all := api.List[string]{Items: []string{"c", "a", "d", "b"}, Index: 5}
	id := func(s string) string { return s }
	for _, tt := range []struct {
		limit  int
		cursor string
		want   api.List[string]
	}{
		{3, "", api.List[string]{Items: []string{"a", "b", "c"}, Index: 5, Cursor: "c"}},
		{4, "", api.List[string]{Items: []string{"a", "b", "c", "d"}, Index: 5}},
		{3, "c", api.List[string]{Items: []string{"d"}, Index: 5}},
		{1, "a", api.List[string]{Items: []string{"b"}, Index: 5, Cursor: "b"}},
		{1, "d", api.List[string]{Index: 5}},
	} {
		if d := cmp.Diff(tt.want, page(all, api.ListQuery{Limit: tt.limit, Cursor: tt.cursor}, id), cmpopts.EquateEmpty()); d != "" {
			t.Errorf("limit %d, cursor %q: %s", tt.limit, tt.cursor, d)
		}
	}
	if got := page(all, api.ListQuery{Limit: 3, Label: map[string]string{"a": "b"}}, id); len(got.Items) != 0 {
		t.Errorf("without labels: %v", got.Items)
	}
}

func TestDocumentsNeedNoToken(t *testing.T) {
	_, s := newTest(t)
	for path, want := range map[string]string{"/openapi.yaml": "openapi: 3", "/schema/workload.json": "{}", "/ui/": "<title>Cloudless", "/ui/app.js": "textContent", "/ui/storage.js": "textContent", "/health": "ok"} {
		rec := ask(s, "", http.MethodGet, path, "")
		wantStatus(t, rec, http.StatusOK)
		if !strings.Contains(rec.Body.String(), want) {
			t.Errorf("%s: %q not in %.80q", path, want, rec.Body)
		}
	}
}

// The page brings nothing that the policy forbids and nothing that could be HTML from the cluster.
func TestPageKeepsToItsPolicy(t *testing.T) {
	_, s := newTest(t)
	page := ask(s, "", http.MethodGet, "/ui/", "")
	scripts := ask(s, "", http.MethodGet, "/ui/app.js", "").Body.String() + ask(s, "", http.MethodGet, "/ui/storage.js", "").Body.String()
	csp := page.Header().Get("Content-Security-Policy")
	if !strings.Contains(csp, "script-src 'self'") || strings.Contains(csp, "unsafe") {
		t.Errorf("policy %q", csp)
	}
	for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("} {
		if strings.Contains(scripts, bad) {
			t.Errorf("a script uses %s", bad)
		}
	}
	for _, bad := range []string{"style=", "onclick", "<style", "<script>", "http://", "https://"} {
		if bytes.Contains(page.Body.Bytes(), []byte(bad)) {
			t.Errorf("index.html has %s", bad)
		}
	}
}

func ExampleNew() {
	s := New(testConfig(newMemory()))
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/health", nil))
	fmt.Println(rec.Code, rec.Body)
	// Output: 200 {"status":"ok"}
}
