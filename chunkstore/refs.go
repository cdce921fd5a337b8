package chunkstore

import (
	"context"
	"errors"

	"github.com/cloudless/cloudless/api"
)

// A chunk lives while an owner pins it: a manifest, an upload session, a transfer. What owners are
// called is the caller's affair; an owner pins a chunk once, however often it says so.
const (
	// MaxOwnerBytes is the longest name of an owner: a bucket, a key of 1,024 bytes and a version fit.
	MaxOwnerBytes = 1536
	// unrefChunks is how many pins are removed in one commit.
	unrefChunks = 4096
)

func checkOwner(owner string) error {
	if owner == "" || len(owner) > MaxOwnerBytes {
		return api.Errorf(api.CodeInvalid, "an owner's name has 1 to %d bytes, not %d", MaxOwnerBytes, len(owner))
	}
	return nil
}

// Ref pins those of the chunks that are here for owner, durably, and returns the others: they are to
// be put. A damaged chunk is not here.
func (c *Chunks) Ref(owner string, digests ...string) (missing []string, err error) {
	if err := checkOwner(owner); err != nil {
		return nil, err
	}
	keys, err := c.beginAll(digests)
	if err != nil {
		return nil, err
	}
	defer c.leave()
	err = c.submit(&request{stage: func(g *group) error {
		missing = nil
		for _, k := range keys {
			if _, ok := g.entry(k); ok {
				g.pin(owner, k)
			} else {
				missing = append(missing, k.String())
			}
		}
		return nil
	}})
	return missing, err
}

// Unref removes owner's pins of the chunks named, or all that owner has when none is named. What has
// no pin then stays until it is collected.
func (c *Chunks) Unref(ctx context.Context, owner string, digests ...string) error {
	if err := checkOwner(owner); err != nil {
		return err
	}
	keys, err := c.beginAll(digests)
	if err != nil {
		return err
	}
	defer c.leave()
	if len(keys) > 0 {
		return c.unpin(owner, keys)
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		keys, err := c.pinnedBy(owner, unrefChunks)
		if err != nil || len(keys) == 0 {
			return err
		}
		if err := c.unpin(owner, keys); err != nil {
			return err
		}
	}
}

func (c *Chunks) unpin(owner string, keys []key) error {
	return c.submit(&request{stage: func(g *group) error {
		for _, k := range keys {
			g.unpin(owner, k)
		}
		return nil
	}})
}

// pinnedBy are chunks that owner pins.
func (c *Chunks) pinnedBy(owner string, limit int) ([]key, error) {
	rest, err := c.rest(ownerKey(owner), limit)
	keys := make([]key, len(rest))
	for i, b := range rest {
		keys[i] = key([]byte(b))
	}
	return keys, err
}

// Owners are those who pin a chunk, in the order of their names, at most limit.
func (c *Chunks) Owners(digest string, limit int) ([]string, error) {
	k, err := c.begin(digest)
	if err != nil {
		return nil, err
	}
	defer c.leave()
	return c.rest(indexKey(pinKeys, k[:]), limit)
}

// PinOwners are those who pin any chunk, each once, at most limit: first the shorter names, then in
// their order. It begins behind the owner named; "" is the start.
func (c *Chunks) PinOwners(behind string, limit int) ([]string, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.leave()
	it, err := c.db.NewIter(under([]byte{ownerKeys}))
	if err != nil {
		return nil, c.unreadable(err)
	}
	var owners []string
	for ok := it.SeekGE(after(ownerKey(behind))); ok && len(owners) < limit; {
		owner, err := parseOwner(it.Key())
		if err != nil {
			return nil, c.unreadable(errors.Join(err, it.Close()))
		}
		owners = append(owners, owner)
		ok = it.SeekGE(after(ownerKey(owner)))
	}
	if err := it.Close(); err != nil {
		return nil, c.unreadable(err)
	}
	return owners, nil
}

// rest is what follows prefix in the keys that begin with it.
func (c *Chunks) rest(prefix []byte, limit int) (out []string, err error) {
	it, err := c.db.NewIter(under(prefix))
	if err != nil {
		return nil, c.unreadable(err)
	}
	for ok := it.First(); ok && len(out) < limit; ok = it.Next() {
		out = append(out, string(it.Key()[len(prefix):]))
	}
	if err := it.Close(); err != nil {
		return nil, c.unreadable(err)
	}
	return out, nil
}

// Delete removes chunks at once. One that is pinned is a conflict, and then none is removed; one that
// is not here is no error.
func (c *Chunks) Delete(digests ...string) error {
	keys, err := c.beginAll(digests)
	if err != nil {
		return err
	}
	defer c.leave()
	return c.submit(&request{stage: func(g *group) error {
		for _, k := range keys {
			if g.pinned(k) {
				return api.Errorf(api.CodeConflict, "chunk %s is pinned", k).WithHint("remove its pins first")
			}
		}
		for _, k := range keys {
			g.forget(k)
		}
		return nil
	}})
}

// Drop removes those of the chunks at once that nobody pins, and returns the others: they are kept. One
// that is not here is gone already.
func (c *Chunks) Drop(digests ...string) (kept []string, err error) {
	keys, err := c.beginAll(digests)
	if err != nil {
		return nil, err
	}
	defer c.leave()
	err = c.submit(&request{stage: func(g *group) error {
		kept = nil
		for _, k := range keys {
			if g.pinned(k) {
				kept = append(kept, k.String())
			} else {
				g.forget(k)
			}
		}
		return nil
	}})
	return kept, err
}

// forget removes all that is known of a chunk that has no pin.
func (g *group) forget(k key) {
	g.dropEntry(k)
	g.unmark(k)
	g.heal(k)
}
