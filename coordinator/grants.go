package coordinator

import (
	"sync"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/pki"
)

// grants signs what lets nodes read their artifacts from each other, each pair once: a set is served
// again at every change of it, and a signature takes a slow machine a millisecond.
type grants struct {
	mu   sync.Mutex
	by   *pki.CA
	made map[grantOf]string
}

type grantOf struct{ node, digest string }

// maxGrants bounds the grants that are kept, some 300 bytes each; beyond it they are signed anew.
const maxGrants = 16 << 10

func (g *grants) get(ca *pki.CA, node, digest string) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	of := grantOf{node, digest}
	if have, ok := g.made[of]; ok && g.by == ca {
		return have, nil
	}
	if g.by != ca || len(g.made) >= maxGrants {
		g.by, g.made = ca, map[grantOf]string{}
	}
	made, err := ca.Grant(node, digest)
	if err == nil {
		g.made[of] = made
	}
	return made, err
}

// granted completes a set with its grants. Without one a node still reads from the coordinators.
func (s *Server) granted(set *api.AssignmentSet) *api.AssignmentSet {
	issuer := s.trust.Load().issuer
	set.Grants = map[string]string{}
	for digest := range set.Artifacts() {
		grant, err := s.grants.get(issuer, set.NodeID, digest)
		if err != nil {
			s.log.Error().Err(err).Str("artifact", digest).Msg("no grant")
			continue
		}
		set.Grants[digest] = grant
	}
	return set
}
