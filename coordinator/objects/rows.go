package objects

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cloudless/cloudless/api"
)

// Rows is what a decision or a list reads: sorted keys with their bytes.
type Rows interface {
	// Get gives a row's bytes, nil where there is none.
	Get(key string) ([]byte, error)
	// Range gives a cursor over the rows from <= key < to, before the first.
	Range(from, to string) (Cursor, error)
}

// Cursor goes over rows in order. What Value gives is valid until the next move.
type Cursor interface {
	// Seek goes to the first row at or after key.
	Seek(key string) bool
	Next() bool
	Key() string
	Value() ([]byte, error)
	// Close tells what went wrong on the way, too.
	Close() error
}

// each calls f with every row whose key begins with prefix, until it returns false.
func each(rows Rows, prefix string, f func(key string, value []byte) (bool, error)) error {
	return eachFrom(rows, prefix, prefix, f)
}

// eachFrom is each, begun at a key.
func eachFrom(rows Rows, from, prefix string, f func(key string, value []byte) (bool, error)) error {
	c, err := rows.Range(prefix, after(prefix))
	if err != nil {
		return err
	}
	for ok := c.Seek(from); ok && err == nil; ok = ok && c.Next() {
		var value []byte
		if value, err = c.Value(); err == nil {
			ok, err = f(c.Key(), value)
		}
	}
	return errors.Join(err, c.Close())
}

// rowFormat is the first byte of a row; that of a chunk has its own (refs.go). Then come the length of a head in JSON,
// the head, and bytes that lists have no use for: a manifest, or an object's own.
const rowFormat = 1

func encodeRow(head any, body []byte) []byte {
	text, err := encodeHead(head)
	if err != nil {
		panic(fmt.Sprintf("objects: a row of %T cannot be written: %v", head, err)) // strings, numbers and times can
	}
	b := make([]byte, 0, 1+binary.MaxVarintLen32+len(text)+len(body))
	b = binary.AppendUvarint(append(b, rowFormat), uint64(len(text)))
	return append(append(b, text...), body...)
}

// decodeRow fills head, and gives the body, which is part of b.
func decodeRow(b []byte, head any) (body []byte, err error) {
	if len(b) == 0 || b[0] != rowFormat {
		return nil, damaged("a row is not of format %d", rowFormat)
	}
	size, n := binary.Uvarint(b[1:])
	if n <= 0 || size > uint64(len(b)-1-n) {
		return nil, damaged("a row is cut short")
	}
	text := b[1+n : 1+n+int(size)]
	if err := decodeHead(text, head); err != nil {
		return nil, damaged("a row cannot be read: %w", err)
	}
	return b[1+n+int(size):], nil
}

// Objects are by far the most rows; they have a fast way of their own.
func encodeHead(head any) ([]byte, error) {
	if o, ok := head.(*api.Object); ok {
		return o.AppendJSON(nil)
	}
	return json.Marshal(head)
}

func decodeHead(text []byte, head any) error {
	if o, ok := head.(*api.Object); ok {
		return o.DecodeJSON(text)
	}
	return json.Unmarshal(text, head)
}

func damaged(format string, args ...any) *api.Error {
	return api.Errorf(api.CodeInternal, "the object store's metadata is damaged: "+format, args...).
		WithHint("while a majority of the other coordinators runs, remove this one there and join it again with an empty folder; else restore a backup")
}

// inlineBody and manifestBody say what the body of an object's row is.
const (
	inlineBody   = 'i'
	manifestBody = 'm'
)

func encodeObject(o *api.Object) []byte {
	head := *o
	head.Inline, head.Manifest, head.Bucket, head.Key = nil, nil, "", ""
	if o.Manifest != nil {
		return encodeRow(&head, append([]byte{manifestBody}, o.Manifest...))
	}
	return encodeRow(&head, append([]byte{inlineBody}, o.Inline...))
}

// decodeObject reads an object's row; whole says whether with its inline bytes and manifest.
func decodeObject(bucket, key string, b []byte, whole bool) (*api.Object, error) {
	o := &api.Object{}
	body, err := decodeRow(b, o)
	if err != nil {
		return nil, err
	}
	if len(body) == 0 || body[0] != inlineBody && body[0] != manifestBody {
		return nil, damaged("object %s/%q has no body", bucket, key)
	}
	o.Bucket, o.Key = bucket, key
	switch {
	case !whole:
	case body[0] == inlineBody:
		o.Inline = append([]byte{}, body[1:]...)
	default:
		o.Manifest = append([]byte{}, body[1:]...)
	}
	return o, nil
}

func encodePart(p *api.Part) []byte {
	head := *p
	head.Manifest = nil
	return encodeRow(&head, p.Manifest)
}

func decodePart(b []byte, whole bool) (*api.Part, error) {
	p := &api.Part{}
	body, err := decodeRow(b, p)
	if err == nil && whole {
		p.Manifest = append([]byte{}, body...)
	}
	return p, err
}
