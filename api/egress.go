package api

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// EgressRule is one entry of Egress.Allow: what may be reached, at one port. It names a host
// ("api.example.com:443"), every host under a name ("*.example.com:443", not example.com itself), or
// addresses ("192.0.2.7:443", "10.0.0.0/8:5432", "[2001:db8::/32]:443").
type EgressRule struct {
	Host   string       // in lower case; "" for a rule of addresses
	Under  bool         // every name under Host, at any depth, but not Host
	Prefix netip.Prefix // not valid for a rule of names
	Port   uint16
}

// ParseEgressRule reads an entry. The error says what is wrong and how to write it.
func ParseEgressRule(text string) (EgressRule, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return EgressRule{}, fmt.Errorf("%q is not HOST:PORT: write api.example.com:443, 10.0.0.0/8:5432 or [2001:db8::1]:443", text)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || port[0] == '+' {
		return EgressRule{}, fmt.Errorf("%q has no port between 1 and 65535: each rule names one", text)
	}
	r := EgressRule{Port: uint16(n)}
	if strings.ContainsAny(host, ":/") || isAddr(host) {
		r.Prefix, err = parsePrefix(host)
		return r, err
	}
	r.Host, r.Under = strings.CutPrefix(strings.ToLower(host), "*.")
	switch {
	case !validHost(r.Host), isNumber(r.Host[strings.LastIndexByte(r.Host, '.')+1:]):
		return r, fmt.Errorf("%q is no DNS name: a wildcard stands for whole labels at the front, as in *.example.com:443", host)
	case r.Host == "localhost" || strings.HasSuffix(r.Host, ".localhost"):
		return r, fmt.Errorf("%q is this machine's own name, and loopback is never reached from a guest", host)
	}
	return r, nil
}

func isNumber(label string) bool { return strings.Trim(label, "0123456789") == "" }

func isAddr(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

func parsePrefix(host string) (netip.Prefix, error) {
	addr, err := netip.ParseAddr(host)
	p := netip.PrefixFrom(addr, addr.BitLen())
	if err != nil {
		p, err = netip.ParsePrefix(host)
	}
	if err != nil {
		return p, fmt.Errorf("%q is no address or range of addresses: write 192.0.2.7:443 or 10.0.0.0/8:5432", host)
	}
	switch {
	case p.Addr().Is4In6() || addr.Zone() != "":
		return p, fmt.Errorf("%q is written in a form that no rule matches: write IPv4 as 192.0.2.7, and leave zones out", host)
	case p != p.Masked():
		return p, fmt.Errorf("%q has bits set behind its length: write %s", host, p.Masked())
	}
	if why := neverWhole(p); why != "" {
		return p, fmt.Errorf("%q is never reached from a guest: it is %s", host, why)
	}
	return p, nil
}

// MatchesName tells whether the rule allows the host at the port. Names are in lower case and have no
// dot at their end.
func (r EgressRule) MatchesName(host string, port uint16) bool {
	if r.Host == "" || r.Port != port {
		return false
	}
	if r.Under {
		return strings.HasSuffix(host, "."+r.Host)
	}
	return host == r.Host
}

// MatchesAddr tells whether the rule allows the address at the port.
func (r EgressRule) MatchesAddr(addr netip.AddrPort) bool {
	return r.Prefix.IsValid() && r.Port == addr.Port() && r.Prefix.Contains(addr.Addr().Unmap())
}

// span is a range of addresses and what it is.
type span struct {
	prefix netip.Prefix
	what   string
}

func spans(what string, prefixes ...string) []span {
	list := make([]span, len(prefixes))
	for i, p := range prefixes {
		list[i] = span{netip.MustParsePrefix(p), what}
	}
	return list
}

// never lists what no rule opens: this machine, what is on the link alone, where clouds answer with
// credentials, and what is no single machine. 64:ff9b:1::/48 and Teredo hide an IPv4 address at a
// place that cannot be known or is scrambled.
var never = concat(
	spans("this machine (loopback)", "127.0.0.0/8", "::1/128"),
	spans("no address of a machine", "0.0.0.0/8", "::/128", "240.0.0.0/4", "192.0.0.0/24", "100::/64"),
	spans("link-local, where clouds keep credentials", "169.254.0.0/16", "fe80::/10"),
	spans("a metadata service of a cloud", "fd00:ec2::/32", "100.100.100.200/32", "168.63.129.16/32"),
	spans("multicast", "224.0.0.0/4", "ff00::/8"),
	spans("an IPv4 address in disguise", "64:ff9b:1::/48", "2001::/32"),
)

// private lists what is reached only by a rule of addresses: a name that anybody may point there does
// not open it.
var private = concat(
	spans("private", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10"),
	spans("shared by a provider's customers", "100.64.0.0/10"),
	spans("for benchmarks of networks", "198.18.0.0/15"),
)

func concat(lists ...[]span) (all []span) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

func find(list []span, addr netip.Addr) string {
	for _, s := range list {
		if s.prefix.Contains(addr) {
			return s.what
		}
	}
	return ""
}

func neverWhole(p netip.Prefix) string {
	for _, s := range never {
		if s.prefix.Bits() <= p.Bits() && s.prefix.Contains(p.Addr()) {
			return s.what
		}
	}
	return ""
}

// NeverReached says what an address is that no guest may reach, "" for one that a rule can open. An
// IPv4 address inside an IPv6 one (mapped, compatible, translated, 6to4, NAT64) is judged as what it stands for.
func NeverReached(addr netip.Addr) string {
	for _, a := range []netip.Addr{addr.WithZone(""), Embedded4(addr)} {
		if why := find(never, a.Unmap()); why != "" {
			return why
		}
	}
	return ""
}

// PrivateAddr says what an address is that only a rule of addresses opens, "" for a public one.
func PrivateAddr(addr netip.Addr) string {
	for _, a := range []netip.Addr{addr.WithZone(""), Embedded4(addr)} {
		if what := find(private, a.Unmap()); what != "" {
			return what
		}
	}
	return ""
}

var (
	compatible4 = netip.MustParsePrefix("::/96")
	translated4 = netip.MustParsePrefix("::ffff:0:0:0/96")
	sixToFour   = netip.MustParsePrefix("2002::/16")
	nat64       = netip.MustParsePrefix("64:ff9b::/96")
)

// Embedded4 is the IPv4 address that an IPv6 one carries, or addr itself.
func Embedded4(addr netip.Addr) netip.Addr {
	b := addr.As16()
	switch {
	case addr.Is4() || addr.Is4In6():
	case nat64.Contains(addr.WithZone("")), compatible4.Contains(addr.WithZone("")), translated4.Contains(addr.WithZone("")):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixToFour.Contains(addr.WithZone("")):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return addr
}
