package objects

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// All rows of one state have the same first byte, its generation: a restore writes another one beside
// it, and one batch changes over. The keys of the first two have no generation.
const (
	generationKey = "\x00" // which one holds
	stagedKey     = "\x01" // what has come of a restore from the log
	appliedRow    = "\x00" // in a generation: the index up to which the log was applied
	restoredRow   = "\x01" // in a generation: the restore that it comes from

	firstGeneration = 'A'
	lastGeneration  = 'D' // the one that holds, one that is staged, and one of each that a snapshot brings
)

// standing is where a store stands: what of it is not in rows that are backed up.
type standing struct {
	generation byte
	applied    uint64
	restored   restored
	staged     staged
}

// restored is the last restore that came by the log.
type restored struct {
	ID string    `json:"id,omitempty"`
	At time.Time `json:"at,omitzero"`
}

// staged is what has come of a restore from the log that has not ended; without an ID there is none.
type staged struct {
	ID         string    `json:"id,omitempty"`
	Next       int       `json:"next,omitempty"`       // number of the piece that comes next
	LastKey    binaryKey `json:"lastKey,omitempty"`    // of the last row that came
	Generation byte      `json:"generation,omitempty"` // where the rows are
}

// binaryKey is a row's key, which may have any byte, as JSON can have it: in hexadecimal.
type binaryKey string

// MarshalText implements encoding.TextMarshaler.
func (k binaryKey) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, []byte(k)), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *binaryKey) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*k = binaryKey(b)
	return err
}

// unused is a generation that neither holds nor is staged, nor is one of taken.
func (s standing) unused(taken ...byte) byte {
	for g := byte(firstGeneration); ; g++ {
		free := g != s.generation && (s.staged.ID == "" || g != s.staged.Generation)
		for _, t := range taken {
			free = free && g != t
		}
		if free {
			return g
		}
	}
}

// find reads where the store stands, and removes what a restore that was cut off has left.
func (s *Store) find() error {
	s.generation = firstGeneration
	value, err := read(s.db, []byte(generationKey))
	if err != nil {
		return err
	}
	if value != nil {
		if len(value) != 1 || value[0] < firstGeneration || value[0] > lastGeneration {
			return damaged("its generation is %q", value)
		}
		s.generation = value[0]
	}
	if value, err = read(s.db, s.key(appliedRow)); err == nil && value != nil {
		s.applied, err = decodeIndex(value)
	}
	err = errors.Join(err, readInto(s.db, s.key(restoredRow), &s.restored), readInto(s.db, []byte(stagedKey), &s.staged))
	for g := byte(firstGeneration); g <= lastGeneration && err == nil; g++ {
		if g != s.generation && (s.staged.ID == "" || g != s.staged.Generation) {
			err = s.clear(g)
		}
	}
	return err
}

// readInto fills v from a row of JSON; none leaves it as it is.
func readInto(from pebble.Reader, key []byte, v any) error {
	value, err := read(from, key)
	if err != nil || value == nil {
		return err
	}
	if err := json.Unmarshal(value, v); err != nil {
		return damaged("%q cannot be read: %w", key, err)
	}
	return nil
}

// clear removes all rows of a generation.
func (s *Store) clear(generation byte) error {
	rows, found := pebbleRows{s.db, generation}, false
	if err := each(rows, "", func(string, []byte) (bool, error) { found = true; return false, nil }); err != nil || !found {
		return err
	}
	return guarded(func() error {
		return s.db.DeleteRange([]byte{generation}, []byte{generation + 1}, pebble.NoSync)
	})
}

// save writes into a batch where the store stands from that batch on, and removes the generation that
// held before, if it is another one.
func (s standing) save(b *pebble.Batch, before standing) error {
	errs := []error{b.Set(s.key(appliedRow), encodeIndex(s.applied), nil)}
	if s.restored != before.restored || s.generation != before.generation {
		errs = append(errs, setJSON(b, s.key(restoredRow), s.restored))
	}
	switch {
	case s.staged == before.staged:
	case s.staged.ID == "":
		errs = append(errs, b.Delete([]byte(stagedKey), nil))
	default:
		errs = append(errs, setJSON(b, []byte(stagedKey), s.staged))
	}
	if s.generation != before.generation {
		errs = append(errs, b.Set([]byte(generationKey), []byte{s.generation}, nil), dropAll(b, before.generation))
	}
	return errors.Join(errs...)
}

func (s standing) key(row string) []byte { return append([]byte{s.generation}, row...) }

func setJSON(b *pebble.Batch, key []byte, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Set(key, text, nil)
}

func dropAll(b *pebble.Batch, generation byte) error {
	return b.DeleteRange([]byte{generation}, []byte{generation + 1}, nil)
}
