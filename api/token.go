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
)

// Token is a credential without its secret. Secret is set once, in the answer that creates it:
// "cl_ID_SECRET" for people, "CL1.CAHASH.ID.SECRET" for joining.
type Token struct {
	ID          string     `json:"id"`
	Role        Role       `json:"role"`
	Description string     `json:"description,omitempty"`
	Name        string     `json:"name,omitempty"` // the only node name that may enrol with it
	Uses        int        `json:"uses,omitempty"` // left; 0 with Limited false: any number
	Limited     bool       `json:"limited,omitempty"`
	CreatedAt   time.Time  `json:"createdAt,omitzero"`
	ExpiresAt   *time.Time `json:"expiresAt,omitempty"`
	Hash        string     `json:"hash,omitempty"` // hex SHA-256 of the secret; never leaves the coordinators
	CreateIndex uint64     `json:"createIndex,omitempty"`
	ModifyIndex uint64     `json:"modifyIndex,omitempty"`

	Secret string `json:"secret,omitempty"`
}

// TokenRequest asks for a token. TTL 0 means DefaultJoinTTL for node and server tokens, no end for people's.
type TokenRequest struct {
	Role        Role     `json:"role"`
	Description string   `json:"description,omitempty"`
	Name        string   `json:"name,omitempty"`
	TTL         Duration `json:"ttl,omitzero"`
	Uses        int      `json:"uses,omitempty"`
}

// Joins tells whether tokens of the role are for enrolment.
func (r Role) Joins() bool { return r == RoleNode || r == RoleServer }

// Redacted is the token without hash and secret.
func (t Token) Redacted() Token {
	t.Hash, t.Secret = "", ""
	return t
}
