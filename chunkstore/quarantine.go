package chunkstore

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cloudless/cloudless/api"
)

// maxQuarantined is how many damaged records are kept for people to look at. Of later ones the bytes
// are gone with their segment's compaction.
const maxQuarantined = 64

// condemn takes a damaged chunk out of service: its bytes are moved aside, and it counts as damaged
// until somebody puts it again. Its pins stay. The error returned is the one for whoever asked for it.
func (c *Chunks) condemn(k key, e entry, why error) error {
	if !isDamage(why) {
		return api.Errorf(api.CodeUnavailable, "chunk %s cannot be read just now: %w", k, why).WithHint("take it from another node")
	}
	c.saveDamaged(k, e)
	told := false
	err := c.submit(&request{stage: func(g *group) error {
		if now, ok := g.entry(k); ok && now == e {
			g.dropEntry(k)
			g.set(indexKey(damageKeys, k[:]), []byte(why.Error()))
			g.totals.damaged++
			told = true
		}
		return nil
	}})
	if err == nil && told {
		c.options.Log.Error().Stringer("digest", k).Err(why).Msg("a chunk is damaged on the disk and was moved aside; it is to be taken from another node")
		c.options.OnDamage(k.String(), why)
	}
	return corruptError(k, why.Error()) // whether or not that could be written down
}

// saveDamaged copies what is left of a record into the quarantine folder. It is for people to look
// at, so nothing depends on it.
func (c *Chunks) saveDamaged(k key, e entry) {
	c.mu.Lock()
	full := c.savedBad >= maxQuarantined
	if !full {
		c.savedBad++
	}
	c.mu.Unlock()
	if full {
		return
	}
	if err := c.copyDamaged(k, e); err != nil {
		c.options.Log.Warn().Stringer("digest", k).Err(err).Msg("what is left of a damaged chunk could not be moved aside")
	}
}

func (c *Chunks) copyDamaged(k key, e entry) error {
	left := make([]byte, e.bytes())
	if e.inline {
		value, closer, err := c.db.Get(indexKey(valueKeys, k[:]))
		if err != nil {
			return err
		}
		left = append(left[:0], value...)
		if err := closer.Close(); err != nil {
			return err
		}
	} else if err := c.readers.read(e.segment, func(f vfs.File) error {
		n, _ := f.ReadAt(left, e.offset) // as much as can be read
		left = left[:n]
		return nil
	}); err != nil {
		return err
	}
	file, err := c.fs.Create(c.fs.PathJoin(c.dir, quarantineDirName, hex.EncodeToString(k[:])), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = file.Write(left)
	return errors.Join(err, file.Close())
}

// heal forgets that a chunk was damaged.
func (g *group) heal(k key) {
	if _, damaged := g.read(indexKey(damageKeys, k[:])); damaged {
		g.delete(indexKey(damageKeys, k[:]))
		g.totals.damaged--
	}
}

// Damaged is a page of the chunks that were found damaged and have not been put again, as List.
func (c *Chunks) Damaged(after string, limit int) ([]string, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.leave()
	var out []string
	err := c.page(damageKeys, after, min(limit, MaxPage), func(k key, _ []byte) error {
		out = append(out, k.String())
		return nil
	})
	return out, err
}

// Verify reads a chunk and compares its digest, not only its checksum. A chunk that is damaged is
// moved aside; see ErrCorrupt.
func (c *Chunks) Verify(digest string) error {
	k, err := c.begin(digest)
	if err != nil {
		return err
	}
	defer c.leave()
	buf := GetBuffer(MaxChunkBytes)
	defer PutBuffer(buf)
	return c.verify(k, (*buf)[:0])
}

func (c *Chunks) verify(k key, buf []byte) error {
	_, err := c.get(k, buf, func(data []byte) error {
		if key(sha256.Sum256(data)) != k {
			return errDigest
		}
		return nil
	})
	return err
}
