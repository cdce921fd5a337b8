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

// told are the headers that a replica gets from us and can believe, in the order in which vouched has their values.
var told = [...]string{headerRemoteAddr, "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}

// vouched is what a replica gets to see: not what a client says about itself and its way here, but that said
// anew. Whether the client waits for a 100 Continue is the server's matter, which sends it when the body is first
// read. Values are shared with r; nobody changes them in place.
func vouched(r *http.Request) http.Header {
	h := make(http.Header, len(r.Header)+len(told))
	for name, values := range r.Header {
		switch canonical := http.CanonicalHeaderKey(name); {
		case canonical == "Expect", canonical == "Forwarded":
		case strings.HasPrefix(canonical, "X-Forwarded-"), strings.HasPrefix(canonical, prefixOwn):
		default:
			h[name] = values
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
	values := [len(told)]string{r.RemoteAddr, ip, r.Host, proto}
	for i, name := range told {
		h[name] = values[i : i+1 : i+1]
	}
	return h
}

// copyTold carries over what vouched has written, which the proxy has dropped or a Connection header named.
func copyTold(to, from http.Header) {
	for _, name := range told {
		if v, ok := from[name]; ok {
			to[name] = v
		}
	}
}
