package ingress

import (
	"net"
	"net/http"
	"strings"
)

// Headers of our own. From outside they are dropped; between ingresses they say which replica is
// meant; the replica sees the remote address.
const (
	prefixOwn        = "X-Cloudless-"
	headerRemoteAddr = "X-Cloudless-Remote-Addr"
	headerReplica    = "X-Cloudless-Replica"
	headerTCPPort    = "X-Cloudless-Tcp-Port"
	headerRefused    = "X-Cloudless-Refused" // on a response: no replica answered, and one of:

	refusedUnsent = "unsent" // none has seen the request
	refusedBroken = "broken" // one may have seen it
)

// told are the headers that a replica gets from us and can believe.
var told = [...]string{headerRemoteAddr, "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}

// vouch drops what a client says about itself and its way here, and says it anew.
func vouch(r *http.Request) {
	for name := range r.Header {
		canonical := http.CanonicalHeaderKey(name)
		if canonical == "Forwarded" || strings.HasPrefix(canonical, "X-Forwarded-") || strings.HasPrefix(canonical, prefixOwn) {
			delete(r.Header, name)
		}
	}
	ip, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		ip = r.RemoteAddr
	}
	proto := "http"
	if r.TLS != nil {
		proto = "https"
	}
	r.Header.Set(headerRemoteAddr, r.RemoteAddr)
	r.Header.Set("X-Forwarded-For", ip)
	r.Header.Set("X-Forwarded-Host", r.Host)
	r.Header.Set("X-Forwarded-Proto", proto)
}

// copyTold carries over what vouch wrote, which the proxy has dropped or a Connection header named.
func copyTold(to, from http.Header) {
	for _, name := range told {
		if v, ok := from[name]; ok {
			to[name] = v
		}
	}
}
