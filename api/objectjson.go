package api

import (
	"bytes"
	"encoding/json"
)

// A list shows a thousand objects, each of which is a row: encoding/json took most of its time. Objects and
// pages of them are written and read here field by field, to the byte as encoding/json does it.

// AppendJSON appends the object's JSON to b.
func (o *Object) AppendJSON(b []byte) ([]byte, error) {
	w := plainWriter{b: b}
	w.object(o)
	return w.b, w.err
}

// DecodeJSON is json.Unmarshal into the object.
func (o *Object) DecodeJSON(text []byte) error {
	r, read := plainReader{all: string(text)}, *o
	if r.object(&read); r.end() {
		*o = read
		return nil
	}
	return json.Unmarshal(text, o)
}

func (w *plainWriter) object(o *Object) {
	w.b = append(w.b, '{')
	w.text("bucket", o.Bucket)
	w.text("key", o.Key)
	w.number("size", o.Size)
	w.text("etag", o.ETag)
	w.textIf("sha256", o.SHA256)
	w.head(&o.ObjectHead)
	w.time("modified", o.Modified)
	w.index("index", o.Index)
	if o.Replicas != 0 {
		w.number("replicas", int64(o.Replicas))
	}
	w.textIf("class", o.Class)
	w.bytesIf("inline", o.Inline)
	w.bytesIf("manifest", o.Manifest)
	w.b = append(w.b, '}')
}

func (w *plainWriter) head(h *ObjectHead) {
	w.textIf("contentType", h.ContentType)
	w.textsIf("metadata", h.Metadata)
	w.textIf("cacheControl", h.CacheControl)
	w.textIf("contentDisposition", h.ContentDisposition)
	w.textIf("contentEncoding", h.ContentEncoding)
	w.textIf("contentLanguage", h.ContentLanguage)
	w.textIf("expires", h.Expires)
	w.textsIf("tags", h.Tags)
	if c := h.Checksum; c != nil {
		w.name("checksum")
		w.checksum(c)
	}
}

func (w *plainWriter) checksum(c *Checksum) {
	w.b = append(w.b, '{')
	w.text("algorithm", c.Algorithm)
	w.textIf("value", c.Value)
	if c.Composite {
		w.name("composite")
		w.b = append(w.b, "true"...)
	}
	w.b = append(w.b, '}')
}

func (r *plainReader) object(o *Object) {
	r.fields(func(name string) {
		switch name {
		case "bucket":
			o.Bucket = r.text()
		case "key":
			o.Key = r.text()
		case "size":
			o.Size = r.number()
		case "etag":
			o.ETag = r.text()
		case "sha256":
			o.SHA256 = r.text()
		case "modified":
			o.Modified = r.time()
		case "index":
			o.Index = r.index()
		case "replicas":
			o.Replicas = int(r.number())
		case "class":
			o.Class = r.text()
		default:
			r.head(&o.ObjectHead, name)
		}
	})
}

func (r *plainReader) head(h *ObjectHead, name string) {
	switch name {
	case "contentType":
		h.ContentType = r.text()
	case "metadata":
		h.Metadata = r.texts(h.Metadata)
	case "cacheControl":
		h.CacheControl = r.text()
	case "contentDisposition":
		h.ContentDisposition = r.text()
	case "contentEncoding":
		h.ContentEncoding = r.text()
	case "contentLanguage":
		h.ContentLanguage = r.text()
	case "expires":
		h.Expires = r.text()
	case "tags":
		h.Tags = r.texts(h.Tags)
	case "checksum":
		h.Checksum = r.checksum(h.Checksum)
	default:
		r.odd = true
	}
}

func (r *plainReader) checksum(c *Checksum) *Checksum {
	if c == nil {
		c = &Checksum{}
	}
	r.fields(func(name string) {
		switch name {
		case "algorithm":
			c.Algorithm = r.text()
		case "value":
			c.Value = r.text()
		case "composite":
			c.Composite = r.yes()
		default:
			r.odd = true
		}
	})
	return c
}

// listedBytes is about what an object takes in a list.
const listedBytes = 400

// MarshalJSON implements json.Marshaler.
func (l ObjectList) MarshalJSON() ([]byte, error) {
	w := plainWriter{b: make([]byte, 0, listedBytes*(len(l.Items)+1))}
	w.b = append(w.b, `{"items":`...)
	if l.Items == nil {
		w.b = append(w.b, "null"...)
	} else {
		w.objects(l.Items)
	}
	if len(l.Prefixes) > 0 {
		w.name("prefixes")
		w.value(l.Prefixes)
	}
	w.index("index", l.Index)
	w.textIf("cursor", l.Cursor)
	w.b = append(w.b, '}')
	return w.b, w.err
}

func (w *plainWriter) objects(list []*Object) {
	w.b = append(w.b, '[')
	for i, o := range list {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.object(o)
	}
	w.b = append(w.b, ']')
}

// UnmarshalJSON implements json.Unmarshaler; the text may be any, as for json.Unmarshal.
func (l *ObjectList) UnmarshalJSON(text []byte) error {
	r, read := plainReader{all: string(bytes.Trim(text, " \t\r\n"))}, ObjectList{}
	if r.list(&read); r.end() {
		*l = read
		return nil
	}
	type plain ObjectList
	var any plain
	err := json.Unmarshal(text, &any)
	*l = ObjectList(any)
	return err
}

func (r *plainReader) list(l *ObjectList) {
	r.fields(func(name string) {
		switch name {
		case "items":
			l.Items = r.objects()
		case "prefixes":
			l.Prefixes = r.strings()
		case "index":
			l.Index = r.index()
		case "cursor":
			l.Cursor = r.text()
		default:
			r.odd = true
		}
	})
}

func (r *plainReader) objects() []*Object {
	list := []*Object{}
	r.items('[', ']', func() {
		o := &Object{}
		r.object(o)
		list = append(list, o)
	})
	return list
}
