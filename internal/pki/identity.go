// Package pki is who is who in a cluster: its CA, the certificates of its nodes and servers, the join
// tokens, and every tls.Config that the program uses. No other package makes one.
//
// Keys are ECDSA P-256, the protocol is TLS 1.3 and nothing older. A member's name stands in its
// certificate as one URI, spiffe://CLUSTER/ROLE/ID, written by a coordinator and never taken from a
// request. Peers are checked by that name, not by DNS: machines may change addresses.
package pki

import (
	"crypto/x509"
	"net/url"
	"regexp"
	"strings"

	"github.com/cloudless/cloudless/api"
)

// Identity is a member's name. As a wish (see ClientConfig) empty fields mean "any".
type Identity struct {
	Cluster string
	Role    api.Role
	ID      string
}

// maxNameLen bounds the parts of an identity. A bound in the pattern would make it sixty times as large,
// and every process pays for that at its start.
const maxNameLen = 63

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

func validName(s string) bool { return len(s) <= maxNameLen && namePattern.MatchString(s) }

// String is the identity as the URI that stands in certificates.
func (id Identity) String() string { return id.url().String() }

func (id Identity) url() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: id.Cluster, Path: "/" + string(id.Role) + "/" + id.ID}
}

func (id Identity) validate() error {
	switch id.Role {
	case api.RoleNode, api.RoleServer, api.RoleAdmin, api.RoleOperator, api.RoleViewer:
	default:
		return api.Errorf(api.CodeInvalid, "%q is not a role", id.Role)
	}
	if !validName(id.Cluster) || !validName(id.ID) {
		return api.Errorf(api.CodeInvalid, "%q is not a valid identity", id.String())
	}
	return nil
}

// matches tells whether the identity is the wanted one.
func (id Identity) matches(want Identity) bool {
	return (want.Cluster == "" || id.Cluster == want.Cluster) &&
		(want.Role == "" || id.Role == want.Role) &&
		(want.ID == "" || id.ID == want.ID)
}

// ParseIdentity reads the one URI name of a certificate. A certificate without one, or with several,
// names nobody.
func ParseIdentity(cert *x509.Certificate) (Identity, error) {
	if len(cert.URIs) != 1 {
		return Identity{}, api.Errorf(api.CodeUnauthorized, "the certificate carries %d identities, not one", len(cert.URIs))
	}
	u := cert.URIs[0]
	parts := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	if u.Scheme != "spiffe" || len(parts) != 2 {
		return Identity{}, api.Errorf(api.CodeUnauthorized, "%q is not an identity of a cluster", u)
	}
	id := Identity{Cluster: u.Host, Role: api.Role(parts[0]), ID: parts[1]}
	if err := id.validate(); err != nil || id.String() != u.String() {
		return Identity{}, api.Errorf(api.CodeUnauthorized, "%q is not an identity of a cluster", u)
	}
	return id, nil
}
