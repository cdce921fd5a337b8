package transfer

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"

	"github.com/cloudless/cloudless/api"
)

// A node that is told to copy answers while it works, so that who has told it sees the progress, and
// sees too when there is none.

// Copy makes the node to take chunks from the node from, in their order, at its own pace. It gives
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
		letter, why, err := readOutcome(r)
		if err != nil {
			return done, failed, err
		}
		switch {
		case letter == copyBusy:
			continue
		case letter == copyDone:
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

// readOutcome reads what is said of a chunk.
func readOutcome(r io.Reader) (letter byte, why string, err error) {
	var head [outcomeBytes]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, "", errors.Join(io.ErrUnexpectedEOF, err)
	}
	text := make([]byte, binary.BigEndian.Uint16(head[1:]))
	if _, err := io.ReadFull(r, text); err != nil {
		return 0, "", errors.Join(io.ErrUnexpectedEOF, err)
	}
	return head[0], string(text), nil
}
