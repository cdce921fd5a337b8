package security

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/pki"
)

// Security 2: whatever is wrong with a join token, the answer is 401 and the audit log has one line.
func TestABadJoinTokenIsRefusedAndAuditedOnce(t *testing.T) {
	s := newSite(t, 1, 0)
	c := s.coords[0]
	once := s.token(api.TokenRequest{Role: api.RoleNode, Uses: 1})
	revoked := s.token(api.TokenRequest{Role: api.RoleNode})
	if err := s.admin.RevokeToken(t.Context(), tokenID(t, revoked)); err != nil {
		t.Fatal(err)
	}
	good := s.token(api.TokenRequest{Role: api.RoleNode})
	expired := s.token(api.TokenRequest{Role: api.RoleNode, TTL: api.Duration(time.Millisecond)})
	made := time.Now()
	s.eventually("its millisecond is over", func() bool { return time.Since(made) > 2*time.Millisecond })
	enrol := func(token string, role api.Role, name string) error {
		_, csr, err := pki.NewKeyCSR()
		if err != nil {
			t.Fatal(err)
		}
		_, err = link.Enrol(t.Context(), nil, []string{c.node}, api.EnrolRequest{Token: token, Role: role, Name: name, CSR: string(csr), Region: "eu", Zone: "z"})
		return err
	}
	if err := enrol(once, api.RoleNode, "first"); err != nil {
		t.Fatal(err)
	}
	for i, bad := range []struct {
		what, token string
		role        api.Role
	}{
		{"past its number of uses", once, api.RoleNode},
		{"expired", expired, api.RoleNode},
		{"revoked", revoked, api.RoleNode},
		{"for another role", good, api.RoleServer},
		{"for another name", s.token(api.TokenRequest{Role: api.RoleNode, Name: "somebody-else"}), api.RoleNode},
		{"with a wrong secret", good + "x", api.RoleNode},
		{"of an id that does not exist", strings.Replace(good, tokenID(t, good), "t-nobody", 1), api.RoleNode},
		{"for people", s.token(api.TokenRequest{Role: api.RoleAdmin}), api.RoleNode},
	} {
		name := fmt.Sprintf("bad-%d", i)
		before := len(c.auditLines(t))
		err := enrol(bad.token, bad.role, name)
		if api.CodeOf(err) != api.CodeUnauthorized {
			t.Errorf("a token %s: %v", bad.what, err)
		}
		if bad.what == "for people" {
			continue // the joiner itself sees that it is none; nothing is sent
		}
		lines := c.auditLines(t)[before:]
		if len(lines) != 1 || lines[0]["object"] != name || lines[0]["outcome"] != string(api.CodeUnauthorized) {
			t.Errorf("a token %s: audited as %v", bad.what, lines)
		}
	}
	if list, err := s.admin.Nodes(t.Context(), api.ListQuery{}); err != nil || len(list.Items) != 1 {
		t.Errorf("nodes %v %v", list.Items, err)
	}
	files, err := coordinator.AuditFiles(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := coordinator.VerifyAudit(files); err != nil {
		t.Error(err)
	}
}

func tokenID(t *testing.T, secret string) string {
	t.Helper()
	tok, err := pki.ParseJoinToken(secret)
	if err != nil {
		t.Fatal(err)
	}
	return tok.ID
}

// Security 3: a node that asks for a coordinator's name gets its own, at enrolment and at renewal.
func TestACertificateRequestCannotChooseItsName(t *testing.T) {
	s := newSite(t, 1, 0)
	c := s.coords[0]
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	wish := &url.URL{Scheme: "spiffe", Host: c.ClusterID(), Path: "/server/" + c.ID()}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{wish}, DNSNames: []string{"localhost", c.name}}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	resp, err := link.Enrol(t.Context(), nil, []string{c.node}, api.EnrolRequest{
		Token: s.token(api.TokenRequest{Role: api.RoleNode}), Role: api.RoleNode, Name: "thief", CSR: csr, Region: "eu", Zone: "z",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := pki.Identity{Cluster: c.ClusterID(), Role: api.RoleNode, ID: resp.ID}
	check := func(when, certPEM string) {
		block, _ := pem.Decode([]byte(certPEM))
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := pki.ParseIdentity(cert); err != nil || id != want || len(cert.DNSNames) != 0 {
			t.Errorf("%s: named %v %v %v, want %v", when, id, cert.DNSNames, err, want)
		}
	}
	check("at enrolment", resp.Cert)
	if resp.CAKey != "" {
		t.Error("a node was given the CA's key")
	}

	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	creds, err := pki.NewCredentials([]byte(resp.Cert), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), []byte(resp.CA))
	if err != nil {
		t.Fatal(err)
	}
	var renewed api.RenewResponse
	status, err := callNode(t, c, creds, "POST", api.PathRenew, api.RenewRequest{CSR: csr}, &renewed)
	if err = errors.Join(err); err != nil || status != 200 {
		t.Fatal(status, err)
	}
	check("at renewal", renewed.Cert)
}
