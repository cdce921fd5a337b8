package s3

import (
	"net/http"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
)

// conditions are those that a request makes on an object that it reads or copies.
type conditions struct {
	match, noneMatch            string
	modifiedAfter, unmodifiedBy string
}

// conditionsOf reads the headers, whose names begin with prefix.
func conditionsOf(h http.Header, prefix string) conditions {
	return conditions{h.Get(prefix + "If-Match"), h.Get(prefix + "If-None-Match"), h.Get(prefix + "If-Modified-Since"), h.Get(prefix + "If-Unmodified-Since")}
}

// on tells whether a condition does not hold (412), or whether the client has the object already (304). Tags
// count more than times.
func (c conditions) on(o *api.Object) (unmet, unchanged bool) {
	modified := o.Modified.Truncate(time.Second)
	switch at, err := http.ParseTime(c.unmodifiedBy); {
	case c.match != "":
		unmet = !anyTag(c.match, o.ETag)
	case err == nil:
		unmet = modified.After(at)
	}
	switch at, err := http.ParseTime(c.modifiedAfter); {
	case c.noneMatch != "":
		unchanged = anyTag(strings.ReplaceAll(c.noneMatch, "W/", ""), o.ETag) // here a weak one counts, too
	case err == nil:
		unchanged = !modified.After(at)
	}
	return unmet, unchanged && !unmet
}

// anyTag tells whether a list of ETags has this one.
func anyTag(list, etag string) bool {
	for tag := range strings.SplitSeq(list, ",") {
		if tag = unquoted(tag); tag == "*" || tag == etag {
			return true
		}
	}
	return false
}

// writeCondition is what a request makes of the object that it replaces.
func writeCondition(h http.Header) (meta.Condition, error) {
	match, none := h.Get("If-Match"), strings.TrimSpace(h.Get("If-None-Match"))
	switch {
	case none != "" && none != "*":
		return meta.Condition{}, refuse("NotImplemented", "If-None-Match of a write can only be *")
	case none != "" && match != "":
		return meta.Condition{}, refuse("InvalidRequest", "a write has If-Match or If-None-Match, not both")
	case h.Get("If-Modified-Since") != "" || h.Get("If-Unmodified-Since") != "":
		return meta.Condition{}, refuse("NotImplemented", "a write can be conditional on ETags, not on times")
	}
	return meta.Condition{IfAbsent: none == "*", IfMatch: unquoted(match)}, nil
}
