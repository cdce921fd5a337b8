package coordinator

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/coordinator/state"
	"github.com/cloudless/cloudless/internal/pki"
	"github.com/cloudless/cloudless/internal/telemetry"
)

// openServer founds a cluster of one.
func openServer(t *testing.T) *Server {
	t.Helper()
	tel, err := telemetry.New(telemetry.Config{Role: "coordinator", LogWriter: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Config{
		DataDir: filepath.Join(t.TempDir(), "[one"), Name: "one", Listener: ln, AdvertiseNode: ln.Addr().String(), AdvertiseHTTP: "https://127.0.0.1:1",
		GossipAddr: "127.0.0.1:0", AdvertiseHost: "127.0.0.1", Tel: tel, Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := tel.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the cluster to be founded", func() bool { return len(s.store.View().Tokens()) > 0 && s.sealHeld() != "" })
	return s
}

func do(t *testing.T, s *Server, cmd state.Command) {
	t.Helper()
	if _, _, err := s.propose(t.Context(), cmd); err != nil {
		t.Fatal(err)
	}
}

// enrolled is a node's id and certificate.
func enrolled(t *testing.T, s *Server, name string) (string, *x509.Certificate) {
	t.Helper()
	tok, err := s.CreateToken(t.Context(), api.Caller{}, api.TokenRequest{Role: api.RoleNode})
	if err != nil {
		t.Fatal(err)
	}
	_, csr, err := pki.NewKeyCSR()
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.enrolPeer(t.Context(), api.EnrolRequest{Token: tok.Secret, Role: api.RoleNode, CSR: string(csr), Name: name, Region: "eu", Zone: "z"})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(resp.Cert))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	do(t, s, state.Command{RegisterNode: &state.RegisterNode{ID: resp.ID, Info: api.RegisterRequest{
		Addr: api.NodeAddr{Node: "127.0.0.1:1"}, Region: "eu", Zone: "z", Capacity: api.Reserved{CPU: 1000, Memory: 1 << 30}, Runtimes: api.Runtimes{WasmEngine: "x"},
	}}})
	return resp.ID, cert
}

func askNode(s *Server, cert *x509.Certificate, pattern, path string, body any) *httptest.ResponseRecorder {
	method, route, _ := strings.Cut(pattern, " ")
	if path == "" {
		path = route
	}
	data, _ := json.Marshal(body) // structs of the API
	r := httptest.NewRequest(method, path, bytes.NewReader(data))
	r.TLS = nil
	if cert != nil {
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
	}
	rec := httptest.NewRecorder()
	s.nodeAPI().ServeHTTP(rec, r)
	return rec
}

// askLine asks what a node would ask on a line.
func askLine(s *Server, node string, kind byte, in any, out encoding.BinaryUnmarshaler) error {
	body, _ := json.Marshal(in) // structs of the API
	if c, ok := in.(meta.Commands); ok {
		body, _ = c.MarshalBinary()
	}
	outcome, text := s.answerLine(context.Background(), pki.Identity{Cluster: s.id.ClusterID, Role: api.RoleNode, ID: node}, kind, body)
	if outcome == api.LineError {
		var refused api.ErrorBody
		if err := json.Unmarshal(text, &refused); err != nil {
			return err
		}
		return refused.Error
	}
	if out == nil {
		return nil
	}
	return out.UnmarshalBinary(text)
}

// Security 8: on every route of the node API, node A can do nothing to node B's objects and learns
// nothing of them. A route without a case here fails.
func TestANodeActsForItselfAlone(t *testing.T) {
	t.Parallel()
	s := openServer(t)
	a, certA := enrolled(t, s, "a")
	b, _ := enrolled(t, s, "b")
	digest := "sha256:cd5d4935a48c0672cb06407bb443bc0087aff947c6b864bac886982c73b3027f"
	do(t, s, state.Command{PutArtifact: &api.Artifact{Digest: digest, Size: 4, Kind: api.ArtifactWasm}})
	w := api.Workload{APIVersion: api.APIVersion, Kind: api.KindWorkload, Metadata: api.Metadata{Name: "hi", Namespace: "default"}}
	w.Spec.Wasm = &api.WasmSpec{Module: digest, Mode: api.ModeHTTP}
	none := 0
	w.Spec.Replicas = &none // the reconciler is not to place any
	w.Default()
	do(t, s, state.Command{PutWorkload: &state.PutWorkload{Workload: w, UID: "w-1"}})
	const replica = "hi-of-b"
	do(t, s, state.Command{Batch: []state.Command{
		{ScaleWorkload: &state.ScaleWorkload{Ref: w.Ref(), Replicas: 1}},
		{PlaceReplicas: &state.PlaceReplicas{Replicas: []api.Replica{{ID: replica, Workload: w.Ref(), UID: "w-1", Version: 1, NodeID: b, Variant: api.VariantWasm, Desired: api.DesiredRun, State: api.ReplicaPlaced}}}},
	}})
	report := api.ReplicaReport{ReplicaID: replica, State: api.ReplicaRunning, Ready: true, At: time.Now()}
	_, csr, err := pki.NewKeyCSR()
	if err != nil {
		t.Fatal(err)
	}
	s3Key := madeS3Key(t, s, api.TokenRequest{S3: true})
	cases := map[string]struct {
		path   string
		body   any
		status int
		hides  string // what the answer must not hold
	}{
		"POST " + api.PathRegister:    {"", api.RegisterRequest{Addr: api.NodeAddr{Node: "127.0.0.1:2"}, Region: "eu", Zone: "z"}, 200, ""},
		"POST " + api.PathHeartbeat:   {"", api.Heartbeat{Seq: 7}, 200, ""},
		"GET " + api.PathAssignments:  {"", nil, 200, replica},
		"GET " + api.PathEndpoints:    {"", nil, 200, digest},
		"POST " + api.PathStatuses:    {"", api.StatusReport{Reports: []api.ReplicaReport{report}}, 200, ""},
		"POST " + api.PathNodeEvents:  {"", api.NodeEvents{Events: []api.Event{{Type: "x", Node: "b", Resource: "node/b"}}}, 200, ""},
		"POST " + api.PathGoodbye:     {"", api.Goodbye{Kind: api.GoodbyeRestart}, 200, ""},
		"POST " + api.PathDrainSelf:   {"", struct{}{}, 200, ""},
		"POST " + api.PathRenew:       {"", api.RenewRequest{CSR: string(csr)}, 200, ""},
		"GET " + api.PathTrust:        {"", nil, 200, "PRIVATE KEY"},
		"POST " + api.PathStoreKey:    {"", api.SigningKeyRequest{AccessKey: s3Key.ID, Date: time.Now().UTC().Format(signingDay)}, 200, s3Key.Secret},
		"POST " + api.PathMetaRead:    {"", meta.Queries{Queries: []meta.Query{{Buckets: true}}}, 200, ""},
		"GET " + api.PathStoreMembers: {"", nil, 200, ""},
		"POST " + api.PathStoreShort:  {"", api.StoreShort{Chunks: []string{digest}}, 200, ""},
	}
	before := rowsOf(s, b)
	for pattern := range s.nodeRoutes() {
		c, known := cases[pattern]
		if !known {
			t.Errorf("%s: nobody has said what node A may do with it", pattern)
			continue
		}
		rec := askNode(s, certA, pattern, c.path, c.body)
		if rec.Code != c.status || c.hides != "" && strings.Contains(rec.Body.String(), c.hides) {
			t.Errorf("%s: %d %s", pattern, rec.Code, rec.Body)
		}
		if diff := cmp.Diff(before, rowsOf(s, b)); diff != "" {
			t.Errorf("%s as node A changed node B:\n%s", pattern, diff)
		}
	}
	lines := map[byte]any{
		api.LineMetaApply: meta.Commands{Commands: []meta.Command{bucket("assets")}},
		api.LineMetaRead:  meta.Queries{Queries: []meta.Query{{Bucket: "assets"}}},
	}
	for kind := range byte(10) {
		body, known := lines[kind]
		if err := askLine(s, a, kind, body, nil); known != (err == nil) {
			t.Errorf("a question of kind %d: %v", kind, err)
		}
		if diff := cmp.Diff(before, rowsOf(s, b)); diff != "" {
			t.Errorf("a question of kind %d of node A changed node B:\n%s", kind, diff)
		}
	}
	told := s.events.match(api.EventQuery{})
	for _, e := range told {
		if e.Type == "x" && e.Node != "a" {
			t.Errorf("node A spoke for %s", e.Node)
		}
	}
	if sig := s.signals.get(a); sig.heartbeat.Seq != 7 || s.signals.get(b).heartbeat.Seq != 0 {
		t.Error("a heartbeat counted for another node")
	}

	t.Run("strangers", func(t *testing.T) {
		server := serverCert(t, s)
		for pattern := range s.nodeRoutes() {
			path := cases[pattern].path
			for who, cert := range map[string]*x509.Certificate{"nobody": nil, "a coordinator": server} {
				if rec := askNode(s, cert, pattern, path, nil); rec.Code != http.StatusForbidden {
					t.Errorf("%s as %s: %d", pattern, who, rec.Code)
				}
			}
		}
		do(t, s, state.Command{RemoveNode: &state.ByID{ID: a}})
		for pattern := range s.nodeRoutes() {
			if rec := askNode(s, certA, pattern, cases[pattern].path, nil); rec.Code != http.StatusForbidden {
				t.Errorf("%s as a removed node: %d", pattern, rec.Code)
			}
		}
		for kind, body := range lines {
			if err := askLine(s, a, kind, body, nil); api.CodeOf(err) != api.CodeForbidden {
				t.Errorf("a question of kind %d of a removed node: %v", kind, err)
			}
		}
	})
}

// A node that is full of replicas, none of which is well, can tell of all of them at once: until it has, a new
// epoch decides on none.
func TestTheLargestReportIsTaken(t *testing.T) {
	t.Parallel()
	s := openServer(t)
	id, cert := enrolled(t, s, "a")
	epoch := s.store.View().Meta().Epoch
	longest := strings.Repeat("n", api.MaxNameLen)
	rep := api.StatusReport{Epoch: epoch, Full: true}
	for i := range api.MaxReplicas {
		replica := fmt.Sprintf("%s-%d", longest, i)
		rep.Reports = append(rep.Reports, api.ReplicaReport{
			ReplicaID: replica, State: api.ReplicaStopped, At: time.Now(), Reason: strings.Repeat("w", 200),
			Assignment: &api.Assignment{ReplicaID: replica, Workload: api.Ref{Namespace: longest, Name: longest}, UID: longest, Version: 1, Variant: api.VariantContainer, Desired: api.DesiredRun},
		})
	}
	if rec := askNode(s, cert, "POST "+api.PathStatuses, "", rep); rec.Code != http.StatusOK {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if n, _ := s.store.View().Node(id); n.Epoch != epoch {
		t.Errorf("the node's epoch is %d, want %d", n.Epoch, epoch)
	}
	rep.Reports[0].Reason = strings.Repeat("w", api.MaxReportBytes)
	if rec := askNode(s, cert, "POST "+api.PathStatuses, "", rep); rec.Code != http.StatusBadRequest {
		t.Errorf("a report over the limit: %d %s", rec.Code, rec.Body)
	}
}

func serverCert(t *testing.T, s *Server) *x509.Certificate {
	t.Helper()
	_, csr, err := pki.NewKeyCSR()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.trust.Load().issuer.Issue(csr, s.serverIdentity(s.id.ID), nil, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(out)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// rowsOf is what the state says of a node and its replicas, without what the leader does by itself.
func rowsOf(s *Server, id string) []any {
	v := s.store.View()
	n, _ := v.Node(id)
	row := *n
	row.Liveness, row.State, row.Reason, row.ChangedAt, row.ModifyIndex, row.Failures = "", "", "", time.Time{}, 0, 0
	out := []any{row}
	for _, r := range v.ReplicasOn(id) {
		out = append(out, struct {
			ID    string
			State api.ReplicaState
			Ready bool
		}{r.ID, r.State, r.Ready})
	}
	return out
}
