package egress

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func policy(t *testing.T, own func(netip.AddrPort) bool, allow ...string) *Policy {
	t.Helper()
	p, err := NewPolicy(allow, own)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func errnoOf(err error) Errno {
	var e *Error
	if errors.As(err, &e) {
		return e.Errno
	}
	return 0
}

func TestAllowed(t *testing.T) {
	p := policy(t, nil, "api.example.com:443", "*.example.org:8443", "192.0.2.7:80", "10.0.0.0/8:5432", "[2001:db8::/32]:443")
	for _, tt := range []struct {
		host string
		port uint16
		want bool
	}{
		{"api.example.com", 443, true},
		{"API.Example.COM", 443, true},
		{"api.example.com.", 443, true},
		{"api.example.com", 80, false},
		{"example.com", 443, false},
		{"a.b.example.org", 8443, true},
		{"example.org", 8443, false},
		{"192.0.2.7", 80, true},
		{"::ffff:192.0.2.7", 80, true},
		{"192.0.2.8", 80, false},
		{"10.1.2.3", 5432, true},
		{"10.1.2.3", 80, false},
		{"2001:db8::1", 443, true},
		{"0xc0.0.2.7", 80, false},
		{"3221225991", 80, false},
		{"localhost", 443, false},
		{"", 443, false},
	} {
		err := p.Allowed(tt.host, tt.port)
		if (err == nil) != tt.want || err != nil && errnoOf(err) != ErrnoAccess {
			t.Errorf("%s:%d: %v", tt.host, tt.port, err)
		}
	}
	if err := policy(t, nil).Allowed("api.example.com", 443); err == nil {
		t.Error("an empty list allows something")
	}
}

func TestReachable(t *testing.T) {
	own := func(a netip.AddrPort) bool { return a == netip.MustParseAddrPort("203.0.113.5:7701") }
	p := policy(t, own, "db.example:5432", "10.1.0.0/16:5432", "0.0.0.0/0:80", "[::/0]:80")
	for addr, want := range map[string]string{
		"93.184.216.34:443":         "",
		"10.1.2.3:5432":             "",
		"10.2.2.3:5432":             "private",
		"10.1.2.3:443":              "private",
		"192.168.1.1:80":            "", // the rule of all addresses names it
		"[::ffff:10.2.2.3]:5432":    "private",
		"[64:ff9b::a02:203]:443":    "private",
		"127.0.0.1:80":              "loopback",
		"[::1]:80":                  "loopback",
		"169.254.169.254:80":        "link-local",
		"[64:ff9b::a9fe:a9fe]:80":   "link-local",
		"[2002:a9fe:a9fe::]:80":     "link-local",
		"203.0.113.5:7701":          "cluster's own",
		"[::ffff:203.0.113.5]:7701": "cluster's own",
		"[64:ff9b::cb00:7105]:7701": "cluster's own", // by NAT64
		"[2002:cb00:7105::1]:7701":  "cluster's own", // by 6to4
		"203.0.113.5:80":            "",
	} {
		err := p.Reachable(netip.MustParseAddrPort(addr))
		if want == "" && err != nil || want != "" && (errnoOf(err) != ErrnoAccess || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", addr, err, want)
		}
	}
}

// The cluster's ports are known on each machine that is known now, and on this one.
func TestOwnPorts(t *testing.T) {
	var machines []netip.AddrPort
	own := OwnPorts([]int{7700, 7701}, func() []netip.AddrPort { return machines })
	other := netip.MustParseAddr("203.0.113.5")
	at := func(a netip.Addr, port uint16) bool { return own(netip.AddrPortFrom(a, port)) }
	if at(other, 7701) {
		t.Error("a stranger's port 7701 is the cluster's")
	}
	machines = append(machines, netip.AddrPortFrom(other, 40123))
	if !at(other, 7701) || !at(other, 40123) || at(other, 443) {
		t.Error("the ports of a machine of the cluster are not told from its others")
	}
	if here := netip.MustParseAddr("127.0.0.1"); !at(here, 7700) || at(here, 40123) {
		t.Error("this machine is not known by its interfaces")
	}
}

// A name that the manifest allows, and that points into this machine by the time of the connection,
// leads nowhere: the address is judged where the connection is made.
func TestANameThatIsPointedElsewhereGainsNothing(t *testing.T) {
	asked := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{} }))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	for _, pointed := range []string{"127.0.0.1", "169.254.169.254", "10.9.9.9", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"} {
		c, err := NewClient(Network{Resolver: resolverTo(pointed)}, []string{"api.example.test:" + port})
		if err != nil {
			t.Fatal(err)
		}
		f := c.Fetches(t.Context())
		h, err := f.Open("GET", "http://api.example.test:"+port+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := f.Head(h); errnoOf(err) != ErrnoAccess || !strings.Contains(err.Error(), "GET http://api.example.test") {
			t.Errorf("pointed to %s: %v", pointed, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	select {
	case <-asked:
		t.Error("the server on loopback was asked")
	default:
	}
}

func TestANameWithoutAddressIsUnreachable(t *testing.T) {
	c, err := NewClient(Network{Resolver: resolverTo("")}, []string{"api.example.test:80"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f := c.Fetches(t.Context())
	h, err := f.Open("GET", "http://api.example.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Head(h); errnoOf(err) != ErrnoUnreachable {
		t.Error(err)
	}
}

func TestABadRuleIsAnError(t *testing.T) {
	if _, err := NewClient(Network{}, []string{"example.com"}); err == nil {
		t.Error("no error")
	}
}

// resolverTo answers every name with one address; with "" there is no such name.
func resolverTo(address string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			answerDNS(there, address)
		}()
		return here, nil
	}}
}

// answerDNS answers one question in the form of DNS over TCP.
func answerDNS(c net.Conn, address string) {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 2+512)
	n, err := c.Read(buf)
	if err != nil || n < 2 {
		return
	}
	var m dnsmessage.Message
	if m.Unpack(buf[2:n]) != nil || len(m.Questions) != 1 {
		return
	}
	m.Response, m.Additionals = true, nil
	q := m.Questions[0]
	header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
	addr, err := netip.ParseAddr(address)
	switch {
	case err != nil:
		m.RCode = dnsmessage.RCodeNameError
	case addr.Is4() && q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AResource{A: addr.As4()}}}
	case addr.Is6() && q.Type == dnsmessage.TypeAAAA:
		m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}}}
	}
	packed, err := m.AppendPack(make([]byte, 2))
	if err != nil {
		return
	}
	packed[0], packed[1] = byte((len(packed)-2)>>8), byte(len(packed)-2)
	_, _ = c.Write(packed)
}
