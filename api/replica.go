package api

import "time"

// ReplicaState is where a replica is in its life.
type ReplicaState string

// The states. A replica that failed or was lost is replaced by another one with a new id.
const (
	ReplicaPlaced   ReplicaState = "placed"   // decided, not yet taken up by its node
	ReplicaStarting ReplicaState = "starting" // fetching, compiling, creating
	ReplicaRunning  ReplicaState = "running"
	ReplicaBackoff  ReplicaState = "backoff" // ended, waits to be started again
	ReplicaStopping ReplicaState = "stopping"
	ReplicaStopped  ReplicaState = "stopped"
	ReplicaComplete ReplicaState = "complete" // ended well and is not to be restarted
	ReplicaFailed   ReplicaState = "failed"   // ended badly and is not to be restarted
)

// Terminal tells whether nothing of the replica runs, and nothing will.
func (s ReplicaState) Terminal() bool {
	return s == ReplicaStopped || s == ReplicaComplete || s == ReplicaFailed
}

// Desired is what a replica's node is told to do with it.
type Desired string

// The two wishes.
const (
	DesiredRun  Desired = "run"
	DesiredStop Desired = "stop"
)

// Replica is one running copy of a workload, bound to one node for its whole life: the row that the
// cluster keeps. Its assignment (what the node is told) and its status (what the node answers) are
// views of it.
type Replica struct {
	ID          string   `json:"id"`
	Workload    Ref      `json:"workload"`
	UID         string   `json:"uid"`     // of the workload
	Version     uint64   `json:"version"` // of the workload's spec that it runs
	NodeID      string   `json:"nodeId"`
	Variant     Variant  `json:"variant"`
	Desired     Desired  `json:"desired"`
	Reserved    Reserved `json:"reserved"`
	Orphan      bool     `json:"orphan,omitempty"` // its node was lost and it was replaced
	Decision    Decision `json:"decision,omitzero"`
	CreateIndex uint64   `json:"createIndex,omitempty"`
	ModifyIndex uint64   `json:"modifyIndex,omitempty"`

	State     ReplicaState `json:"state"`
	Ready     bool         `json:"ready"`
	Restarts  int          `json:"restarts"`
	Reason    string       `json:"reason,omitempty"`
	ExitCode  *int         `json:"exitCode,omitempty"` // of the last exit
	UpdatedAt time.Time    `json:"updatedAt,omitzero"`
	NextTry   time.Time    `json:"nextTry,omitzero"` // of one in backoff
	CreatedAt time.Time    `json:"createdAt,omitzero"`
}

// Reserved is what a replica takes of a node: cpu in thousandths of a core, the rest in bytes. A
// node's capacity has the same shape.
type Reserved struct {
	CPU     MilliCPU `json:"cpu"`
	Memory  Bytes    `json:"memory"`
	Storage Bytes    `json:"storage"`
}

// Add returns the sum.
func (r Reserved) Add(o Reserved) Reserved {
	return Reserved{r.CPU + o.CPU, r.Memory + o.Memory, r.Storage + o.Storage}
}

// Sub returns the difference.
func (r Reserved) Sub(o Reserved) Reserved {
	return Reserved{r.CPU - o.CPU, r.Memory - o.Memory, r.Storage - o.Storage}
}

// Fits tells whether r is at most free in every dimension.
func (r Reserved) Fits(free Reserved) bool {
	return r.CPU <= free.CPU && r.Memory <= free.Memory && r.Storage <= free.Storage
}

// Reserve is what one replica of the spec takes as variant v, defaults filled in.
func (s *WorkloadSpec) Reserve(v Variant) Reserved {
	r := Reserved{CPU: s.Resources.CPU, Memory: s.Resources.Memory, Storage: s.Resources.Storage}
	if r.CPU == 0 {
		r.CPU = DefaultCPUMilli
	}
	if r.Memory == 0 {
		r.Memory = DefaultWasmMemory
		if v == VariantContainer {
			r.Memory = DefaultContainerMemory
		}
	}
	for i := range s.Volumes {
		if vol := &s.Volumes[i]; !vol.Shared() {
			r.Storage += vol.Limit()
		}
	}
	return r
}

// ReplicaStatus is a replica as people see it.
type ReplicaStatus struct {
	ID       string       `json:"id"`
	Node     string       `json:"node"` // the node's name
	NodeID   string       `json:"nodeId"`
	Variant  Variant      `json:"variant"`
	Version  uint64       `json:"version"`
	State    ReplicaState `json:"state"`
	Ready    bool         `json:"ready"`
	Restarts int          `json:"restarts"`
	Reason   string       `json:"reason,omitempty"`
	ExitCode *int         `json:"exitCode,omitempty"`
	Orphan   bool         `json:"orphan,omitempty"`
	Since    time.Time    `json:"since,omitzero"`
	NextTry  time.Time    `json:"nextTry,omitzero"` // of one in backoff
}

// Decision is what the cluster keeps of one placement: how many nodes each filter refused, and the
// best scores. The whole table is recomputed on demand (Explanation).
type Decision struct {
	At      time.Time      `json:"at,omitzero"`
	Index   uint64         `json:"index,omitempty"` // of the state that it was taken on
	Nodes   int            `json:"nodes"`           // looked at
	Refused map[string]int `json:"refused,omitempty"`
	Best    []Score        `json:"best,omitempty"` // at most five, best first
	Chosen  string         `json:"chosen,omitempty"`
}

// Score is one node's mark, 0 … 100, and what it is made of.
type Score struct {
	NodeID string             `json:"nodeId"`
	Node   string             `json:"node,omitempty"`
	Total  float64            `json:"total"`
	Parts  map[string]float64 `json:"parts,omitempty"`
}

// NodeExplanation is one row of an Explanation: why a node was refused, or its score.
type NodeExplanation struct {
	NodeID  string  `json:"nodeId"`
	Node    string  `json:"node"`
	Variant Variant `json:"variant,omitempty"`
	Filter  string  `json:"filter,omitempty"` // the filter that refused it, "" when it passed
	Reason  string  `json:"reason,omitempty"`
	Score   Score   `json:"score,omitzero"`
	Held    Bytes   `json:"held,omitzero"`   // that it has of what a replica needs: artifact, mounted buckets
	Needed  Bytes   `json:"needed,omitzero"` // that a replica needs of them, as far as that is known
}

// Explanation answers "why there, why not there" for a workload as of now.
type Explanation struct {
	Workload  Ref               `json:"workload"`
	Index     uint64            `json:"index"`
	Nodes     []NodeExplanation `json:"nodes"`
	Replicas  []ReplicaDecision `json:"replicas"`
	Unplaced  int               `json:"unplaced"`
	Message   string            `json:"message,omitempty"`
	Different []string          `json:"different,omitempty"` // replicas that would be placed elsewhere now, and why
}

// ReplicaDecision pairs a replica with the decision that put it on its node, and with the row that
// its node would have now if the replica were not there.
type ReplicaDecision struct {
	ID       string           `json:"id"`
	Node     string           `json:"node"`
	Decision Decision         `json:"decision"`
	Now      *NodeExplanation `json:"now,omitempty"` // absent for one that is not to stay, or whose node is gone
}
