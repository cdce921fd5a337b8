package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
)

// Put stores chunks on a node, durably; those of one request all or none. When it has returned, it reads
// no more of their bytes.
func (c *Client) Put(ctx context.Context, node string, o chunkstore.PutOptions, chunks ...chunkstore.Chunk) error {
	if c.local(node) {
		return c.Local.Put(ctx, o, chunks...)
	}
	for len(chunks) > 0 {
		n, size := 0, 0
		for n < len(chunks) && (n == 0 || size+frameBytes+len(chunks[n].Data) <= maxBatch) {
			size += frameBytes + len(chunks[n].Data)
			n++
		}
		if err := c.putBatch(ctx, node, o, chunks[:n]); err != nil {
			return err
		}
		chunks = chunks[n:]
	}
	return nil
}

func (c *Client) putBatch(ctx context.Context, node string, o chunkstore.PutOptions, chunks []chunkstore.Chunk) error {
	batch, size, err := frames(chunks)
	if err != nil {
		return err
	}
	query := url.Values{"codec": {strconv.Itoa(int(o.Codec))}}
	if o.Owner != "" {
		query.Set("owner", o.Owner)
	}
	body := func() (io.Reader, int64) {
		left := slices.Clone(batch) // reading consumes it
		return &left, size
	}
	return c.do(ctx, call{node: node, method: http.MethodPost, path: pathPut, query: query, body: body}, nothing)
}

// nothing is the answer of a call that only succeeds or fails.
func nothing(*http.Response) error { return nil }

// Ref pins those of the chunks for owner that a node has, durably, and returns the others.
func (c *Client) Ref(ctx context.Context, node, owner string, digests ...string) ([]string, error) {
	if c.local(node) {
		return c.Local.Ref(owner, digests...)
	}
	return c.ask(ctx, node, pathRef, url.Values{"owner": {owner}}, digests)
}

// Unref removes owner's pins of chunks on a node, or all of them when none is named.
func (c *Client) Unref(ctx context.Context, node, owner string, digests ...string) error {
	if c.local(node) {
		return c.Local.Unref(ctx, owner, digests...)
	}
	query := url.Values{"owner": {owner}}
	if len(digests) == 0 {
		query.Set("all", "true")
	}
	_, err := c.ask(ctx, node, pathUnref, query, digests)
	return err
}

// Missing are those of the chunks that a node does not have.
func (c *Client) Missing(ctx context.Context, node string, digests ...string) ([]string, error) {
	if c.local(node) {
		return missing(c.Local, digests)
	}
	return c.ask(ctx, node, pathHas, nil, digests)
}

// Drop removes chunks from a node, and returns those that it has kept because somebody pins them.
func (c *Client) Drop(ctx context.Context, node string, digests ...string) (kept []string, err error) {
	if c.local(node) {
		return c.Local.Drop(digests...)
	}
	return c.ask(ctx, node, pathDrop, nil, digests)
}

// ask sends digests, in portions, and gives those of the answers.
func (c *Client) ask(ctx context.Context, node, path string, query url.Values, digests []string) (out []string, err error) {
	if len(digests) == 0 && !query.Has("all") {
		return nil, nil
	}
	for first := true; first || len(digests) > 0; first = false {
		n := min(len(digests), maxDigests)
		body, err := encodeDigests(digests[:n])
		if err != nil {
			return nil, err
		}
		var answer []byte
		if err := c.do(ctx, post(node, path, query, body), func(resp *http.Response) (err error) {
			answer, err = readAll(resp, maxDigests*sumBytes)
			return err
		}); err != nil {
			return nil, err
		}
		some, err := decodeDigests(answer)
		if err != nil {
			return nil, err
		}
		out, digests = append(out, some...), digests[n:]
	}
	return out, nil
}

func post(node, path string, query url.Values, body []byte) call {
	return call{node: node, method: http.MethodPost, path: path, query: query, body: func() (io.Reader, int64) {
		return bytes.NewReader(body), int64(len(body))
	}}
}

func readAll(resp *http.Response, limit int) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	if err == nil && len(b) > limit {
		return nil, api.Errorf(api.CodeInternal, "the node's answer is longer than %d bytes", limit)
	}
	return b, err
}

// List is a page of what a node has, as chunkstore.Chunks.List gives it.
func (c *Client) List(ctx context.Context, node, after string, limit int) (rows []chunkstore.ChunkInfo, err error) {
	if c.local(node) {
		return c.Local.List(after, limit)
	}
	query := url.Values{"after": {after}, "limit": {strconv.Itoa(limit)}}
	err = c.do(ctx, call{node: node, method: http.MethodGet, path: pathList, query: query}, func(resp *http.Response) error {
		b, err := readAll(resp, chunkstore.MaxPage*rowBytes)
		if err == nil {
			rows, err = decodeRows(b)
		}
		return err
	})
	return rows, err
}

// resumes is how often a chunk's transfer goes on after a break. A break without any byte counts too.
const resumes = 4

// Get appends a chunk to buf; its bytes are those of the digest. When a node gives other bytes, it is
// asked once more, to look at the chunk itself first: a copy that has rotted is found and moved aside
// there. See gateway.Peers for the errors.
func (c *Client) Get(ctx context.Context, node, digest string, buf []byte) ([]byte, error) {
	if c.local(node) {
		return c.Local.Get(digest, buf)
	}
	out, err := c.download(ctx, node, digest, buf, false)
	if err == nil && chunkstore.DigestOf(out[len(buf):]) != digest {
		out, err = c.download(ctx, node, digest, buf, true)
	}
	if err == nil && chunkstore.DigestOf(out[len(buf):]) != digest {
		e := api.Errorf(api.CodeInternal, "node %s gives other bytes for chunk %s", node, digest).WithHint("take it from another node; look at that one's disk and memory")
		e.Err = chunkstore.ErrCorrupt
		return nil, e
	}
	return out, err
}

// download appends what a node gives for a chunk, and goes on where the connection broke.
func (c *Client) download(ctx context.Context, node, digest string, buf []byte, verify bool) ([]byte, error) {
	if _, err := chunkstore.ParseDigest(digest); err != nil {
		return nil, err
	}
	q := call{node: node, method: http.MethodGet, path: pathGet + strings.TrimPrefix(digest, "sha256:"), header: http.Header{}}
	if verify {
		q.query = url.Values{"verify": {"true"}}
	}
	start := len(buf)
	for try := 0; ; try++ {
		if have := len(buf) - start; have > 0 {
			q.header.Set("Range", "bytes="+strconv.Itoa(have)+"-")
		}
		broke := false
		err := c.do(ctx, q, func(resp *http.Response) (err error) {
			buf, err = receive(resp, start, buf)
			broke = err != nil
			return err
		})
		if err == nil {
			return buf, nil
		}
		if !broke || try == resumes || ctx.Err() != nil {
			return nil, err
		}
	}
}

// receive appends the bytes of an answer to what of the chunk lies in buf from start on. What has come
// before a break is kept.
func receive(resp *http.Response, start int, buf []byte) ([]byte, error) {
	if resp.StatusCode != http.StatusPartialContent {
		buf = buf[:start] // all of it comes, or all of it again
	}
	n := resp.ContentLength
	if n < 0 || int64(len(buf)-start)+n > chunkstore.MaxChunkBytes {
		return buf[:start], api.Errorf(api.CodeInternal, "the node's answer has no length of a chunk")
	}
	buf = slices.Grow(buf, int(n))
	got, err := io.ReadFull(resp.Body, buf[len(buf):len(buf)+int(n)])
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return buf[:len(buf)+got], err
}
