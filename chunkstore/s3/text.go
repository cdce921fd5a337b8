package s3

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// namespace is that of S3's documents.
const namespace = "http://s3.amazonaws.com/doc/2006-03-01/"

// text is a key or prefix in a document. A key may have characters that XML cannot have; like S3, it
// writes them as references all the same, for the clients that can read them. The others ask for keys in
// URL encoding.
type text struct {
	XML string `xml:",innerxml"`
}

func newText(s string) text {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '&':
			b.WriteString("&amp;")
		case r == '<':
			b.WriteString("&lt;")
		case r == '>':
			b.WriteString("&gt;")
		case r < 0x20, r == 0x7f, r == 0xfffe, r == 0xffff:
			fmt.Fprintf(&b, "&#x%X;", r)
		default:
			b.WriteRune(r)
		}
	}
	return text{b.String()}
}

// encoding writes keys as the client asked for them.
type encoding func(string) text

func (c *call) encoding() (encoding, error) {
	switch how := c.q.get("encoding-type"); how {
	case "":
		return newText, nil
	case "url":
		return func(s string) text { return text{escape(s, true)} }, nil
	default:
		return nil, refuse("InvalidArgument", "invalid encoding method specified in request: %.32q", how)
	}
}

// optional is the same for what is left out when it is empty.
func (e encoding) optional(s string) *text {
	if s == "" {
		return nil
	}
	t := e(s)
	return &t
}

// quoted is an ETag as S3 shows it.
func quoted(etag string) string { return `"` + etag + `"` }

// unquoted takes an ETag that a client sends, with quotes or without. A weak one stays what no object has.
func unquoted(etag string) string { return strings.Trim(strings.TrimSpace(etag), `"`) }

var _ xml.Marshaler = (*commonPrefixes)(nil)

// commonPrefixes are elements with a prefix each.
type commonPrefixes []text

// MarshalXML writes an element for each.
func (p commonPrefixes) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	for _, t := range p {
		if err := e.EncodeElement(struct{ Prefix text }{t}, start); err != nil {
			return err
		}
	}
	return nil
}
