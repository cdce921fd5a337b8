package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
)

// base is what all configurations share. Sessions are never resumed: every connection shows its
// certificate, so that a role or a revocation counts at once.
func base(alpn ...string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: alpn, SessionTicketsDisabled: true}
}

// SplitConfig chooses a configuration by the protocols that a hello offers; an error from choose
// refuses the connection.
func SplitConfig(choose func(offered []string) (*tls.Config, error)) *tls.Config {
	cfg := base()
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return choose(hello.SupportedProtos)
	}
	return cfg
}

// ServerConfig takes peers of this cluster that have one of the roles.
func (c *Credentials) ServerConfig(alpn string, roles ...api.Role) *tls.Config {
	cfg := base(alpn)
	cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return &c.current.Load().cert, nil
	}
	// The CAs may change while the configuration lives, so VerifyConnection checks the chain.
	cfg.ClientAuth = tls.RequireAnyClientCert
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		return c.verify(cs, alpn, x509.ExtKeyUsageClientAuth, func(id Identity) error {
			if slices.Contains(roles, id.Role) {
				return nil
			}
			return api.Errorf(api.CodeForbidden, "%s may not use %s", id, alpn)
		})
	}
	return cfg
}

// JoinServerConfig is for those who have no certificate yet. It sends the CA along, for the joiner to
// compare with the hash in its token.
func (c *Credentials) JoinServerConfig() *tls.Config {
	cfg := base(api.ALPNJoin)
	cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if front := c.front.Load(); front != nil {
			return front, nil
		}
		return &c.current.Load().withCA, nil
	}
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if cs.NegotiatedProtocol != api.ALPNJoin {
			return api.Errorf(api.CodeUnauthorized, "the peer does not speak %s", api.ALPNJoin)
		}
		return nil
	}
	return cfg
}

// ClientConfig calls a member of this cluster and checks that it is the wanted one.
func (c *Credentials) ClientConfig(alpn string, want Identity) *tls.Config {
	cfg := base(alpn)
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &c.current.Load().cert, nil
	}
	// Go's own check is by DNS name; ours, in VerifyConnection, is by CA and URI name.
	cfg.InsecureSkipVerify = true
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		return c.verify(cs, alpn, x509.ExtKeyUsageServerAuth, func(id Identity) error {
			if id.matches(want) {
				return nil
			}
			return api.Errorf(api.CodeUnauthorized, "%s answered where %s was called", id, want)
		})
	}
	return cfg
}

// JoinClientConfig calls a coordinator knowing only the hash of its CA.
func JoinClientConfig(caHash string) *tls.Config {
	cfg := base(api.ALPNJoin)
	cfg.InsecureSkipVerify = true // no CA is known yet; VerifyConnection checks by hash
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if cs.NegotiatedProtocol != api.ALPNJoin {
			return api.Errorf(api.CodeUnauthorized, "the server does not speak %s", api.ALPNJoin)
		}
		return verifyJoin(cs.PeerCertificates, caHash)
	}
	return cfg
}

func verifyJoin(chain []*x509.Certificate, caHash string) error {
	i := slices.IndexFunc(chain, func(c *x509.Certificate) bool { return c.IsCA && hashOf(c) == caHash })
	if i < 1 {
		return api.Errorf(api.CodeUnauthorized, "the token belongs to another cluster, or to a CA that was rotated away: the server's CA is not the one that it names").
			WithHint("check the address in --join, or make a new token there")
	}
	cluster, err := clusterOf(chain[i])
	if err != nil {
		return err
	}
	if err := verifyChain(chain[0], poolOf(chain[i:i+1]), x509.ExtKeyUsageServerAuth); err != nil {
		return err
	}
	id, err := ParseIdentity(chain[0])
	if err != nil {
		return err
	}
	if id.Role != api.RoleServer || id.Cluster != cluster {
		return api.Errorf(api.CodeUnauthorized, "%s is not a coordinator", id)
	}
	return nil
}

// APIServerConfig serves people and the command line; get gives the certificate of the moment.
func APIServerConfig(get func() (*tls.Certificate, error)) *tls.Config {
	cfg := base("h2", "http/1.1")
	cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return get() }
	return cfg
}

// FileServerConfig serves with a certificate of the operator's own, and takes up the files' new
// contents when they change.
func FileServerConfig(certFile, keyFile string) (*tls.Config, error) {
	f := &filePair{certFile: certFile, keyFile: keyFile}
	if _, err := f.get(nil); err != nil {
		return nil, err
	}
	cfg := base("h2", "http/1.1")
	cfg.GetCertificate = f.get
	return cfg, nil
}

// filePair is a certificate and key on disk, read again when either file changed. While new files do
// not fit together (half written), the old pair is used.
type filePair struct {
	certFile, keyFile string

	mu    sync.Mutex
	stamp [2]time.Time
	pair  *tls.Certificate
}

func (f *filePair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	stamp := [2]time.Time{changed(f.certFile), changed(f.keyFile)}
	if f.pair != nil && stamp == f.stamp {
		return f.pair, nil
	}
	pair, err := tls.LoadX509KeyPair(f.certFile, f.keyFile)
	if err != nil {
		if f.pair != nil {
			return f.pair, nil
		}
		return nil, fmt.Errorf("load certificate %s: %w", f.certFile, err)
	}
	f.pair, f.stamp = &pair, stamp
	return f.pair, nil
}

func changed(file string) time.Time {
	info, err := os.Stat(file)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
