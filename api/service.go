package api

// Service is a workload as the network sees it: the names and ports that lead to its replicas.
type Service struct {
	Namespace string     `json:"namespace"`
	Name      string     `json:"name"`
	Hosts     []string   `json:"hosts,omitempty"` // lower case, without port
	Ports     []Port     `json:"ports,omitempty"`
	Endpoints []Endpoint `json:"endpoints"`
}

// Endpoint is one replica of a service that is to run: one that is to end is not listed.
type Endpoint struct {
	ReplicaID string  `json:"replicaId"`
	Namespace string  `json:"namespace,omitempty"`
	Service   string  `json:"service,omitempty"`
	NodeID    string  `json:"nodeId"`
	Node      string  `json:"node"`
	Zone      string  `json:"zone,omitempty"`
	Region    string  `json:"region,omitempty"`
	Ready     bool    `json:"ready"`   // and its node is not lost
	Suspect   bool    `json:"suspect"` // its node may be gone: tried last
	Weight    int     `json:"weight"`
	Variant   Variant `json:"variant"`
}

// EndpointTable is everything an ingress needs to route: all services, and where the nodes are.
// Index is the state it was made from; agents acknowledge it in their heartbeats.
type EndpointTable struct {
	Epoch    uint64              `json:"epoch"`
	Index    uint64              `json:"index"`
	Services []Service           `json:"services"`
	Nodes    map[string]NodePeer `json:"nodes"`
	Revoked  []string            `json:"revoked,omitempty"` // ids of members whose certificates count no more
}

// NodePeer is what one agent needs to know of another.
type NodePeer struct {
	Name   string    `json:"name"`
	Addr   string    `json:"addr"` // node port, HOST:PORT
	Region string    `json:"region,omitempty"`
	Zone   string    `json:"zone,omitempty"`
	State  NodeState `json:"state"`
}
