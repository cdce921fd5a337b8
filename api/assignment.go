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
	// Grants holds, by digest, what lets the node read each of its artifacts from other nodes.
	Grants map[string]string `json:"grants,omitempty"`
}

// HeaderGrant carries a grant when a node asks another one for an artifact.
const HeaderGrant = "Cloudless-Grant"

// Artifacts are the digests that the node may read: of what it is assigned, in the variant that it
// runs, and of what it is to prepare, in either.
func (s *AssignmentSet) Artifacts() map[string]bool {
	read := map[string]bool{}
	add := func(spec *WorkloadSpec, v Variant) {
		if d, ok := spec.Digest(v); ok {
			read[d] = true
		}
	}
	specs := make(map[string]*WorkloadSpec, len(s.Specs))
	for i := range s.Specs {
		specs[VersionKey(s.Specs[i].UID, s.Specs[i].Version)] = &s.Specs[i].Spec
	}
	for _, a := range s.Assignments {
		if spec, ok := specs[VersionKey(a.UID, a.Version)]; ok {
			add(spec, a.Variant)
		}
	}
	for i := range s.Prepare {
		add(&s.Prepare[i].Spec, VariantWasm)
		add(&s.Prepare[i].Spec, VariantContainer)
	}
	return read
}

// VersionKey names one version of one workload.
func VersionKey(uid string, version uint64) string {
	return uid + "/" + strconv.FormatUint(version, 10)
}

// Older tells whether (e1, g1) comes before (e2, g2).
func Older(e1, g1, e2, g2 uint64) bool { return e1 < e2 || e1 == e2 && g1 < g2 }
