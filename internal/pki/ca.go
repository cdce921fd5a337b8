package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"time"

	"github.com/cloudless/cloudless/api"
)

// Lifetimes of what a CA makes; a member's leaf lives as long as the caller of Issue says.
const (
	caLifetime      = 10 * 365 * 24 * time.Hour
	apiCertLifetime = 30 * 24 * time.Hour
	backdate        = time.Hour // by which a verifier's clock may be behind ours
)

// Kinds of PEM blocks.
const (
	blockCert = "CERTIFICATE"
	blockKey  = "PRIVATE KEY"
	blockCSR  = "CERTIFICATE REQUEST"
)

// CA signs the certificates of one cluster. It does not change and is safe for concurrent use.
type CA struct {
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	keyPEM  []byte
	cluster string
}

// NewCA founds a cluster's CA.
func NewCA(clusterID string, now time.Time) (*CA, error) {
	if !validName(clusterID) {
		return nil, api.Errorf(api.CodeInvalid, "%q is not a valid cluster id", clusterID)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make CA key: %w", err)
	}
	t := template(now, now.Add(caLifetime))
	t.Subject = pkix.Name{CommonName: "Cloudless CA " + clusterID}
	t.URIs = []*url.URL{{Scheme: "spiffe", Host: clusterID}}
	t.IsCA, t.MaxPathLenZero = true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign CA certificate: %w", err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return LoadCA(pem.EncodeToMemory(&pem.Block{Type: blockCert, Bytes: der}), keyPEM)
}

// LoadCA reads what CertPEM and KeyPEM gave.
func LoadCA(certPEM, keyPEM []byte) (*CA, error) {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, api.Errorf(api.CodeInvalid, "the CA's key is not an ECDSA key")
	}
	cluster, err := clusterOf(pair.Leaf)
	if err != nil {
		return nil, err
	}
	return &CA{cert: pair.Leaf, key: key, keyPEM: keyPEM, cluster: cluster}, nil
}

// FindCA is LoadCA for a bundle of which one certificate belongs to the key.
func FindCA(bundlePEM, keyPEM []byte) (*CA, error) {
	cas, err := parseCerts(bundlePEM)
	if err != nil {
		return nil, err
	}
	for _, c := range cas {
		var ca *CA
		if ca, err = LoadCA(pem.EncodeToMemory(&pem.Block{Type: blockCert, Bytes: c.Raw}), keyPEM); err == nil {
			return ca, nil
		}
	}
	return nil, err
}

// clusterOf is the cluster that a CA certificate speaks for.
func clusterOf(ca *x509.Certificate) (string, error) {
	if !ca.IsCA || len(ca.URIs) != 1 || ca.URIs[0].Scheme != "spiffe" || ca.URIs[0].Host == "" {
		return "", api.Errorf(api.CodeInvalid, "the certificate is not the CA of a cluster")
	}
	return ca.URIs[0].Host, nil
}

// CertPEM is the CA's certificate, which everybody may know.
func (ca *CA) CertPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: blockCert, Bytes: ca.cert.Raw})
}

// KeyPEM is the CA's private key.
func (ca *CA) KeyPEM() []byte { return ca.keyPEM }

// Hash is the hex SHA-256 of the certificate, as join tokens carry it.
func (ca *CA) Hash() string { return hashOf(ca.cert) }

// ClusterID is the cluster that the CA speaks for.
func (ca *CA) ClusterID() string { return ca.cluster }

func hashOf(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// Issue signs a leaf for id. Of the request only the key counts, whatever names it asks for; its
// signature is checked, so that nobody gets a certificate for a key that is not theirs. The
// certificate is good for both ends of a connection.
func (ca *CA) Issue(csrPEM []byte, id Identity, hosts []string, now time.Time, ttl time.Duration) ([]byte, error) {
	if err := id.validate(); err != nil {
		return nil, err
	}
	if id.Cluster != ca.cluster {
		return nil, api.Errorf(api.CodeInvalid, "the CA of %s cannot name a member of %s", ca.cluster, id.Cluster)
	}
	pub, err := keyOfRequest(csrPEM)
	if err != nil {
		return nil, err
	}
	t := template(now, now.Add(ttl))
	t.Subject = pkix.Name{CommonName: id.ID}
	t.URIs = []*url.URL{id.url()}
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	addHosts(t, hosts)
	return ca.sign(t, pub)
}

func keyOfRequest(csrPEM []byte) (crypto.PublicKey, error) {
	block, _ := pem.Decode(csrPEM)
	if block == nil || block.Type != blockCSR {
		return nil, api.Errorf(api.CodeInvalid, "the certificate request is not PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "the certificate request is malformed: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, api.Errorf(api.CodeInvalid, "the certificate request is not signed by its own key: %w", err)
	}
	if pub, ok := csr.PublicKey.(*ecdsa.PublicKey); !ok || pub.Curve != elliptic.P256() {
		return nil, api.Errorf(api.CodeInvalid, "the certificate request's key is not ECDSA P-256")
	}
	return csr.PublicKey, nil
}

func (ca *CA) sign(t *x509.Certificate, pub crypto.PublicKey) ([]byte, error) {
	if t.NotAfter.After(ca.cert.NotAfter) {
		t.NotAfter = ca.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca.cert, pub, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockCert, Bytes: der}), nil
}

// APICertificate makes a certificate for the REST API: it names hosts and no member, and is good for
// a server only, so that it opens nothing on the mTLS port. It lives 30 days; make a new one in time.
func (ca *CA) APICertificate(hosts []string, now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make API key: %w", err)
	}
	t := template(now, now.Add(apiCertLifetime))
	t.Subject = pkix.Name{CommonName: "Cloudless API"}
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	addHosts(t, hosts)
	certPEM, err := ca.sign(t, key.Public())
	if err != nil {
		return tls.Certificate{}, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(certPEM, keyPEM)
}

// NewKeyCSR makes a private key and a request for a certificate of it. The request names nobody: the
// CA writes the name.
func NewKeyCSR() (keyPEM, csrPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate request: %w", err)
	}
	keyPEM, err = encodeKey(key)
	return keyPEM, pem.EncodeToMemory(&pem.Block{Type: blockCSR, Bytes: der}), err
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: der}), nil
}

func template(now, notAfter time.Time) *x509.Certificate {
	var serial [16]byte
	rand.Read(serial[:]) // never fails (crypto/rand)
	serial[0] &= 0x7f    // serial numbers are positive
	return &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(serial[:]),
		NotBefore:             now.Add(-backdate),
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
}

func addHosts(t *x509.Certificate, hosts []string) {
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else if h != "" {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
}
