package objects

import (
	"encoding/binary"
	"io"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/cloudless/cloudless/api"
)

// A backup that replaces all rows of a cluster comes by the log, in pieces, so that every coordinator has
// it at the same index, and so that nothing that was written meanwhile is lost without a trace. The pieces are staged as a generation of their own, beside the rows that are read
// and changed meanwhile; the last one makes that generation the one that holds.

const (
	pieceBytes    = 1 << 20                                               // of rows, after which a piece has no more
	maxPieceBytes = pieceBytes + maxRowKeyBytes + 4*binary.MaxVarintLen32 // and what the last row brings beside its value
)

// stage puts a piece into a batch. A refusal is the same on every coordinator, and changes nothing.
func (s *Store) stage(b *pebble.Batch, next *standing, at time.Time, c *RestorePiece) (Result, error) {
	if err := checkID(c.ID); err != nil {
		return refused(err), nil
	}
	if c.ID == s.restored.ID || s.staged.ID == c.ID && c.Number == s.staged.Next-1 && !c.Drop {
		return Result{}, nil // it came before, and whoever sent it did not hear the answer
	}
	if c.Drop {
		if s.staged.ID != c.ID {
			return Result{}, nil
		}
		next.staged = staged{}
		return Result{}, dropAll(b, s.staged.Generation)
	}
	if c.Number != 0 && (s.staged.ID != c.ID || c.Number != s.staged.Next) {
		return refused(api.Errorf(api.CodeConflict, "piece %d of restore %s does not follow what has come", c.Number, c.ID).
			WithHint("another restore has begun; repeat this one when that has ended")), nil
	}
	if c.Number == 0 {
		next.staged = staged{}
		next.staged = staged{ID: c.ID, Generation: next.unused()}
		if s.staged.ID != "" {
			next.staged.Generation = s.staged.Generation
		}
	}
	rows, refusal := parsePiece(c, string(next.staged.LastKey))
	if refusal != nil {
		*next = s.standing
		return refused(refusal), nil
	}
	return Result{}, s.stageRows(b, next, at, c, rows)
}

func (s *Store) stageRows(b *pebble.Batch, next *standing, at time.Time, c *RestorePiece, rows []Change) error {
	st := &next.staged
	if c.Number == 0 {
		if err := dropAll(b, st.Generation); err != nil {
			return err
		}
	}
	for i, row := range rows {
		key := append([]byte{st.Generation}, row.Key...)
		if i == 0 && c.More {
			begun, err := read(s.db, key)
			if err != nil {
				return err
			}
			row.Value = append(begun, row.Value...)
		}
		if err := b.Set(key, row.Value, nil); err != nil {
			return err
		}
		st.LastKey = binaryKey(row.Key)
	}
	st.Next++
	if c.Last {
		next.generation, next.restored, next.staged = st.Generation, restored{c.ID, at}, staged{}
	}
	return nil
}

// parsePiece reads the rows of a piece, which come after the last one.
func parsePiece(c *RestorePiece, last string) (rows []Change, refusal *api.Error) {
	if len(c.Rows) > maxPieceBytes {
		return nil, api.Errorf(api.CodeTooLarge, "a piece of %d bytes, at most %d are allowed", len(c.Rows), maxPieceBytes)
	}
	for rest := c.Rows; len(rest) > 0; {
		var key, value []byte
		var ok bool
		if key, rest, ok = cutField(rest); ok {
			value, rest, ok = cutField(rest)
		}
		goesOn := ok && c.More && len(rows) == 0
		if !ok || len(key) == 0 || len(key) > maxRowKeyBytes || !isRow(string(key)) || goesOn != (string(key) == last) || string(key) < last {
			return nil, api.Errorf(api.CodeInvalid, "piece %d of the restore has rows that cannot be", c.Number)
		}
		last = string(key)
		rows = append(rows, Change{last, append([]byte{}, value...)})
	}
	return rows, nil
}

// cutField takes off what its length is before.
func cutField(b []byte) (field, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, false
	}
	return b[n : n+int(size)], b[n+int(size):], true
}

// Pieces reads a backup as the pieces that restore it.
type Pieces struct {
	r     *backupReader
	id    string
	next  int
	key   string // of a row whose value has not all been given
	value []byte
	more  bool // some of that value has been given
	ended bool
}

// ReadPieces begins to read a backup for a restore of that id.
func ReadPieces(in io.Reader, id string) (*Pieces, error) {
	r := newBackupReader(in)
	if _, err := r.head(); err != nil {
		return nil, badBackup(err)
	}
	return &Pieces{r: r, id: id}, nil
}

// Next gives the next piece; the last one only when all of the backup has been read and is whole.
func (p *Pieces) Next() (*RestorePiece, error) {
	if p.ended {
		return nil, io.EOF
	}
	piece := &RestorePiece{ID: p.id, Number: p.next, More: p.more}
	for {
		if p.key == "" {
			key, value, err := p.r.row()
			if err == nil && key != "" {
				err = checkRow(key, value)
			}
			if err != nil {
				return nil, badBackup(err)
			}
			if key == "" {
				p.ended, piece.Last = true, true
				return piece, nil
			}
			p.key, p.value = key, value
		}
		room := pieceBytes - len(piece.Rows)
		if room <= 0 {
			p.next++
			return piece, nil
		}
		part := p.value[:min(len(p.value), room)]
		piece.Rows = appendField(appendField(piece.Rows, []byte(p.key)), part)
		p.value, p.more = p.value[len(part):], len(part) < len(p.value)
		if !p.more {
			p.key = ""
		}
	}
}

func appendField(b, field []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(field))), field...)
}
