package coordinator

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cloudless/cloudless/internal/pki"
)

// A coordinator that takes up a CA which it has not known before, since it was away, starts again wherever
// a crash has cut that short: its certificate, its CA's key and the CAs that it trusts always fit.
func TestACrashWhileACAIsTakenUpKeepsNobodyFromStarting(t *testing.T) {
	t.Parallel()
	s := openServer(t)
	have := s.trust.Load()
	fresh, err := pki.NewCA(s.id.ClusterID, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	next := *have
	next.issuer, next.front, next.bundle = fresh, fresh, fresh.CertPEM()

	key := s.path(fileCAKey)
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(key, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.useTrust(have, &next); err == nil {
		t.Fatal("the key was written over a folder")
	}
	if err := os.RemoveAll(key); err != nil {
		t.Fatal(err)
	}
	identity, err := os.ReadFile(s.path(fileIdentity))
	if err != nil {
		t.Fatal(err)
	}
	for before, ca := range map[string]*pki.CA{"the key": have.issuer, "the CAs that are trusted": fresh} {
		if err := os.WriteFile(key, ca.KeyPEM(), 0o600); err != nil {
			t.Fatal(err)
		}
		again := &Server{cfg: s.cfg, log: s.log}
		if err := again.loadIdentity(identity); err != nil {
			t.Errorf("cut short before %s was written: %v", before, err)
		}
	}
}
