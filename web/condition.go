package web

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
)

// What a client may ask of an object's version and of its bytes, as RFC 9110 has it (13 and 14). All of
// this is pure: headers and a row in, a decision out.

// precondition decides whether a read is answered whole: 0, or else 304 or 412.
func precondition(h http.Header, o *api.Object) int {
	switch match, since := h.Get("If-Match"), h.Get("If-Unmodified-Since"); {
	case match != "" && !matchesTag(match, o.ETag, strong):
		return http.StatusPreconditionFailed
	case match == "" && since != "" && modifiedSince(since, o.Modified, false):
		return http.StatusPreconditionFailed
	}
	switch match, since := h.Get("If-None-Match"), h.Get("If-Modified-Since"); {
	case match != "" && matchesTag(match, o.ETag, weak):
		return http.StatusNotModified
	case match == "" && since != "" && !modifiedSince(since, o.Modified, true):
		return http.StatusNotModified
	}
	return 0
}

// How tags are compared: a weak one (W/"…") is never strongly equal to anything.
const (
	strong = false
	weak   = true
)

// matchesTag tells whether a list of entity tags names this one; * names any.
func matchesTag(list, tag string, weakly bool) bool {
	for _, t := range strings.Split(list, ",") {
		t = strings.TrimSpace(t)
		if weakly {
			t = strings.TrimPrefix(t, "W/")
		}
		if t == "*" || t == quoted(tag) {
			return true
		}
	}
	return false
}

func quoted(tag string) string { return `"` + tag + `"` }

// modifiedSince compares in whole seconds, which is all that the header can say. What is no date counts
// as otherwise.
func modifiedSince(date string, modified time.Time, otherwise bool) bool {
	t, err := http.ParseTime(date)
	if err != nil {
		return otherwise
	}
	return modified.Truncate(time.Second).After(t)
}

// span is a part of an object.
type span struct{ offset, n int64 }

// rangeOf decides which part a read is for: all of it with 200, a part with 206, or 416. What it does
// not know, several ranges among it, it passes over, as it may: the client gets the whole.
func rangeOf(h http.Header, o *api.Object) (span, int) {
	whole := span{0, o.Size}
	text, ok := strings.CutPrefix(h.Get("Range"), "bytes=")
	if !ok || !ifRange(h.Get("If-Range"), o) {
		return whole, http.StatusOK
	}
	first, last, ok := strings.Cut(strings.TrimSpace(text), "-")
	if !ok || strings.Contains(text, ",") {
		return whole, http.StatusOK
	}
	from, to := position(first), position(last)
	switch {
	case first == "" && to >= 0: // the last bytes
		from, to = max(0, o.Size-to), o.Size-1
	case from < 0 || last != "" && (to < 0 || to < from):
		return whole, http.StatusOK // not a range
	case last == "" || to >= o.Size:
		to = o.Size - 1
	}
	if from > to { // behind the end, or the last 0 bytes
		return span{}, http.StatusRequestedRangeNotSatisfiable
	}
	return span{from, to - from + 1}, http.StatusPartialContent
}

// position reads digits alone: -1 for anything else. A number too large is behind every end.
func position(text string) int64 {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return -1
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 1<<63 - 1
	}
	return n
}

// ifRange tells whether the range counts: the part that the client has must be of this version.
func ifRange(value string, o *api.Object) bool {
	if value == "" || strings.HasPrefix(value, `"`) {
		return value == "" || matchesTag(value, o.ETag, strong)
	}
	t, err := http.ParseTime(value)
	return err == nil && t.Equal(o.Modified.Truncate(time.Second))
}

// putCondition reads what a write asks of the object that is there.
func putCondition(h http.Header, p *api.ObjectPut) error {
	switch none := h.Get("If-None-Match"); none {
	case "":
	case "*":
		p.IfAbsent = true
	default:
		return api.Errorf(api.CodeInvalid, "If-None-Match: %q: a write takes * alone, for an object that must not exist", none)
	}
	tag, err := oneTag(h)
	if err == nil && tag != "" && p.IfAbsent {
		err = api.Errorf(api.CodeInvalid, "If-Match and If-None-Match contradict each other")
	}
	p.IfMatch = tag
	return err
}

// oneTag reads the If-Match of a write: one entity tag, or *.
func oneTag(h http.Header) (string, error) {
	text := strings.TrimSpace(h.Get("If-Match"))
	tag := strings.TrimSuffix(strings.TrimPrefix(text, `"`), `"`)
	if text != "" && (tag == "" || strings.ContainsAny(tag, `", `) || strings.HasPrefix(text, "W/")) {
		return "", api.Errorf(api.CodeInvalid, "If-Match: %q is not one ETag", text).WithHint(`write one that was answered, as in "d41d8cd9…", or *`)
	}
	return tag, nil
}
