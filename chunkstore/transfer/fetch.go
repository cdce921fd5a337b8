package transfer

import (
	"context"
	"io"
	"net/http"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
)

// A node that is to keep chunks of another fetches many with one request. They come as they are stored
// there (chunkstore.Unpack), each behind an outcome that says whether it comes.

// fetchWait is how long a node waits for the memory of a chunk that another one is to keep: nobody else
// waits for it, and the other one would only ask again.
const fetchWait = stallTime / 2

func (s *Server) serveFetch(w http.ResponseWriter, r *http.Request) error {
	digests, err := s.digests(w, r)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	for _, d := range digests {
		if s.givePacked(w, r, d) != nil {
			return nil // who has asked has gone
		}
	}
	return nil
}

// givePacked sends what a node has of a chunk, or why it does not. An error is of the connection.
func (s *Server) givePacked(w http.ResponseWriter, r *http.Request, digest string) error {
	info, err := s.Chunks.Stat(digest)
	if err != nil {
		return send(w, outcome(copyFailed, err))
	}
	release, err := s.take(r.Context(), info.StoredBytes, fetchWait)
	if err != nil {
		return send(w, outcome(copyFailed, err))
	}
	defer release()
	buf := chunkstore.GetBuffer(outcomeBytes + chunkstore.PackedHead + int(info.StoredBytes))
	defer chunkstore.PutBuffer(buf)
	packed, err := s.Chunks.Pack(digest, append((*buf)[:0], outcome(copyDone, nil)...))
	if err != nil {
		return send(w, outcome(copyFailed, err))
	}
	return send(w, packed)
}

// packed is a chunk as another node has it, in a buffer to be given back, or why it did not come.
type packed struct {
	digest string
	chunk  chunkstore.Chunk
	buf    *[]byte
	err    error
}

// fetch gives take what a node has of some chunks, in their order, until take fails. An error says why
// there are no more of them.
func (c *Client) fetch(ctx context.Context, from string, digests []string, take func(packed) error) error {
	body, err := encodeDigests(digests)
	if err != nil {
		return err
	}
	return c.do(ctx, post(from, pathFetch, nil, body), func(resp *http.Response) error {
		for _, d := range digests {
			p, err := readPacked(resp.Body, d)
			if err == nil {
				err = take(p)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// readPacked reads one chunk. An error says that nothing more can be read.
func readPacked(r io.Reader, digest string) (packed, error) {
	letter, why, err := readOutcome(r)
	if err != nil {
		return packed{}, err
	}
	if letter != copyDone {
		return packed{digest: digest, err: api.Errorf(api.CodeUnavailable, "%s", why)}, nil
	}
	var head [chunkstore.PackedHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return packed{}, err
	}
	n, err := chunkstore.PackedBytes(head)
	if err != nil {
		return packed{}, err
	}
	buf := chunkstore.GetBuffer(len(head) + n)
	if _, err := io.ReadFull(r, (*buf)[copy(*buf, head[:]):]); err != nil {
		chunkstore.PutBuffer(buf)
		return packed{}, err
	}
	p := packed{digest: digest, buf: buf}
	if p.chunk, p.err = chunkstore.Unpack(*buf); p.err == nil && p.chunk.Digest != digest {
		p.err = api.Errorf(api.CodeUnsupMedia, "another chunk came than was asked for: %s", p.chunk.Digest)
	}
	return p, nil
}
