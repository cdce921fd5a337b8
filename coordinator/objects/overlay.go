package objects

import (
	"maps"
	"slices"
	"strings"
)

// overlay is rows with the changes of an entry over them, which are not written yet. Pebble has indexed
// batches for this; they keep their order at every write, though it is seldom asked for.
type overlay struct {
	base    Rows
	changed map[string][]byte // nil bytes: removed
}

func newOverlay(base Rows) overlay { return overlay{base, map[string][]byte{}} }

func (o overlay) apply(changes []Change) {
	for _, c := range changes {
		o.changed[c.Key] = c.Value
	}
}

func (o overlay) Get(key string) ([]byte, error) {
	if value, ok := o.changed[key]; ok {
		return value, nil
	}
	return o.base.Get(key)
}

func (o overlay) Range(from, to string) (Cursor, error) {
	below, err := o.base.Range(from, to)
	if err != nil {
		return nil, err
	}
	keys := slices.Sorted(maps.Keys(o.changed))
	first, _ := slices.BinarySearch(keys, from)
	end := len(keys)
	if to != "" {
		end, _ = slices.BinarySearch(keys, to)
	}
	return &overlayCursor{below: below, changed: o.changed, keys: keys[first:max(first, end)]}, nil
}

// overlayCursor merges the rows below with the changed ones, which hide them.
type overlayCursor struct {
	below   Cursor
	has     bool // below is at a row
	changed map[string][]byte
	keys    []string // changed, in order
	at      int
}

func (c *overlayCursor) Seek(key string) bool {
	c.at, _ = slices.BinarySearch(c.keys, key)
	c.has = c.below.Seek(key)
	return c.settle()
}

func (c *overlayCursor) Next() bool {
	if c.onTop() {
		if c.has && c.below.Key() == c.keys[c.at] {
			c.has = c.below.Next()
		}
		c.at++
	} else {
		c.has = c.below.Next()
	}
	return c.settle()
}

// settle passes over what is removed.
func (c *overlayCursor) settle() bool {
	for c.onTop() && c.changed[c.keys[c.at]] == nil {
		if c.has && c.below.Key() == c.keys[c.at] {
			c.has = c.below.Next()
		}
		c.at++
	}
	return c.has || c.at < len(c.keys)
}

// onTop tells whether the present row is a changed one.
func (c *overlayCursor) onTop() bool {
	return c.at < len(c.keys) && (!c.has || strings.Compare(c.keys[c.at], c.below.Key()) <= 0)
}

func (c *overlayCursor) Key() string {
	if c.onTop() {
		return c.keys[c.at]
	}
	return c.below.Key()
}

func (c *overlayCursor) Value() ([]byte, error) {
	if c.onTop() {
		return c.changed[c.keys[c.at]], nil
	}
	return c.below.Value()
}

func (c *overlayCursor) Close() error { return c.below.Close() }
