package api

import "strconv"

// Assignment tells a node about one replica.
type Assignment struct {
	ReplicaID string  `json:"replicaId"`
	Workload  Ref     `json:"workload"`
	UID       string  `json:"uid"`
	Version   uint64  `json:"version"`
	Variant   Variant `json:"variant"`
	Desired   Desired `json:"desired"`
}

// AssignedSpec is the manifest that assignments of one workload version share.
type AssignedSpec struct {
	Workload Ref          `json:"workload"`
	UID      string       `json:"uid"`
	Version  uint64       `json:"version"`
	Spec     WorkloadSpec `json:"spec"`
}

// AssignmentSet is all that one node is to run. A node refuses a set whose (Epoch, Generation) is
// older than the one that it has. Generation is the Raft index at which the set last changed.
type AssignmentSet struct {
	NodeID      string         `json:"nodeId"`
	Epoch       uint64         `json:"epoch"`
	Generation  uint64         `json:"generation"`
	Reported    bool           `json:"reported"` // the node has reported what it runs in this epoch, and all of it was decided on
	Assignments []Assignment   `json:"assignments"`
	Specs       []AssignedSpec `json:"specs"`
	// Policies of the namespaces of all these; a namespace without one demands nothing.
	Policies []NamespacePolicy `json:"policies,omitempty"`
	// Prepare lists artifacts to fetch and compile ahead of a replica that will come.
	Prepare []AssignedSpec `json:"prepare,omitempty"`
}

// VersionKey names one version of one workload.
func VersionKey(uid string, version uint64) string {
	return uid + "/" + strconv.FormatUint(version, 10)
}

// Older tells whether (e1, g1) comes before (e2, g2).
func Older(e1, g1, e2, g2 uint64) bool { return e1 < e2 || e1 == e2 && g1 < g2 }
