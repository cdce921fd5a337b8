package cli

import (
	"archive/tar"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

// readBundle gives the files of a bundle.
func readBundle(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for r := tar.NewReader(zip); ; {
		head, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out[path.Base(head.Name)] = string(data)
	}
}

// A secret in every place where one may be: none of them is in the bundle.
func TestSupportBundleHoldsNoSecret(t *testing.T) {
	const canary = "canary7f3a"
	s := newSession(t)
	s.env["CLOUDLESS_TOKEN"] = "cl_t-abcdefghij_" + canary
	s.env["PATH"] = ""
	s.api.workloads["default/web"] = api.Workload{
		Metadata: api.Metadata{Namespace: "default", Name: "web"},
		Spec:     api.WorkloadSpec{Env: map[string]string{"PLAIN_NAME": canary}, Container: &api.ContainerSpec{Image: "web:1", Command: []string{"serve"}, Args: []string{canary}}},
		Status:   &api.WorkloadStatus{Message: "cannot pull https://user:" + canary + "@registry.example/web"},
	}
	s.api.events = []api.Event{
		{ID: "1", Message: "Authorization: Bearer " + canary}, {ID: "2", Message: "token CL1.abc.t-1." + canary + " was used"},
		{ID: "3", Message: "started with DB_PASSWORD=" + canary}, {ID: "4", Message: `{"secret":"` + canary + `"}`},
		{ID: "5", Message: "-----BEGIN EC PRIVATE KEY-----\n" + canary + "\n-----END EC PRIVATE KEY-----"}, {ID: "6", Message: "cl_t-other_" + canary},
	}
	file := filepath.Join(s.dir, "bundle.tar.gz")
	if code := s.run("support", "bundle", file); code != 0 {
		t.Fatal(s.err.String())
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	got := readBundle(t, file)
	for name, text := range got {
		if strings.Contains(text, canary) {
			t.Errorf("%s holds a secret:\n%s", name, text)
		}
	}
	for name, want := range map[string]string{
		"workloads.json": "PLAIN_NAME", "events.json": "was used", "nodes.json": "edge-1", "config.json": s.env["CLOUDLESS_ADDRESS"],
		"version.json": "platform", "doctor.json": "clock", "metrics.txt": "cloudless_", "missing.txt": "status.json",
	} {
		if !strings.Contains(got[name], want) {
			t.Errorf("%s lacks %s:\n%s", name, want, got[name])
		}
	}
	s.want(2, "", "exists", "support", "bundle", file) // nothing is written over
}

// A bundle may be to find out why nothing can be reached.
func TestSupportBundleWithoutAToken(t *testing.T) {
	s := newSession(t)
	s.env["PATH"], s.env["CLOUDLESS_TOKEN"] = "", "@/there/is/none"
	file := s.path("bundle.tar.gz")
	s.want(0, "support bundle written to "+file+": look through it before you hand it on\n", "the token cannot be read", "support", "bundle", file)
	if got := readBundle(t, file); !strings.Contains(got["missing.txt"], "nodes.json: the token cannot be read") || got["platform.json"] == "" {
		t.Errorf("missing: %s", got["missing.txt"])
	}
}

func TestDoctorJudgesClocks(t *testing.T) {
	for _, tt := range []struct {
		skew   time.Duration
		status string
		detail string
	}{{time.Second, "ok", "within 2s"}, {-time.Minute, "warning", "1m0s behind"}, {2 * time.Hour, "failed", "2h0m0s ahead"}} {
		f := clocks([]client.Probe{{Address: "a:1", Skew: tt.skew}, {Address: "b:1", Err: io.EOF}})
		if f.Status != tt.status || !strings.Contains(f.Detail, tt.detail) {
			t.Errorf("%s: %+v", tt.skew, f)
		}
	}
	if f := clocks([]client.Probe{{Address: "a:1", Err: io.EOF, Skew: 4 * time.Hour}}); f.Status != "failed" || !strings.Contains(f.Detail, "4h0m0s ahead") {
		t.Errorf("a certificate that does not count yet: %+v", f)
	}
	if f := clocks([]client.Probe{{Err: io.EOF}}); f.Status != "warning" {
		t.Errorf("nobody to compare with: %+v", f)
	}
}

func TestDoctorCountsTheDaysOfCertificates(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	writeCertificate(t, filepath.Join(dir, "node.pem"), now.Add(-60*time.Hour), now.Add(12*time.Hour))
	f := certificates([]client.Probe{{Address: "a:1", NotAfter: now.Add(240 * time.Hour)}}, dir, now)
	if f.Status != "warning" || f.Detail != "a:1 has 10.0 days left; node.pem has 0.5 days left" {
		t.Errorf("%+v", f)
	}
	if f := certificates([]client.Probe{{Address: "a:1", NotAfter: now.Add(-time.Hour)}}, t.TempDir(), now); f.Status != "failed" || !strings.Contains(f.Detail, "has expired") {
		t.Errorf("%+v", f)
	}
}

func writeCertificate(t *testing.T, file string, from, to time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Every check answers, whether there is a cluster or not.
func TestDoctorMakesAllChecks(t *testing.T) {
	s := newSession(t)
	s.run("doctor", "-o", "json", "--data-dir", s.dir)
	var list api.List[finding]
	if err := json.Unmarshal(s.out.Bytes(), &list); err != nil {
		t.Fatal(err, s.out.String())
	}
	got := map[string]string{}
	for _, f := range list.Items {
		got[f.Check] = f.Status
	}
	for _, check := range []string{"platform", "disk", "cgroups", "containerd", "ports", "clock", "certificates", "cluster"} {
		if got[check] == "" {
			t.Errorf("no check of %s: %v", check, got)
		}
	}
	if got["clock"] != "ok" || got["cluster"] != "failed" { // the fake lets nobody see its status
		t.Errorf("%v", got)
	}
	s.env["CLOUDLESS_ADDRESS"] = "http://127.0.0.1:1"
	if code := s.run("doctor"); code != 1 || !strings.Contains(s.out.String(), "connection refused") {
		t.Errorf("%d\n%s", code, s.out.String())
	}
}
