package api

import (
	"net/netip"
	"strings"
	"testing"
)

func TestEgressRulesAreRead(t *testing.T) {
	for text, want := range map[string]EgressRule{
		"api.example.com:443":     {Host: "api.example.com", Port: 443},
		"API.Example.com:1":       {Host: "api.example.com", Port: 1},
		"db:65535":                {Host: "db", Port: 65535},
		"*.example.com:443":       {Host: "example.com", Under: true, Port: 443},
		"192.0.2.7:80":            {Prefix: netip.MustParsePrefix("192.0.2.7/32"), Port: 80},
		"10.0.0.0/8:5432":         {Prefix: netip.MustParsePrefix("10.0.0.0/8"), Port: 5432},
		"0.0.0.0/0:443":           {Prefix: netip.MustParsePrefix("0.0.0.0/0"), Port: 443},
		"[2001:db8::1]:443":       {Prefix: netip.MustParsePrefix("2001:db8::1/128"), Port: 443},
		"[2001:db8::/32]:443":     {Prefix: netip.MustParsePrefix("2001:db8::/32"), Port: 443},
		"[::/0]:443":              {Prefix: netip.MustParsePrefix("::/0"), Port: 443},
		"xn--bcher-kva.example:1": {Host: "xn--bcher-kva.example", Port: 1},
	} {
		if got, err := ParseEgressRule(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

// What is refused says why, and how to write it where there is a way.
func TestEgressRulesThatAreRefused(t *testing.T) {
	for text, why := range map[string]string{
		"":                       "HOST:PORT",
		"api.example.com":        "HOST:PORT",
		"https://example.com":    "port",
		"example.com:https":      "port",
		"example.com:0":          "port",
		"example.com:65536":      "port",
		"example.com:+80":        "port",
		"example.com:-1":         "port",
		"example.com:":           "port",
		":443":                   "DNS name",
		"*:443":                  "wildcard",
		"*.:443":                 "wildcard",
		"a.*.example.com:443":    "wildcard",
		"*a.example.com:443":     "wildcard",
		"*.*.example.com:443":    "wildcard",
		"example.com.:443":       "DNS name",
		"bücher.example:443":     "DNS name",
		"a_b.example:443":        "DNS name",
		"2001:db8::1:443":        "HOST:PORT",
		"10.0.0.1/8:443":         "write 10.0.0.0/8",
		"10.0.0.0/33:443":        "no address",
		"10.0.0:443":             "DNS name",
		"[::ffff:10.0.0.1]:443":  "write IPv4",
		"[2001:db8::1%eth0]:443": "zones",
		"localhost:80":           "loopback",
		"*.localhost:80":         "loopback",
		"127.0.0.1:80":           "loopback",
		"127.1.0.0/16:80":        "loopback",
		"[::1]:80":               "loopback",
		"169.254.169.254:80":     "link-local",
		"[fd00:ec2::254]:80":     "metadata",
		"0.0.0.0:80":             "no address",
		"224.0.0.1:80":           "multicast",
	} {
		if _, err := ParseEgressRule(text); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want it to speak of %q", text, err, why)
		}
	}
}

func TestEgressRulesMatch(t *testing.T) {
	rule := func(text string) EgressRule {
		r, err := ParseEgressRule(text)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, tt := range []struct {
		rule, host string
		port       uint16
		want       bool
	}{
		{"example.com:443", "example.com", 443, true},
		{"example.com:443", "example.com", 80, false},
		{"example.com:443", "www.example.com", 443, false},
		{"example.com:443", "notexample.com", 443, false},
		{"*.example.com:443", "example.com", 443, false},
		{"*.example.com:443", "a.example.com", 443, true},
		{"*.example.com:443", "a.b.example.com", 443, true},
		{"*.example.com:443", "aexample.com", 443, false},
		{"*.example.com:443", "a.example.com.evil.test", 443, false},
		{"10.0.0.0/8:443", "", 443, false},
	} {
		if got := rule(tt.rule).MatchesName(tt.host, tt.port); got != tt.want {
			t.Errorf("%s for %s:%d: %v", tt.rule, tt.host, tt.port, got)
		}
	}
	for _, tt := range []struct {
		rule, addr string
		want       bool
	}{
		{"10.0.0.0/8:5432", "10.9.9.9:5432", true},
		{"10.0.0.0/8:5432", "[::ffff:10.9.9.9]:5432", true},
		{"10.0.0.0/8:5432", "10.9.9.9:5433", false},
		{"10.0.0.0/8:5432", "11.0.0.0:5432", false},
		{"[2001:db8::/32]:1", "[2001:db8:1::]:1", true},
		{"[::/0]:1", "10.0.0.1:1", false},
		{"example.com:443", "10.0.0.1:443", false},
	} {
		if got := rule(tt.rule).MatchesAddr(netip.MustParseAddrPort(tt.addr)); got != tt.want {
			t.Errorf("%s for %s: %v", tt.rule, tt.addr, got)
		}
	}
}

// Each address, in every form that it can take, is judged as what it stands for.
func TestAddressesThatAreNeverReached(t *testing.T) {
	for _, four := range []string{"127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "169.254.169.254", "224.0.0.1", "239.1.1.1", "255.255.255.255", "100.100.100.200", "168.63.129.16", "192.0.0.192"} {
		for form, addr := range disguises(netip.MustParseAddr(four)) {
			if NeverReached(addr) == "" {
				t.Errorf("%s as %s (%s) can be reached", four, form, addr)
			}
		}
	}
	for _, six := range []string{"::1", "::", "fe80::1", "febf::1", "fe80::1%eth0", "ff02::1", "fd00:ec2::254", "64:ff9b:1::7f00:1", "2001:0:53aa:64c:0:0:80ff:fffe", "100::1"} {
		if NeverReached(netip.MustParseAddr(six)) == "" {
			t.Errorf("%s can be reached", six)
		}
	}
	for _, fine := range []string{"93.184.216.34", "10.0.0.1", "192.0.1.0", "2606:2800:220::1", "fd12::1", "64:ff9b::5db8:d822", "2002:5db8:d822::1"} {
		if why := NeverReached(netip.MustParseAddr(fine)); why != "" {
			t.Errorf("%s is never reached: %s", fine, why)
		}
	}
}

func TestPrivateAddresses(t *testing.T) {
	for _, four := range []string{"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.127.255.255", "198.18.0.1"} {
		for form, addr := range disguises(netip.MustParseAddr(four)) {
			if PrivateAddr(addr) == "" {
				t.Errorf("%s as %s (%s) counts as public", four, form, addr)
			}
		}
	}
	for _, addr := range []string{"fc00::1", "fdff::1", "fec0::1"} {
		if PrivateAddr(netip.MustParseAddr(addr)) == "" {
			t.Errorf("%s counts as public", addr)
		}
	}
	for _, addr := range []string{"9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "100.63.255.255", "100.128.0.0", "2606:2800:220::1", "fe00::1"} {
		if what := PrivateAddr(netip.MustParseAddr(addr)); what != "" {
			t.Errorf("%s counts as %s", addr, what)
		}
	}
}

// disguises are the forms in which IPv6 carries an IPv4 address.
func disguises(four netip.Addr) map[string]netip.Addr {
	b := four.As4()
	embed := func(prefix string, at int) netip.Addr {
		six := netip.MustParseAddr(prefix).As16()
		copy(six[at:], b[:])
		return netip.AddrFrom16(six)
	}
	return map[string]netip.Addr{
		"itself": four, "mapped": embed("::ffff:0:0", 12), "compatible": embed("::", 12), "translated": embed("::ffff:0:0:0", 12), "6to4": embed("2002::", 2), "NAT64": embed("64:ff9b::", 12),
	}
}

func FuzzEgressRule(f *testing.F) {
	for _, seed := range []string{"api.example.com:443", "*.a.b:1", "10.0.0.0/8:5432", "[2001:db8::/32]:443", "[::]:0", "a:b:c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseEgressRule(text)
		if err == nil && (r.Port == 0 || (r.Host == "") != r.Prefix.IsValid()) {
			t.Errorf("%q became %+v", text, r)
		}
	})
}
