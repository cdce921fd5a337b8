package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/cloudless/cloudless/api"
)

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// full names every field that this version accepts.
const full = `apiVersion: cloudless/v1
kind: Workload
metadata: {name: hello, namespace: team, labels: {app: hello, tier.io/x: "1"}}
spec:
  replicas: 3
  priority: 50
  preferred: container
  wasm: {module: "` + digest + `", mode: http, interface: cl, args: [a, "2"], timeout: 30s}
  container: {image: registry.example/hello:1.2, command: [/bin/x], args: [], user: "1000", network: host}
  env: {GREETING: hi}
  resources: {cpu: 250m, memory: 64Mi, storage: 1073741824}
  ports: [{name: http, port: 8080, protocol: http}, {port: 9000, protocol: tcp, publish: 9001}]
  hosts: [Hello.example.com]
  probes:
    readiness: {http: {path: /healthz}, interval: 1s, timeout: 500ms, failures: 3}
    liveness:  {http: {path: /healthz, port: 8080}, interval: 5s}
  restart: {policy: always, backoff: 1s, maxBackoff: 1m}
  rollout: {strategy: rolling, maxSurge: 1, minAvailable: 2}
  placement:
    regions: [eu]
    zones: []
    nodeSelector: {arch: arm64}
    spread: {by: zone}
    affinity: [{workload: cache, weight: 50}]
    antiAffinity: [{workload: hello}]
    tolerations: [{key: battery, effect: NoSchedule}]
  onDisconnect: keep
  exclusive: false
`

const small = "apiVersion: cloudless/v1\nkind: Workload\nmetadata: {name: a}\nspec:\n  wasm: {module: " + digest + "}\n"

func TestParseReadsEveryField(t *testing.T) {
	docs, err := Parse("full.yaml", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	s := docs[0].Workload.Spec
	got := []any{docs[0].Line, docs[0].Workload.Ref().String(), *s.Replicas, s.Preferred, s.Wasm.Timeout.D(), s.Resources.CPU,
		s.Resources.Storage, s.Ports[1].Publish, s.Hosts[0], s.Probes.Readiness.Timeout.D(), *s.Rollout.MinAvailable,
		s.Placement.Spread.By, s.Placement.Affinity[0].Weight, docs[0].Workload.Metadata.Labels["tier.io/x"]}
	want := []any{1, "team/hello", 3, api.VariantContainer, 30 * time.Second, api.MilliCPU(250),
		api.Bytes(1 << 30), 9001, "hello.example.com", 500 * time.Millisecond, 2, "zone", 50, "1"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestParseManyDocumentsAndNamespaces(t *testing.T) {
	in := "# first\n---\n" + small + "---\n---\n" + strings.Replace(small, "name: a", "name: b, namespace: own", 1)
	docs, err := Parse("-", []byte(in), Namespace("given"))
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(docs[0].Workload.Ref(), docs[0].Line, docs[1].Workload.Ref(), docs[1].Line)
	if want := "given/a 3 own/b 10"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParseJSONIndentedWithTabs(t *testing.T) {
	in := "{\n\t\"apiVersion\": \"cloudless/v1\",\n\t\"kind\": \"Workload\",\n\t\"metadata\": {\"name\": \"a\"},\n\t\"spec\": {\"wasm\": {\"module\": \"" + digest + "\"}, \"env\": {\"A\": \"x\\ty\"}}\n}"
	docs, err := Parse("w.json", []byte(in))
	if err != nil {
		t.Fatal(err)
	}
	if got := docs[0].Workload.Spec.Env["A"]; got != "x\ty" {
		t.Errorf("env is %q", got)
	}
}

// What the cluster prints can be applied again: status is dropped, the cluster's own fields pass.
func TestPrintedWorkloadParsesAgain(t *testing.T) {
	docs, err := Parse("full.yaml", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	w := docs[0].Workload
	now := time.Date(2026, 11, 23, 1, 2, 3, 4, time.UTC)
	w.Metadata.UID, w.Metadata.Version, w.Metadata.ModifyIndex, w.Metadata.CreatedAt = "w-x", 2, 7, &now
	w.Spec.Env["NUMBER"], w.Spec.Env["TRUTH"], w.Spec.Env["HTML"], w.Spec.Env["LINES"] = "8080", "no", "<a & b>", "a\n\tb: c\n"
	printed := w
	printed.Status = &api.WorkloadStatus{Phase: api.PhaseRunning}
	text, err := YAML(printed)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse("again.yaml", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if d := cmp.Diff(w, again[0].Workload); d != "" {
		t.Error(d)
	}
}

func TestErrorsNameTheirPlace(t *testing.T) {
	spec := func(lines string) string {
		return "apiVersion: cloudless/v1\nkind: Workload\nmetadata: {name: a}\nspec:\n" + lines
	}
	tests := []struct{ name, in, want string }{
		{"unknown field", spec("  wasm: {module: " + digest + "}\n  replcias: 2\n"), `f:6:3: spec.replcias: unknown field "replcias": did you mean replicas?`},
		{"unknown nested field", spec("  wasm: {modul: x}\n"), `f:5:9: spec.wasm.module: is empty: name a .wasm file or a sha256:… digest; f:5:10: spec.wasm.modul: unknown field "modul": did you mean module?`},
		{"unknown far field", spec("  wasm: {module: " + digest + "}\n  placement: {spread: {by: zone, sideways: 1}}\n"), `f:6:34: spec.placement.spread.sideways: unknown field "sideways": known are by`},
		{"number for text", spec("  wasm: {module: " + digest + "}\n  env: {PORT: 8080}\n"), `f:6:15: spec.env.PORT: is the number 8080, text is wanted: write it in quotes, "8080"`},
		{"text for number", spec("  wasm: {module: " + digest + "}\n  replicas: two\n"), `f:6:13: spec.replicas: is the text "two", a whole number is wanted`},
		{"ambiguous octal", spec("  wasm: {module: " + digest + "}\n  replicas: 010\n"), `f:6:13: spec.replicas: 010 is not a whole number in plain decimal digits`},
		{"list for mapping", spec("  wasm: [1]\n"), `f:5:9: spec.wasm: is a list, a mapping of fields is wanted`},
		{"bad quantity", spec("  wasm: {module: " + digest + "}\n  resources: {memory: lots}\n"), `f:6:23: spec.resources.memory: "lots" is not a size: write 64Mi or 1Gi`},
		{"duplicate key", spec("  wasm: {module: " + digest + "}\n  priority: 1\n  priority: 2\n"), `f:7:3: spec.priority: is written twice, first at line 6`},
		{"broken rule", spec("  wasm: {module: " + digest + "}\n  ports:\n  - port: 80\n  - port: 70000\n    name: b\n"), `f:8:11: spec.ports[1].port: 70000 is not between 1 and 65535`},
		{"unsupported", spec("  wasm: {module: " + digest + "}\n  schedule: '* * * * *'\n"), `f:6:13: spec.schedule: not supported by this version`},
		{"missing name", "apiVersion: cloudless/v1\nkind: Workload\nspec: {wasm: {module: " + digest + "}}\n", `f:1:1: metadata.name: "" is not a name: use a-z, 0-9 and '-' inside, 1 to 63 characters`},
		{"path", spec("  wasm: {module: ./a.wasm}\n"), `f:5:18: spec.wasm.module: "./a.wasm" is not a digest: the API takes sha256:… of an uploaded module; the command line uploads a path`},
		{"merge key", spec("  <<: {replicas: 1}\n  wasm: {module: " + digest + "}\n"), `f:5:3: spec: merge keys (<<) are not accepted: write the fields out`},
		{"empty", "# nothing\n", `f:1:1: holds no workload`},
		{"scalar", "hello\n", `f:1:1: is the text "hello", a mapping of fields is wanted`},
		{"syntax", "a: [1\n", `f:2:1: not valid YAML: did not find expected ',' or ']' (while parsing a flow sequence)`},
		{"twice in a file", small + "---\n" + small, `f:7:1: metadata.name: default/a is in this file twice, first in the document at line 1`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("f", []byte(tt.in))
			if err == nil {
				t.Fatal("accepted")
			}
			if d := cmp.Diff(tt.want, err.Error()); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestAllErrorsAtOnceWithExcerpt(t *testing.T) {
	in := "apiVersion: v9\nkind: Workload\nmetadata: {name: A_b}\nspec:\n  replcias: 1\n  wasm: {module: " + digest + ", mode: 3}\n"
	_, err := Parse("f", []byte(in))
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != 4 {
		t.Fatalf("got %d errors: %v", len(errs), err)
	}
	if got, want := errs[2].Excerpt(), "    5 |   replcias: 1\n      |   ^"; got != want {
		t.Errorf("excerpt is\n%s\nwant\n%s", got, want)
	}
	if got := api.CodeOf(err); got != api.CodeInvalid {
		t.Errorf("code is %s", got)
	}
}

func TestUnsupportedAloneHasItsCode(t *testing.T) {
	_, err := Parse("f", []byte(small+"  exclusive: true\n"))
	if got := api.CodeOf(err); got != api.CodeUnsupported {
		t.Errorf("code is %q: %v", got, err)
	}
}

func TestAllowPaths(t *testing.T) {
	in := "apiVersion: cloudless/v1\nkind: Workload\nmetadata: {name: a}\nspec:\n  wasm: {module: ../m.wasm, signature: ../m.minisig}\n  container: {image: ./x.tar}\n"
	if _, err := Parse("f", []byte(in)); err == nil {
		t.Error("paths accepted without AllowPaths")
	}
	if _, err := Parse("f", []byte(in), AllowPaths()); err != nil {
		t.Error(err)
	}
	for _, module := range []string{`""`, "oci://x/y:1"} {
		bad := strings.Replace(in, "../m.wasm", module, 1)
		if _, err := Parse("f", []byte(bad), AllowPaths()); err == nil {
			t.Errorf("module %s accepted", module)
		}
	}
	damaged := strings.Replace(in, "../m.minisig", `"untrusted comment: x\nAAAA\n"`, 1)
	if _, err := Parse("f", []byte(damaged), AllowPaths()); err == nil {
		t.Error("the text of a damaged signature was taken for a path")
	}
}

func TestLimits(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'i'; c++ {
		bomb += fmt.Sprintf("%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", c, c, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1)
	}
	anchors := strings.ReplaceAll(bomb, "\n", "\n  ")
	tests := []struct{ name, in, want string }{
		{"size", small + strings.Repeat("#", api.MaxManifestBytes), "at most 1048576 are allowed"},
		{"documents", strings.Repeat("---\na: 1\n", api.MaxManifestDocuments+1), "at most 256 are allowed in one file"},
		{"depth", "spec: " + strings.Repeat("[", 20000), "not valid YAML"},
		{"alias bomb in unknown fields", "spec:\n  " + anchors, "unknown field"},
		{"alias bomb in a known field", "spec:\n  env:\n    " + strings.ReplaceAll(bomb, "\n", "\n    "), "text is wanted"},
		{"alias to itself", "spec: &s\n  probes: &p\n    readiness: *p\n", "unknown field"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			_, err := Parse("f", []byte(tt.in))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %.300v", err)
			}
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

// A recursive type meets both the depth limit and the expansion limit.
func TestDecoderStopsAtDepthAndExpansion(t *testing.T) {
	type tree struct {
		Kids []tree `json:"kids"`
	}
	deep := strings.Repeat("{kids: [", 100) + strings.Repeat("]}", 100)
	if err := Unmarshal("f", []byte(deep), &tree{}); err == nil || !strings.Contains(err.Error(), "nested deeper than 64") {
		t.Errorf("depth: %v", err)
	}
	bomb := "kids:\n- &a {kids: [{},{},{},{},{},{},{},{}]}\n"
	for c := 'b'; c <= 'j'; c++ {
		bomb += fmt.Sprintf("- &%c {kids: [*%c,*%c,*%c,*%c,*%c,*%c]}\n", c, c-1, c-1, c-1, c-1, c-1, c-1)
	}
	if err := Unmarshal("f", []byte(bomb), &tree{}); err == nil || !strings.Contains(err.Error(), "write fewer aliases") {
		t.Errorf("expansion: %v", err)
	}
}

func TestUnmarshalIsStrict(t *testing.T) {
	var c struct {
		Address string       `json:"address"`
		Wait    api.Duration `json:"wait,omitzero"`
	}
	if err := Unmarshal("c", []byte("address: x\nwait: 3s\n"), &c); err != nil || c.Address != "x" || c.Wait.D() != 3*time.Second {
		t.Errorf("%v %+v", err, c)
	}
	if err := Unmarshal("c", []byte("adress: x\n"), &c); err == nil || !strings.Contains(err.Error(), "c:1:1: adress: unknown field") {
		t.Errorf("%v", err)
	}
	if err := Unmarshal("c", nil, &c); err != nil {
		t.Errorf("empty file: %v", err)
	}
}

func TestNearest(t *testing.T) {
	words := []string{"replicas", "priority", "env", "by"}
	for in, want := range map[string]string{"replcias": "replicas", "Replicas": "replicas", "evn": "env", "xy": "by", "zz": "", "something": "", "": ""} {
		if got := Nearest(in, words); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", in, got, want)
		}
	}
}

// The schema accepts what the parser accepts, and refuses what is plainly wrong.
func TestSchemaAgreesWithParser(t *testing.T) {
	schema := compile(t)
	for name, tt := range map[string]struct {
		in string
		ok bool
	}{
		"full": {full, true}, "small": {small, true},
		"contract's whole example": {contractExample, true},
		"unknown field":            {small + "  replcias: 1\n", false},
		"wrong type":               {small + "  replicas: two\n", false},
		"wrong word":               {small + "  onDisconnect: maybe\n", false},
		"wrong size":               {small + "  resources: {memory: lots}\n", false},
		"no spec":                  {"apiVersion: cloudless/v1\nkind: Workload\nmetadata: {name: a}\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			err := schema.Validate(asJSON(t, tt.in))
			if (err == nil) != tt.ok {
				t.Errorf("valid is %v, want %v: %v", err == nil, tt.ok, err)
			}
		})
	}
}

func TestSchemaIsDeterministicAndDescribesOnlyRealFields(t *testing.T) {
	if !bytes.Equal(Schema(), Schema()) {
		t.Error("two calls differ")
	}
	var doc struct {
		Properties map[string]any `json:"properties"`
		Defs       map[string]struct {
			Properties map[string]any `json:"properties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(Schema(), &doc); err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for k := range texts {
		keys[k] = true
	}
	for k := range enums {
		keys[k] = true
	}
	for key := range keys {
		typ, name, _ := strings.Cut(key, ".")
		_, ok := doc.Defs[typ].Properties[name]
		if _, root := doc.Properties[name]; !ok && !(typ == "Workload" && root) {
			t.Errorf("%s is described but does not exist", key)
		}
	}
}

func compile(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(SchemaID, doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile(SchemaID)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func asJSON(t *testing.T, text string) any {
	t.Helper()
	var v map[string]any
	err := yaml.Load([]byte(text), &v)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{full, small, contractExample, "{}", "a: &a [*a]", "---\n---\n", "[[[[", "{\"a\":\t1}", "spec: {env: {A: 1, A: 2}}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, err := Parse("f", data)
		if (err == nil) != (len(docs) > 0) {
			t.Fatalf("%d documents with error %v", len(docs), err)
		}
		var errs Errors
		if err != nil && !errors.As(err, &errs) {
			t.Fatalf("error is %T", err)
		}
		for _, e := range errs {
			if e.Line < 1 || e.Col < 1 {
				t.Fatalf("no place: %v", e)
			}
			_ = e.Excerpt()
		}
		for _, d := range docs {
			if problems := d.Workload.Validate(); len(problems) > 0 {
				t.Fatalf("accepted, though %v", problems)
			}
		}
	})
}

const contractExample = `apiVersion: cloudless/v1
kind: Workload
metadata: {name: hello, namespace: default, labels: {app: hello}}
spec:
  replicas: 3
  wasm: {module: hello.wasm, mode: http}
  container: {image: registry.example/hello:1.2, command: [], args: []}
  secrets: [{name: api-key, env: API_KEY}]
  resources: {cpu: 250m, memory: 64Mi, storage: 1Gi, bandwidth: 5Mbps}
  volumes: [{name: data, path: /data, size: 100Mi}, {bucket: assets, path: /assets, readOnly: true}]
  rollout: {strategy: rolling, maxSurge: 1, minAvailable: 2, canary: 0, autoRollback: true, deadline: 5m}
  schedule: "*/5 * * * *"
  egress: {allow: ["api.example.com:443"]}
`
