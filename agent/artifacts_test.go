package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"slices"
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

// An artifact comes from a coordinator, else from another node, and only if it is what its digest says.
func TestFetchFallsBackAndVerifies(t *testing.T) {
	c := newSite(t).coordinator("s-1", "127.0.0.1:0")
	one, two, three := c.open(c.config("one")), c.open(c.config("two")), c.open(c.config("three"))
	nodes := map[string]string{}
	for _, a := range []*Agent{one, two, three} {
		nodes[a.ID()] = a.cfg.Listener.Addr().String()
	}
	c.change(func() { c.table = tableOf(7, nodes) })
	for _, a := range []*Agent{one, two, three} {
		eventually(t, "the table", func() bool { _, index := a.table.have(); return index == 7 })
	}
	bad, good := digestOf("bad"), digestOf("good")
	c.change(func() { c.artifacts[bad], c.artifacts[good] = "evil", "evil" })
	if _, err := two.artifacts.Put(t.Context(), good, strings.NewReader("good")); err != nil {
		t.Fatal(err)
	}
	path, err := one.fetch(t.Context(), good)
	if err != nil {
		t.Fatalf("the coordinator's copy is wrong, another node's is right: %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "good" {
		t.Errorf("got %q", text)
	}
	for _, digest := range []string{bad, digestOf("unknown")} {
		if path, err := one.fetch(t.Context(), digest); err == nil || one.artifacts.Has(digest) {
			t.Errorf("%s: %q, %v", digest, path, err)
		}
	}
	c.stop() // the nodes have each other
	if _, err := three.fetch(t.Context(), good); err != nil {
		t.Errorf("with no coordinator: %v", err)
	}
}

// Many replicas that want one artifact share one download.
func TestConcurrentFetchesShareADownload(t *testing.T) {
	c := newSite(t).coordinator("s-1", "127.0.0.1:0")
	a := c.open(c.config("one"))
	digest := digestOf("big")
	release, err := a.table.lockDigest(t.Context(), digest)
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
	if len(a.table.locks) != 0 {
		t.Errorf("%d locks are left", len(a.table.locks))
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

// Logs and exec are the coordinators'; artifacts are for nodes too; whoever shows no certificate, or
// another cluster's, gets nothing at all.
func TestWhoMayCallANode(t *testing.T) {
	s := newSite(t)
	c := s.coordinator("s-1", "127.0.0.1:0")
	digest := digestOf(module)
	c.artifacts[digest] = module
	c.set = assigned(1, 1, digest, "r-1")
	a := c.open(c.config("one", wasmDriver(hello)))
	c.sees("a ready replica", func() bool { return c.last("r-1").Ready })
	want := pki.Identity{Cluster: cluster, Role: api.RoleNode, ID: a.ID()}
	stranger := newSite(t)
	paths := map[string]struct{ method, path string }{
		"logs": {http.MethodGet, api.PathReplicaLogs + "r-1"}, "exec": {http.MethodPost, api.PathReplicaExec + "r-1?cmd=true"},
		"artifact": {http.MethodGet, api.PathArtifacts + digest}, "no artifact": {http.MethodGet, api.PathArtifacts + digestOf("x")},
		"no digest": {http.MethodGet, api.PathArtifacts + "..%2f..%2fidentity.json"}, "no replica": {http.MethodGet, api.PathReplicaLogs + "r-9"},
		"anything": {http.MethodGet, "/"},
	}
	for who, tt := range map[string]struct {
		creds *pki.Credentials
		want  map[string]int
	}{
		"coordinator": {s.member(api.RoleServer, "s-1"), map[string]int{"logs": 200, "exec": 200, "artifact": 200, "no artifact": 404, "no digest": 400, "no replica": 404, "anything": 404}},
		"node":        {s.member(api.RoleNode, "n-two"), map[string]int{"logs": 403, "exec": 403, "artifact": 200, "no artifact": 404, "no digest": 400, "no replica": 403, "anything": 404}},
		"stranger":    {stranger.member(api.RoleServer, "s-1"), map[string]int{}},
	} {
		client := (&link.Dialer{Creds: tt.creds}).HTTPClient(api.ALPNNode, want)
		for what, p := range paths {
			req, err := http.NewRequestWithContext(t.Context(), p.method, "https://"+a.cfg.Listener.Addr().String()+p.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			status := 0
			if res, err := client.Do(req); err == nil {
				status = res.StatusCode
				text, _ := io.ReadAll(res.Body)
				res.Body.Close()
				if what == "artifact" && string(text) != module {
					t.Errorf("%s got %q", who, text)
				}
			}
			if status != tt.want[what] {
				t.Errorf("%s asks for %s: %d, want %d", who, what, status, tt.want[what])
			}
		}
		client.CloseIdleConnections()
	}
}

// Other nodes to ask are ready ones, few, and never the node itself.
func TestWhichPeersAreAsked(t *testing.T) {
	b := &tableBox{}
	if b.peers("n-1", 3) != nil {
		t.Error("peers without a table")
	}
	b.table = tableOf(1, map[string]string{"n-1": "a", "n-2": "b", "n-3": "c", "n-4": "d", "n-5": "e"})
	b.table.Nodes["n-5"] = api.NodePeer{State: api.NodeSuspect}
	got := b.peers("n-1", 10)
	slices.Sort(got)
	if !slices.Equal(got, []string{"n-2", "n-3", "n-4"}) || len(b.peers("n-1", 2)) != 2 {
		t.Errorf("peers are %v", got)
	}
}
