package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/test/process"
)

// dev starts a development cluster on free ports.
func dev(t *testing.T, args ...string) (*process.Process, cli) {
	t.Helper()
	dir := shortDir(t)
	env := []string{"CLOUDLESS_CONFIG=" + filepath.Join(dir, "config.yaml"), "NO_COLOR=1"}
	all := append([]string{"dev", "-o", "json", "--data-dir", filepath.Join(dir, "data"), "--http-addr", "127.0.0.1:0", "--node-addr", "127.0.0.1:0",
		"--gossip-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0", "--ingress-addr", "127.0.0.1:0", "--s3-addr", "127.0.0.1:0"}, args...)
	p := start(t, env, all...)
	return p, cli{t, env}
}

func TestDevRunsAModule(t *testing.T) {
	p, c := dev(t, "--containerd", "off")
	c.must("workload", "run", helloModule, "--name", "hi", "--http", "--wait", "--env", "GREETING=moin")
	code, body := fetch(p.Get("ingress"), "hi.localhost", "/")
	if code != 200 || !strings.Contains(body, "hello") {
		t.Fatalf("GET / gave %d %q", code, body)
	}
	if out := c.must("workload", "run", helloModule, "--name", "hi", "--http", "--env", "GREETING=moin"); !strings.Contains(out, "unchanged") {
		t.Errorf("the same content again printed %q", out)
	}
	c.must("workload", "scale", "hi", "--replicas", "3", "--wait")
	var w api.Workload
	if err := json.Unmarshal([]byte(c.must("workload", "get", "hi", "-o", "json")), &w); err != nil {
		t.Fatal(err)
	}
	if w.Status == nil || w.Status.Ready != 3 || w.Status.Desired != 3 || len(w.Status.Replicas) != 3 {
		t.Errorf("after scale: %+v", w.Status)
	}
	c.must("workload", "delete", "hi", "--wait")
	if code, _ := fetch(p.Get("ingress"), "hi.localhost", "/"); code != 404 {
		t.Errorf("after delete: status %d, not 404", code)
	}
	if _, _, code := c.run("workload", "get", "hi"); code != 3 {
		t.Errorf("get of what is gone: exit %d, not 3", code)
	}
}

func TestDevRefusesBadInput(t *testing.T) {
	_, c := dev(t, "--containerd", "off")
	dir := shortDir(t)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	head := "apiVersion: cloudless/v1\nkind: Workload\nmetadata: {name: x}\nspec:\n"
	for _, tc := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"unknown field", []string{"apply", "-f", write("a.yaml", head+"  replcias: 2\n  wasm: {module: "+"sha256:"+strings.Repeat("0", 64)+"}\n")}, 2, "replicas"},
		{"not built", []string{"apply", "-f", write("b.yaml", head+"  exclusive: true\n  wasm: {module: "+"sha256:"+strings.Repeat("0", 64)+"}\n")}, 2, "not supported by this version"},
		{"unknown artifact", []string{"apply", "-f", write("c.yaml", head+"  wasm: {module: "+"sha256:"+strings.Repeat("0", 64)+"}\n")}, 3, "not in the cluster's store"},
		{"no such file", []string{"workload", "run", filepath.Join(dir, "none.wasm")}, 3, "none.wasm"},
		{"wrong token", []string{"workload", "list", "--token", "@" + write("token", "cl_t-aaaaaaaaaa_bbbb")}, 4, "token"},
		{"unreachable", []string{"workload", "list", "--address", "http://127.0.0.1:1"}, 7, "127.0.0.1:1"},
		{"no room", []string{"workload", "run", helloModule, "--name", "huge", "--memory", "900Ti", "--wait", "--timeout", "2s"}, 6, "memory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, errs, code := cli{t, c.env}.run(tc.args...)
			if code != tc.code || !strings.Contains(out+errs, tc.says) {
				t.Errorf("exit %d, not %d, or %q is not in:\n%s%s", code, tc.code, tc.says, out, errs)
			}
		})
	}
}

func TestDevSurvivesARestart(t *testing.T) {
	p, c := dev(t, "--containerd", "off")
	c.must("workload", "run", helloModule, "--name", "hi", "--http", "--wait")
	access, secret := p.Get("s3_access_key"), p.Get("s3_secret_key")
	if err := p.End(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p = start(t, c.env, p.Args()...)
	if access == "" || p.Get("s3_access_key") != access || p.Get("s3_secret_key") != secret {
		t.Errorf("the S3 key %q became %q", access, p.Get("s3_access_key"))
	}
	eventually(t, "the workload answers after kill -9 and restart", func() bool {
		code, body := fetch(p.Get("ingress"), "hi.localhost", "/")
		return code == 200 && strings.Contains(body, "hello")
	})
}

func TestDevOnAnotherAddressRefusesToStart(t *testing.T) {
	_, errs, code := cli{t, nil}.run("dev", "--ephemeral", "--http-addr", "0.0.0.0:0")
	if code != 2 || !strings.Contains(errs, "loopback") {
		t.Errorf("exit %d: %s", code, errs)
	}
}
