package ingress

import (
	"net"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/cloudless/cloudless/api"
)

// maxWeight keeps the sums of weights far from overflow.
const maxWeight = 1000

// table is every route of one endpoint table. Only the counters of its routes change.
type table struct {
	index uint64
	hosts map[string]*route
	ports map[int]*tcpRoute // published TCP ports
	nodes map[string]api.NodePeer
}

// route is one service: which of its replicas are to run here, and where those on other nodes are, the
// best first.
type route struct {
	namespace, service string

	next  atomic.Uint64 // turns round robin
	here  []string      // ids; the node itself knows which of these are ready
	tiers []tier
}

type tcpRoute struct {
	*route
	port int // of the replicas
}

// tier is remote replicas that are equally near.
type tier struct {
	endpoints []api.Endpoint
	total     uint64 // of the weights
}

// target is one replica to try. NodeID is "" when it is here.
type target struct {
	replicaID string
	nodeID    string
}

// newTable sorts the table's endpoints for a node. Of two services that claim a host or port the
// first keeps it; the cluster refuses such a claim anyway.
func newTable(t *api.EndpointTable, cfg Config) *table {
	out := &table{index: t.Index, hosts: map[string]*route{}, ports: map[int]*tcpRoute{}, nodes: t.Nodes}
	for _, s := range t.Services {
		r := &route{namespace: s.Namespace, service: s.Name, here: idsOn(cfg.NodeID, s.Endpoints), tiers: tiersOf(s.Endpoints, t.Nodes, cfg)}
		for _, h := range s.Hosts {
			if h = strings.ToLower(h); out.hosts[h] == nil {
				out.hosts[h] = r
			}
		}
		for _, p := range s.Ports {
			if p.Protocol != api.ProtocolTCP {
				continue
			}
			if public := publishedPort(p); out.ports[public] == nil {
				out.ports[public] = &tcpRoute{route: r, port: p.Port}
			}
		}
	}
	return out
}

// idsOn is the replicas that are to run on a node, ready or not.
func idsOn(nodeID string, endpoints []api.Endpoint) []string {
	var ids []string
	for _, e := range endpoints {
		if e.NodeID == nodeID {
			ids = append(ids, e.ReplicaID)
		}
	}
	return ids
}

func publishedPort(p api.Port) int {
	if p.Publish != 0 {
		return p.Publish
	}
	return p.Port
}

// Nearness of a replica, the best first.
const (
	sameZone = iota
	sameRegion
	elsewhere
	suspect
	nearnesses
)

func tiersOf(endpoints []api.Endpoint, nodes map[string]api.NodePeer, cfg Config) []tier {
	var tiers [nearnesses]tier
	for _, e := range endpoints {
		if e.NodeID == cfg.NodeID || !e.Ready {
			continue // what is ready here is known better here
		}
		t := &tiers[nearness(e, nodes[e.NodeID].State, cfg)]
		t.endpoints = append(t.endpoints, e)
		t.total += weightOf(e)
	}
	var used []tier // nothing for the many services that run here alone
	for _, t := range tiers {
		if len(t.endpoints) > 0 {
			used = append(used, t)
		}
	}
	return used
}

func nearness(e api.Endpoint, state api.NodeState, cfg Config) int {
	switch {
	case e.Suspect || state == api.NodeSuspect || state == api.NodeLost:
		return suspect
	case e.Region == cfg.Region && e.Zone == cfg.Zone:
		return sameZone
	case e.Region == cfg.Region:
		return sameRegion
	}
	return elsewhere
}

func weightOf(e api.Endpoint) uint64 { return uint64(min(max(e.Weight, 1), maxWeight)) }

// order is the replicas to try, the best first, at most maxAttempts: those of local that are to run
// here, then those elsewhere by nearness, within a tier in turn by weight; nodes in avoid come last of
// all. A local replica that the table does not list is to end, though its node may not know it yet: who
// has acknowledged a table sends nothing to what is not in it.
func (r *route) order(local []string, avoid map[string]bool) []target {
	turn := r.next.Add(1) - 1
	out := make([]target, 0, maxAttempts)
	for i := range local {
		id := local[(turn+uint64(i))%uint64(len(local))]
		if len(out) < maxAttempts && slices.Contains(r.here, id) {
			out = append(out, target{replicaID: id})
		}
	}
	out = r.remote(out, turn, func(node string) bool { return !avoid[node] })
	if len(avoid) > 0 {
		out = r.remote(out, turn, func(node string) bool { return avoid[node] })
	}
	return out
}

func (r *route) remote(out []target, turn uint64, wanted func(nodeID string) bool) []target {
	for _, t := range r.tiers {
		first := t.pick(turn)
		for i := range t.endpoints {
			if len(out) == maxAttempts {
				return out
			}
			e := &t.endpoints[(first+i)%len(t.endpoints)]
			if wanted(e.NodeID) {
				out = append(out, target{replicaID: e.ReplicaID, nodeID: e.NodeID})
			}
		}
	}
	return out
}

// pick is the endpoint whose turn it is: one of weight w comes w times in total turns.
func (t *tier) pick(turn uint64) int {
	at := turn % t.total
	for i, e := range t.endpoints {
		w := weightOf(e)
		if at < w {
			return i
		}
		at -= w
	}
	return 0
}

// hostOf is a Host header without port and final dot, in lower case.
func hostOf(host string) string {
	if strings.IndexByte(host, ':') >= 0 { // an error is made at some cost
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
