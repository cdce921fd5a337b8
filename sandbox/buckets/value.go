package buckets

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/sandbox"
)

// Mode says when a change is made.
type Mode uint32

// The modes.
const (
	Always   Mode = 0 // whatever is there
	IfAbsent Mode = 1 // only where nothing is
	IfMatch  Mode = 2 // only where what is there has the ETag that is named
)

// condition is a mode in the store's terms.
func condition(mode Mode, etag string) (c meta.Condition, err error) {
	switch {
	case mode == Always:
	case mode == IfAbsent:
		c.IfAbsent = true
	case mode == IfMatch && etag != "" && etag != "*":
		c.IfMatch = etag
	case mode == IfMatch:
		err = refuse(ErrnoInvalid, "%q is no ETag that a change could depend on", etag)
	default:
		err = refuse(ErrnoInvalid, "%d is no mode: 0 always, 1 if absent, 2 if the ETag matches", mode)
	}
	return c, err
}

// met tells a condition that does not hold from what else may be in the way of a change. Where no object is
// asked for, what is not there is the bucket: a guest that were told of an object would try for ever.
func met(mode Mode, err error) error {
	switch code := api.CodeOf(err); {
	case code == api.CodeNotFound && mode != IfMatch:
		return refuse(ErrnoNoBucket, "%v", err)
	case code != api.CodeConflict:
		return err
	}
	switch mode {
	case IfAbsent:
		return &sandbox.Refusal{Errno: ErrnoExists}
	case IfMatch:
		return &sandbox.Refusal{Errno: ErrnoStale}
	}
	return refuse(ErrnoAgain, "%v", err)
}

// Get reads a value into p, as much of it as p has room for, and tells its whole length.
func (c *Call) Get(bucket, key string, p []byte) (n int, etag string, err error) {
	if err := checkKey(key); err != nil {
		return 0, "", err
	}
	err = c.do(bucket, key, false, func(ctx context.Context) error {
		o, r, err := c.store.Open(ctx, bucket, key, 0, int64(min(len(p), MaxValueBytes)))
		if err != nil {
			return err
		}
		defer r.Close()
		if o.Size > MaxValueBytes {
			return refuse(ErrnoTooLarge, "%s/%.80q has %d bytes, a value has at most %d: read it as a blob", bucket, key, o.Size, MaxValueBytes)
		}
		n, etag = int(o.Size), o.ETag
		_, err = io.ReadFull(r, p[:min(len(p), n)])
		return err
	})
	return n, etag, err
}

// Set writes a value and gives its ETag.
func (c *Call) Set(bucket, key string, value []byte, mode Mode, etag string) (now string, err error) {
	on, err := condition(mode, etag)
	if err == nil {
		err = checkKey(key)
	}
	if err == nil && len(value) > MaxValueBytes {
		err = refuse(ErrnoTooLarge, "%s/%.80q: a value of %d bytes, at most %d are allowed: write it as a blob", bucket, key, len(value), MaxValueBytes)
	}
	if err != nil {
		return "", err
	}
	err = c.do(bucket, key, true, func(ctx context.Context) error {
		o, err := c.store.Put(ctx, bucket, key, on, int64(len(value)), bytes.NewReader(value))
		if err == nil {
			now = o.ETag
		}
		return met(mode, err)
	})
	return now, err
}

// Delete removes an object.
func (c *Call) Delete(bucket, key string, mode Mode, etag string) error {
	on, err := condition(mode, etag)
	if err == nil && on.IfAbsent {
		err = refuse(ErrnoInvalid, "what is absent cannot be deleted")
	}
	if err == nil {
		err = checkKey(key)
	}
	if err != nil {
		return err
	}
	return c.do(bucket, key, true, func(ctx context.Context) error {
		return met(mode, c.store.Delete(ctx, bucket, key, on.IfMatch))
	})
}

// Stat describes an object.
func (c *Call) Stat(bucket, key string) (o *api.Object, err error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	err = c.do(bucket, key, false, func(ctx context.Context) (err error) {
		o, err = c.store.Stat(ctx, bucket, key)
		return err
	})
	return o, err
}

// entryHead is what precedes each key of a list: its length in 4 bytes, and the size of its object in 8.
const entryHead = 4 + 8

// List writes the entries of a bucket whose keys begin with prefix and are greater than after, as many as
// there is room for in p, and tells their length: 0 when there are no more.
func (c *Call) List(bucket, prefix, after string, p []byte) (n int, err error) {
	if len(prefix) > api.MaxObjectKeyBytes || len(after) > api.MaxObjectKeyBytes {
		return 0, refuse(ErrnoInvalid, "a prefix or cursor is longer than the %d bytes of a key", api.MaxObjectKeyBytes)
	}
	most := min(len(p)/(entryHead+1), MaxEntries) // a key has a byte at least
	err = c.do(bucket, prefix, false, func(ctx context.Context) error {
		page, err := c.store.List(ctx, meta.List{Bucket: bucket, Prefix: prefix, After: after, Limit: max(most, 1)})
		if err == nil {
			n, err = encodeEntries(p, page.Objects)
		}
		return met(Always, err)
	})
	return n, err
}

func encodeEntries(p []byte, objects []*api.Object) (n int, err error) {
	for _, o := range objects {
		if len(p)-n < entryHead+len(o.Key) {
			if n == 0 {
				err = refuse(ErrnoRange, "%d bytes are too few for a key of %d: give %d", len(p), len(o.Key), entryHead+api.MaxObjectKeyBytes)
			}
			return n, err
		}
		binary.LittleEndian.PutUint32(p[n:], uint32(len(o.Key)))
		binary.LittleEndian.PutUint64(p[n+4:], uint64(o.Size))
		n += entryHead + copy(p[n+entryHead:], o.Key)
	}
	return n, nil
}
