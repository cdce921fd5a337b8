package s3

import (
	"net/url"
	"slices"
	"strings"
)

// param is one parameter of a query, decoded.
type param struct{ name, value string }

// params are those of a request, in its order. Unlike url.Values they keep what other parsers refuse, a
// semicolon for one: what was signed is to be seen whole.
type params []param

// parseParams gives nil, false for what cannot be decoded.
func parseParams(raw string) (params, bool) {
	var out params
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return nil, false
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return nil, false
		}
		out = append(out, param{name, value})
	}
	return out, true
}

func (q params) has(name string) bool {
	return slices.ContainsFunc(q, func(p param) bool { return p.name == name })
}

// get is the first value of a name.
func (q params) get(name string) string {
	for _, p := range q {
		if p.name == name {
			return p.value
		}
	}
	return ""
}

// canonical is the query as it is signed: all but the signature, by name and value.
func (q params) canonical() string {
	var parts []string
	for _, p := range q {
		if p.name != querySignature {
			parts = append(parts, escape(p.name, false)+"="+escape(p.value, false))
		}
	}
	slices.SortFunc(parts, func(a, b string) int {
		an, av, _ := strings.Cut(a, "=") // a name has none that is not escaped
		bn, bv, _ := strings.Cut(b, "=")
		if c := strings.Compare(an, bn); c != 0 {
			return c
		}
		return strings.Compare(av, bv)
	})
	return strings.Join(parts, "&")
}

const upperHex = "0123456789ABCDEF"

// escape is the encoding of S3: everything but letters, digits and -._~, and slashes if they are to stay.
func escape(s string, slashes bool) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~", c) >= 0, c == '/' && slashes:
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', upperHex[c>>4], upperHex[c&15]})
		}
	}
	return b.String()
}
