package pki

import (
	"regexp"
	"strings"
	"sync"

	"github.com/cloudless/cloudless/api"
)

// JoinToken lets a machine enrol. It carries the hash of the cluster's CA, so that a joiner knows
// that it talks to the right cluster before it shows the secret.
type JoinToken struct {
	CAHash string // hex SHA-256 of the CA certificate
	ID     string
	Secret string
}

const joinTokenVersion = "CL1"

// joinTokenPattern is large, and compiled when the first token is read: most processes never see one.
var joinTokenPattern = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^CL1\.[0-9a-f]{64}\.[A-Za-z0-9][A-Za-z0-9_-]{0,62}\.[A-Za-z0-9_-]{1,128}$`)
})

// String is the token as people carry it: CL1.CAHASH.ID.SECRET.
func (t JoinToken) String() string {
	return strings.Join([]string{joinTokenVersion, t.CAHash, t.ID, t.Secret}, ".")
}

// ParseJoinToken reads a token, white space around it ignored. Its errors never repeat the token.
func ParseJoinToken(s string) (JoinToken, error) {
	s = strings.TrimSpace(s)
	switch {
	case s == "":
		return JoinToken{}, api.Errorf(api.CodeInvalid, "the join token is empty").
			WithHint("make one with: cloudless token create --role node")
	case strings.HasPrefix(s, "cl_"):
		return JoinToken{}, api.Errorf(api.CodeUnauthorized, "this is an API token, not a join token").
			WithHint("make a join token with: cloudless token create --role node")
	case !joinTokenPattern().MatchString(s):
		return JoinToken{}, api.Errorf(api.CodeInvalid, "the join token is malformed").
			WithHint("it has the form CL1.CAHASH.ID.SECRET; was it cut when it was copied?")
	}
	parts := strings.Split(s, ".")
	return JoinToken{CAHash: parts[1], ID: parts[2], Secret: parts[3]}, nil
}
