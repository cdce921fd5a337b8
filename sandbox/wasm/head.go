package wasm

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/cloudless/cloudless/api"
)

const (
	headerRemoteAddr = "X-Cloudless-Remote-Addr"

	// maxRequestHead is above what the ingress lets through; it bounds what is copied into guests.
	maxRequestHead = 2 * api.MaxHeaderBytes
)

// hopByHop names the fields that concern one connection only, not the guest.
var hopByHop = []string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// endToEnd copies a header without the fields of the connection, those that Connection names, and
// what is no field at all.
func endToEnd(h http.Header) http.Header {
	out := http.Header{}
	for name, values := range h {
		if httpguts.ValidHeaderFieldName(name) {
			if values = slices.DeleteFunc(slices.Clone(values), invalidValue); len(values) > 0 {
				out[name] = values
			}
		}
	}
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			out.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range hopByHop {
		out.Del(name)
	}
	return out
}

func invalidValue(v string) bool { return !httpguts.ValidHeaderFieldValue(v) }

// remoteAddr is the peer as the ingress tells it, else as the connection does.
func remoteAddr(r *http.Request) string {
	return cmp.Or(r.Header.Get(headerRemoteAddr), r.RemoteAddr)
}

// guestHeader is what a guest sees of a request's header, with what net/http keeps elsewhere.
func guestHeader(r *http.Request) http.Header {
	h := endToEnd(r.Header)
	h.Del("Host")
	if r.Host != "" && !invalidValue(r.Host) {
		h.Set("Host", r.Host)
	}
	h.Del("Content-Length")
	if r.ContentLength > 0 || r.ContentLength == 0 && r.Header.Get("Content-Length") != "" {
		h.Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
	h.Del(headerRemoteAddr)
	if addr := remoteAddr(r); addr != "" && !invalidValue(addr) {
		h.Set(headerRemoteAddr, addr)
	}
	return h
}

// formatHead writes a request's head for the cl interface: "METHOD SP URI LF", then "name: value LF"
// for each field, names in lower case and in order.
func formatHead(r *http.Request) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s\n", r.Method, r.URL.RequestURI())
	h := guestHeader(r)
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range h[name] {
			fmt.Fprintf(&b, "%s: %s\n", strings.ToLower(name), value)
		}
	}
	return bytes.ToValidUTF8(b.Bytes(), []byte("\uFFFD"))
}

var errHead = errors.New("bad response head")

// parseFields reads "name: value" lines that end in LF or CRLF; the last may lack its end.
func parseFields(text []byte) (http.Header, error) {
	if len(text) > api.MaxHeaderBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", errHead, len(text), api.MaxHeaderBytes)
	}
	h := http.Header{}
	for line := range bytes.Lines(text) {
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		if len(line) == 0 {
			continue
		}
		name, value, ok := strings.Cut(string(line), ":")
		value = textproto.TrimString(value)
		if !ok || !httpguts.ValidHeaderFieldName(name) || invalidValue(value) {
			return nil, fmt.Errorf("%w: %.80q is not a header field", errHead, line)
		}
		h.Add(name, value)
	}
	return h, nil
}

// validStatus tells whether a guest may answer with the status: final ones only, as 1xx concerns the
// connection.
func validStatus(status int) bool { return status >= 200 && status <= 599 }
