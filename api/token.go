package api

import "time"

// Role is what a token or a certificate may do.
type Role string

// Roles of people's tokens, then of join tokens and certificates.
const (
	RoleAdmin    Role = "admin"    // everything
	RoleOperator Role = "operator" // workloads, nodes; not tokens, not members
	RoleViewer   Role = "viewer"   // reads
	RoleNode     Role = "node"     // lets an agent enrol; names an agent's certificate
	RoleServer   Role = "server"   // lets a coordinator enrol; names a coordinator's certificate
	RoleS3       Role = "s3"       // signs requests to the S3 door; no bearer token
)

// Token is a credential without its secret. Secret is set once, in the answer that creates it:
// "cl_ID_SECRET" for people, "CL1.CAHASH.ID.SECRET" for joining, a secret access key for S3, whose access
// key is the ID.
type Token struct {
	ID          string     `json:"id"`
	Role        Role       `json:"role"`
	Description string     `json:"description,omitempty"`
	Name        string     `json:"name,omitempty"` // the only node name that may enrol with it
	Uses        int        `json:"uses,omitempty"` // left; 0 with Limited false: any number
	Limited     bool       `json:"limited,omitempty"`
	CreatedAt   time.Time  `json:"createdAt,omitzero"`
	ExpiresAt   *time.Time `json:"expiresAt,omitempty"`
	Hash        string     `json:"hash,omitempty"`     // hex SHA-256 of the secret; never leaves the coordinators
	Bucket      string     `json:"bucket,omitempty"`   // the only one that an S3 key opens; "": all
	ReadOnly    bool       `json:"readOnly,omitempty"` // an S3 key that changes nothing
	Sealed      *Sealed    `json:"sealed,omitempty"`   // an S3 key's secret; never leaves the coordinators
	CreateIndex uint64     `json:"createIndex,omitempty"`
	ModifyIndex uint64     `json:"modifyIndex,omitempty"`

	Secret string `json:"secret,omitempty"`
}

// Sealed is a secret that must be had again in plain: to check a signature takes what made it.
type Sealed struct {
	By   string `json:"by"`   // the id of the cluster's sealing key
	Data []byte `json:"data"` // nonce and ciphertext
}

// TokenRequest asks for a token of a role, or for an S3 key. TTL 0 means DefaultJoinTTL for node and server
// tokens, no end for people's and for S3 keys.
type TokenRequest struct {
	Role        Role     `json:"role,omitempty"`
	S3          bool     `json:"s3,omitempty"`       // without a role
	Bucket      string   `json:"bucket,omitempty"`   // S3 keys
	ReadOnly    bool     `json:"readOnly,omitempty"` // S3 keys
	Description string   `json:"description,omitempty"`
	Name        string   `json:"name,omitempty"`
	TTL         Duration `json:"ttl,omitzero"`
	Uses        int      `json:"uses,omitempty"`
}

// Joins tells whether tokens of the role are for enrolment.
func (r Role) Joins() bool { return r == RoleNode || r == RoleServer }

// Redacted is the token without hash and secret.
func (t Token) Redacted() Token {
	t.Hash, t.Secret, t.Sealed = "", "", nil
	return t
}
