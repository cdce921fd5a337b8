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
	"unicode/utf8"

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
		if forwarded(h, name) {
			if values = slices.DeleteFunc(slices.Clone(values), invalidValue); len(values) > 0 {
				out[name] = values
			}
		}
	}
	return out
}

// forwarded says whether a field of h is for the other end and not for the connection.
func forwarded(h http.Header, name string) bool {
	if !httpguts.ValidHeaderFieldName(name) || slices.Contains(hopByHop, name) {
		return false
	}
	for _, list := range h["Connection"] {
		for named := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(named), name) {
				return false
			}
		}
	}
	return true
}

func invalidValue(v string) bool { return !httpguts.ValidHeaderFieldValue(v) }

// remoteAddr is the peer as the ingress tells it, else as the connection does.
func remoteAddr(r *http.Request) string {
	return cmp.Or(r.Header.Get(headerRemoteAddr), r.RemoteAddr)
}

// field is a header field with all its values.
type field struct {
	name   string // in canonical form
	values []string
}

// guestFields is what a guest sees of a request's header, in order, with what net/http keeps elsewhere.
func guestFields(r *http.Request) []field {
	fields := make([]field, 0, 12) // few requests have more
	add := func(name string, value string) {
		if value != "" && !invalidValue(value) {
			fields = append(fields, field{name, []string{value}})
		}
	}
	for name, values := range r.Header {
		switch {
		case name == "Host", name == "Content-Length", name == headerRemoteAddr, !forwarded(r.Header, name):
			continue
		case slices.ContainsFunc(values, invalidValue):
			values = slices.DeleteFunc(slices.Clone(values), invalidValue)
		}
		if len(values) > 0 {
			fields = append(fields, field{name, values})
		}
	}
	add("Host", r.Host)
	if r.ContentLength > 0 || r.ContentLength == 0 && r.Header.Get("Content-Length") != "" {
		add("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
	add(headerRemoteAddr, remoteAddr(r))
	slices.SortFunc(fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	return fields
}

// formatHead writes a request's head for the cl interface: "METHOD SP URI LF", then "name: value LF"
// for each field, names in lower case and in order.
func formatHead(r *http.Request) []byte {
	b := make([]byte, 0, 512) // most heads are shorter
	b = append(append(b, r.Method...), ' ')
	b = append(append(b, r.URL.RequestURI()...), '\n')
	return appendFields(b, guestFields(r))
}

// appendFields adds the lines of fields to a head, and makes the whole valid UTF-8.
func appendFields(b []byte, fields []field) []byte {
	for _, f := range fields {
		for _, value := range f.values {
			b = appendLower(b, f.name)
			b = append(append(append(b, ": "...), value...), '\n')
		}
	}
	if !utf8.Valid(b) {
		b = bytes.ToValidUTF8(b, []byte("\uFFFD"))
	}
	return b
}

func appendLower(b []byte, name string) []byte {
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
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
