package gateway

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore/split"
)

// Stat gives an object without its bytes.
func (g *Gateway) Stat(ctx context.Context, bucket, key string) (*api.Object, error) {
	o, err := g.object(ctx, bucket, key)
	if err != nil {
		return nil, err
	}
	o.Inline, o.Manifest = nil, nil
	return o, nil
}

func (g *Gateway) object(ctx context.Context, bucket, key string) (*api.Object, error) {
	answer, err := g.read(ctx, meta.Query{Object: &meta.ObjectRef{Bucket: bucket, Key: key}})
	if err != nil {
		return nil, err
	}
	o := *answer.Object
	return &o, nil
}

// Open finds an object, whose bytes can then be read in any order. They are those of the object as it
// was found, whatever is put meanwhile; the chunks of one that is replaced may be collected, and reading then fails.
func (g *Gateway) Open(ctx context.Context, bucket, key string) (*Reader, error) {
	o, err := g.object(ctx, bucket, key)
	if err != nil {
		return nil, err
	}
	r := &Reader{g: g, object: o, inline: o.Inline}
	if len(o.Manifest) > 0 {
		if r.manifest, err = split.Decode(o.Manifest); err != nil {
			return nil, err
		}
	}
	o.Inline, o.Manifest = nil, nil
	return r, nil
}

// Preview reads what an object of a manifest would be, before there is one: whoever commits it may want
// to see its bytes first.
func (g *Gateway) Preview(m *split.Manifest) *Reader {
	return &Reader{g: g, object: &api.Object{Size: m.Size()}, manifest: m}
}

// Reader reads an object.
type Reader struct {
	g        *Gateway
	object   *api.Object
	inline   []byte
	manifest *split.Manifest // nil: it is inline
}

// Object is what was opened, without its bytes.
func (r *Reader) Object() *api.Object { return r.object }

// Parts are the lengths of the parts that it was uploaded in; nil: it was put at once, or by a version that
// did not keep them.
func (r *Reader) Parts() []int64 {
	if r.manifest == nil {
		return nil
	}
	return r.manifest.PartSizes()
}

// Range reads n bytes from offset on, as far as there are any; n < 0 is to the end. It holds one chunk
// and reads one ahead if there is memory to spare. The reader is an io.WriterTo. It is for one
// goroutine and must be closed; ctx ends it too.
func (r *Reader) Range(ctx context.Context, offset, n int64) io.ReadCloser {
	if offset = max(offset, 0); n < 0 {
		n = r.object.Size
	}
	if r.manifest == nil {
		rest := r.inline[min(offset, int64(len(r.inline))):]
		rest = rest[:min(n, int64(len(rest)))]
		r.g.observed("get", time.Now(), int64(len(rest)), nil)
		return inlineReader{bytes.NewReader(rest)}
	}
	return r.stream(ctx, offset, n)
}

// inlineReader has nothing to close.
type inlineReader struct{ *bytes.Reader }

func (inlineReader) Close() error { return nil }
