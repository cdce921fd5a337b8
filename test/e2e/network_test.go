package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// network is a bridge in the tests' own network namespace, which plays the user, and some hosts.
type network struct {
	t      *testing.T
	number int32
	hosts  int
}

// host is a network namespace that a cable (a pair of veth interfaces) joins to a network.
type host struct {
	t    *testing.T
	addr string
	port string // the cable's other end
	ns   *os.File
}

var networks atomic.Int32

func newNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{t: t, number: networks.Add(1)}
	n.ip(fmt.Sprintf("link add %s type bridge\naddr add %s/24 dev %[1]s\nlink set %[1]s up", n.bridge(), n.address(1)))
	t.Cleanup(func() { n.ip("link delete " + n.bridge()) })
	return n
}

func (n *network) bridge() string             { return fmt.Sprintf("net%d", n.number) }
func (n *network) address(host int) string    { return fmt.Sprintf("10.9.%d.%d", n.number, host) }
func (n *network) ip(lines string)            { n.t.Helper(); batch(n.t, nil, lines) }
func (h *host) ip(lines string)               { h.t.Helper(); batch(h.t, h.enter, lines) }
func (h *host) run(stdin string, a ...string) { h.t.Helper(); run(h.t, h.enter, stdin, a...) }

// host adds one at the next free address.
func (n *network) host() *host {
	n.t.Helper()
	n.hosts++
	h := newHost(n.t, n.address(10+n.hosts), fmt.Sprintf("net%dp%d", n.number, n.hosts))
	n.ip(fmt.Sprintf("link add %[1]s type veth peer name eth0 netns %[2]s\nlink set %[1]s master %[3]s up", h.port, h.path(), n.bridge()))
	h.ip(fmt.Sprintf("link set lo up\naddr add %s/24 dev eth0\nlink set eth0 up\nroute add default via %s", h.addr, n.address(1)))
	return h
}

// newHost makes a namespace without any cable. It goes when the last process in it ends and its file
// is closed; the cables go with it.
func newHost(t *testing.T, addr, port string) *host {
	t.Helper()
	h := &host{t: t, addr: addr, port: port}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		var err error
		h.ns, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		t.Fatal("network namespace: ", err)
	}
	t.Cleanup(func() { h.ns.Close() })
	return h
}

// path is where another process finds the namespace.
func (h *host) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.ns.Fd()) }

// enter puts the calling thread, which must be locked, into the namespace.
func (h *host) enter() error { return unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET) }

// cut pulls the host's cable, as a person would: nothing comes in or goes out, and the host notices
// only that its link is down.
func (h *host) cut() { h.t.Helper(); batch(h.t, nil, "link set "+h.port+" down") }

// plug puts the cable back.
func (h *host) plug() { h.t.Helper(); batch(h.t, nil, "link set "+h.port+" up") }

// deafen drops in silence what comes in, and mute what goes out.
func (h *host) deafen() { h.t.Helper(); h.drop("input", "iif") }
func (h *host) mute()   { h.t.Helper(); h.drop("output", "oif") }

func (h *host) drop(hook, side string) {
	h.t.Helper()
	h.run(fmt.Sprintf("table inet cut {\nchain c {\ntype filter hook %s priority -300; policy drop;\n%s lo accept\n}\n}\n", hook, side), "nft", "-f", "-")
}

// hear ends deafen and mute.
func (h *host) hear() { h.t.Helper(); h.run("", "nft", "delete", "table", "inet", "cut") }

// setAddress gives the host another address in place of its own.
func (h *host) setAddress(n *network, last int) {
	h.t.Helper()
	h.addr = n.address(last)
	h.ip(fmt.Sprintf("addr flush dev eth0\naddr add %s/24 dev eth0\nroute add default via %s", h.addr, n.address(1)))
}

// fetchInside asks a port of the host from the host itself, which needs no cable.
func (h *host) fetchInside(url, name, path string) (int, string) {
	inside := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, addr string) (conn net.Conn, err error) {
			err = onThread(func() error {
				if err := h.enter(); err != nil {
					return err
				}
				conn, err = net.DialTimeout(network, addr, 5*time.Second)
				return err
			})
			return conn, err
		},
	}}
	return fetchBy(inside, url, name, path)
}

// onThread runs f on a thread of its own, which ends with it.
func onThread(f func() error) error {
	err := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is not fit for others
		err <- f()
	}()
	return <-err
}

// run runs a command that must succeed, in the namespaces that enter enters.
func run(t *testing.T, enter func() error, stdin string, args ...string) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	var out []byte
	err := onThread(func() (err error) {
		if enter != nil {
			if err := enter(); err != nil {
				return err
			}
		}
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("%v: %v\n%s%s", args, err, out, stdin)
	}
}

func batch(t *testing.T, enter func() error, lines string) {
	t.Helper()
	run(t, enter, lines+"\n", "ip", "-batch", "-")
}
