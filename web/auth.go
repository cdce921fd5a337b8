package web

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/cloudless/cloudless/api"
)

// rolePublic marks routes that need no credential.
const rolePublic api.Role = "public"

var roleRank = map[api.Role]int{api.RoleViewer: 1, api.RoleOperator: 2, api.RoleAdmin: 3}

// permits tells whether a caller of role have may use a route that needs role need. Roles of join
// tokens rank below all, and a need that is not a role permits nobody.
func permits(have, need api.Role) bool {
	want, known := roleRank[need]
	return known && roleRank[have] >= want
}

func (s *server) authenticate(c *call) (api.Caller, error) {
	token, err := bearer(c.request().Header)
	if err == nil {
		var who api.Caller
		if who, err = s.backend.Authenticate(c.context(), token); err == nil {
			return who, nil
		}
	}
	if api.CodeOf(err) == api.CodeUnauthorized {
		c.header().Set("WWW-Authenticate", `Bearer realm="cloudless"`)
	}
	return api.Caller{}, err
}

// bearer finds the token of "Authorization: Bearer TOKEN". Tokens in URLs or cookies are not
// looked at: the first end up in logs, the second are sent by other sites' pages.
func bearer(h http.Header) (string, error) {
	scheme, token, _ := strings.Cut(h.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", api.Errorf(api.CodeUnauthorized, "the request carries no token").
			WithHint("send 'Authorization: Bearer TOKEN' (command line: --token @FILE or CLOUDLESS_TOKEN); 'cloudless token create' makes one")
	}
	return token, nil
}

// checkOrigin refuses what a page of another site makes a browser send: writes, and WebSockets,
// which browsers open across sites.
func checkOrigin(r *http.Request) error {
	origin := r.Header.Get("Origin")
	if origin == "" || !changesState(r.Method) && r.Header.Get("Upgrade") == "" {
		return nil
	}
	if u, err := url.Parse(origin); err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host) {
		return nil
	}
	return api.Errorf(api.CodeForbidden, "the request comes from a page of another site (%q)", origin).
		WithHint("use the dashboard of this address, or a client that sends no Origin")
}

func changesState(method string) bool {
	return method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions
}
