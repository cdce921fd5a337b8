package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/cloudless/cloudless/api"
)

// Scrubbing is what a Scrub goes by.
type Scrubbing struct {
	Now time.Time
	// MaxBytes is how much it reads: it stops behind the chunk with which it has read as much.
	MaxBytes int64
	// Restart begins with the first chunk, wherever the last one stopped.
	Restart bool
}

// ScrubReport says what a Scrub has done.
type ScrubReport struct {
	Chunks, Damaged int
	Bytes           int64 // read
	Wrapped         bool  // the end was reached: the next one begins at the start
}

// Scrub verifies the next chunks in the order of their digests until it has read enough, or has come
// to the end. Where it stopped is kept over a restart, so that repeated calls go through the whole store.
func (c *Chunks) Scrub(ctx context.Context, o Scrubbing) (report ScrubReport, err error) {
	if err := c.enter(); err != nil {
		return ScrubReport{}, err
	}
	defer c.leave()
	buf := GetBuffer(MaxChunkBytes)
	defer PutBuffer(buf)
	cursor := ""
	if !o.Restart {
		cursor, err = c.scrubCursor()
	}
	for err == nil && report.Bytes < o.MaxBytes && !report.Wrapped {
		cursor, err = c.scrubPage(ctx, cursor, o.MaxBytes, (*buf)[:0], &report)
	}
	return report, errors.Join(err, c.submit(&request{stage: func(g *group) error {
		if report.Wrapped {
			cursor = ""
			g.set(wholeKey, encodeTime(o.Now))
		}
		g.set(scrubKey, []byte(cursor))
		return nil
	}}))
}

// scrubPage verifies a page of chunks behind cursor, and gives the new cursor.
func (c *Chunks) scrubPage(ctx context.Context, cursor string, maxBytes int64, buf []byte, report *ScrubReport) (string, error) {
	list, err := c.List(cursor, MaxPage)
	if err != nil {
		return cursor, err
	}
	for _, info := range list {
		if report.Bytes >= maxBytes {
			return cursor, nil
		}
		if err := c.scrubOne(ctx, info, buf, report); err != nil {
			return cursor, err
		}
		cursor = info.Digest
	}
	report.Wrapped = len(list) < MaxPage
	return cursor, nil
}

// ScrubbedAt is when Scrub last came to the end, zero if it never has.
func (c *Chunks) ScrubbedAt() (time.Time, error) {
	if err := c.enter(); err != nil {
		return time.Time{}, err
	}
	defer c.leave()
	value, closer, err := c.db.Get(wholeKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, c.unreadable(err)
	}
	at, err := decodeTime(value)
	if err = errors.Join(err, closer.Close()); err != nil {
		return time.Time{}, c.unreadable(err)
	}
	return at, nil
}

func (c *Chunks) scrubOne(ctx context.Context, info ChunkInfo, buf []byte, report *ScrubReport) error {
	if err := c.options.Pace(ctx, info.StoredBytes); err != nil {
		return err
	}
	k, err := parseDigest(info.Digest)
	if err != nil {
		return err
	}
	err = c.verify(k, buf)
	report.Chunks++
	report.Bytes += info.StoredBytes
	switch {
	case errors.Is(err, ErrCorrupt):
		report.Damaged++
	case err != nil && api.CodeOf(err) != api.CodeNotFound: // deleted meanwhile
		return fmt.Errorf("scrubbing %s: %w", info.Digest, err)
	}
	return nil
}

func (c *Chunks) scrubCursor() (string, error) {
	value, closer, err := c.db.Get(scrubKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", c.unreadable(err)
	}
	cursor := string(value)
	return cursor, closer.Close()
}
