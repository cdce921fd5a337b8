package dashboard

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
)

// What the page shows of a cluster: fields that are not there leave their cells empty, and text from the
// cluster stays text.
func TestThePageShowsTheCluster(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no node to run the page's script with")
	}
	script, err := filepath.Abs("app.js")
	if err != nil {
		t.Fatal(err)
	}
	const hostile, escaped = `<img src=x onerror="alert(1)">`, `%3Cimg%20src%3Dx%20onerror%3D%22alert(1)%22%3E%2F..%2F%25`
	in, err := json.Marshal(map[string]any{
		"workloads": []api.Workload{
			{Metadata: api.Metadata{Namespace: "default", Name: "web"}, Status: &api.WorkloadStatus{Phase: api.PhaseRunning, Desired: 2, Ready: 2,
				Replicas: []api.ReplicaStatus{{ID: "web-1", Node: "edge-1", Variant: api.VariantWasm, State: api.ReplicaRunning, Ready: true}, {ID: "web-2", Node: "edge-1", Reason: hostile, Restarts: 2}}}},
			{Metadata: api.Metadata{Namespace: "default", Name: "new"}},
			{Metadata: api.Metadata{Namespace: "shop", Name: "bad"}, Status: &api.WorkloadStatus{Phase: api.PhaseFailed, Desired: 1, Message: hostile}},
		},
		"nodes": []api.Node{{Name: "edge-1", State: api.NodeReady, Region: "eu", Zone: "a", Arch: "arm64"},
			{Name: "edge-2", State: api.NodeLost, Reason: hostile, Status: &api.NodeStatus{Replicas: 3, ChunkStore: &api.StoreStats{Chunks: 7, Used: 3 << 20, Capacity: 4 << 30, Full: true}}}},
		"events":  []api.Event{{ID: "7", Index: 7, Time: time.Unix(0, 5).UTC(), Severity: api.SeverityInfo, Type: "node.ready", Resource: "node/edge-1", Message: hostile}},
		"buckets": []api.BucketView{{Bucket: api.Bucket{Name: "photos", Replicas: 3}, Usage: api.BucketUsage{Objects: 2, Bytes: 5 << 20}}},
		"objects": api.ObjectList{Prefixes: []string{"2026/"}, Items: []*api.Object{{Bucket: "photos", Key: hostile + "/../%", Size: 12, ETag: "abc", Modified: time.Unix(0, 0).UTC()}}},
		"report":  api.StorageReport{Health: api.StorageDegraded, Reasons: []string{hostile}, Objects: 2, Used: 3 << 30, Capacity: 4 << 30, Nodes: make([]api.StorageNode, 2), Upkeep: api.StorageUpkeep{Missing: 3, Short: 2, Copying: 1}},
		"explanation": api.Explanation{Message: "no room", Nodes: []api.NodeExplanation{{Node: "edge-2", Variant: api.VariantWasm, Filter: "zone", Reason: hostile},
			{Node: "edge-1", Variant: api.VariantWasm, Score: api.Score{Total: 12.34, Parts: map[string]float64{"packing": 12.34}}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, "testdata/page.mjs", script)
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	var got map[string]any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := map[string]any{
		"workloads": []any{
			[]any{"default", "web", "running", "2/2", "edge-1", ""},
			[]any{"default", "new", "", "0/0", "", ""},
			[]any{"shop", "bad", "failed", "0/1", "", hostile},
		},
		"nodes":   []any{[]any{"edge-1", "ready", "eu", "a", "arm64", "", "", "", ""}, []any{"edge-2", "lost", "", "", "", "", "3", "7, 3.0 MiB of 4.0 GiB, full", hostile}},
		"events":  []any{[]any{"1970-01-01T00:00:00Z", "info", "node.ready", "node/edge-1", hostile}},
		"summary": "3 workloads, 2 nodes",
		"storage": "degraded: 2 objects, 3.0 GiB of 4.0 GiB used on 2 nodes; 3 copies of 2 chunks missing; 1 being copied, 0 done; " + hostile,
		"why": map[string]any{
			"title": "Placement of default/web: no room", "hidden": false,
			"replicas": []any{[]any{"web-1", "edge-1", "wasm", "running", "yes", "0", ""}, []any{"web-2", "edge-1", "", "", "no", "2", hostile}},
			"nodes":    []any{[]any{"edge-1", "wasm", "12.3", "packing 12.3"}, []any{"edge-2", "wasm", "", "zone: " + hostile}},
		},
		"closed":  true,
		"buckets": []any{[]any{"photos", "2", "5.0 MiB", "3"}},
		"objects": []any{[]any{"2026/"}, []any{hostile + "/../%", "12 B", "1970-01-01T00:00:00Z", "", "Download", "Delete"}},
		"place":   []any{"Buckets", "photos"},
		"last":    []any{[]any{"photos", "2", "5.0 MiB", "3"}},
		"asked": []any{
			"GET /v1/buckets/photos/objects?prefix=&cursor=&delimiter=%2F&limit=200 ",
			`DELETE /v1/objects/photos/` + escaped + ` "abc"`,
			"GET /v1/buckets/photos/objects?prefix=&cursor=&delimiter=%2F&limit=200 ",
			"GET /v1/buckets/photos/objects?prefix=&cursor=&delimiter=%2F&limit=200 ",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want - got +:\n%s", diff)
	}
}
