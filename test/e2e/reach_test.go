package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cloudless/cloudless/api"
)

// behindNAT adds a host that others cannot reach: a router stands between, which lets it call out
// under the router's address and lets nobody in.
func (n *network) behindNAT() *host {
	n.t.Helper()
	router := n.host()
	h := newHost(n.t, "192.168.77.2", "")
	n.ip(fmt.Sprintf("link add inside netns %s type veth peer name eth0 netns %s", router.path(), h.path()))
	router.ip("addr add 192.168.77.1/24 dev inside\nlink set inside up")
	h.ip("link set lo up\naddr add 192.168.77.2/24 dev eth0\nlink set eth0 up\nroute add default via 192.168.77.1")
	router.run("", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
	router.run(`table ip nat {
chain out { type nat hook postrouting priority srcnat; oifname "eth0" masquerade; }
}
table inet door {
chain in { type filter hook forward priority 0; iifname "eth0" ct state new drop; }
}
`, "nft", "-f", "-")
	return h
}

func TestANodeBehindNATIsReachedThroughItsTunnel(t *testing.T) {
	t.Parallel()
	k := newCluster(t, 3, 1, nil)
	hidden := k.agent(k.net.behindNAT(), "hidden", "--containerd", "private")
	hidden.start("--join", k.coords[0].addr+":7701", "--token", "@"+k.token(api.RoleNode))
	k.whole()
	open := k.agents[0]
	k.cli.must("node", "cordon", open.name)
	k.cli.must("workload", "run", helloImage, "--name", "image", "--wait", "--timeout", "60s")
	k.cli.must("workload", "run", helloModule, "--name", "module", "--http", "--wait", "--timeout", "60s")
	k.served(open, "image")
	k.served(open, "module")
	for _, c := range k.coords {
		by := k.client(c.url())
		if out := by.must("workload", "logs", "image"); !strings.Contains(out, "listening on :8080") {
			t.Errorf("logs by %s: %q", c.name, out)
		}
		// the image holds one program, whose second copy finds the port taken
		out, errs, code := by.run("workload", "exec", "image", "--", "/hello")
		if code != 1 || !strings.Contains(out+errs, "address already in use") {
			t.Errorf("exec by %s: exit %d: %s%s", c.name, code, out, errs)
		}
	}
	k.cli.must("node", "uncordon", open.name)
	hidden.kill()
	eventually(t, "what ran behind NAT is replaced", func() bool { return k.home("module") == open })
	k.served(open, "module")
	hidden.start()
	k.whole()
	k.settled("module", 1)
	k.settled("image", 1)
	k.served(open, "image")
}

func TestMembersThatMoveToOtherAddressesAreFound(t *testing.T) {
	t.Parallel()
	k := newCluster(t, 3, 2, nil)
	k.cli.must("workload", "run", helloModule, "--name", "hi", "--http", "--wait", "--timeout", "60s")
	before, home := k.replicas("hi"), k.home("hi")
	for i, c := range k.coords { // the leader among them
		c.kill()
		c.setAddress(k.net, 100+i)
		c.start()
		k.connect()
		k.whole()
		eventually(t, "both nodes have sessions with "+c.name, func() bool { return k.connected(c, k.agents[0]) && k.connected(c, k.agents[1]) })
	}
	if after := k.replicas("hi"); after != before {
		t.Errorf("replicas were touched: %s, before %s", after, before)
	}
	home.kill()
	k.replaced(home, "hi")
	home.setAddress(k.net, 200)
	home.start()
	k.whole()
	k.settled("hi", 1)
	k.served(home, "hi")
	away := k.another(home)
	away.kill()
	k.served(home, "hi")
	away.start()
	k.whole()
}

// connected tells whether a coordinator itself has a session with an agent.
func (k *cluster) connected(c, a *member) bool {
	by := k.dial(c.url())
	defer by.Close()
	n, err := by.Node(context.Background(), a.Get("id"), 0, 0)
	return err == nil && n.Status != nil && n.Status.Connected
}
