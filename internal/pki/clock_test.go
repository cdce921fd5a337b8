package pki

import (
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudless/cloudless/api"
)

// Clocks that are hours apart make certificates that do not count yet, or not any more: a joiner is
// told so with both times, and a member that starts with a wrong clock too.
func TestAClockThatIsHoursOffIsTold(t *testing.T) {
	for name, tt := range map[string]struct {
		off  time.Duration
		says string
	}{"ahead": {5 * time.Hour, "4h0m0s too early"}, "long ago": {-100 * time.Hour, "28h0m0s too late"}} {
		there := time.Now().Add(tt.off)
		ca, err := NewCA("c-test", time.Now().Add(-200*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		key, csr, err := NewKeyCSR()
		if err != nil {
			t.Fatal(err)
		}
		cert, err := ca.Issue(csr, Identity{Cluster: "c-test", Role: api.RoleServer, ID: "s-1"}, nil, there, api.LeafLifetime)
		if err != nil {
			t.Fatal(err)
		}
		chain := []*x509.Certificate{parse(t, cert), parse(t, ca.CertPEM())}
		joining := verifyJoin(chain, hashOf(chain[1]))
		creds, err := NewCredentials(cert, key, ca.CertPEM())
		if err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{"joining": joining, "starting": creds.CheckClock(time.Now())} {
			if api.CodeOf(err) != api.CodeUnauthorized {
				t.Fatalf("%s, %s: %v", name, what, err)
			}
			for _, want := range []string{chain[0].NotBefore.UTC().Format(time.RFC3339), chain[0].NotAfter.UTC().Format(time.RFC3339), "this machine's clock says", tt.says} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s, %s: %q lacks %q", name, what, err, want)
				}
			}
		}
		if err := creds.CheckClock(there); err != nil {
			t.Errorf("%s: with the right clock: %v", name, err)
		}
	}
}

// A renewal falls due by the clock, however little of the wait has gone by: that of a machine that was
// asleep for two days has jumped. Here the certificate is exchanged for one that is two days older.
func TestARenewalIsDueByTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, err := NewCA("c-test", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		key, csr, err := NewKeyCSR()
		if err != nil {
			t.Fatal(err)
		}
		issued := func(at time.Time) []byte {
			cert, err := ca.Issue(csr, Identity{Cluster: "c-test", Role: api.RoleNode, ID: "n-1"}, nil, at, api.LeafLifetime)
			if err != nil {
				t.Fatal(err)
			}
			return cert
		}
		creds, err := NewCredentials(issued(time.Now()), key, ca.CertPEM())
		if err != nil {
			t.Fatal(err)
		}
		wait := func() time.Duration {
			began := time.Now()
			if err := creds.AwaitRenewal(t.Context()); err != nil {
				t.Fatal(err)
			}
			return time.Since(began)
		}
		usual := time.Until(creds.RenewAt())
		if took := wait(); took < usual || took > usual+renewLook {
			t.Errorf("due after %s, was due in %s", took, usual)
		}
		if err := creds.Update(issued(time.Now()), key, ca.CertPEM()); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Hour, func() {
			if err := creds.Update(issued(time.Now().Add(-48*time.Hour)), key, ca.CertPEM()); err != nil {
				t.Error(err)
			}
		})
		if took := wait(); took < time.Hour || took > time.Hour+renewLook {
			t.Errorf("due after %s, the clock jumped after an hour", took)
		}
	})
}

func parse(t *testing.T, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("no PEM")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
