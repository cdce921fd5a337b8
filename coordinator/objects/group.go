package objects

import (
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/erasure"
)

// A group's row has a shard for each of its chunks. Their own rows name the group, so that all chunks of
// a group are referenced for as long as it lives: until no row names any of its chunks of data. Those
// whose names are gone before stay, for the others are made of them when one is lost.

// GroupOf gives the group that a chunk is in; nil is none.
func GroupOf(rows Rows, chunk [32]byte) (*Group, error) {
	value, err := rows.Get(countKey(chunk))
	if err != nil {
		return nil, err
	}
	r, err := decodeReference(value)
	if err != nil || r.group == (digest{}) {
		return nil, err
	}
	if value, err = rows.Get(groupKey(r.group)); err != nil {
		return nil, err
	}
	return decodeGroup(value)
}

func decodeGroup(b []byte) (*Group, error) {
	g := &Group{}
	if _, err := decodeRow(b, g); err != nil {
		return nil, err
	}
	if checkGroup(g) != nil {
		return nil, damaged("a group has not the chunks that it is to have")
	}
	return g, nil
}

// checkGroup looks at what can be seen without other rows. Parity is as long as the longest chunk.
func checkGroup(g *Group) *api.Error {
	if len(g.Shards) != erasure.Shards {
		return api.Errorf(api.CodeInvalid, "a group of %d chunks; one has %d", len(g.Shards), erasure.Shards)
	}
	seen, longest := map[digest]bool{}, 0
	for i, s := range g.Shards {
		d, err := digestOf(s.Digest)
		if err != nil {
			return err
		}
		if seen[d] {
			return api.Errorf(api.CodeInvalid, "chunk %x is in a group twice", d)
		}
		seen[d] = true
		if i < erasure.Data {
			longest = max(longest, s.Bytes)
		} else if s.Bytes != longest {
			return api.Errorf(api.CodeInvalid, "parity of %d bytes, the longest chunk has %d", s.Bytes, longest)
		}
	}
	return nil
}

func (d *decision) sealGroup(c *SealGroup) Result {
	if err := checkGroup(&c.Group); err != nil {
		return refused(err)
	}
	for i, s := range c.Shards {
		if err := d.checkShard(i, s); err != nil {
			return refused(err)
		}
	}
	if err := d.under(c.Session, erasure.Parity, true); err != nil {
		return refused(err)
	}
	id := c.Sum()
	d.set[groupKey(id)] = encodeRow(&c.Group, nil)
	for i, s := range c.Shards {
		d.enlist(digest(s.Digest), func(r *reference) { r.group, r.shard, r.bytes = id, i, int64(s.Bytes) })
	}
	return Result{}
}

// checkShard refuses a chunk that may not be in a group, whatever it was when the group was made up.
func (d *decision) checkShard(i int, s Shard) *api.Error {
	chunk := digest(s.Digest)
	row, err := decodeReference(d.get(countKey(chunk)))
	if err != nil {
		d.fail(err)
	}
	switch r := row.ref(chunk); {
	case r.Grouped():
		return api.Errorf(api.CodeConflict, "chunk %s is in a group already", r.Name())
	case i < erasure.Data && !r.Cold:
		return api.Errorf(api.CodeConflict, "chunk %s is not one of cold objects alone", r.Name())
	case i < erasure.Data && (r.Bytes < erasure.MinBytes || r.Bytes != int64(s.Bytes)):
		return api.Errorf(api.CodeConflict, "chunk %s has %d bytes; %d were said, and one of a group has %d at least", r.Name(), r.Bytes, s.Bytes, erasure.MinBytes)
	}
	return nil
}

// enlist changes what a chunk's row says of its group.
func (d *decision) enlist(chunk digest, change func(r *reference)) {
	r, err := decodeReference(d.get(countKey(chunk)))
	if err != nil {
		d.fail(err)
		return
	}
	change(&r)
	d.set[countKey(chunk)] = r.encode()
}

// release ends the group of a chunk, if no row names any chunk of data of it any more.
func (d *decision) release(chunk digest) {
	r, err := decodeReference(d.get(countKey(chunk)))
	if err != nil {
		d.fail(err)
		return
	}
	if r.named() || r.group == (digest{}) {
		return
	}
	g, err := decodeGroup(d.get(groupKey(r.group)))
	if err != nil {
		d.fail(err)
		return
	}
	for _, s := range g.Shards[:erasure.Data] {
		r, err := decodeReference(d.get(countKey(digest(s.Digest))))
		if err != nil {
			d.fail(err)
		}
		if err != nil || r.named() {
			return
		}
	}
	d.set[groupKey(r.group)] = nil
	for _, s := range g.Shards {
		d.enlist(digest(s.Digest), func(r *reference) { r.group, r.shard = digest{}, 0 })
	}
}
