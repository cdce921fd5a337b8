package pki

import (
	"encoding/base64"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
)

// A grant counts for one node and one artifact, by a CA of the cluster that is trusted now.
func TestAGrantIsForOneNodeAndOneArtifact(t *testing.T) {
	old, next := newCA(t, "c-1"), newCA(t, "c-1")
	creds := member(t, old, api.RoleNode, "n-9", time.Now())
	good, err := old.Grant("n-1", "sha256:a")
	if err != nil {
		t.Fatal(err)
	}
	if err := creds.CheckGrant(good, "n-1", "sha256:a"); err != nil {
		t.Errorf("refused: %v", err)
	}
	raw, _ := base64.RawURLEncoding.DecodeString(good)
	raw[len(raw)-1] ^= 1
	foreign, err := next.Grant("n-1", "sha256:a")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ grant, node, digest string }{
		"another node": {good, "n-2", "sha256:a"}, "another artifact": {good, "n-1", "sha256:b"}, "a bit": {base64.RawURLEncoding.EncodeToString(raw), "n-1", "sha256:a"},
		"nothing": {"", "n-1", "sha256:a"}, "no base64": {"%", "n-1", "sha256:a"}, "a CA that is not trusted": {foreign, "n-1", "sha256:a"},
	} {
		if err := creds.CheckGrant(tt.grant, tt.node, tt.digest); api.CodeOf(err) != api.CodeForbidden {
			t.Errorf("%s: %v", name, err)
		}
	}
	cert, key := issue(t, next, creds.Identity(), time.Now())
	both := append(next.CertPEM(), old.CertPEM()...)
	for bundle, want := range map[string][2]bool{string(both): {true, true}, string(next.CertPEM()): {false, true}} {
		if err := creds.Update(cert, key, []byte(bundle)); err != nil {
			t.Fatal(err)
		}
		for i, grant := range []string{good, foreign} {
			if got := creds.CheckGrant(grant, "n-1", "sha256:a") == nil; got != want[i] {
				t.Errorf("with a bundle of %d bytes grant %d counts: %v", len(bundle), i, got)
			}
		}
	}
}
