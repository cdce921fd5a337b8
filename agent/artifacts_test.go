package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/pki"
)

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// An artifact is what its digest says or is not taken, and once it is here nobody else is needed.
func TestFetchVerifiesAndKeeps(t *testing.T) {
	c := newSite(t).coordinator("s-1", "127.0.0.1:0")
	a := c.open(c.config("one"))
	bad, good := digestOf("bad"), digestOf("good")
	c.change(func() { c.artifacts[bad], c.artifacts[good] = "evil", "good" })
	path, err := a.fetch(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(path); string(text) != "good" {
		t.Errorf("got %q", text)
	}
	for digest, code := range map[string]api.Code{bad: api.CodeUnsupMedia, digestOf("unknown"): api.CodeNotFound} {
		if path, err := a.fetch(t.Context(), digest); api.CodeOf(err) != code || a.artifacts.Has(digest) {
			t.Errorf("%s: %q, %v", digest, path, err)
		}
	}
	c.stop()
	if _, err := a.fetch(t.Context(), good); err != nil {
		t.Errorf("with no coordinator: %v", err)
	}
}

// Many replicas that want one artifact share one download.
func TestConcurrentFetchesShareADownload(t *testing.T) {
	c := newSite(t).coordinator("s-1", "127.0.0.1:0")
	a := c.open(c.config("one"))
	digest := digestOf("big")
	release, err := a.downloads.lock(t.Context(), digest)
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	errs := make(chan error, 20)
	for range 20 {
		wait.Go(func() {
			_, err := a.fetch(t.Context(), digest)
			errs <- err
		})
	}
	if _, err := a.artifacts.Put(t.Context(), digest, strings.NewReader("big")); err != nil { // as the one that downloads does
		t.Fatal(err)
	}
	release()
	wait.Wait()
	close(errs)
	for err := range errs { // no coordinator has it: one that asked would have failed
		if err != nil {
			t.Error(err)
		}
	}
	if len(a.downloads.busy) != 0 {
		t.Errorf("%d locks are left", len(a.downloads.busy))
	}
}

func TestWhatAnAssignmentNamesIsKept(t *testing.T) {
	digest, coming := digestOf("a"), digestOf("b")
	set := assigned(1, 1, digest, "r-1")
	set.Specs[0].Spec.Container = &api.ContainerSpec{Image: "registry.example/app:1"}
	set.Prepare = []api.AssignedSpec{{Spec: api.WorkloadSpec{Container: &api.ContainerSpec{Image: coming}}}}
	for _, name := range []string{digest, coming, "registry.example/app:1"} {
		if !named(set)[name] {
			t.Errorf("%s is not kept", name)
		}
	}
	if len(named(set)) != 3 || len(named(nil)) != 0 {
		t.Errorf("kept: %v", named(set))
	}
}

// Security 8: what a node does for coordinators it does for them alone; whoever shows no certificate, or
// another cluster's, gets nothing at all. A route without a case here fails.
func TestWhoMayCallANode(t *testing.T) {
	s := newSite(t)
	c := s.coordinator("s-1", "127.0.0.1:0")
	digest := digestOf(module)
	c.artifacts[digest] = module
	c.set = assigned(1, 1, digest, "r-1")
	a := c.open(c.config("one", wasmDriver(hello)))
	c.sees("a ready replica", func() bool { return c.last("r-1").Ready })
	const logs, exec = "GET " + api.PathReplicaLogs + "{id}", "POST " + api.PathReplicaExec + "{id}"
	const scrub, collect = "POST " + api.PathStoreScrub, "POST " + api.PathStoreCollect
	cases := map[string]struct {
		route, path string
		open, shut  int
	}{
		"logs": {logs, api.PathReplicaLogs + "r-1", 200, 403}, "no replica": {logs, api.PathReplicaLogs + "r-9", 404, 403},
		"exec":  {exec, api.PathReplicaExec + "r-1?cmd=true", 200, 403},
		"scrub": {scrub, api.PathStoreScrub, 200, 403}, "collect": {collect, api.PathStoreCollect, 400, 403},
		"anything": {"GET /", "/", 404, 404},
	}
	tried := map[string]bool{}
	for _, c := range cases {
		tried[c.route] = true
	}
	for route := range a.nodeRoutes() {
		if !tried[route] {
			t.Errorf("%s: nobody has said who may ask for it", route)
		}
	}
	for who, creds := range map[string]*pki.Credentials{
		"a coordinator": s.member(api.RoleServer, "s-1"), "a node": s.member(api.RoleNode, "n-two"), "a stranger": newSite(t).member(api.RoleServer, "s-1"),
	} {
		client := (&link.Dialer{Creds: creds}).HTTPClient(api.ALPNNode, pki.Identity{Cluster: cluster, Role: api.RoleNode, ID: a.ID()})
		for what, c := range cases {
			want := map[string]int{"a coordinator": c.open, "a node": c.shut}[who]
			if status := askPort(t, client, a, c.route, c.path); status != want {
				t.Errorf("%s asks for %s: %d, want %d", who, what, status, want)
			}
		}
		client.CloseIdleConnections()
	}
}

// askPort makes one call; status 0 when there is no answer.
func askPort(t *testing.T, client *http.Client, a *Agent, route, path string) (status int) {
	t.Helper()
	method, _, _ := strings.Cut(route, " ")
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+a.cfg.Listener.Addr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}
