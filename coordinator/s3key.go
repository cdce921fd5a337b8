package coordinator

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

// Forms of S3 keys, as S3 clients expect them: 20 characters and 40.
const (
	accessKeyPrefix = "CLDL"
	accessKeyBytes  = 10 // 16 characters
	secretKeyBytes  = 25 // 200 bits
	maxDayOff       = 24 * time.Hour
	signingDay      = "20060102"
)

func randomText(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return api.EncodeID(b)
}

// createS3Key makes a key for the S3 door. Its secret is in the answer and, sealed, in the state.
func (s *Server) createS3Key(ctx context.Context, c api.Caller, r api.TokenRequest) (api.Token, error) {
	if r.Role != "" || r.Uses != 0 || r.Name != "" {
		return api.Token{}, api.Errorf(api.CodeInvalid, "role, uses and name are not for S3 keys").WithHint("leave them out; --bucket and --read-only limit an S3 key")
	}
	if r.Bucket != "" {
		if err := api.CheckBucketName(r.Bucket); err != nil {
			return api.Token{}, err
		}
	}
	by := s.store.View().Meta().SealKey
	if by == "" {
		return api.Token{}, api.Errorf(api.CodeUnavailable, "the cluster has no key to seal secrets with yet").WithHint("its leader makes one; try again in a moment")
	}
	if err := s.sealKeyIsSafe(ctx, by); err != nil {
		return api.Token{}, err
	}
	tok := api.Token{ID: accessKeyPrefix + strings.ToUpper(randomText(accessKeyBytes)), Role: api.RoleS3, Description: r.Description, Bucket: r.Bucket, ReadOnly: r.ReadOnly}
	tok.ExpiresAt = endOf(r.TTL)
	secret := randomText(secretKeyBytes)
	key, _ := s.heldSeal(by)
	data, err := seal(key, tok.ID, secret)
	if err != nil {
		return api.Token{}, err
	}
	tok.Sealed = &api.Sealed{By: by, Data: data}
	res, _, err := s.propose(ctx, state.Command{By: &c, PutToken: &tok})
	if err != nil {
		return api.Token{}, err
	}
	out := *res.Token
	out.Secret = secret
	return out, nil
}

// endOf is when a token made now ends; nil is never.
func endOf(ttl api.Duration) *time.Time {
	if ttl <= 0 {
		return nil
	}
	end := time.Now().UTC().Add(ttl.D())
	return &end
}

// handleStoreKey tells a node what it may know of an S3 key. It is asked anew every few seconds, so that a
// key that is revoked opens nothing a moment later.
func (s *Server) handleStoreKey(w http.ResponseWriter, r *http.Request, _ string) {
	var req api.SigningKeyRequest
	if !readJSON(w, r, &req) {
		return
	}
	key, err := s.signingKey(r.Context(), req, time.Now())
	answer(w, key, err)
}

func (s *Server) signingKey(ctx context.Context, req api.SigningKeyRequest, now time.Time) (*api.SigningKey, error) {
	day, err := time.Parse(signingDay, req.Date)
	if err != nil || len(req.Region) > api.MaxRegionLen {
		return nil, api.Errorf(api.CodeInvalid, "date %q, region %.*q: not those of a signature", req.Date, api.MaxRegionLen, req.Region)
	}
	if off := now.UTC().Truncate(24 * time.Hour).Sub(day); off > maxDayOff || off < -maxDayOff {
		return nil, api.Errorf(api.CodeInvalid, "the signature is of %s, today is %s", req.Date, now.UTC().Format(signingDay)).WithHint("set the clock of the client")
	}
	if err := s.fresh(ctx); err != nil { // else a revoked key could still be good here
		return nil, api.Errorf(api.CodeUnavailable, "this coordinator cannot tell yet whether the key is good: %w", err)
	}
	tok, ok := s.store.View().Token(req.AccessKey)
	switch {
	case !ok || tok.Role != api.RoleS3 || tok.Sealed == nil:
		return nil, api.Errorf(api.CodeUnauthorized, "the access key is unknown or was revoked").WithHint("make one with 'cloudless token create --s3'")
	case tok.ExpiresAt != nil && !now.Before(*tok.ExpiresAt):
		return nil, api.Errorf(api.CodeUnauthorized, "the access key expired at %s", tok.ExpiresAt.Format(time.RFC3339)).WithHint("make another with 'cloudless token create --s3'")
	}
	secret, err := s.openSecret(ctx, tok)
	if err != nil {
		return nil, err
	}
	return &api.SigningKey{Key: deriveSigningKey(secret, req.Date, req.Region), Bucket: tok.Bucket, ReadOnly: tok.ReadOnly, Expires: tok.ExpiresAt}, nil
}

func (s *Server) openSecret(ctx context.Context, tok *api.Token) (string, error) {
	if err := s.takeSealKey(ctx, tok.Sealed.By); err != nil {
		return "", err
	}
	key, _ := s.heldSeal(tok.Sealed.By)
	return unseal(key, tok.ID, tok.Sealed.Data)
}

// deriveSigningKey is the key of one day, region and service, as Signature Version 4 makes it.
func deriveSigningKey(secret, date, region string) []byte {
	key := []byte("AWS4" + secret)
	for _, part := range []string{date, region, "s3", "aws4_request"} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	return key
}
