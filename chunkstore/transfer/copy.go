package transfer

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/internal/run"
)

// A node that is told to copy answers while it works, so that who has told it sees the progress, and
// sees too when there is none.

// copyTime is how long one chunk may take, whatever the pace.
const copyTime = 5 * time.Minute

// Copy makes the node to take chunks from the node from, one after the other, at its own pace. It gives
// those that are durable there now, whatever the error, which says why the others are not.
func (c *Client) Copy(ctx context.Context, to, from string, digests ...string) (done []string, err error) {
	var errs []error
	for part := range slices.Chunk(digests, maxDigests) {
		body, err := encodeDigests(part)
		if err != nil {
			return done, err
		}
		err = c.do(ctx, post(to, pathCopy, url.Values{"from": {from}}, body), func(resp *http.Response) error {
			some, failed, err := readOutcomes(resp.Body, part)
			done, errs = append(done, some...), append(errs, failed)
			return err
		})
		if err != nil {
			return done, errors.Join(append(errs, err)...)
		}
	}
	return done, errors.Join(errs...)
}

// readOutcomes reads what becomes of each chunk. That one failed is not err: the first of those is failed.
func readOutcomes(r io.Reader, digests []string) (done []string, failed, err error) {
	for i := 0; i < len(digests); {
		var head [outcomeBytes]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return done, failed, errors.Join(io.ErrUnexpectedEOF, err)
		}
		why := make([]byte, binary.BigEndian.Uint16(head[1:]))
		if _, err := io.ReadFull(r, why); err != nil {
			return done, failed, errors.Join(io.ErrUnexpectedEOF, err)
		}
		switch {
		case head[0] == copyBusy:
			continue
		case head[0] == copyDone:
			done = append(done, digests[i])
		case failed == nil:
			failed = api.Errorf(api.CodeUnavailable, "chunk %s could not be copied: %s", digests[i], why)
		}
		i++
	}
	return done, failed, nil
}

// outcome is what became of a chunk as it is told: a letter, and why with its length before it.
func outcome(letter byte, err error) []byte {
	why := ""
	if err != nil {
		why = api.AsError(err).Message
	}
	why = why[:min(len(why), maxWhy)]
	return append(binary.BigEndian.AppendUint16([]byte{letter}, uint16(len(why))), why...)
}

// pull takes chunks from another node, and tells of each as soon as it is durable or has failed.
func (s *Server) pull(ctx context.Context, from string, digests []string, outcomes chan<- []byte) error {
	buf := chunkstore.GetBuffer(chunkstore.MaxChunkBytes)
	defer chunkstore.PutBuffer(buf)
	for _, d := range digests {
		told := outcome(copyDone, nil)
		if err := s.pullOne(ctx, from, d, (*buf)[:0]); err != nil {
			s.Log.Warn().Err(err).Str("digest", d).Str("from", from).Msg("a chunk could not be copied")
			told = outcome(copyFailed, err)
		}
		select {
		case outcomes <- told:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (s *Server) pullOne(ctx context.Context, from, digest string, buf []byte) error {
	if has, err := s.Chunks.Has(digest); has || err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, copyTime)
	defer cancel()
	data, err := s.Client.Get(forPull(ctx), from, digest, buf)
	if err != nil {
		return err
	}
	if err := s.Pace(ctx, int64(len(data))); err != nil {
		return err
	}
	return s.Chunks.Put(ctx, chunkstore.PutOptions{}, chunkstore.Chunk{Digest: digest, Data: data})
}

// copyBeat is how often a node that copies says that it is at it: its pace may make it wait.
const copyBeat = stallTime / 4

func (s *Server) serveCopy(w http.ResponseWriter, r *http.Request) error {
	digests, err := s.digests(w, r)
	if err != nil {
		return err
	}
	from := r.URL.Query().Get("from")
	if from == "" || from == s.Client.Self {
		return api.Errorf(api.CodeInvalid, "a node cannot copy from %q", from)
	}
	group := run.New(r.Context())
	defer group.Close()
	outcomes := make(chan []byte)
	group.Go("copy chunks", func(ctx context.Context) error {
		defer close(outcomes)
		return s.pull(ctx, from, digests, outcomes)
	})
	beat := time.NewTicker(copyBeat)
	defer beat.Stop()
	for {
		select {
		case told, more := <-outcomes:
			if !more {
				return nil
			}
			err = say(w, told)
		case <-beat.C:
			err = say(w, outcome(copyBusy, nil))
		}
		if err != nil {
			return nil // who has asked has gone
		}
	}
}

func say(w http.ResponseWriter, b []byte) error {
	out := http.NewResponseController(w)
	_ = out.SetWriteDeadline(time.Now().Add(stallTime)) // every connection has one
	if _, err := w.Write(b); err != nil {
		return err
	}
	return out.Flush()
}
