package agent

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/cloudless/cloudless/agent/ledger"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/gossip"
	"github.com/cloudless/cloudless/sandbox"
)

func TestThePortsOfACoordinator(t *testing.T) {
	m := api.Member{NodeAddr: "10.0.0.1:7701", GossipAddr: "10.0.0.1:7702", HTTPAddr: "https://10.0.0.1:7700"}
	if got := fmt.Sprint(portsOfCoordinator(m)); got != "[10.0.0.1:7701 10.0.0.1:7702 10.0.0.1:7700]" {
		t.Error(got)
	}
	if got := portsOfCoordinator(api.Member{NodeAddr: "c1.example:7701", HTTPAddr: "https://c1.example:7700"}); len(got) != 0 {
		t.Error(got)
	}
}

// A member's ports are known at each address that it has, whether it is advertised by address or name.
func TestThePortsOfAMember(t *testing.T) {
	for want, m := range map[string]gossip.Member{
		"[10.0.0.1:7712 10.0.0.1:7711 10.0.0.1:7711]": {Addr: "10.0.0.1:7712", Tags: map[string]string{"node": "10.0.0.1:7711"}},
		"[10.0.0.1:7712 10.0.0.1:7711]":               {Addr: "10.0.0.1:7712", Tags: map[string]string{"node": "edge.example:7711"}},
		"[10.0.0.1:7712 [2001:db8::1]:1 10.0.0.1:1]":  {Addr: "[::ffff:10.0.0.1]:7712", Tags: map[string]string{"node": "[2001:db8::1]:1"}},
		"[10.0.0.1:7712]":                             {Addr: "10.0.0.1:7712"},
		"[]":                                          {Tags: map[string]string{"node": "edge.example:7711"}},
	} {
		if got := fmt.Sprint(portsOf(m)); got != want {
			t.Errorf("%+v: %s, want %s", m, got, want)
		}
	}
}

// What a node's sandboxes are told stays current: its coordinators, the nodes of the table that it
// routes by, and itself.
func TestSandboxesAreToldTheClustersPorts(t *testing.T) {
	s := newSite(t)
	c := s.coordinator("s-1", "127.0.0.1:0")
	cfg := c.config("edge")
	var machines func() []netip.AddrPort
	drivers := cfg.Drivers
	cfg.Drivers = func(id Identity, m func() []netip.AddrPort) (map[api.Variant]sandbox.Driver, error) {
		machines = m
		return drivers(id, m)
	}
	a := s.open(cfg)
	other := "10.9.9.9:7711"
	if knows(machines, other) {
		t.Error("a node is known before it was told of")
	}
	a.takeEndpoints(tableOf(1<<40, map[string]string{"n-9": other}))
	for what, addr := range map[string]string{"a node of the table": other, "the coordinator": c.addr, "its own gossip": a.GossipAddr(), "its own node port": a.cfg.Listener.Addr().String()} {
		if !knows(machines, addr) {
			t.Errorf("%s (%s) is not among %v", what, addr, machines())
		}
	}
}

// A coordinator may move its API alone. Guests are kept from the new port, after a restart of the agent too.
func TestSandboxesAreToldWhereACoordinatorServesNow(t *testing.T) {
	s := newSite(t)
	c := s.coordinator("s-1", "127.0.0.1:0")
	c.http = "https://10.9.9.8:7700"
	a := s.open(c.config("edge"))
	c.sees("the node", func() bool { return c.beat.Seq > 0 })
	moved := "10.9.9.8:7799"
	c.change(func() { c.http = "https://" + moved })
	eventually(t, "the new port is known", func() bool { return knows(a.machines, moved) })
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	kept, err := ledger.Open(a.path("ledger"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	if members, err := kept.Members(); err != nil || len(members) != 1 || members[0].HTTPAddr != "https://"+moved {
		t.Errorf("%+v are kept, %v", members, err)
	}
}

func knows(machines func() []netip.AddrPort, addr string) bool {
	return slices.Contains(machines(), netip.MustParseAddrPort(addr))
}
