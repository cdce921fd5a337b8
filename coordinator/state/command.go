package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/cloudless/cloudless/api"
)

// codecVersion is the first byte of every encoded command.
const codecVersion = 1

// Command is one entry of the log: when and by whom it was asked for, and exactly one operation.
type Command struct {
	At time.Time   `json:"at"`
	By *api.Caller `json:"by,omitempty"`

	Batch           []Command            `json:"batch,omitempty"` // applied in order, each with this command's At
	Found           *Found               `json:"found,omitempty"`
	PutMember       *api.Member          `json:"putMember,omitempty"`
	RemoveMember    *ByID                `json:"removeMember,omitempty"`
	EnrolNode       *EnrolNode           `json:"enrolNode,omitempty"`
	UseToken        *UseToken            `json:"useToken,omitempty"`
	RegisterNode    *RegisterNode        `json:"registerNode,omitempty"`
	SetLiveness     *SetLiveness         `json:"setLiveness,omitempty"`
	Goodbye         *NodeGoodbye         `json:"goodbye,omitempty"`
	Cordon          *Cordon              `json:"cordon,omitempty"`
	Drain           *DrainNode           `json:"drain,omitempty"`
	RemoveNode      *ByID                `json:"removeNode,omitempty"`
	RevokeNode      *RevokeNode          `json:"revokeNode,omitempty"`
	PutWorkload     *PutWorkload         `json:"putWorkload,omitempty"`
	ScaleWorkload   *ScaleWorkload       `json:"scaleWorkload,omitempty"`
	RestartWorkload *ByRef               `json:"restartWorkload,omitempty"`
	RollbackWork    *RollbackWork        `json:"rollbackWorkload,omitempty"`
	DeleteWorkload  *ByRef               `json:"deleteWorkload,omitempty"`
	RemoveWorkload  *ByRef               `json:"removeWorkload,omitempty"` // once its replicas are gone
	NoteUnplaced    *NoteUnplaced        `json:"noteUnplaced,omitempty"`
	PlaceReplicas   *PlaceReplicas       `json:"placeReplicas,omitempty"`
	StopReplicas    *StopReplicas        `json:"stopReplicas,omitempty"`
	ForgetReplicas  *ByIDs               `json:"forgetReplicas,omitempty"`
	OrphanReplicas  *OrphanReplicas      `json:"orphanReplicas,omitempty"`
	ReportStatuses  *ReportStatuses      `json:"reportStatuses,omitempty"`
	SetSealKey      *ByID                `json:"setSealKey,omitempty"`
	PutToken        *api.Token           `json:"putToken,omitempty"`
	RevokeToken     *ByID                `json:"revokeToken,omitempty"`
	StartRotation   *api.Rotation        `json:"startRotation,omitempty"`
	AdvanceRotation *AdvanceRotation     `json:"advanceRotation,omitempty"`
	PutPolicy       *api.NamespacePolicy `json:"putPolicy,omitempty"`
	DeletePolicy    *ByID                `json:"deletePolicy,omitempty"` // the namespace's
	PutArtifact     *api.Artifact        `json:"putArtifact,omitempty"`
	RemoveArtifact  *ByID                `json:"removeArtifact,omitempty"`
	Remember        *Answer              `json:"remember,omitempty"`
	RecordEvent     *api.Event           `json:"recordEvent,omitempty"`
}

// Operands of commands.
type (
	// ByID names a row.
	ByID struct {
		ID string `json:"id"`
	}
	// ByIDs names rows.
	ByIDs struct {
		IDs []string `json:"ids"`
	}
	// ByRef names a workload.
	ByRef struct {
		Ref     api.Ref `json:"ref"`
		IfMatch uint64  `json:"ifMatch,omitempty"` // refuse if its ModifyIndex is another; 0: any will do
	}
	// Found begins a cluster, or a new epoch of it.
	Found struct {
		ClusterID string `json:"clusterId"`
		Epoch     uint64 `json:"epoch"`
	}
	// EnrolNode adds a node on the strength of a join token.
	EnrolNode struct {
		Node    api.Node `json:"node"`
		TokenID string   `json:"tokenId"`
	}
	// UseToken spends one use of a join token (for a coordinator that enrols).
	UseToken struct {
		TokenID string   `json:"tokenId"`
		Role    api.Role `json:"role"`
		Name    string   `json:"name"`
	}
	// RegisterNode is what a node says of itself at a start.
	RegisterNode struct {
		ID   string              `json:"id"`
		Info api.RegisterRequest `json:"info"`
	}
	// SetLiveness changes what the cluster thinks of a node.
	SetLiveness struct {
		ID       string        `json:"id"`
		Liveness api.NodeState `json:"liveness"`
		Reason   string        `json:"reason,omitempty"`
	}
	// NodeGoodbye notes a planned stop.
	NodeGoodbye struct {
		ID   string `json:"id"`
		Kind string `json:"kind"`
	}
	// Cordon keeps new replicas off a node, or lets them again.
	Cordon struct {
		ID       string `json:"id"`
		Cordoned bool   `json:"cordoned"`
	}
	// DrainNode empties a node; a nil Drain ends that.
	DrainNode struct {
		ID    string     `json:"id"`
		Drain *api.Drain `json:"drain,omitempty"`
	}
	// RevokeNode takes a node that is not trusted any more out at once.
	RevokeNode struct {
		ID     string `json:"id"`
		Reason string `json:"reason,omitempty"`
	}
	// PutWorkload creates or updates. UID is used if it creates.
	PutWorkload struct {
		Workload api.Workload `json:"workload"`
		UID      string       `json:"uid"`
		Create   bool         `json:"create,omitempty"` // refuse if it exists
		IfMatch  uint64       `json:"ifMatch,omitempty"`
	}
	// ScaleWorkload changes the number of replicas alone.
	ScaleWorkload struct {
		Ref      api.Ref `json:"ref"`
		Replicas int     `json:"replicas"`
		IfMatch  uint64  `json:"ifMatch,omitempty"`
	}
	// RollbackWork makes an earlier spec the current one, as a new version.
	RollbackWork struct {
		Ref     api.Ref `json:"ref"`
		Version uint64  `json:"version,omitempty"` // 0: the one before
		IfMatch uint64  `json:"ifMatch,omitempty"`
	}
	// NoteUnplaced says how many replicas found no node, and why; Missing 0 clears it.
	NoteUnplaced struct {
		Ref      api.Ref       `json:"ref"`
		Missing  int           `json:"missing"`
		Message  string        `json:"message,omitempty"`
		Decision *api.Decision `json:"decision,omitempty"`
	}
	// PlaceReplicas adds replicas. One whose workload has gone or changed meanwhile is left out.
	PlaceReplicas struct {
		Replicas []api.Replica `json:"replicas"`
	}
	// StopReplicas tells nodes to stop replicas.
	StopReplicas struct {
		IDs    []string `json:"ids"`
		Reason string   `json:"reason"`
	}
	// OrphanReplicas gives replicas of a lost node up, or takes them back when it returned.
	OrphanReplicas struct {
		IDs    []string `json:"ids"`
		Orphan bool     `json:"orphan"`
		Reason string   `json:"reason,omitempty"`
	}
	// AdvanceRotation goes on to the next phase of the rotation to New; Forced when somebody is left behind.
	AdvanceRotation struct {
		Kind   api.RotationKind  `json:"kind"`
		New    string            `json:"new"`
		Phase  api.RotationPhase `json:"phase"`
		Forced bool              `json:"forced,omitempty"`
	}
	// ReportStatuses is what a node says of its replicas.
	ReportStatuses struct {
		NodeID string           `json:"nodeId"`
		Report api.StatusReport `json:"report"`
	}
)

// Result is what applying a command gave. Err is a refusal: nothing was changed.
type Result struct {
	Err     *api.Error
	Write   *api.WriteResult
	Node    *api.Node
	Token   *api.Token
	Applied int // commands of a batch that were not refused
}

// Encode gives the bytes that go into the log.
func (c Command) Encode() ([]byte, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	return append([]byte{codecVersion}, body...), nil
}

// Decode reads what Encode wrote. An operation that this version does not know is an error, never
// skipped: the tables would part.
func Decode(data []byte) (Command, error) {
	if len(data) == 0 || data[0] != codecVersion {
		return Command{}, fmt.Errorf("decode command: not a log entry of version %d: upgrade this coordinator", codecVersion)
	}
	dec := json.NewDecoder(bytes.NewReader(data[1:]))
	dec.DisallowUnknownFields()
	var c Command
	if err := dec.Decode(&c); err != nil {
		return Command{}, fmt.Errorf("decode command: %w", err)
	}
	if dec.More() {
		return Command{}, fmt.Errorf("decode command: bytes after its end")
	}
	return c, nil
}
