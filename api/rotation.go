package api

import "time"

// RotationKind is what a rotation replaces.
type RotationKind string

// The kinds.
const (
	RotateCA     RotationKind = "ca"     // the CA that signs members' certificates
	RotateGossip RotationKind = "gossip" // the key that encrypts gossip
)

// RotationPhase is how far a rotation has come. Each begins when everybody has taken up the one before.
type RotationPhase string

// The phases, in order. Canceled is how one ends whose new key was lost before anybody used it.
const (
	PhaseTrust    RotationPhase = "trust"  // old and new are both trusted, the old one is used
	PhaseUse      RotationPhase = "use"    // both are trusted, the new one is used
	PhaseRetire   RotationPhase = "retire" // only the new one is trusted
	PhaseDone     RotationPhase = "done"
	PhaseCanceled RotationPhase = "canceled"
)

// Rotation replaces a key of the whole cluster while it serves. Old and New are the SHA-256 of the CA's
// certificate, or of the gossip key: the keys themselves are never in the state.
type Rotation struct {
	Kind      RotationKind  `json:"kind"`
	Old       string        `json:"old"`
	New       string        `json:"new"`
	OldCert   string        `json:"oldCert,omitempty"` // PEM, of a CA
	NewCert   string        `json:"newCert,omitempty"`
	Phase     RotationPhase `json:"phase"`
	StartedAt time.Time     `json:"startedAt,omitzero"`
	Since     time.Time     `json:"since,omitzero"`    // of the phase
	Overlap   Duration      `json:"overlap,omitzero"`  // the old one is trusted for at least this long
	Deadline  Duration      `json:"deadline,omitzero"` // a phase waits for those that are away for at most this long
	Index     uint64        `json:"index,omitempty"`   // of the phase
}

// RotationRequest asks for a rotation.
type RotationRequest struct {
	Kind     RotationKind `json:"kind"`
	Overlap  *Duration    `json:"overlap,omitempty"` // absent: DefaultCAOverlap for a CA, none for gossip
	Deadline Duration     `json:"deadline,omitzero"` // 0: LeafLifetime for a CA, DefaultGossipDeadline for gossip
}

// Times of rotations. Nobody who has been away for longer than a certificate lives can come back
// without joining anew, so there is no use in waiting longer for them.
const (
	DefaultCAOverlap      = 24 * time.Hour
	DefaultGossipDeadline = 10 * time.Minute
	MaxRotationDeadline   = LeafLifetime
)

// TrustBundle is what a node is to believe: the CAs, which of them its certificate is to be from, and
// the gossip keys, the one to use first. It travels inside mTLS and nowhere else.
type TrustBundle struct {
	Index      uint64   `json:"index"`
	CA         string   `json:"ca"`     // PEM
	Issuer     string   `json:"issuer"` // SHA-256 of the CA that signs now
	GossipKeys []string `json:"gossipKeys"`
}

// PeerKeys are the keys that coordinators share with each other, by their hashes.
type PeerKeys struct {
	CAs    map[string]CAKey  `json:"cas"`
	Gossip map[string]string `json:"gossip"`
	Seals  map[string][]byte `json:"seals"`
}

// CAKey is a CA with its private key, PEM both.
type CAKey struct {
	Cert string `json:"cert"`
	Key  string `json:"key"`
}
