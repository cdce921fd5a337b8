package api

import "time"

// NodeState is what the cluster thinks of a node.
type NodeState string

// The states. Cordoned and draining are ready nodes that take nothing new.
const (
	NodeJoining  NodeState = "joining"
	NodeReady    NodeState = "ready"
	NodeSuspect  NodeState = "suspect"
	NodeLost     NodeState = "lost"
	NodeDraining NodeState = "draining"
	NodeCordoned NodeState = "cordoned"
	NodeLeft     NodeState = "left"
)

// NodeStates are all of them.
var NodeStates = []NodeState{NodeJoining, NodeReady, NodeSuspect, NodeLost, NodeDraining, NodeCordoned, NodeLeft}

// Node is one machine that runs an agent.
type Node struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Region   string            `json:"region"`
	Zone     string            `json:"zone"`
	Labels   map[string]string `json:"labels,omitempty"`
	Taints   []Taint           `json:"taints,omitempty"`
	State    NodeState         `json:"state"`              // as people see it: Liveness, or draining, or cordoned
	Liveness NodeState         `json:"liveness,omitempty"` // joining, ready, suspect, lost or left
	Cordoned bool              `json:"cordoned,omitempty"`
	Drain    *Drain            `json:"drain,omitempty"`
	Reason   string            `json:"reason,omitempty"`
	Addr     NodeAddr          `json:"addr"`
	Capacity Reserved          `json:"capacity"` // what workloads may take, after --reserve
	// StoreCapacity is how many bytes its chunk store may use, as it said last; not 0: the node is a member of
	// the object store, until it is removed or leaves.
	StoreCapacity int64     `json:"storeCapacity,omitempty"`
	Runtimes      Runtimes  `json:"runtimes"`
	Arch          string    `json:"arch"` // GOARCH
	OS            string    `json:"os"`
	Version       string    `json:"version"`            // of its cloudless binary
	Epoch         uint64    `json:"epoch,omitempty"`    // for which it has reported what it runs
	Failures      int       `json:"failures,omitempty"` // times it was lost, decaying; lowers reliability
	Goodbye       string    `json:"goodbye,omitempty"`  // restart | leave, when it said so
	JoinedAt      time.Time `json:"joinedAt,omitzero"`
	ChangedAt     time.Time `json:"changedAt,omitzero"` // of Liveness
	CreateIndex   uint64    `json:"createIndex,omitempty"`
	ModifyIndex   uint64    `json:"modifyIndex,omitempty"`

	Status *NodeStatus `json:"status,omitempty"` // live figures, added on reads, not replicated
}

// NodeStatus is what the answering coordinator knows of a node at this moment.
type NodeStatus struct {
	Allocated     Reserved   `json:"allocated"` // reserved by replicas
	Usage         Usage      `json:"usage"`     // measured by the node
	Replicas      int        `json:"replicas"`
	Connected     bool       `json:"connected"`
	LastHeartbeat *time.Time `json:"lastHeartbeat,omitempty"`
	RTTMillis     float64    `json:"rttMillis,omitempty"` // from Serf's coordinates
	Gossip        string     `json:"gossip,omitempty"`    // alive, failed, left or unknown
	EndpointIndex uint64     `json:"endpointIndex,omitempty"`
	Reliability   float64    `json:"reliability"`        // 0 … 1
	DiskFull      string     `json:"diskFull,omitempty"` // why its disk takes nothing new; empty while there is room
	// ChunkStore is what it last said of its chunk store; nil of a node that keeps none.
	ChunkStore *StoreStats `json:"chunkStore,omitempty"`
	// Upkeep is what the last look at all chunks showed of it; nil of a node that keeps none.
	Upkeep *NodeUpkeep `json:"upkeep,omitempty"`
}

// Usage is measured load: cpu in thousandths of a core, the rest in bytes.
type Usage struct {
	CPU         MilliCPU `json:"cpu"`
	Memory      Bytes    `json:"memory"`
	Storage     Bytes    `json:"storage"`
	StorageFree Bytes    `json:"storageFree"`
	Load1       float64  `json:"load1"`
}

// ReplicaUsage is what one replica uses, as its node measured last. A node's heartbeat leaves out what
// the coordinators know: of what workload it is, and where.
type ReplicaUsage struct {
	ReplicaID string   `json:"replicaId"`
	Namespace string   `json:"namespace,omitempty"`
	Workload  string   `json:"workload,omitempty"`
	Node      string   `json:"node,omitempty"` // the node's name
	CPU       MilliCPU `json:"cpu"`
	Memory    Bytes    `json:"memory"`
}

// NodeAddr is where a node says it listens, HOST:PORT each.
type NodeAddr struct {
	Node    string `json:"node"`
	Gossip  string `json:"gossip,omitempty"`
	Ingress string `json:"ingress,omitempty"`
}

// Runtimes is what a node can run.
type Runtimes struct {
	WasmEngine       string `json:"wasmEngine,omitempty"` // compiler | interpreter
	Containers       bool   `json:"containers"`
	ContainersReason string `json:"containersReason,omitempty"` // why not
	ContainersVer    string `json:"containersVersion,omitempty"`
}

// Taint keeps replicas off a node unless they tolerate it.
type Taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"`
}

// Drain empties a node. Graceful starts each replacement before the old copy stops; after Deadline
// what is left is stopped anyway.
type Drain struct {
	Graceful bool      `json:"graceful"`
	Deadline time.Time `json:"deadline,omitzero"`
	Started  time.Time `json:"started,omitzero"`
	Self     bool      `json:"self,omitempty"` // asked for by the node, which stops; its next start ends it
}

// Effective is the state that people see: liveness first, then whether the node takes work.
func (n *Node) Effective() NodeState {
	switch {
	case n.Liveness != NodeReady:
		return n.Liveness
	case n.Drain != nil:
		return NodeDraining
	case n.Cordoned:
		return NodeCordoned
	}
	return NodeReady
}

// Runs tells whether the node can run variant v.
func (n *Node) Runs(v Variant) bool {
	if v == VariantContainer {
		return n.Runtimes.Containers
	}
	return n.Runtimes.WasmEngine != ""
}

// Member is one coordinator.
type Member struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	NodeAddr    string    `json:"nodeAddr"`   // mTLS port, HOST:PORT
	HTTPAddr    string    `json:"httpAddr"`   // REST API, full URL
	GossipAddr  string    `json:"gossipAddr"` // HOST:PORT
	Version     string    `json:"version,omitempty"`
	Voter       bool      `json:"voter"`
	Leader      bool      `json:"leader"`
	Healthy     bool      `json:"healthy"`
	JoinedAt    time.Time `json:"joinedAt,omitzero"`
	CreateIndex uint64    `json:"createIndex,omitempty"`
	ModifyIndex uint64    `json:"modifyIndex,omitempty"`
}
