package chunkstore

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/cloudless/cloudless/api"
)

const (
	// Grace is how long a chunk must be known to have no pin before it is collected.
	Grace = 10 * time.Minute
	// HoldAfterRebuild is how long nothing is collected after the index was made again: the pins went
	// with the old one, and their owners must have the time to come back.
	HoldAfterRebuild = 24 * time.Hour
	// HoldOfMany is how long what is more than Collection.MaxBytes is left for a person to look at.
	HoldOfMany = 24 * time.Hour
)

// Collection is what a pass goes by.
type Collection struct {
	Now time.Time
	// Confirm returns those of the chunks that nobody refers to, as the whole cluster knows. It is
	// asked about at most 1,000 at once, and twice about each: to weigh them, and before they go.
	Confirm func(ctx context.Context, digests []string) (unreferenced []string, err error)
	// MaxBytes holds back, for HoldOfMany, a pass that would remove more; 0 sets no bound.
	MaxBytes int64
	// Held has the pass remove nothing, whatever it finds.
	Held bool
	// Anyway goes on in spite of MaxBytes, Held and HoldAfterRebuild: a person has said so.
	Anyway bool
}

// CollectReport says what a pass has done.
type CollectReport struct {
	Marked       int   // chunks found without a pin for the first time
	Ripe         int   // those that have had none for Grace
	Unreferenced int   // of them, those to which nobody refers
	Bytes        int64 // of the unreferenced, as they are stored
	Held         bool  // the unreferenced were left, see Collection
	Deleted      int
}

// Collect is one pass: it marks what has no pin, and deletes what was marked Grace ago, still has
// none, and is confirmed to have no reference anywhere. A pin or a Put takes a mark away.
func (c *Chunks) Collect(ctx context.Context, o Collection) (CollectReport, error) {
	if o.Confirm == nil {
		return CollectReport{}, api.Errorf(api.CodeInvalid, "a collection needs somebody to confirm it")
	}
	if err := c.enter(); err != nil {
		return CollectReport{}, err
	}
	defer c.leave()
	p := &pass{c: c, o: o}
	err := p.eachPage(ctx, chunkKeys, p.mark)
	if err == nil {
		err = p.eachPage(ctx, damageKeys, p.mark)
	}
	if err == nil {
		err = p.eachPage(ctx, markKeys, p.weigh)
	}
	if err == nil {
		err = p.hold()
	}
	if err == nil && !p.report.Held && p.report.Unreferenced > 0 {
		err = p.eachPage(ctx, markKeys, p.delete)
	}
	return p.report, err
}

// pass is one collection.
type pass struct {
	c      *Chunks
	o      Collection
	report CollectReport
}

// eachPage calls f with the chunks of a letter, a page at a time, so that a pass needs little memory
// and the index can change while it goes on.
func (p *pass) eachPage(ctx context.Context, letter byte, f func(context.Context, []key) error) error {
	for after, last := "", false; !last; {
		if err := p.c.options.Pace(ctx, 0); err != nil {
			return err
		}
		var keys []key
		err := p.c.page(letter, after, MaxPage, func(k key, _ []byte) error {
			keys = append(keys, k)
			return nil
		})
		if err != nil {
			return err
		}
		if last = len(keys) < MaxPage; len(keys) == 0 {
			break
		}
		after = keys[len(keys)-1].String()
		if err := f(ctx, keys); err != nil {
			return err
		}
	}
	return nil
}

// mark notes since when chunks have no pin. Most have one, so that is looked at first without holding
// up those who commit, and in the commit only of those that seem to have none.
func (p *pass) mark(_ context.Context, keys []key) error {
	keys, err := p.c.unpinned(keys)
	if err != nil || len(keys) == 0 {
		return err
	}
	marked := 0
	err = p.c.submit(&request{stage: func(g *group) error {
		marked = 0
		for _, k := range keys {
			if g.mark(k, p.o.Now) {
				marked++
			}
		}
		return nil
	}})
	p.report.Marked += marked
	return err
}

// unpinned are those of the keys that have neither a pin nor a mark.
func (c *Chunks) unpinned(keys []key) (out []key, err error) {
	pins, err := c.db.NewIter(under([]byte{pinKeys}))
	if err != nil {
		return nil, c.unreadable(err)
	}
	marks, err := c.db.NewIter(under([]byte{markKeys}))
	if err != nil {
		return nil, c.unreadable(errors.Join(err, pins.Close()))
	}
	for _, k := range keys {
		if !seek(pins, indexKey(pinKeys, k[:])) && !seek(marks, indexKey(markKeys, k[:])) {
			out = append(out, k)
		}
	}
	if err := errors.Join(pins.Close(), marks.Close()); err != nil {
		return nil, c.unreadable(err)
	}
	return out, nil
}

// seek tells whether there is a key that begins with prefix.
func seek(it *pebble.Iterator, prefix []byte) bool {
	return it.SeekGE(prefix) && bytes.HasPrefix(it.Key(), prefix)
}

// mark marks a chunk that is here, or was damaged here, and has neither pin nor mark.
func (g *group) mark(k key, now time.Time) bool {
	_, here := g.entry(k)
	_, damaged := g.read(indexKey(damageKeys, k[:]))
	_, marked := g.read(indexKey(markKeys, k[:]))
	if !here && !damaged || marked || g.pinned(k) {
		return false
	}
	g.set(indexKey(markKeys, k[:]), encodeTime(now))
	return true
}

// weigh adds up what the pass would remove. What is still referred to weighs nothing, however long it
// has had no pin here: most of a store is like that.
func (p *pass) weigh(ctx context.Context, keys []key) error {
	gone, err := p.unreferenced(ctx, keys, &p.report.Ripe)
	if err != nil {
		return err
	}
	p.report.Unreferenced += len(gone)
	for _, k := range gone {
		e, err := p.c.lookup(k)
		switch {
		case api.CodeOf(err) == api.CodeNotFound, errors.Is(err, ErrCorrupt):
			continue
		case err != nil:
			return err
		}
		p.report.Bytes += e.bytes()
	}
	return nil
}

// unreferenced are the ripe of a page to which nobody refers, as the cluster says now.
func (p *pass) unreferenced(ctx context.Context, keys []key, ripe *int) ([]key, error) {
	var asked []string
	for _, k := range keys {
		ok, err := p.ripe(k)
		if err != nil {
			return nil, err
		}
		if ok {
			asked = append(asked, k.String())
		}
	}
	*ripe += len(asked)
	if len(asked) == 0 {
		return nil, nil
	}
	confirmed, err := p.o.Confirm(ctx, asked)
	if err != nil {
		return nil, api.Errorf(api.CodeUnavailable, "what is to be collected could not be confirmed: %w", err).WithHint("it stays; the next pass asks again")
	}
	return parseDigests(confirmed)
}

// ripe tells whether a chunk was marked long ago. One whose mark has gone meanwhile is not.
func (p *pass) ripe(k key) (bool, error) {
	value, closer, err := p.c.db.Get(indexKey(markKeys, k[:]))
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, p.c.unreadable(err)
	}
	at, err := decodeTime(value)
	if err = errors.Join(err, closer.Close()); err != nil {
		return false, p.c.unreadable(err)
	}
	return p.o.Now.Sub(at) >= Grace, nil
}

// hold decides whether the unreferenced are left for now.
func (p *pass) hold() error {
	if p.o.Anyway || p.o.Held {
		p.report.Held = !p.o.Anyway
		return nil
	}
	many := p.o.MaxBytes > 0 && p.report.Bytes > p.o.MaxBytes
	return p.c.submit(&request{stage: func(g *group) error {
		p.report.Held = false
		if _, rebuilt := g.read(holdKey); rebuilt {
			p.heldBy(g, holdKey, HoldAfterRebuild)
		}
		if many {
			p.heldBy(g, manyKey, HoldOfMany)
		} else if _, was := g.read(manyKey); was {
			g.delete(manyKey)
		}
		return nil
	}})
}

// heldBy holds the pass until the time at key, which then has done its work. Where there is no time yet
// it begins now: who opened the store knew none.
func (p *pass) heldBy(g *group, key []byte, d time.Duration) {
	value, _ := g.read(key)
	if len(value) == 0 {
		value = encodeTime(p.o.Now.Add(d))
		g.set(key, value)
	}
	until, err := decodeTime(value)
	g.unreadable(err)
	if p.o.Now.Before(until) {
		p.report.Held = true
	} else {
		g.delete(key)
	}
}

// delete removes those of a page that are ripe and confirmed. What was pinned or put since keeps its life:
// that is looked at again in the commit that would end it.
func (p *pass) delete(ctx context.Context, keys []key) error {
	ripe := 0
	gone, err := p.unreferenced(ctx, keys, &ripe)
	if err != nil || len(gone) == 0 {
		return err
	}
	deleted := 0
	err = p.c.submit(&request{stage: func(g *group) error {
		deleted = 0
		for _, k := range gone {
			if g.ripe(k, p.o.Now) && !g.pinned(k) {
				g.forget(k)
				deleted++
			}
		}
		return nil
	}})
	p.report.Deleted += deleted
	return err
}

func (g *group) ripe(k key, now time.Time) bool {
	value, ok := g.read(indexKey(markKeys, k[:]))
	if !ok {
		return false
	}
	at, err := decodeTime(value)
	g.unreadable(err)
	return err == nil && now.Sub(at) >= Grace
}

// unmark takes away the mark of a chunk that somebody wants.
func (g *group) unmark(k key) {
	if _, ok := g.read(indexKey(markKeys, k[:])); ok {
		g.delete(indexKey(markKeys, k[:]))
	}
}
