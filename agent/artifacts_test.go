package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"maps"
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
	bad, good := digestOf("bad"), digestOf("good")
	c.change(func() { c.table = tableOf(7, nodes) })
	for _, a := range []*Agent{one, two, three} {
		eventually(t, "the table", func() bool { _, index := a.table.have(); return index == 7 })
	}
	c.grant(one, good)
	c.grant(three, good)
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

// grant gives a node the right to read an artifact, as an assignment does.
func (s *site) grant(a *Agent, digest string) {
	s.Helper()
	grant, err := s.ca.Grant(a.ID(), digest)
	s.check(err)
	a.intake.mu.Lock()
	defer a.intake.mu.Unlock()
	a.intake.set = &api.AssignmentSet{NodeID: a.ID(), Grants: map[string]string{digest: grant}}
}

// Security 8: logs and exec are the coordinators'; an artifact is for them and for the node that they
// granted it to, whether it is here is told to no other; whoever shows no certificate, or another
// cluster's, gets nothing at all. A route without a case here fails.
func TestWhoMayCallANode(t *testing.T) {
	s := newSite(t)
	c := s.coordinator("s-1", "127.0.0.1:0")
	digest := digestOf(module)
	c.artifacts[digest] = module
	c.set = assigned(1, 1, digest, "r-1")
	a := c.open(c.config("one", wasmDriver(hello)))
	c.sees("a ready replica", func() bool { return c.last("r-1").Ready })
	stranger := newSite(t)
	const scrub, collect = "POST " + api.PathStoreScrub, "POST " + api.PathStoreCollect
	const logs, exec, artifact = "GET " + api.PathReplicaLogs + "{id}", "POST " + api.PathReplicaExec + "{id}", "GET " + api.PathArtifacts + "{digest}"
	cases := map[string]struct{ route, path string }{
		"logs": {logs, api.PathReplicaLogs + "r-1"}, "no replica": {logs, api.PathReplicaLogs + "r-9"}, "exec": {exec, api.PathReplicaExec + "r-1?cmd=true"},
		"artifact": {artifact, api.PathArtifacts + digest}, "no artifact": {artifact, api.PathArtifacts + digestOf("x")},
		"no digest": {artifact, api.PathArtifacts + "..%2f..%2fidentity.json"}, "anything": {"GET /", "/"},
		"scrub": {scrub, api.PathStoreScrub}, "collect": {collect, api.PathStoreCollect},
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
	grant := func(s *site, node, digest string) string {
		t.Helper()
		g, err := s.ca.Grant(node, digest)
		s.check(err)
		return g
	}
	open := map[string]int{"logs": 200, "no replica": 404, "exec": 200, "artifact": 200, "no artifact": 404, "no digest": 400, "anything": 404, "scrub": 200, "collect": 400}
	shut := map[string]int{"logs": 403, "no replica": 403, "exec": 403, "artifact": 403, "no artifact": 403, "no digest": 403, "anything": 404, "scrub": 403, "collect": 403}
	granted := maps.Clone(shut)
	granted["artifact"] = 200
	for who, tt := range map[string]struct {
		creds *pki.Credentials
		grant string
		want  map[string]int
	}{
		"a coordinator":                    {s.member(api.RoleServer, "s-1"), "", open},
		"a node that was granted it":       {s.member(api.RoleNode, "n-two"), grant(s, "n-two", digest), granted},
		"a node with nothing":              {s.member(api.RoleNode, "n-two"), "", shut},
		"a node with a grant of another":   {s.member(api.RoleNode, "n-two"), grant(s, "n-three", digest), shut},
		"a node with a grant of else":      {s.member(api.RoleNode, "n-two"), grant(s, "n-two", digestOf("y")), shut},
		"a node with a stranger's grant":   {s.member(api.RoleNode, "n-two"), grant(stranger, "n-two", digest), shut},
		"a node with a grant that is none": {s.member(api.RoleNode, "n-two"), "%%", shut},
		"a stranger":                       {stranger.member(api.RoleServer, "s-1"), grant(s, "s-1", digest), map[string]int{}},
	} {
		client := (&link.Dialer{Creds: tt.creds}).HTTPClient(api.ALPNNode, pki.Identity{Cluster: cluster, Role: api.RoleNode, ID: a.ID()})
		for what, c := range cases {
			status, text := askPort(t, client, a, c.route, c.path, tt.grant)
			if status != tt.want[what] {
				t.Errorf("%s asks for %s: %d, want %d", who, what, status, tt.want[what])
			}
			if what == "artifact" && (status == 200) != (text == module) {
				t.Errorf("%s got %q", who, text)
			}
		}
		client.CloseIdleConnections()
	}
}

// askPort makes one call; status 0 when there is no answer.
func askPort(t *testing.T, client *http.Client, a *Agent, route, path, grant string) (status int, body string) {
	t.Helper()
	method, _, _ := strings.Cut(route, " ")
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+a.cfg.Listener.Addr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(api.HeaderGrant, grant)
	res, err := client.Do(req)
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(text)
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
