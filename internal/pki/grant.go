package pki

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/cloudless/cloudless/api"
)

// grantPurpose begins what a grant signs, so that no signature of the CA on anything else is one: a
// certificate begins with an ASN.1 sequence.
const grantPurpose = "cloudless artifact grant 1"

// Grant is the CA's word that a node may read an artifact, for other nodes to believe. It has no end:
// what a digest names never changes, and who could read it once may have kept it. A node that was
// revoked is refused by its certificate.
func (ca *CA) Grant(node, digest string) (string, error) {
	sig, err := ecdsa.SignASN1(rand.Reader, ca.key, grantHash(ca.cluster, node, digest))
	if err != nil {
		return "", fmt.Errorf("sign a grant: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sig), nil
}

// CheckGrant tells whether one of the CAs that are trusted now gave a grant.
func (c *Credentials) CheckGrant(grant, node, digest string) error {
	m := c.current.Load()
	sig, err := base64.RawURLEncoding.DecodeString(grant)
	if err == nil {
		hash := grantHash(m.identity.Cluster, node, digest)
		for _, ca := range m.cas {
			if key, ok := ca.PublicKey.(*ecdsa.PublicKey); ok && ecdsa.VerifyASN1(key, hash, sig) {
				return nil
			}
		}
	}
	return api.Errorf(api.CodeForbidden, "node %s shows no grant of the coordinators for artifact %s", node, digest)
}

// grantHash joins with a byte that is in no id and no digest of a caller: neither can reach into the other.
func grantHash(cluster, node, digest string) []byte {
	sum := sha256.Sum256([]byte(grantPurpose + "\x00" + cluster + "\x00" + node + "\x00" + digest))
	return sum[:]
}
