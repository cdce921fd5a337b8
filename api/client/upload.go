package client

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/split"
	"github.com/cloudless/cloudless/internal/run"
)

// Bounds of an upload. What is smaller than wholeBytes is sent whole; else a group of chunks is cut, the
// cluster is asked which of them it lacks, and those are sent while the next group is cut.
const (
	wholeBytes     = 4 << 20
	groupBytes     = 16 << 20
	chunksInFlight = 4
)

// Upload puts an object of what r gives, p.Size bytes, or any number if that is -1. Chunks that the
// cluster has are not sent, so an upload that broke off goes on where it was when it is repeated.
// progress, unless nil, is told of bytes as they are stored, and whether they had to be sent.
func (c *Client) Upload(ctx context.Context, p api.ObjectPut, r io.Reader, progress func(n int64, sent bool)) (api.Object, error) {
	if progress == nil {
		progress = func(int64, bool) {}
	}
	head := make([]byte, wholeBytes)
	n, err := io.ReadFull(r, head)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		if p.Size >= 0 && p.Size != int64(n) {
			return api.Object{}, otherSize(p, int64(n))
		}
		p.Size = int64(n)
		o, err := c.PutObject(ctx, p, reopen(head[:n]))
		if err == nil {
			progress(p.Size, true)
		}
		return o, err
	case err != nil:
		return api.Object{}, err
	}
	b, err := c.Bucket(ctx, p.Bucket)
	if err != nil {
		return api.Object{}, err
	}
	u := newUpload(c, p, io.MultiReader(bytes.NewReader(head), r), split.CutterFor(p.Size, false, b.Chunking == api.ChunkingContent))
	u.progress = progress
	return u.run(ctx)
}

func otherSize(p api.ObjectPut, n int64) error {
	return api.Errorf(api.CodeConflict, "%d bytes were to be put as %s, and %d were read", p.Size, p.Key, n).WithHint("it changed meanwhile; put it again")
}

// upload is one object on its way.
type upload struct {
	c           *Client
	put         api.ObjectPut
	session     string
	r           io.Reader
	cutter      split.Cutter
	rest        []byte // was read, and not cut yet
	manifest    split.Manifest
	md5, sha256 hash.Hash
	mu          sync.Mutex // of progress
	progress    func(n int64, sent bool)
}

func newUpload(c *Client, p api.ObjectPut, r io.Reader, cutter split.Cutter) *upload {
	return &upload{c: c, put: p, r: r, cutter: cutter, md5: md5.New(), sha256: sha256.New(), progress: func(int64, bool) {}}
}

// piece is a chunk with its bytes.
type piece struct {
	split.Chunk
	data []byte
}

func (u *upload) run(ctx context.Context) (out api.Object, err error) {
	if err := u.store(ctx); err != nil {
		return out, err
	}
	return out, u.c.call(ctx, http.MethodPost, u.path("/commit"), nil, api.UploadCommit{ObjectPut: u.put, Manifest: u.manifest.Encode()}, &out, nil)
}

// store opens a session and has all chunks in it; what is left is to commit the manifest.
func (u *upload) store(ctx context.Context) error {
	var s api.UploadSession
	if err := u.c.call(ctx, http.MethodPost, "/v1/uploads", nil, api.UploadRequest{Bucket: u.put.Bucket}, &s, nil); err != nil {
		return err
	}
	u.session = s.ID
	if err := u.send(ctx); err != nil {
		return err
	}
	n := u.manifest.Size()
	if u.put.Size >= 0 && u.put.Size != n {
		return otherSize(u.put, n)
	}
	u.put.Size = n
	u.md5.Sum(u.manifest.MD5[:0])
	u.sha256.Sum(u.manifest.SHA256[:0])
	return nil
}

func (u *upload) path(more string) string { return "/v1/uploads/" + url.PathEscape(u.session) + more }

// send cuts all of the object, and has the chunks that the cluster lacks sent meanwhile.
func (u *upload) send(ctx context.Context) error {
	err := run.Each(ctx, "send chunks", chunksInFlight, u.cutInto, u.sendOne)
	if ctx.Err() != nil {
		return ended(ctx, ctx.Err())
	}
	return err
}

func (u *upload) sendOne(ctx context.Context, p piece) error {
	r := u.c.sending(http.MethodPut, u.path("/chunks/"+url.PathEscape(p.Name())), int64(p.Bytes), reopen(p.data))
	r.query = url.Values{"bucket": {u.put.Bucket}}
	resp, err := u.c.do(ctx, r)
	if err != nil {
		return err
	}
	u.stored(p, true)
	return resp.Body.Close()
}

func (u *upload) stored(p piece, sent bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.progress(int64(p.Bytes), sent)
}

func (u *upload) cutInto(ctx context.Context, put func(piece) error) error {
	for {
		group, err := u.cutGroup()
		if err != nil || len(group) == 0 {
			return err
		}
		lacks, err := u.missing(ctx, group)
		if err != nil {
			return err
		}
		for _, p := range group {
			if !lacks[p.Name()] {
				u.stored(p, false)
				continue
			}
			delete(lacks, p.Name()) // once is enough
			if err := put(p); err != nil {
				return err
			}
		}
	}
}

// missing asks which chunks of a group the cluster lacks.
func (u *upload) missing(ctx context.Context, group []piece) (map[string]bool, error) {
	var ask api.MissingRequest
	for _, p := range group {
		ask.Chunks = append(ask.Chunks, p.Name())
	}
	var got api.MissingAnswer
	err := u.c.call(ctx, http.MethodPost, u.path("/missing"), nil, ask, &got, nil)
	lacks := map[string]bool{}
	for _, name := range got.Missing {
		lacks[name] = true
	}
	return lacks, err
}

// cutGroup reads and cuts the next chunks; none at the end.
func (u *upload) cutGroup() (group []piece, err error) {
	for size := 0; size < groupBytes; {
		p, err := u.cut()
		if err != nil || p.Bytes == 0 {
			return group, err
		}
		u.manifest.Chunks = append(u.manifest.Chunks, p.Chunk)
		group, size = append(group, p), size+p.Bytes
	}
	return group, nil
}

// cut reads as much as the cutter needs to see, and takes the next chunk of it.
func (u *upload) cut() (piece, error) {
	if missing := u.cutter.Max() - len(u.rest); missing > 0 {
		from := len(u.rest)
		u.rest = slices.Grow(u.rest, missing)[:from+missing]
		n, err := io.ReadFull(u.r, u.rest[from:])
		u.rest = u.rest[:from+n]
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return piece{}, err
		}
	}
	n := u.cutter.Next(u.rest)
	data := slices.Clone(u.rest[:n])
	u.rest = u.rest[:copy(u.rest, u.rest[n:])]
	u.md5.Write(data)
	u.sha256.Write(data)
	return piece{split.Chunk{Digest: sha256.Sum256(data), Bytes: n}, data}, nil
}
