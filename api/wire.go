package api

import "time"

// Protocols of the one mTLS port, told apart by ALPN (CONTRACT §2).
const (
	ALPNJoin    = "cloudless-join/1"    // enrolment: no client certificate; net/http
	ALPNRaft    = "cloudless-raft/1"    // server ↔ server: Raft's stream layer
	ALPNPeer    = "cloudless-peer/1"    // server → server: forwarded commands; HTTP/2
	ALPNNode    = "cloudless-node/1"    // node → server: node API and heartbeats; server → node: logs, exec; HTTP/2
	ALPNTunnel  = "cloudless-tunnel/1"  // node → server: yamux, on which the server opens streams to the node
	ALPNRelay   = "cloudless-relay/1"   // node|server → server: a line with a node id, then that node's bytes
	ALPNIngress = "cloudless-ingress/1" // node → node: requests for local replicas; HTTP/1.1 and upgrade
)

// Paths of the join API (ALPNJoin).
const (
	PathEnrol = "/join/v1/enrol" // POST EnrolRequest → EnrolResponse
)

// Paths of the node API on a coordinator (ALPNNode). The caller's identity is its certificate's.
const (
	PathRegister    = "/node/v1/register"    // POST RegisterRequest → RegisterResponse; leader
	PathHeartbeat   = "/node/v1/heartbeat"   // POST Heartbeat → HeartbeatAck; any coordinator
	PathAssignments = "/node/v1/assignments" // GET ?epoch=&generation=&wait= → AssignmentSet; any
	PathEndpoints   = "/node/v1/endpoints"   // GET ?index=&wait= → EndpointTable; any
	PathStatuses    = "/node/v1/statuses"    // POST StatusReport → StatusAck; forwarded to the leader
	PathNodeEvents  = "/node/v1/events"      // POST NodeEvents → {}
	PathGoodbye     = "/node/v1/goodbye"     // POST Goodbye → {}
	PathDrainSelf   = "/node/v1/drain"       // POST {} → {}; the node stops and wants its replicas moved first
	PathRenew       = "/node/v1/renew"       // POST RenewRequest → RenewResponse
	PathTrust       = "/node/v1/trust"       // GET → TrustBundle
)

// Paths that an agent serves on its own node port (ALPNNode), to coordinators only.
const (
	PathReplicaLogs = "/replica/v1/logs/" // GET {id}?follow=&tail=&previous=&since=&timestamps= : text lines, chunked
	PathReplicaExec = "/replica/v1/exec/" // GET {id}?cmd=…&tty=&stdin= : WebSocket, see ExecStream
)

// Paths between coordinators (ALPNPeer).
const (
	PathPropose       = "/peer/v1/propose"    // POST encoded command → ProposeResponse; leader only
	PathPeerMeta      = "/peer/v1/meta"       // POST meta.Commands, packed → meta.Results; leader only
	PathPeerUpkeep    = "/peer/v1/upkeep"     // GET → StorageUpkeep; POST: look at all chunks; leader only
	PathPeerShort     = "/peer/v1/short"      // POST StoreShort → {}; leader only
	PathPeerReadIndex = "/peer/v1/read-index" // GET → PeerReadIndex; leader only
	PathPeerJoin      = "/peer/v1/join"       // POST Member → {}; a new coordinator asks to become a voter; leader
	PathPeerRemoved   = "/peer/v1/removed"    // POST → {}; the coordinator that is told was removed, and stops
	PathPeerInfo      = "/peer/v1/info"       // GET → PeerInfo
	PathPeerKeys      = "/peer/v1/keys"       // GET → PeerKeys
	PathPeerEvents    = "/peer/v1/events"     // GET ?run=&after=&wait= → PeerEvents, or 204 when there are none
)

// EnrolRequest asks for an identity. It is sent only after the server's CA was checked against the
// hash in the token. CSR is PEM; its subject and names are ignored, only its key counts.
type EnrolRequest struct {
	Token  string            `json:"token"`
	Role   Role              `json:"role"` // node | server
	CSR    string            `json:"csr"`
	Name   string            `json:"name"`
	Region string            `json:"region,omitempty"`
	Zone   string            `json:"zone,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	Taints []Taint           `json:"taints,omitempty"`
}

// EnrolResponse is a new member's identity. Keys of the cluster (gossip; for servers the CA key too)
// travel here, inside TLS, and nowhere else.
type EnrolResponse struct {
	ClusterID string `json:"clusterId"`
	ID        string `json:"id"` // node or server id, never used before
	Cert      string `json:"cert"`
	CA        string `json:"ca"`
	CAKey     string `json:"caKey,omitempty"` // servers only
	GossipKey string `json:"gossipKey"`       // base64
	// Coordinators to talk to, with their addresses.
	Coordinators []Member `json:"coordinators"`
}

// RenewRequest asks for a certificate with the caller's own name and the CSR's key.
type RenewRequest struct {
	CSR string `json:"csr"`
}

// RenewResponse carries the new certificate and the CAs to trust (PEM).
type RenewResponse struct {
	Cert string `json:"cert"`
	CA   string `json:"ca"`
}

// RegisterRequest tells what a node is and where it listens; sent at every start, and on change.
type RegisterRequest struct {
	Addr     NodeAddr          `json:"addr"`
	Region   string            `json:"region"`
	Zone     string            `json:"zone"`
	Labels   map[string]string `json:"labels,omitempty"`
	Taints   []Taint           `json:"taints,omitempty"`
	Capacity Reserved          `json:"capacity"`
	Runtimes Runtimes          `json:"runtimes"`
	Arch     string            `json:"arch"`
	OS       string            `json:"os"`
	Version  string            `json:"version"`
	// StoreCapacity is how many bytes its chunk store may use; 0 when it keeps none.
	StoreCapacity int64 `json:"storeCapacity,omitempty"`
}

// RegisterResponse answers with who the coordinators are.
type RegisterResponse struct {
	Epoch        uint64   `json:"epoch"`
	Coordinators []Member `json:"coordinators"`
}

// Heartbeat goes to every coordinator every HeartbeatInterval.
type Heartbeat struct {
	Seq           uint64    `json:"seq"`
	Sent          time.Time `json:"sent"`
	Usage         Usage     `json:"usage"`
	Epoch         uint64    `json:"epoch"`
	Generation    uint64    `json:"generation"`    // of the assignments taken up
	EndpointIndex uint64    `json:"endpointIndex"` // of the endpoint table in use
	Replicas      int       `json:"replicas"`
	RTTMillis     float64   `json:"rttMillis,omitempty"`  // of the last heartbeat
	TrustIndex    uint64    `json:"trustIndex,omitempty"` // of the TrustBundle taken up
	DiskFull      string    `json:"diskFull,omitempty"`   // why this node's disk takes nothing new; at most MaxDiskFullBytes count

	Store *StoreStats `json:"store,omitempty"` // of the chunk store; nil on a node that keeps none

	MeasuredAt   time.Time      `json:"measuredAt,omitzero"`    // when the replicas were measured last
	ReplicaUsage []ReplicaUsage `json:"replicaUsage,omitempty"` // only in the first heartbeat after that
	// Inventory is sent only when the coordinator has another one, or none.
	Inventory *Inventory `json:"inventory,omitempty"`
}

// Inventory is what a node has at hand before a replica comes. Revision names the list: it is another
// one after every change and after every start of the agent.
type Inventory struct {
	Revision  uint64   `json:"revision"`
	Artifacts []string `json:"artifacts,omitempty"` // digests, at most MaxInventory: those used last
	// Buckets is about how many bytes there are of which bucket, in folders that replicas read; at most
	// MaxInventory of them.
	Buckets  map[string]int64 `json:"buckets,omitempty"`
	Prepared []string         `json:"prepared,omitempty"` // workload versions that it was told to prepare and has, by VersionKey
}

// HeartbeatAck tells an agent about the coordinators; it dials those that it does not know yet.
type HeartbeatAck struct {
	Epoch        uint64   `json:"epoch"`
	LeaderID     string   `json:"leaderId"`
	Coordinators []Member `json:"coordinators"`
	Known        bool     `json:"known"`                // false: register again
	TrustIndex   uint64   `json:"trustIndex,omitempty"` // of the TrustBundle to have
	Inventory    uint64   `json:"inventory"`            // revision of the list that this coordinator has
}

// ReplicaReport is a replica's status as its node sees it. Assignment and Spec are filled in only in
// a full report, so that the coordinators of a new epoch can adopt a replica that they do not know.
type ReplicaReport struct {
	ReplicaID  string       `json:"replicaId"`
	State      ReplicaState `json:"state"`
	Ready      bool         `json:"ready"`
	Restarts   int          `json:"restarts"`
	Reason     string       `json:"reason,omitempty"`
	ExitCode   *int         `json:"exitCode,omitempty"`
	At         time.Time    `json:"at"`
	NextTry    time.Time    `json:"nextTry,omitzero"` // of one in ReplicaBackoff, by the node's clock
	Assignment *Assignment  `json:"assignment,omitempty"`
}

// StatusReport carries status changes; the first transition at once, later ones batched. Full means
// that it lists everything that the node runs, which a new epoch asks for.
type StatusReport struct {
	Epoch   uint64          `json:"epoch"`
	Full    bool            `json:"full"`
	Reports []ReplicaReport `json:"reports"`
}

// StatusAck is the Raft index at which a report was applied.
type StatusAck struct {
	Index uint64 `json:"index"`
}

// NodeEvents carries a node's own events upwards; Dropped counts those lost to limits, per type.
type NodeEvents struct {
	Events  []Event        `json:"events"`
	Dropped map[string]int `json:"dropped,omitempty"`
}

// Goodbye kinds.
const (
	GoodbyeRestart = "restart"
	GoodbyeLeave   = "leave"
)

// Goodbye announces a planned stop.
type Goodbye struct {
	Kind string `json:"kind"`
}

// ProposeResponse is what applying a forwarded command gave.
type ProposeResponse struct {
	Index uint64 `json:"index"`
	Error *Error `json:"error,omitempty"`
	Value []byte `json:"value,omitempty"` // JSON, if the command returns something
}

// PeerInfo tells one coordinator about another.
type PeerInfo struct {
	Member  Member `json:"member"`
	Applied uint64 `json:"applied"`
	Trust   uint64 `json:"trust,omitempty"` // index of the rotations taken up
	Seal    string `json:"seal,omitempty"`  // id of the cluster's sealing key, if it is held
}

// PeerReadIndex is the index of a command of the log. Whoever has applied it has applied all that was
// acknowledged before it was asked for.
type PeerReadIndex struct {
	Index uint64 `json:"index"`
}

// PeerEvents is what one coordinator alone came to know: its own events, and those that nodes told it.
// They are numbered from 1 in each run of its process, up to Last; Skipped are no longer kept.
type PeerEvents struct {
	Run     string  `json:"run"`
	Last    uint64  `json:"last"`
	Skipped uint64  `json:"skipped,omitempty"`
	Events  []Event `json:"events"`
}

// First byte of every binary WebSocket message of an exec session.
const (
	ExecStdin  byte = 0
	ExecStdout byte = 1
	ExecStderr byte = 2
	ExecResize byte = 3 // JSON {"cols":N,"rows":N}
	ExecExit   byte = 4 // JSON {"code":N} or {"error":"…"}; the last message
	ExecEOF    byte = 5 // no more standard input
	ExecSignal byte = 6 // JSON {"signal":"INT"}
)

// ExecExitStatus is the payload of ExecExit.
type ExecExitStatus struct {
	Code  int    `json:"code"`
	Error *Error `json:"error,omitempty"`
}

// TermSize is the payload of ExecResize.
type TermSize struct {
	Cols int `json:"cols"`
	Rows int `json:"rows"`
}

// LogOptions selects lines of a replica's log.
type LogOptions struct {
	Follow     bool
	Tail       int // last lines; -1 is all
	Previous   bool
	Since      time.Time
	Timestamps bool
	Replica    string // one replica's id; "" is all of the workload's
}

// ListQuery narrows a list and asks for a change: when Index is not 0, the answer waits up to Wait
// until the state is past it.
type ListQuery struct {
	Namespace string
	Label     map[string]string // all must match
	Limit     int
	Cursor    string
	Index     uint64
	Wait      time.Duration
}

// List is every list's shape.
type List[T any] struct {
	Items  []T    `json:"items"`
	Index  uint64 `json:"index"`
	Cursor string `json:"cursor,omitempty"` // "" when it is the last page
}

// WriteResult answers a write of a workload.
type WriteResult struct {
	Workload Workload `json:"workload"`
	Outcome  string   `json:"outcome"` // created | updated | unchanged | scaled | restarted | deleted
	Index    uint64   `json:"index"`
}

// Plan is what applying a workload would do. Changes are field paths with their old and new values;
// Beyond is what it asks for that the present version does not have (all of it, for a new workload).
type Plan struct {
	Outcome     string       `json:"outcome"` // create | update | unchanged
	Changes     []PlanChange `json:"changes,omitempty"`
	Beyond      []Grant      `json:"beyond,omitempty"`
	Notes       []string     `json:"notes,omitempty"` // what the namespace's policy means for it
	Explanation Explanation  `json:"explanation"`
}

// PlanChange is one field that would change; values are JSON, "" is absent.
type PlanChange struct {
	Field string `json:"field"`
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
}

// WorkloadVersion is one spec that a workload had.
type WorkloadVersion struct {
	Version   uint64       `json:"version"`
	CreatedAt time.Time    `json:"createdAt"`
	Spec      WorkloadSpec `json:"spec"`
	Current   bool         `json:"current"`
}

// Settled tells how far the cluster has taken up a change (for --wait).
type Settled struct {
	Workload      *Workload `json:"workload,omitempty"` // nil when it is gone
	Ready         bool      `json:"ready"`              // the current version's replicas are all ready (a job: complete)
	Routed        bool      `json:"routed"`             // every connected ready node has acknowledged the endpoint table
	Slow          []string  `json:"slow,omitempty"`     // names of those that have not
	EndpointIndex uint64    `json:"endpointIndex"`
	Index         uint64    `json:"index"`
}

// ClusterStatus is one screen about everything.
type ClusterStatus struct {
	ClusterID    string         `json:"clusterId"`
	Epoch        uint64         `json:"epoch"`
	Index        uint64         `json:"index"`
	Leader       string         `json:"leader"` // name, "" when there is none
	Coordinators []Member       `json:"coordinators"`
	Nodes        map[string]int `json:"nodes"`     // by state, and "total"
	Workloads    map[string]int `json:"workloads"` // by phase, and "total"
	Replicas     map[string]int `json:"replicas"`  // desired, ready
	Storage      StorageStatus  `json:"storage"`
	Warnings     []string       `json:"warnings,omitempty"`
}

// StorageStatus sums up the object store, and the artifacts in it.
type StorageStatus struct {
	Health    string   `json:"health"`            // ok | degraded | unavailable
	Reasons   []string `json:"reasons,omitempty"` // why it is not ok
	Nodes     int      `json:"nodes"`             // that keep chunks
	Capacity  int64    `json:"capacity"`          // bytes that they may use
	Used      int64    `json:"used"`
	Missing   int64    `json:"missing"` // copies of chunks that are still to be made
	Artifacts int      `json:"artifacts"`
	Bytes     int64    `json:"bytes"` // of the artifacts
}

// ScaleRequest, RollbackRequest and DrainRequest are the bodies of their POSTs.
type ScaleRequest struct {
	Replicas int `json:"replicas"`
}

// RollbackRequest names the version to return to; 0 is the one before the current.
type RollbackRequest struct {
	Version uint64 `json:"version,omitempty"`
}

// RevokeRequest says why a node is not trusted any more.
type RevokeRequest struct {
	Reason string `json:"reason,omitempty"`
}

// DrainRequest empties a node; Deadline 0 means no limit.
type DrainRequest struct {
	Graceful bool     `json:"graceful"`
	Deadline Duration `json:"deadline,omitzero"`
}

// Caller is who asks: the token's id and role, and the ids to carry into logs and events. Web fills
// it in from the request; it is part of every write.
type Caller struct {
	TokenID       string `json:"tokenId,omitempty"`
	Role          Role   `json:"role,omitempty"`
	Source        string `json:"source,omitempty"` // peer address
	RequestID     string `json:"requestId,omitempty"`
	CorrelationID string `json:"correlationId,omitempty"`
}
