package coordinator

import (
	"net/http"
	"sync"

	"github.com/cloudless/cloudless/api"
)

// clients keeps the HTTP clients of this coordinator: one for all nodes, and one for each other
// coordinator, whose certificate must name it.
type clients struct {
	s    *Server
	node *http.Client
	mu   sync.Mutex
	byID map[string]*http.Client
}

func newClients(s *Server) *clients {
	return &clients{s: s, node: s.nodes.HTTPClient(api.ALPNNode), byID: map[string]*http.Client{}}
}

func (c *clients) peer(id string) *http.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byID[id]; !ok {
		c.byID[id] = c.s.dialer.MemberHTTPClient(api.ALPNPeer, c.s.serverIdentity(id), func() []string { return c.s.memberAddrs(id) })
	}
	return c.byID[id]
}
