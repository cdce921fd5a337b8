package transfer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
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
// those that are durable there now and those that are not, in the order asked; after an error those of
// which nothing was heard are in neither.
func (c *Client) Copy(ctx context.Context, to, from string, digests ...string) (done, failed []string, err error) {
	for len(digests) > 0 && err == nil {
		n := min(len(digests), maxDigests)
		var part []byte
		part, err = encodeDigests(digests[:n])
		if err != nil {
			break
		}
		err = c.do(ctx, post(to, pathCopy, url.Values{"from": {from}}, part), func(resp *http.Response) error {
			for i := 0; i < n; {
				var one [1]byte
				if _, err := io.ReadFull(resp.Body, one[:]); err != nil {
					return errors.Join(io.ErrUnexpectedEOF, err)
				}
				switch one[0] {
				case copyDone:
					done = append(done, digests[i])
					i++
				case copyFailed:
					failed = append(failed, digests[i])
					i++
				}
			}
			return nil
		})
		digests = digests[n:]
	}
	return done, failed, err
}

// pull takes chunks from another node, and tells of each as soon as it is durable or has failed.
func (s *Server) pull(ctx context.Context, from string, digests []string, outcomes chan<- byte) error {
	buf := chunkstore.GetBuffer(chunkstore.MaxChunkBytes)
	defer chunkstore.PutBuffer(buf)
	for _, d := range digests {
		outcome := byte(copyDone)
		if err := s.pullOne(ctx, from, d, (*buf)[:0]); err != nil {
			s.Log.Warn().Err(err).Str("digest", d).Str("from", from).Msg("a chunk could not be copied")
			outcome = copyFailed
		}
		select {
		case outcomes <- outcome:
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
	if err := s.Pace(ctx, chunkstore.MaxChunkBytes); err != nil {
		return err
	}
	data, err := s.Client.Get(ctx, from, digest, buf)
	if err != nil {
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
	outcomes := make(chan byte)
	group.Go("copy chunks", func(ctx context.Context) error {
		defer close(outcomes)
		return s.pull(ctx, from, digests, outcomes)
	})
	beat := time.NewTicker(copyBeat)
	defer beat.Stop()
	for {
		select {
		case outcome, more := <-outcomes:
			if !more {
				return nil
			}
			err = say(w, outcome)
		case <-beat.C:
			err = say(w, copyBusy)
		}
		if err != nil {
			return nil // who has asked has gone
		}
	}
}

func say(w http.ResponseWriter, b byte) error {
	out := http.NewResponseController(w)
	_ = out.SetWriteDeadline(time.Now().Add(stallTime)) // every connection has one
	if _, err := w.Write([]byte{b}); err != nil {
		return err
	}
	return out.Flush()
}
