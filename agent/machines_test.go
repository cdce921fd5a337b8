package agent

import (
	"fmt"
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/gossip"
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
