package simnet

import (
	"fmt"
	"sync"
	"time"
)

// Way is what happens to what one host sends to another.
type Way int

// The ways. The zero value is Open.
const (
	Open   Way = iota
	Drop       // it vanishes: a dial goes unanswered, a connection falls silent
	Refuse     // it is turned down: a dial is refused, a connection is reset
)

// String names the way.
func (w Way) String() string { return [...]string{"open", "drop", "refuse"}[w] }

// defaultLatency is how long anything takes from one host to another.
const defaultLatency = 500 * time.Microsecond

// resend is how long after a way is open again what was lost on it is sent again.
const resend = 50 * time.Millisecond

// Network is a set of hosts. It is safe for concurrent use.
type Network struct {
	mu      sync.Mutex
	latency time.Duration
	hosts   map[string]*Host // by IP
	ways    map[route]Way    // those that are not open
	pipes   map[*pipe]struct{}
}

// route is one direction between two hosts, by IP.
type route struct{ from, to string }

// New makes a network without hosts.
func New() *Network {
	return &Network{
		latency: defaultLatency, hosts: map[string]*Host{}, ways: map[route]Way{}, pipes: map[*pipe]struct{}{},
	}
}

// SetLatency changes how long anything takes from now on.
func (n *Network) SetLatency(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.latency = d
}

// Host adds a host with an address of its own, 10.0.0.1 and so on. It is up.
func (n *Network) Host(name string) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := len(n.hosts) + 1
	h := &Host{net: n, Name: name, IP: fmt.Sprintf("10.0.%d.%d", i/250, i%250), up: true, listeners: map[int]*listener{}, packets: map[int]*transport{}, nextPort: firstPort}
	n.hosts[h.IP] = h
	return h
}

// Set makes the way between two hosts, in both directions, what w says.
func (n *Network) Set(w Way, a, b *Host) {
	n.SetOneWay(w, a, b)
	n.SetOneWay(w, b, a)
}

// SetOneWay is Set for what goes from one host to another; what comes back is not touched.
func (n *Network) SetOneWay(w Way, from, to *Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := route{from.IP, to.IP}
	if n.ways[r] == w {
		return
	}
	n.ways[r] = w
	if w == Open {
		delete(n.ways, r)
	}
	for p := range n.pipes {
		if p.route == r {
			p.set(w)
		}
		if w == Refuse && p.back() == r { // the peer's data is turned down, and the connection with it
			p.reset()
		}
	}
}

// Part sets the ways between each host of one side and each of the other, in both directions.
func (n *Network) Part(w Way, one, other []*Host) {
	for _, a := range one {
		for _, b := range other {
			if a != b {
				n.Set(w, a, b)
			}
		}
	}
}

// Heal opens all ways.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ways = map[route]Way{}
	for p := range n.pipes {
		p.set(Open)
	}
}

// delay is how long anything takes now.
func (n *Network) delay() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.latency
}
