package gateway

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
)

// PutObject says what is put, beside the bytes.
type PutObject struct {
	Bucket, Key string
	Head        meta.Head
	Condition   meta.Condition
	Size        int64 // -1: not known
}

// Summed is a reader of an object or part that knows, when it has been read to its end, the checksum
// that its client has sent with the bytes. It is kept with them.
type Summed interface {
	io.Reader
	Checksum() *api.Checksum
}

// checksumOf is the checksum that was read with the bytes, if there is one.
func checksumOf(r io.Reader) *api.Checksum {
	if s, ok := r.(Summed); ok {
		return s.Checksum()
	}
	return nil
}

// Put makes or replaces an object by what r gives. When it has returned without an error, the object
// survives the loss of any node but as many as the bucket's write quorum has copies. A put that fails
// has changed nothing, unless the error is CodeUnavailable or CodeTimeout and nobody knows; what r
// returns at its end in place of io.EOF is such a failure.
func (g *Gateway) Put(ctx context.Context, p PutObject, r io.Reader) (o *api.Object, err error) {
	began, s := time.Now(), &source{r: r, size: p.Size}
	defer func() { g.observed("put", began, s.read, err) }()
	if err := checkObject(p); err != nil {
		return nil, err
	}
	var head []byte
	if p.Size <= api.MaxInlineBytes {
		head, err = s.fill(make([]byte, 0, api.MaxInlineBytes+1), api.MaxInlineBytes+1)
		if err != nil {
			return nil, err
		}
	}
	if s.ended && len(head) <= api.MaxInlineBytes {
		put := p.command(r)
		put.Inline = head
		result, err := g.apply(ctx, meta.Command{Put: put})
		return result.Object, err
	}
	in, err := g.ingest(ctx, p.Bucket, s, head)
	if err != nil {
		return nil, err
	}
	put := p.command(r)
	put.Manifest, put.Session, put.End = in.manifest.Encode(), in.lease.session.ID, true
	return g.commit(ctx, in.lease, put)
}

// command is the put of an object that was read from r.
func (p PutObject) command(r io.Reader) *meta.Put {
	if sum := checksumOf(r); sum != nil {
		p.Head.Checksum = sum
	}
	return &meta.Put{Bucket: p.Bucket, Key: p.Key, Head: p.Head, Condition: p.Condition}
}

func checkObject(p PutObject) error {
	if err := api.CheckObjectKey(p.Key); err != nil {
		return err
	}
	if err := p.Head.Check(); err != nil {
		return err
	}
	return nil
}

// commit puts an object whose chunks are stored. It may be repeated when nobody knows what became of
// it: it ends its session, so it happens once.
func (g *Gateway) commit(ctx context.Context, l *lease, put *meta.Put) (*api.Object, error) {
	result, err := g.apply(ctx, meta.Command{Put: put})
	if ambiguous(err) && ctx.Err() == nil {
		unknown := err
		if result, err = g.apply(ctx, meta.Command{Put: put}); api.CodeOf(err) == api.CodeConflict {
			return g.committed(ctx, l, put, unknown)
		}
	}
	if err != nil {
		l.end()
		return nil, err
	}
	l.stop()
	return result.Object, nil
}

// committed finds out whether a put that is refused now had been done already, which would be why.
func (g *Gateway) committed(ctx context.Context, l *lease, put *meta.Put, unknown error) (*api.Object, error) {
	l.end()
	answer, err := g.read(ctx, meta.Query{Object: &meta.ObjectRef{Bucket: put.Bucket, Key: put.Key}})
	if err != nil || !bytes.Equal(answer.Object.Manifest, put.Manifest) {
		return nil, unknown
	}
	answer.Object.Manifest = nil
	return answer.Object, nil
}

// PutPart stores a part of a multipart upload.
func (g *Gateway) PutPart(ctx context.Context, ref meta.UploadRef, number int, size int64, r io.Reader) (part *api.Part, err error) {
	began, s := time.Now(), &source{r: r, size: size}
	defer func() { g.observed("put_part", began, s.read, err) }()
	if number < 1 || number > api.MaxParts {
		return nil, api.Errorf(api.CodeInvalid, "part number %d, allowed are 1 to %d", number, api.MaxParts)
	}
	in, err := g.ingest(ctx, ref.Bucket, s, nil)
	if err != nil {
		return nil, err
	}
	put := &meta.PutPart{UploadRef: ref, Number: number, Manifest: in.manifest.Encode(), Checksum: checksumOf(r), Session: in.lease.session.ID, End: true}
	result, err := g.apply(ctx, meta.Command{PutPart: put})
	if err != nil {
		in.lease.end()
		return nil, err
	}
	in.lease.stop()
	return result.Part, nil
}
