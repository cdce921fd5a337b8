package cli

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/manifest"
)

const module = "\x00asm\x01\x00\x00\x00"

func TestRunUploadsOnceAndUpdates(t *testing.T) {
	s := newSession(t)
	file := s.file("Hello_World.wasm", module)
	s.want(0, "workload hello-world created\n", "", "workload", "run", file, "--wait")
	s.want(0, "workload hello-world unchanged\n", "", "workload", "run", file)
	s.want(0, "workload hello-world updated\n", "", "run", file, "--replicas", "2", "--env", "A=b=c", "--label", "app=x")
	w := s.api.workloads["default/hello-world"]
	if len(s.api.artifacts) != 1 || !api.IsDigest(w.Spec.Wasm.Module) || string(s.api.artifacts[w.Spec.Wasm.Module]) != module {
		t.Errorf("artifacts %v, module %s", s.api.artifacts, w.Spec.Wasm.Module)
	}
	if w.Spec.Wasm.Mode != api.ModeHTTP || w.Spec.Env["A"] != "b=c" || w.Metadata.Labels["app"] != "x" || *w.Spec.Replicas != 2 {
		t.Errorf("workload is %+v", w)
	}
	s.want(0, "", "", "-q", "run", file)
	s.want(0, "hello-world\n", "", "-o", "name", "run", file)
}

func TestRunImagePorts(t *testing.T) {
	s := newSession(t)
	tarball := filepath.Join(s.dir, "app.tar")
	writeImage(t, tarball, map[string]string{
		"index.json":       `{"manifests":[{"digest":"sha256:aa"}]}`,
		"blobs/sha256/aa":  `{"config":{"digest":"sha256:bb"}}`,
		"blobs/sha256/bb":  `{"config":{"ExposedPorts":{"9090/tcp":{},"3000/tcp":{},"53/udp":{}}}}`,
		"blobs/sha256/raw": "not json",
	})
	saved := filepath.Join(s.dir, "saved.tar")
	writeImage(t, saved, map[string]string{"manifest.json": `[{"Config":"c.json"}]`, "c.json": `{"config":{}}`})
	for _, tt := range []struct {
		args []string
		name string
		port int
	}{
		{[]string{tarball}, "app", 3000}, {[]string{tarball, "--port", "81"}, "app", 81}, {[]string{saved}, "saved", 8080},
		{[]string{"registry.example/team/web:1.2"}, "web", 8080}, {[]string{"web@sha256:00", "--port", "90", "--name", "x"}, "x", 90},
	} {
		if code := s.run(append([]string{"workload", "run"}, tt.args...)...); code != 0 {
			t.Fatalf("%v: exit code %d: %s", tt.args, code, s.err.String())
		}
		spec := s.api.workloads["default/"+tt.name].Spec
		if spec.Container == nil || spec.Ports[0].Port != tt.port || spec.Env["PORT"] != fmt.Sprint(tt.port) {
			t.Errorf("%v: %+v %+v", tt.args, spec.Ports, spec.Env)
		}
	}
	s.want(1, "", "neither index.json nor manifest.json", "run", func() string {
		p := filepath.Join(s.dir, "empty.tar")
		writeImage(t, p, map[string]string{"hello": "x"})
		return p
	}())
}

func writeImage(t *testing.T, path string, files map[string]string) {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o600, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, text)
	}
	w.Close()
	if err := os.WriteFile(path, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestExitCodes(t *testing.T) {
	s := newSession(t)
	file := s.file("a.wasm", module)
	yaml := s.file("a.yaml", "apiVersion: cloudless/v1\nkind: Workload\nmetadata: {name: a}\nspec: {wasm: {module: a.wasm}}\n")
	bad := s.file("bad.yaml", "apiVersion: cloudless/v1\nkind: Workload\nmetadata: {name: a}\nspec:\n  replcias: 1\n  wasm: {module: a.wasm}\n")
	s.want(0, "workload a created\n", "", "workload", "create", "-f", yaml)
	s.want(5, "", "it exists (do something else)", "workload", "create", "-f", yaml)
	s.want(0, "workload a unchanged\n", "", "apply", "-f", s.dir+"/a.yaml")
	s.want(2, "", `bad.yaml:5:3: spec.replcias: unknown field "replcias": did you mean replicas?`, "apply", "-f", bad)
	s.want(2, "", "unknown flag: --nope", "workload", "list", "--nope")
	s.want(2, "", `did you mean list?`, "workload", "lst")
	s.want(2, "", `did you mean workload?`, "workloat")
	s.want(2, "", "too few arguments (usage: cloudless workload get NAME)", "workload", "get")
	s.want(2, "", "scale needs --replicas", "workload", "scale", "a")
	s.want(2, "", `--output "xml" is not one of`, "workload", "list", "-o", "xml")
	s.want(2, "", "exclude each other", "run", file, "--http", "--mode", "job")
	s.want(3, "", "there is no workload default/zzz", "workload", "get", "zzz")
	s.want(3, "", "there is no file", "run", s.dir+"/none.wasm")
	s.want(1, "", "neither a WebAssembly module nor an image tarball", "run", s.file("x.wasm", "hello"))
	s.want(1, "", "component", "run", s.file("c.wasm", "\x00asm\x0d\x00\x01\x00"))
	s.want(4, "", "viewers only", "status")
	s.want(2, "", "names another namespace", "apply", "-n", "other", "-f", s.file("ns.yaml", "apiVersion: cloudless/v1\nkind: Workload\nmetadata: {name: a, namespace: mine}\nspec: {wasm: {module: a.wasm}}\n"))
	s.want(7, "", "connection refused", "node", "list", "--address", "http://127.0.0.1:1")
	s.want(7, "", "127.0.0.1:2: connection refused", "node", "list", "--address", "http://127.0.0.1:1,http://127.0.0.1:2")
}

func TestErrorsAsJSON(t *testing.T) {
	s := newSession(t)
	for _, args := range [][]string{{"workload", "get", "zzz", "-o", "json"}, {"workload", "list", "--nope", "-ojson"}, {"-o=json", "workload", "lst"}} {
		code := s.run(args...)
		var b api.ErrorBody
		if err := json.Unmarshal(s.err.Bytes(), &b); err != nil || b.Error.Code.ExitCode() != code || b.Error.Message == "" || s.out.Len() > 0 {
			t.Errorf("%v: %d %v %s", args, code, err, s.err.String())
		}
	}
}

func TestListOutputs(t *testing.T) {
	s := newSession(t)
	file := s.file("a.wasm", module)
	for _, name := range []string{"web-1", "web-2", "api"} {
		s.run("run", file, "--name", name)
	}
	s.run("run", file, "--name", "far", "-n", "other")
	s.want(0, "api\nweb-1\nweb-2\n", "", "workload", "list", "-o", "name", "--sort-by", "name")
	s.want(0, "api    running  1/1  0  wasm  -\nweb-1  running  1/1  0  wasm  -\nweb-2  running  1/1  0  wasm  -\n", "", "workload", "list", "--no-headers", "--sort-by", "name")
	s.want(0, "NAME  PHASE    READY  RESTARTS  VARIANT  AGE\napi   running  1/1    0         wasm     -\n", "", "get", "api")
	s.want(0, "other/far\n", "", "workload", "list", "-A", "-q", "--field", "namespace=other")
	s.want(2, "", "there is no column", "workload", "list", "--sort-by", "colour")
	s.want(0, "workload api scaled\n", "", "workload", "scale", "ap", "--replicas", "4") // a unique prefix will do
	s.want(3, "", "did you mean web-1, web-2?", "workload", "get", "web")
	s.want(3, "", "did you mean api?", "workload", "delete", "ap")
	s.want(3, "", "did you mean web-1?", "workload", "get", "wbe-1")
	s.want(0, "workload web-2 deleted\n", "", "workload", "delete", "web-2", "--graceful")
	s.run("run", file, "--name", "web-2")
	s.want(0, "workload api deleted\n", "", "workload", "delete", "api", "--wait")
	s.want(0, "line 5\n", "", "workload", "logs", "web-1", "--tail", "5")
	s.run("workload", "list", "-o", "json")
	var list api.List[api.Workload]
	if err := json.Unmarshal(s.out.Bytes(), &list); err != nil || len(list.Items) != 2 || list.Index == 0 {
		t.Errorf("%v: %s", err, s.out.String())
	}
	s.run("workload", "get", "web-1", "-o", "yaml")
	if _, err := manifest.Parse("printed", s.out.Bytes()); err != nil {
		t.Errorf("what is printed cannot be applied: %v\n%s", err, s.out.String())
	}
}

func TestWait(t *testing.T) {
	s := newSession(t)
	file := s.file("a.wasm", module)
	s.api.slow = []string{"edge-9"}
	s.want(0, "workload a created\n", "have not taken up the routes yet: edge-9", "run", file, "--wait")
	s.api.ready = false
	s.want(6, "", "the work goes on", "workload", "scale", "a", "--replicas", "2", "--wait", "--timeout", "100ms")
	s.want(2, "", "is not ready or routed", "workload", "scale", "a", "--replicas", "2", "--wait=soon")
}

func TestPlanExitCodes(t *testing.T) {
	s := newSession(t)
	s.file("a.wasm", module)
	yaml := s.file("a.yaml", "apiVersion: cloudless/v1\nkind: Workload\nmetadata: {name: a}\nspec: {wasm: {module: a.wasm}}\n")
	out := "workload a: update\n  ~ spec.replicas: 1 -> 2\n  ! asks for spec.egress.allow: a.example:443\nNODE  VARIANT  SCORE  WHY\n"
	s.want(0, out, "", "workload", "plan", "-f", yaml)
	s.want(2, out, "", "diff", "-f", yaml, "--detailed-exitcode")
	s.want(0, out, "", "apply", "-f", yaml, "--dry-run")
	s.want(1, "", "there is no file", "plan", "-f", "none.yaml", "--detailed-exitcode")
	if len(s.api.workloads) != 0 {
		t.Error("a plan changed something")
	}
}

func TestTokens(t *testing.T) {
	s := newSession(t)
	s.want(0, "cl_t-1_s\n", "", "token", "create", "--role", "viewer", "-q")
	s.want(2, "", `--role "" is not one of`, "token", "create")
	s.want(0, "edge-1\n", "a token on the command line can be seen", "node", "list", "-q", "--token", "plain")
	s.want(0, "edge-1\n", "", "node", "list", "-q", "--token", "@"+s.file("t", "from-file\n"))
	s.stdin = "from-stdin\n"
	s.want(0, "edge-1\n", "", "node", "list", "-q", "--token", "-")
	s.env["CLOUDLESS_TOKEN"] = "from-env"
	s.want(0, "edge-1\n", "", "node", "list", "-q")
	want := []string{"Bearer plain", "Bearer from-file", "Bearer from-stdin", "Bearer from-env"}
	if d := cmp.Diff(want, s.api.auth[1:]); d != "" {
		t.Error(d)
	}
}

func TestContextsAndPrecedence(t *testing.T) {
	s := newSession(t)
	url := s.env["CLOUDLESS_ADDRESS"]
	delete(s.env, "CLOUDLESS_ADDRESS")
	s.want(0, "context one added\n", "", "context", "add", "one", "--address", url, "-n", "team", "--token", "@/secret/file")
	s.want(0, "context two added\n", "", "context", "add", "two", "--address", "http://two:1")
	s.want(0, "NAME  CURRENT  ADDRESS"+strings.Repeat(" ", len(url)-5)+"NAMESPACE\none   yes      "+url+"  team\ntwo   no       http://two:1"+strings.Repeat(" ", len(url)-12)+"  -\n", "", "context", "list")
	if info, err := os.Stat(s.env["CLOUDLESS_CONFIG"]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	s.env["CLOUDLESS_CONTEXT"] = "two"
	origin := func(setting string) string {
		s.run("config", "view", "--show-origin", "-o", "json")
		var m map[string]string
		json.Unmarshal(s.out.Bytes(), &m)
		return m[setting] + " from " + m[setting+"Origin"]
	}
	if got := origin("address"); got != "http://two:1 from context two" {
		t.Error(got)
	}
	s.env["CLOUDLESS_ADDRESS"] = "http://env:1"
	if got := origin("address"); got != "http://env:1 from environment CLOUDLESS_ADDRESS" {
		t.Error(got)
	}
	s.want(0, "context two is current\n", "", "context", "use", "two")
	s.want(3, "", "there is no context", "context", "use", "three")
	s.want(3, "", "there is no context", "node", "list", "--context", "three")
}

// What form errors have is known before flags and arguments have been read.
func TestWrongUseIsJSONWhereTheEnvironmentSaysSo(t *testing.T) {
	s := newSession(t)
	s.env["CLOUDLESS_OUTPUT"] = "json"
	s.want(2, "", `{"error":{"code":"invalid","message":"cloudless workload get: too few arguments"`, "workload", "get")
	s.want(2, "", "cloudless: cloudless workload get: too few", "workload", "get", "-o", "table")
}

// Wrong use is told before anything is done.
func TestAWrongWaitDoesNothing(t *testing.T) {
	s := newSession(t)
	s.file("a.wasm", module)
	yaml := s.file("a.yaml", "apiVersion: cloudless/v1\nkind: Workload\nmetadata: {name: a}\nspec: {wasm: {module: a.wasm}}\n")
	s.want(2, "", `--wait "reddy" is not ready or routed`, "workload", "create", "-f", yaml, "--wait=reddy")
	if len(s.api.workloads) > 0 {
		t.Errorf("there is %v", s.api.workloads)
	}
}

// A context is used from any folder, so the files that it names are those of where it was made.
func TestAContextNamesItsFilesForEveryFolder(t *testing.T) {
	s := newSession(t)
	t.Chdir(s.dir)
	s.want(0, "", "context one added", "context", "add", "one", "--address", "http://one:1", "--ca-cert", "ca.pem", "--client-key", "/key.pem", "--token", "@admin.token", "-o", "json")
	s.run("context", "list", "-o", "json")
	var list api.List[Context]
	if err := json.Unmarshal(s.out.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	want := []Context{{Name: "one", Address: "http://one:1", Token: "@" + s.path("admin.token"), CACert: s.path("ca.pem"), ClientKey: "/key.pem"}}
	if d := cmp.Diff(want, list.Items); d != "" {
		t.Error(d)
	}
}

func TestInitWritesManifestsThatParse(t *testing.T) {
	s := newSession(t)
	for _, args := range [][]string{{"--wasm", "my_Mod.wasm"}, {"--oci", "registry.example/x/app:1"}} {
		if code := s.run(append([]string{"init", "workload"}, args...)...); code != 0 {
			t.Fatal(s.err.String())
		}
		if _, err := manifest.Parse("init", s.out.Bytes(), manifest.AllowPaths()); err != nil {
			t.Errorf("%v\n%s", err, s.out.String())
		}
	}
}

func TestVersionAnswersWithoutServer(t *testing.T) {
	s := newSession(t)
	s.env["CLOUDLESS_ADDRESS"] = "http://127.0.0.1:1"
	s.run("version", "-o", "json")
	var v versionInfo
	if err := json.Unmarshal(s.out.Bytes(), &v); err != nil || v.Version == "" || v.Commit == "" || v.Go == "" || v.Platform == "" {
		t.Errorf("%v %+v", err, v)
	}
	for _, tt := range []struct {
		a, b string
		warn bool
	}{{"1.2.0", "v1.3.9", false}, {"1.2.0", "1.4.0", true}, {"1.2.0", "2.2.0", true}, {"dev", "1.0.0", false}} {
		if got := skew(tt.a, tt.b) != ""; got != tt.warn {
			t.Errorf("skew(%s, %s) = %v", tt.a, tt.b, got)
		}
	}
}

// Every command says what it does with an example, and every flag what it is for.
func TestEveryCommandIsDocumented(t *testing.T) {
	seen := 0
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		seen++
		if cmd.Short == "" || cmd.Example == "" {
			t.Errorf("%s lacks Short or Example", cmd.CommandPath())
		}
		if help := helpOf(cmd); cmd.Runnable() && strings.Index(help, "Examples:") > strings.Index(help, "Usage:") {
			t.Errorf("%s --help does not begin with examples:\n%s", cmd.CommandPath(), help)
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s lacks usage", cmd.CommandPath(), f.Name)
			}
		})
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(&Env{Getenv: os.Getenv, Now: time.Now}))
	if seen < 50 {
		t.Errorf("only %d commands seen: the walk is wrong", seen)
	}
}

func helpOf(cmd *cobra.Command) string {
	var buf bytes.Buffer
	cmd.SetOut(&buf)
	defer cmd.SetOut(nil)
	if err := cmd.Help(); err != nil {
		return err.Error()
	}
	return buf.String()
}

func TestTopAddsUpAndPutsTheHeaviestFirst(t *testing.T) {
	s := newSession(t)
	s.want(0, "NAMESPACE  NAME  CPU    MEMORY     REPLICAS  NODES\ndefault    api   1500m  900.0 KiB  1         a\ndefault    web   25m    4.0 MiB    2         a,b\n", "", "top", "workload", "-o", "wide")
	s.want(0, "default/web\ndefault/api\n", "", "top", "workload", "--sort-by", "memory", "-o", "name")
	s.want(0, "default/api\ndefault/web\n", "", "top", "workloads", "--sort-by", "cpu", "-q")
	s.want(0, "NAME    STATE  CPU  CPU%  MEMORY  MEMORY%  REPLICAS\nedge-1  ready  0m   -     0 B     -        0\n", "", "top", "node")
	s.want(2, "", "there is no column", "top", "node", "--sort-by", "colour")
}
