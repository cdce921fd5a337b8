package wasm

import (
	"bytes"
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

// keepEndToEnd takes out of a header that was read by addFields what is for the connection.
func keepEndToEnd(h http.Header) {
	connection := h["Connection"]
	for name := range h {
		if !forwarded(connection, name) {
			delete(h, name)
		}
	}
}

// endToEnd copies a header without the fields of the connection, those that Connection names, and
// what is no field at all.
func endToEnd(h http.Header) http.Header {
	out := http.Header{}
	for name, values := range h {
		if forwarded(h["Connection"], name) {
			if values = slices.DeleteFunc(slices.Clone(values), invalidValue); len(values) > 0 {
				out[name] = values
			}
		}
	}
	return out
}

// forwarded says whether a field is for the other end and not for the connection, whose own field says
// more.
func forwarded(connection []string, name string) bool {
	if !httpguts.ValidHeaderFieldName(name) || slices.Contains(hopByHop, name) {
		return false
	}
	for _, list := range connection {
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
	if told := r.Header[headerRemoteAddr]; len(told) > 0 && told[0] != "" {
		return told[0]
	}
	return r.RemoteAddr
}

// field is a header field with all its values.
type field struct {
	name   string // in canonical form
	values []string
}

// heads is memory for the heads of one exchange at a time.
type heads struct {
	text    []byte // of the request
	fields  []field
	single  [3]string   // values of fields that net/http keeps elsewhere
	answers http.Header // of the response
	answer  string      // the text that answers was read from, while known is set
	known   bool
}

func newHeads() *heads {
	return &heads{text: make([]byte, 0, 1024), fields: make([]field, 0, 16), answers: http.Header{}}
}

const (
	maxSpareText   = 16 << 10 // bounds the texts of requests that are kept
	maxSpareAnswer = 1 << 10  // and those of responses
)

// clear forgets the present request; false if that has made h too large to keep.
func (h *heads) clear() bool {
	if cap(h.text) > maxSpareText {
		return false
	}
	clear(h.fields)
	clear(h.single[:])
	if len(h.answer) > maxSpareAnswer {
		h.forgetAnswer()
	}
	h.text, h.fields = h.text[:0], h.fields[:0]
	return true
}

// answerOf reads a response's head, without what is for the connection. Guests answer with the same head again
// and again, so the last one is kept.
func (h *heads) answerOf(text []byte) (http.Header, error) {
	if h.known && string(text) == h.answer {
		return h.answers, nil
	}
	h.forgetAnswer()
	if err := addResponse(h.answers, text); err != nil {
		return nil, err
	}
	keepEndToEnd(h.answers)
	for name, values := range h.answers {
		h.answers[name] = slices.Clip(values) // who adds one makes a list of his own
	}
	h.answer, h.known = string(text), true
	return h.answers, nil
}

func (h *heads) forgetAnswer() {
	clear(h.answers)
	h.answer, h.known = "", false
}

// guestFields is what a guest sees of a request's header, in order, with what net/http keeps elsewhere.
func (h *heads) guestFields(r *http.Request) []field {
	fields, singles := h.fields[:0], h.single[:0]
	add := func(name string, value string) {
		if value != "" && !invalidValue(value) {
			singles = append(singles, value)
			fields = append(fields, field{name, singles[len(singles)-1:]})
		}
	}
	connection := r.Header["Connection"]
	for name, values := range r.Header {
		switch {
		case name == "Host", name == "Content-Length", name == headerRemoteAddr, !forwarded(connection, name):
			continue
		case slices.ContainsFunc(values, invalidValue):
			values = slices.DeleteFunc(slices.Clone(values), invalidValue)
		}
		if len(values) > 0 {
			fields = append(fields, field{name, values})
		}
	}
	add("Host", r.Host)
	if r.ContentLength > 0 || r.ContentLength == 0 && len(r.Header["Content-Length"]) > 0 {
		add("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
	add(headerRemoteAddr, remoteAddr(r))
	slices.SortFunc(fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	h.fields = fields
	return fields
}

// format writes a request's head for the cl interface: "METHOD SP URI LF", then "name: value LF" for
// each field, names in lower case and in order.
func (h *heads) format(r *http.Request) {
	b := append(append(h.text[:0], r.Method...), ' ')
	b = append(append(b, r.URL.RequestURI()...), '\n')
	h.text = appendFields(b, h.guestFields(r))
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
	h := http.Header{}
	return h, addFields(h, text)
}

// addFields is parseFields into a header that is there.
func addFields(h http.Header, text []byte) error {
	if len(text) > api.MaxHeaderBytes {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", errHead, len(text), api.MaxHeaderBytes)
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		value = textproto.TrimString(value)
		if !ok || !httpguts.ValidHeaderFieldName(name) || invalidValue(value) {
			return fmt.Errorf("%w: %.80q is not a header field", errHead, line)
		}
		h.Add(name, value)
	}
	return nil
}

// addResponse is addFields for a response's head. A length that is no number, or two of them, would have
// the parts of the way to the client disagree on where the response ends.
func addResponse(h http.Header, text []byte) error {
	if err := addFields(h, text); err != nil {
		return err
	}
	if lengths := h["Content-Length"]; len(lengths) > 1 || len(lengths) == 1 && !validLength(lengths[0]) {
		return fmt.Errorf("%w: %.80q is not one content-length", errHead, lengths)
	}
	return nil
}

func validLength(s string) bool {
	_, err := strconv.ParseUint(s, 10, 63)
	return err == nil
}

// validStatus tells whether a guest may answer with the status: final ones only, as 1xx concerns the
// connection.
func validStatus(status int) bool { return status >= 200 && status <= 599 }
