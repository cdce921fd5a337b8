package coordinator

import (
	"os"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/pki"
)

// A crash while a retired CA is forgotten leaves its key without its certificate: the next start forgets the rest.
func TestAHalfForgottenKeyIsForgotten(t *testing.T) {
	t.Parallel()
	s := openServer(t)
	old, err := pki.NewCA(s.id.ClusterID, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.holdCA(old.Hash(), api.CAKey{Cert: string(old.CertPEM()), Key: string(old.KeyPEM())}); err != nil {
		t.Fatal(err)
	}
	start := func() *Server {
		again := &Server{cfg: s.cfg, id: s.id}
		if err := again.openKeyring(s.trust.Load().issuer, nil); err != nil {
			t.Fatal(err)
		}
		return again
	}
	if !start().holds(api.RotateCA, old.Hash()) {
		t.Error("a whole key is not known at the next start")
	}
	if err := os.Remove(s.keyPath(old.Hash(), suffixCert)); err != nil {
		t.Fatal(err)
	}
	if start().holds(api.RotateCA, old.Hash()) || exists(s.keyPath(old.Hash(), suffixKey)) {
		t.Error("half of one is kept")
	}
}
