package agent

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/pki"
)

// keys are what a CA gives a node.
type keys struct {
	*pki.CA
	pair []byte
}

func newKeys(t *testing.T, nodeID string) keys {
	t.Helper()
	ca, err := pki.NewCA(cluster, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, csr, err := pki.NewKeyCSR()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(csr, pki.Identity{Cluster: cluster, Role: api.RoleNode, ID: nodeID}, nil, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return keys{ca, slices.Concat(cert, key)}
}

// holding is an agent that has kept its keys.
func holding(t *testing.T, k keys) *Agent {
	t.Helper()
	a := &Agent{cfg: Config{DataDir: t.TempDir()}}
	var err error
	if a.creds, err = pki.NewCredentials(k.pair, k.pair, k.CertPEM()); err != nil {
		t.Fatal(err)
	}
	if err := a.saveKeys(k.pair, k.CertPEM()); err != nil {
		t.Fatal(err)
	}
	return a
}

// kept is what the next start finds.
func kept(t *testing.T, a *Agent) *pki.Credentials {
	t.Helper()
	pair, err := os.ReadFile(a.path(fileCert))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(a.path(fileCA))
	if err != nil {
		t.Fatal(err)
	}
	creds, err := pki.NewCredentials(pair, pair, ca)
	if err != nil {
		t.Fatal(err)
	}
	return creds
}

// A node that was away while the cluster's CA was replaced gets a certificate of the new one at once. Wherever
// it crashes meanwhile, it starts again.
func TestACrashWhileKeysAreReplacedLeavesThemWhole(t *testing.T) {
	before, after := newKeys(t, "n-1"), newKeys(t, "n-1")
	for n := range 4 {
		a := holding(t, before)
		for _, f := range keyFiles(before.CertPEM(), after.pair, after.CertPEM())[:n] {
			if err := os.WriteFile(a.path(f.name), f.data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want := before
		if n >= 2 {
			want = after
		}
		if got := kept(t, a).Issuer(); got != want.Hash() {
			t.Errorf("after %d writes the certificate is of CA %s, want %s", n, got, want.Hash())
		}
	}
}

// Keys that cannot be kept are not used either, and asked for again: the next start would not have them.
func TestKeysAreKeptBeforeTheyAreUsed(t *testing.T) {
	before, after := newKeys(t, "n-1"), newKeys(t, "n-1")
	a := holding(t, before)
	blocked := a.path(fileCert)
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(blocked, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := a.takeKeys(after.pair, after.CertPEM()); err == nil || a.creds.Issuer() != before.Hash() {
		t.Errorf("%v, and the certificate in use is of CA %s", err, a.creds.Issuer())
	}
	if err := os.RemoveAll(blocked); err != nil {
		t.Fatal(err)
	}
	if err := a.takeKeys(after.pair, after.CertPEM()); err != nil || a.creds.Issuer() != after.Hash() || kept(t, a).Issuer() != after.Hash() {
		t.Errorf("once it can be written: %v, and the certificate in use is of CA %s", err, a.creds.Issuer())
	}
}

// Keys that do not fit are refused before anything is written.
func TestKeysThatDoNotFitChangeNothing(t *testing.T) {
	mine, another := newKeys(t, "n-1"), newKeys(t, "n-2")
	a := holding(t, mine)
	for name, k := range map[string]struct{ pair, ca []byte }{
		"another node's": {another.pair, another.CertPEM()}, "another CA's": {mine.pair, another.CertPEM()}, "none": {nil, mine.CertPEM()},
	} {
		if err := a.takeKeys(k.pair, k.ca); err == nil || kept(t, a).Issuer() != mine.Hash() || a.creds.Issuer() != mine.Hash() {
			t.Errorf("%s: %v", name, err)
		}
	}
}
