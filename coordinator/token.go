package coordinator

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
	"github.com/cloudless/cloudless/internal/pki"
)

func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// sameHash compares in constant time.
func sameHash(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// splitToken takes "cl_ID_SECRET" apart.
func splitToken(text string) (id, secret string, err error) {
	parts := strings.Split(text, "_")
	if len(parts) != 3 || parts[0] != "cl" || parts[1] == "" || parts[2] == "" {
		return "", "", api.Errorf(api.CodeUnauthorized, "the token is not of the form cl_ID_SECRET").WithHint("use the content of admin.token, or of 'cloudless token create'")
	}
	return parts[1], parts[2], nil
}

// Authenticate finds who a token belongs to.
func (s *Server) Authenticate(ctx context.Context, text string) (api.Caller, error) {
	id, secret, err := splitToken(text)
	if err != nil {
		return api.Caller{}, err
	}
	tok, ok := s.store.View().Token(id)
	if !ok { // it may be newer than what this coordinator has applied
		if err := s.fresh(ctx); err != nil {
			return api.Caller{}, api.Errorf(api.CodeUnavailable, "this coordinator cannot tell yet whether the token is good: %w", err).WithHint("try another coordinator, or wait a moment")
		}
		tok, ok = s.store.View().Token(id)
	}
	switch {
	case !ok || !sameHash(tok.Hash, hashSecret(secret)) || tok.Role.Joins() || tok.Role == api.RoleS3:
		return api.Caller{}, api.Errorf(api.CodeUnauthorized, "the token is unknown or was revoked").WithHint("set CLOUDLESS_TOKEN or --token @FILE")
	case tok.ExpiresAt != nil && time.Now().After(*tok.ExpiresAt):
		return api.Caller{}, api.Errorf(api.CodeUnauthorized, "the token expired at %s", tok.ExpiresAt.Format(time.RFC3339)).WithHint("an admin can make a new one with 'cloudless token create'")
	}
	return api.Caller{TokenID: tok.ID, Role: tok.Role}, nil
}

// Tokens lists the tokens without hashes.
func (s *Server) Tokens(context.Context) (api.List[api.Token], error) {
	v := s.store.View()
	index, _ := v.Mark(state.MarkTokens)
	out := api.List[api.Token]{Items: []api.Token{}, Index: index}
	for _, t := range v.Tokens() {
		out.Items = append(out.Items, t.Redacted())
	}
	return out, nil
}

// CreateToken makes a token; its secret is in the answer and nowhere else.
func (s *Server) CreateToken(ctx context.Context, c api.Caller, r api.TokenRequest) (api.Token, error) {
	if r.S3 {
		return s.createS3Key(ctx, c, r)
	}
	tok := api.Token{ID: api.NewID("t"), Role: r.Role, Description: r.Description, Name: r.Name, Uses: r.Uses, Limited: r.Uses > 0}
	switch {
	case r.Role != api.RoleAdmin && r.Role != api.RoleOperator && r.Role != api.RoleViewer && !r.Role.Joins():
		return api.Token{}, api.Errorf(api.CodeInvalid, "role: %q is not admin, operator, viewer, node or server", r.Role)
	case r.Bucket != "" || r.ReadOnly:
		return api.Token{}, api.Errorf(api.CodeInvalid, "bucket and readOnly are for S3 keys").WithHint("set s3, and leave out role")
	case r.Uses < 0:
		return api.Token{}, api.Errorf(api.CodeInvalid, "uses: %d is less than 0", r.Uses)
	case !r.Role.Joins() && (r.Uses != 0 || r.Name != ""):
		return api.Token{}, api.Errorf(api.CodeInvalid, "uses and name are for tokens of role node or server")
	case r.TTL == 0 && r.Role.Joins():
		r.TTL = api.Duration(api.DefaultJoinTTL)
	}
	tok.ExpiresAt = endOf(r.TTL)
	secret := api.NewSecret()
	tok.Hash = hashSecret(secret)
	res, _, err := s.propose(ctx, state.Command{By: &c, PutToken: &tok})
	if err != nil {
		return api.Token{}, err
	}
	out := *res.Token
	out.Secret = "cl_" + tok.ID + "_" + secret
	if r.Role.Joins() {
		out.Secret = pki.JoinToken{CAHash: s.trust.Load().front.Hash(), ID: tok.ID, Secret: secret}.String()
	}
	return out, nil
}

// RevokeToken ends a token at once.
func (s *Server) RevokeToken(ctx context.Context, c api.Caller, id string) error {
	_, _, err := s.propose(ctx, state.Command{By: &c, RevokeToken: &state.ByID{ID: id}})
	return err
}

// Audited runs a change that c asks for. One line about it is in the audit log before it returns; if
// there is no room for the line, do is not run.
func (s *Server) Audited(c api.Caller, what string, object func() string, do func() error) error {
	return s.audit.audited(auditLine{Who: c.TokenID, What: what, RequestID: c.RequestID, Source: c.Source}, object, do)
}
