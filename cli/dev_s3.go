package cli

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator"
	"github.com/cloudless/cloudless/internal/datadir"
	"github.com/cloudless/cloudless/internal/run"
)

// fileDevS3 keeps dev's key for the S3 API over restarts: what it is good for is this one cluster.
const fileDevS3 = "s3.env"

// devS3Key gives dev's key. It is made at the first start, and again when somebody has revoked it.
func devS3Key(ctx context.Context, s *coordinator.Server, file string) (access, secret string, err error) {
	if access, secret, ok := keptS3Key(file); ok {
		list, err := s.Tokens(ctx)
		if err != nil || slices.ContainsFunc(list.Items, func(t api.Token) bool { return t.ID == access }) {
			return access, secret, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		t, err := s.CreateToken(ctx, api.Caller{Role: api.RoleAdmin, TokenID: "dev"}, api.TokenRequest{S3: true, Description: "of cloudless dev"})
		if err == nil {
			return t.ID, t.Secret, datadir.WriteFile(file, []byte(s3Env(t.ID, t.Secret)))
		}
		if api.CodeOf(err) != api.CodeUnavailable || run.Sleep(ctx, 20*time.Millisecond) != nil {
			return "", "", err
		}
	}
}

func s3Env(access, secret string) string {
	return "AWS_ACCESS_KEY_ID=" + access + "\nAWS_SECRET_ACCESS_KEY=" + secret + "\n"
}

func keptS3Key(file string) (access, secret string, ok bool) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", "", false
	}
	first, rest, _ := strings.Cut(string(data), "\n")
	access, okA := strings.CutPrefix(first, "AWS_ACCESS_KEY_ID=")
	secret, okS := strings.CutPrefix(strings.TrimSpace(rest), "AWS_SECRET_ACCESS_KEY=")
	return access, secret, okA && okS
}
