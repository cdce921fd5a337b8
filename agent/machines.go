package agent

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/gossip"
)

// machines lists the ports of the cluster's members that this node knows now. Guests are kept from
// them, so gossip may add to the list: what it makes up can only close more.
func (a *Agent) machines() []netip.AddrPort {
	var list []netip.AddrPort
	a.table.mu.Lock()
	if t := a.table.table; t != nil {
		for _, n := range t.Nodes {
			list = appendAddr(list, n.Addr)
		}
	}
	a.table.mu.Unlock()
	for _, c := range a.sessions.members() {
		list = append(list, portsOfCoordinator(c)...)
	}
	for _, m := range a.gossip.Members() {
		list = append(list, portsOf(m)...)
	}
	return list
}

func portsOfCoordinator(m api.Member) []netip.AddrPort {
	list := appendAddr(appendAddr(nil, m.NodeAddr), m.GossipAddr)
	if u, err := url.Parse(m.HTTPAddr); err == nil {
		list = appendAddr(list, u.Host)
	}
	return list
}

// portsOf are the ports of one member. One that is advertised by a name is known by the address of its
// gossip.
func portsOf(m gossip.Member) []netip.AddrPort {
	list := appendAddr(appendAddr(nil, m.Addr), m.Tags["node"])
	if _, text, err := net.SplitHostPort(m.Tags["node"]); err == nil && len(list) > 0 {
		if port, err := strconv.ParseUint(text, 10, 16); err == nil {
			list = append(list, netip.AddrPortFrom(list[0].Addr(), uint16(port)))
		}
	}
	return list
}

func appendAddr(list []netip.AddrPort, text string) []netip.AddrPort {
	if addr, err := netip.ParseAddrPort(text); err == nil {
		list = append(list, netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()))
	}
	return list
}
