package pki

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
)

// Credentials are a member's certificate and key and the CAs that it trusts. They can be replaced
// while connections are open: every handshake takes what is current, open connections go on.
type Credentials struct {
	current  atomic.Pointer[material]
	verifier atomic.Pointer[func(Identity) error]
	front    atomic.Pointer[tls.Certificate] // shown to joiners instead of the current one, if set
}

// material is one set of credentials; it does not change.
type material struct {
	cert     tls.Certificate // leaf alone
	withCA   tls.Certificate // leaf and the CA that signed it, for joiners that know only its hash
	identity Identity
	cas      []*x509.Certificate
	pool     *x509.CertPool // of cas
	caPEM    []byte
}

// NewCredentials checks that certificate, key and CA belong together. An expired certificate loads:
// its peers are the ones to refuse it.
func NewCredentials(certPEM, keyPEM, caPEM []byte) (*Credentials, error) {
	m, err := newMaterial(certPEM, keyPEM, caPEM)
	if err != nil {
		return nil, err
	}
	c := &Credentials{}
	c.current.Store(m)
	return c, nil
}

// Update replaces the certificate, key and CAs; the identity must stay the same.
func (c *Credentials) Update(certPEM, keyPEM, caPEM []byte) error {
	m, err := newMaterial(certPEM, keyPEM, caPEM)
	if err != nil {
		return err
	}
	if have := c.Identity(); m.identity != have {
		return api.Errorf(api.CodeInvalid, "the new certificate is for %s, not for %s", m.identity, have)
	}
	c.current.Store(m)
	return nil
}

func newMaterial(certPEM, keyPEM, caPEM []byte) (*material, error) {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("load certificate: %w", err)
	}
	id, err := ParseIdentity(pair.Leaf)
	if err != nil {
		return nil, err
	}
	cas, err := parseCerts(caPEM)
	if err != nil {
		return nil, err
	}
	// Signatures only: whether the certificate is valid at this time is for its peers to ask.
	i := slices.IndexFunc(cas, func(ca *x509.Certificate) bool { return pair.Leaf.CheckSignatureFrom(ca) == nil })
	if i < 0 {
		return nil, api.Errorf(api.CodeInvalid, "the certificate of %s is not signed by its CA", id)
	}
	full := pair
	full.Certificate = [][]byte{pair.Certificate[0], cas[i].Raw}
	return &material{cert: pair, withCA: full, identity: id, cas: cas, pool: poolOf(cas), caPEM: caPEM}, nil
}

func parseCerts(caPEM []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for block, rest := pem.Decode(caPEM); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, api.Errorf(api.CodeInvalid, "the CA certificate is malformed: %w", err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, api.Errorf(api.CodeInvalid, "there is no CA certificate")
	}
	return certs, nil
}

func poolOf(certs []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool
}

// Identity is who the credentials are for.
func (c *Credentials) Identity() Identity { return c.current.Load().identity }

// CheckClock tells when the certificate does not count at this moment: its machine's clock is wrong, or
// it was off for longer than the certificate lives.
func (c *Credentials) CheckClock(now time.Time) error {
	leaf := c.current.Load().cert.Leaf
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return outOfTime(api.Errorf(api.CodeUnauthorized, "this machine's certificate does not count now"), leaf, now)
	}
	return nil
}

// outOfTime says what the clocks say of a certificate, and by how much they differ at least.
func outOfTime(e *api.Error, leaf *x509.Certificate, now time.Time) *api.Error {
	off, which := leaf.NotBefore.Sub(now), "early"
	if now.After(leaf.NotAfter) {
		off, which = now.Sub(leaf.NotAfter), "late"
	}
	return e.WithHint("it counts from %s to %s, and this machine's clock says %s, which is %s too %s: set the clock that is wrong, and run NTP on all machines",
		leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339), off.Round(time.Minute), which)
}

// NotAfter is when the certificate ends.
func (c *Credentials) NotAfter() time.Time { return c.current.Load().cert.Leaf.NotAfter }

// RenewAt is when to ask for a new certificate: a third of its life is left then.
func (c *Credentials) RenewAt() time.Time {
	leaf := c.current.Load().cert.Leaf
	return leaf.NotAfter.Add(-leaf.NotAfter.Sub(leaf.NotBefore) / 3)
}

// renewLook is how often AwaitRenewal looks at the clock. A timer of days would stand still while the
// machine sleeps, and the certificate's end would not.
const renewLook = time.Minute

// AwaitRenewal returns when it is time to ask for a new certificate, in a second at the earliest, or with
// ctx's error.
func (c *Credentials) AwaitRenewal(ctx context.Context) error {
	for {
		left := time.Until(c.RenewAt())
		if err := run.Sleep(ctx, min(max(left, time.Second), renewLook)); err != nil {
			return err
		}
		if time.Until(c.RenewAt()) <= 0 {
			return nil
		}
	}
}

// Issuer is the hash of the CA that signed the certificate.
func (c *Credentials) Issuer() string {
	sum := sha256.Sum256(c.current.Load().withCA.Certificate[1])
	return hex.EncodeToString(sum[:])
}

// ShowJoiners makes the join protocol show another certificate of the same member, signed by the CA
// that join tokens name while a new CA signs already; nil ends that.
func (c *Credentials) ShowJoiners(certPEM, keyPEM, caPEM []byte) error {
	if certPEM == nil {
		c.front.Store(nil)
		return nil
	}
	m, err := newMaterial(certPEM, keyPEM, caPEM)
	if err != nil {
		return err
	}
	c.front.Store(&m.withCA)
	return nil
}

// CAPEM is the CAs that the credentials trust.
func (c *Credentials) CAPEM() []byte { return c.current.Load().caPEM }

// SetVerifier makes f decide, at every later handshake, whether a peer with a good certificate is
// still welcome (revocation). f must be quick and safe for concurrent use.
func (c *Credentials) SetVerifier(f func(Identity) error) { c.verifier.Store(&f) }

// verify checks a finished handshake: the protocol, the peer's chain against the CAs of this moment,
// and its name.
func (c *Credentials) verify(cs tls.ConnectionState, alpn string, usage x509.ExtKeyUsage, want func(Identity) error) error {
	if cs.NegotiatedProtocol != alpn {
		return api.Errorf(api.CodeUnauthorized, "the peer does not speak %s", alpn)
	}
	if len(cs.PeerCertificates) == 0 {
		return api.Errorf(api.CodeUnauthorized, "the peer showed no certificate")
	}
	m, leaf := c.current.Load(), cs.PeerCertificates[0]
	id, err := ParseIdentity(leaf)
	if err != nil {
		return err
	}
	if err := verifyChain(leaf, m.pool, usage); err != nil {
		return err
	}
	if id.Cluster != m.identity.Cluster {
		return api.Errorf(api.CodeUnauthorized, "%s belongs to another cluster", id)
	}
	if err := want(id); err != nil {
		return err
	}
	return c.Welcome(id)
}

// Welcome asks the verifier, if there is one.
func (c *Credentials) Welcome(id Identity) error {
	if f := c.verifier.Load(); f != nil && *f != nil {
		return (*f)(id)
	}
	return nil
}

func verifyChain(leaf *x509.Certificate, pool *x509.CertPool, usage x509.ExtKeyUsage) error {
	_, err := leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{usage}})
	if err == nil {
		return nil
	}
	refused := api.Errorf(api.CodeUnauthorized, "the peer's certificate is not valid here: %w", err)
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return outOfTime(refused, leaf, time.Now())
	}
	return refused
}
