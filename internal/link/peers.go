package link

import (
	"net"
	"sync"

	"github.com/cloudless/cloudless/internal/pki"
)

// Peers knows every open connection of a member by who is at its other end, whichever end dialled,
// so that those of a revoked one can be cut. A nil Peers keeps nothing.
type Peers struct {
	mu   sync.Mutex
	open map[*peerConn]pki.Identity
}

// NewPeers knows no connection yet.
func NewPeers() *Peers { return &Peers{open: map[*peerConn]pki.Identity{}} }

// peerConn is the carrier of a TLS connection. Closing the carrier ends the connection, whoever holds it.
type peerConn struct {
	net.Conn
	peers *Peers
}

// Close forgets the connection.
func (c *peerConn) Close() error {
	c.peers.mu.Lock()
	delete(c.peers.open, c)
	c.peers.mu.Unlock()
	return c.Conn.Close()
}

// carrier makes raw a connection that can be named and cut.
func (p *Peers) carrier(raw net.Conn) net.Conn {
	if p == nil {
		return raw
	}
	return &peerConn{Conn: raw, peers: p}
}

// name says who is at the other end of a carrier, after the handshake. still is asked once more: a
// revocation that came between the handshake and here found no connection to cut.
func (p *Peers) name(carrier net.Conn, id pki.Identity, still func(pki.Identity) error) error {
	c, ok := carrier.(*peerConn)
	if !ok {
		return nil
	}
	p.mu.Lock()
	p.open[c] = id
	p.mu.Unlock()
	return still(id)
}

// Cut closes every connection whose member revoked names, and tells how many there were. What was
// open on them, streams and tunnels included, ends with an error.
func (p *Peers) Cut(revoked func(pki.Identity) bool) int {
	var cut []*peerConn
	p.mu.Lock()
	for c, id := range p.open {
		if revoked(id) {
			cut = append(cut, c)
		}
	}
	p.mu.Unlock()
	for _, c := range cut {
		_ = c.Close() // it is gone either way
	}
	return len(cut)
}
