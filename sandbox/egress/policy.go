// Package egress is how a sandboxed guest reaches the world by HTTP: to what its manifest names, and
// never to this machine, the link, a cloud's metadata or the cluster's own ports.
//
// A Policy judges twice. Allowed looks at the name that is asked for; Reachable looks at the address
// that a connection is about to be made to, after names were resolved, so that a name which is pointed
// elsewhere meanwhile gains nothing. A Client is one replica's connections (client.go), Fetches are
// the requests that one call of a guest has under way (fetch.go). Nothing here knows wasm.
package egress

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/cloudless/cloudless/api"
)

// Policy is what one workload may reach.
type Policy struct {
	rules []api.EgressRule
	own   func(netip.AddrPort) bool
}

// NewPolicy compiles a manifest's list. own tells the cluster's own ports, which no rule opens; it is
// asked at each connection, and nil says that there are none.
func NewPolicy(allow []string, own func(netip.AddrPort) bool) (*Policy, error) {
	p := &Policy{own: own}
	for _, text := range allow {
		rule, err := api.ParseEgressRule(text)
		if err != nil {
			return nil, api.Errorf(api.CodeInvalid, "spec.egress.allow: %v", err)
		}
		p.rules = append(p.rules, rule)
	}
	return p, nil
}

// Allowed judges what a request names: a host, which a rule of names must allow, or an address, which
// a rule of addresses must.
func (p *Policy) Allowed(host string, port uint16) error {
	matches := func(r api.EgressRule) bool { return r.MatchesName(plainName(host), port) }
	if addr, err := netip.ParseAddr(host); err == nil {
		matches = func(r api.EgressRule) bool { return r.MatchesAddr(netip.AddrPortFrom(addr, port)) }
	}
	if !slices.ContainsFunc(p.rules, matches) {
		return refuse(ErrnoAccess, "no rule of spec.egress.allow names %s:%d", host, port)
	}
	return nil
}

// plainName is a host name as rules have it.
func plainName(host string) string { return strings.TrimSuffix(strings.ToLower(host), ".") }

// Reachable judges the address of a connection. A private one needs a rule of addresses that covers
// it, even if a rule allows the name that led there: whoever owns the name's DNS zone can point it
// into our network.
func (p *Policy) Reachable(addr netip.AddrPort) error {
	if what := api.NeverReached(addr.Addr()); what != "" {
		return refuse(ErrnoAccess, "%s is never reached from a guest: it is %s", addr, what)
	}
	if p.isOwn(addr) {
		return refuse(ErrnoAccess, "%s is one of the cluster's own ports", addr)
	}
	covered := func(r api.EgressRule) bool { return r.MatchesAddr(addr) }
	if what := api.PrivateAddr(addr.Addr()); what != "" && !slices.ContainsFunc(p.rules, covered) {
		return refuse(ErrnoAccess, "%s is %s, and only a rule of spec.egress.allow for its addresses opens it, such as %s", addr, what, addr)
	}
	return nil
}

// isOwn tells the cluster's own ports, through a gateway from IPv6 to IPv4 too.
func (p *Policy) isOwn(addr netip.AddrPort) bool {
	at := func(a netip.Addr) bool { return p.own(netip.AddrPortFrom(a.Unmap(), addr.Port())) }
	return p.own != nil && (at(addr.Addr()) || at(api.Embedded4(addr.Addr())))
}

// OwnPorts makes the own of a Policy: it knows ports that the cluster uses on each of its machines, and
// single ports of theirs. machines lists, at each connection, those that are known now; this machine's
// addresses are always among them.
func OwnPorts(ports []int, machines func() []netip.AddrPort) func(netip.AddrPort) bool {
	return func(addr netip.AddrPort) bool {
		known := machines()
		if slices.Contains(known, addr) {
			return true
		}
		if !slices.Contains(ports, int(addr.Port())) {
			return false
		}
		there := func(m netip.AddrPort) bool { return m.Addr() == addr.Addr() }
		return slices.ContainsFunc(known, there) || slices.Contains(thisMachine(), addr.Addr())
	}
}

// thisMachine lists the addresses of its interfaces. They change with networks that come and go, and a
// connection costs far more than to ask.
func thisMachine() []netip.Addr {
	var own []netip.Addr
	addrs, _ := net.InterfaceAddrs() // without them, the machine is still known by its node's address
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			own = append(own, prefix.Addr().Unmap())
		}
	}
	return own
}
