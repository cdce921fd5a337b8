package state

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
)

var update = flag.Bool("update", false, "write the golden files under testdata anew")

var at = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

func spec(n int) api.WorkloadSpec {
	return api.WorkloadSpec{
		Replicas: &n, Wasm: &api.WasmSpec{Module: "m.wasm", Mode: api.ModeHTTP}, Env: map[string]string{"B": "2", "A": "1"},
		Resources: api.Resources{CPU: 250, Memory: 64 << 20},
	}
}

func hello(n int) api.Workload {
	return api.Workload{APIVersion: api.APIVersion, Kind: api.KindWorkload, Metadata: api.Metadata{Name: "hello", Namespace: "default"}, Spec: spec(n)}
}

var helloRef = api.Ref{Namespace: "default", Name: "hello"}

func replica(id, node string) api.Replica {
	return api.Replica{
		ID: id, Workload: helloRef, UID: "u-1", Version: 1, NodeID: node, Variant: api.VariantWasm, Desired: api.DesiredRun,
		Reserved: api.Reserved{CPU: 250, Memory: 64 << 20}, State: api.ReplicaPlaced,
		Decision: api.Decision{At: at, Nodes: 2, Refused: map[string]int{"memory": 1, "cpu": 1}, Chosen: node},
	}
}

func nodeRow(id string) api.Node { return api.Node{ID: id, Name: id, Region: "eu", Zone: "z1"} }

func registration(id string) *RegisterNode {
	return &RegisterNode{ID: id, Info: api.RegisterRequest{
		Addr: api.NodeAddr{Node: "10.0.0.1:7711"}, Region: "eu", Zone: "z1", Labels: map[string]string{"disk": "ssd"},
		Capacity: api.Reserved{CPU: 4000, Memory: 1 << 30}, Runtimes: api.Runtimes{WasmEngine: "compiler"}, Arch: "amd64", OS: "linux",
	}}
}

// samples holds one command of every kind, in an order in which none is refused.
func samples() []struct {
	name string
	cmd  Command
} {
	type row = struct {
		name string
		cmd  Command
	}
	by := &api.Caller{TokenID: "tok", Role: api.RoleAdmin, RequestID: "r1"}
	report := api.StatusReport{Epoch: 1, Reports: []api.ReplicaReport{{ReplicaID: "hello-1", State: api.ReplicaRunning, Ready: true, At: at}}}
	return []row{
		{"found", Command{Found: &Found{ClusterID: "c-1", Epoch: 1}}},
		{"setSealKey", Command{SetSealKey: &ByID{ID: "00ff"}}},
		{"putMember", Command{PutMember: &api.Member{ID: "s-1", Name: "one", NodeAddr: "10.0.0.1:7701"}}},
		{"putToken", Command{By: by, PutToken: &api.Token{ID: "tok", Role: api.RoleNode}}},
		{"useToken", Command{UseToken: &UseToken{TokenID: "tok", Role: api.RoleNode, Name: "n1"}}},
		{"enrolNode", Command{EnrolNode: &EnrolNode{Node: nodeRow("n1"), TokenID: "tok"}}},
		{"enrolSecond", Command{EnrolNode: &EnrolNode{Node: nodeRow("n2"), TokenID: "tok"}}},
		{"registerNode", Command{RegisterNode: registration("n1")}},
		{"putArtifact", Command{PutArtifact: &api.Artifact{Digest: "sha256:00", Size: 3, Kind: api.ArtifactWasm}}},
		{"putWorkload", Command{By: by, PutWorkload: &PutWorkload{Workload: hello(2), UID: "u-1", Create: true}}},
		{"noteUnplaced", Command{NoteUnplaced: &NoteUnplaced{Ref: helloRef, Missing: 1, Message: "1 node: 1 lacks cpu"}}},
		{"placeReplicas", Command{PlaceReplicas: &PlaceReplicas{Replicas: []api.Replica{replica("hello-1", "n1"), replica("hello-2", "n1")}}}},
		{"reportStatuses", Command{ReportStatuses: &ReportStatuses{NodeID: "n1", Report: report}}},
		{"goodbye", Command{Goodbye: &NodeGoodbye{ID: "n1", Kind: api.GoodbyeRestart}}},
		{"setLiveness", Command{SetLiveness: &SetLiveness{ID: "n1", Liveness: api.NodeSuspect, Reason: "silent"}}},
		{"cordon", Command{By: by, Cordon: &Cordon{ID: "n1", Cordoned: true}}},
		{"drain", Command{By: by, Drain: &DrainNode{ID: "n1", Drain: &api.Drain{Graceful: true, Deadline: at, Started: at}}}},
		{"orphanReplicas", Command{OrphanReplicas: &OrphanReplicas{IDs: []string{"hello-1"}, Orphan: true, Reason: "node n1 is lost"}}},
		{"scaleWorkload", Command{By: by, ScaleWorkload: &ScaleWorkload{Ref: helloRef, Replicas: 3}}},
		{"restartWorkload", Command{By: by, RestartWorkload: &ByRef{Ref: helloRef}}},
		{"rollbackWorkload", Command{By: by, RollbackWork: &RollbackWork{Ref: helloRef, Version: 1}}},
		{"stopReplicas", Command{StopReplicas: &StopReplicas{IDs: []string{"hello-2"}, Reason: "replaced"}}},
		{"forgetReplicas", Command{ForgetReplicas: &ByIDs{IDs: []string{"hello-1", "hello-2"}}}},
		{"deleteWorkload", Command{By: by, DeleteWorkload: &ByRef{Ref: helloRef}}},
		{"removeWorkload", Command{RemoveWorkload: &ByRef{Ref: helloRef}}},
		{"removeArtifact", Command{RemoveArtifact: &ByID{ID: "sha256:00"}}},
		{"remember", Command{Remember: &Answer{Key: "k", Fingerprint: "f", Status: 200, Body: []byte("{}"), Expires: at.Add(time.Hour)}}},
		{"recordEvent", Command{RecordEvent: &api.Event{Time: at, Type: api.EventLeaderElected, Severity: api.SeverityInfo, Resource: "cluster", Message: "one leads"}}},
		{"putPolicy", Command{By: by, PutPolicy: &api.NamespacePolicy{Namespace: "default", RequireSignature: []string{"RWQ"}}}},
		{"deletePolicy", Command{By: by, DeletePolicy: &ByID{ID: "default"}}},
		{"startRotation", Command{By: by, StartRotation: &api.Rotation{Kind: api.RotateCA, Old: "aa", New: "bb", OldCert: "old", NewCert: "new", Overlap: api.Duration(time.Hour), Deadline: api.Duration(time.Hour)}}},
		{"advanceRotation", Command{AdvanceRotation: &AdvanceRotation{Kind: api.RotateCA, New: "bb", Phase: api.PhaseUse, Forced: true}}},
		{"batch", Command{Batch: []Command{{Cordon: &Cordon{ID: "n1", Cordoned: false}}, {RevokeToken: &ByID{ID: "none"}}}}},
		{"revokeToken", Command{By: by, RevokeToken: &ByID{ID: "tok"}}},
		{"removeNode", Command{By: by, RemoveNode: &ByID{ID: "n1"}}},
		{"revokeNode", Command{By: by, RevokeNode: &RevokeNode{ID: "n2", Reason: "stolen"}}},
		{"removeMember", Command{RemoveMember: &ByID{ID: "s-1"}}},
	}
}

// Bytes that are in a log must be read for ever: a golden file changes only with codecVersion.
func TestGoldenBytes(t *testing.T) {
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			s.cmd.At = at
			got, err := s.cmd.Encode()
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", s.name+".golden")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("the bytes differ:\n%s", cmp.Diff(string(want), string(got)))
			}
			back, err := Decode(want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(s.cmd, back); diff != "" {
				t.Errorf("decoded differently:\n%s", diff)
			}
		})
	}
}

// Every operation of Command is among the samples.
func TestSamplesAreComplete(t *testing.T) {
	used := map[string]bool{"At": true, "By": true}
	for _, s := range samples() {
		v := reflect.ValueOf(s.cmd)
		for i := range v.NumField() {
			if !v.Field(i).IsZero() {
				used[v.Type().Field(i).Name] = true
			}
		}
	}
	typ := reflect.TypeFor[Command]()
	for i := range typ.NumField() {
		if name := typ.Field(i).Name; !used[name] {
			t.Errorf("no sample of %s", name)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"nothing": "", "another version": "\x02{}", "an unknown operation": "\x01" + `{"at":"2026-01-02T03:04:05Z","fly":{}}`,
		"more behind": "\x01{}{}", "cut short": "\x01" + `{"at":`,
	} {
		if _, err := Decode([]byte(in)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// What decodes also encodes, and then decodes to the same; applying it never panics.
func FuzzDecode(f *testing.F) {
	for _, s := range samples() {
		b, err := s.cmd.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Decode(data)
		if err != nil {
			return
		}
		b, err := c.Encode()
		if err != nil {
			return // a time beyond the year 9999 is read but not written
		}
		again, err := Decode(b)
		if err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		if b2, err := again.Encode(); err != nil || !bytes.Equal(b, b2) {
			t.Errorf("not stable: %v\n%s\n%s", err, b, b2)
		}
		New().Apply(1, c)
	})
}
