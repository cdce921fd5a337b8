package objects

import (
	"bufio"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
	"io"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"github.com/cloudless/cloudless/api"
)

// A backup is the magic; the index, in 8 bytes; each row, in the order of keys, as the length of its key,
// the key, the length of its value and the value; a 0; the number of rows, in 8 bytes; the CRC32C of all
// before. Lengths are uvarints. So equal rows at an equal index are equal bytes.
const (
	backupMagic      = "CLO1"
	maxRowKeyBytes   = 4 << 10  // an escaped key of 1,024 bytes, a bucket, ids
	maxRowValueBytes = 64 << 20 // the largest manifest, and its head
	restoreBatch     = 1 << 20  // bytes that a restore writes at once
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Backup writes all rows of the view, as they are sorted.
func (v *View) Backup(out io.Writer) error { return writeBackup(out, v.pebbleRows, v.Index()) }

func writeBackup(out io.Writer, rows Rows, index uint64) error {
	sum := crc32.New(castagnoli)
	w := bufio.NewWriter(io.MultiWriter(out, sum))
	head := append([]byte(backupMagic), encodeIndex(index)...)
	if _, err := w.Write(head); err != nil {
		return err
	}
	var n uint64
	err := each(rows, "", func(key string, value []byte) (bool, error) {
		if !isRow(key) {
			return true, nil
		}
		n++
		return true, writeRow(w, key, value)
	})
	if err != nil {
		return err
	}
	if _, err := w.Write(append([]byte{0}, encodeIndex(n)...)); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err = out.Write(binary.BigEndian.AppendUint32(nil, sum.Sum32()))
	return err
}

// isRow tells a row from what a generation has beside them.
func isRow(key string) bool { return strings.IndexByte(letters, key[0]) >= 0 }

func writeRow(w *bufio.Writer, key string, value []byte) error {
	b := appendField(nil, []byte(key))
	if _, err := w.Write(binary.AppendUvarint(b, uint64(len(value)))); err != nil {
		return err
	}
	_, err := w.Write(value)
	return err
}

// backupReader reads a backup row by row, no further than its end.
type backupReader struct {
	r    *bufio.Reader
	sum  hash.Hash32
	rows uint64
	last string
}

func (b *backupReader) ReadByte() (byte, error) {
	c, err := b.r.ReadByte()
	if err == nil {
		_, err = b.sum.Write([]byte{c})
	}
	return c, err
}

// take reads n bytes, without making room for more than have come.
func (b *backupReader) take(n uint64) ([]byte, error) {
	out, err := io.ReadAll(io.LimitReader(b.r, int64(n)))
	if err == nil && uint64(len(out)) < n {
		err = io.ErrUnexpectedEOF
	}
	_, _ = b.sum.Write(out)
	return out, err
}

func (b *backupReader) length(limit uint64) (uint64, error) {
	n, err := binary.ReadUvarint(b)
	if err == nil && n > limit {
		err = errors.New("a row is too long")
	}
	return n, err
}

func (b *backupReader) head() (index uint64, err error) {
	head, err := b.take(uint64(len(backupMagic) + 8))
	if err != nil {
		return 0, err
	}
	if string(head[:len(backupMagic)]) != backupMagic {
		return 0, errors.New("it does not begin as one, or is of another version")
	}
	return decodeIndex(head[len(backupMagic):])
}

// row gives the next row; the key is "" at the end, which has been checked then.
func (b *backupReader) row() (string, []byte, error) {
	n, err := b.length(maxRowKeyBytes)
	if err != nil {
		return "", nil, err
	}
	if n == 0 {
		return "", nil, b.end()
	}
	key, err := b.take(n)
	if err != nil {
		return "", nil, err
	}
	if string(key) <= b.last || !isRow(string(key)) {
		return "", nil, errors.New("its rows are not those of an object store")
	}
	b.last = string(key)
	b.rows++
	if n, err = b.length(maxRowValueBytes); err != nil {
		return "", nil, err
	}
	value, err := b.take(n)
	return b.last, value, err
}

func (b *backupReader) end() error {
	count, err := b.take(8)
	if err != nil {
		return err
	}
	want := b.sum.Sum32()
	sum, err := b.take(4)
	if err != nil {
		return err
	}
	if binary.BigEndian.Uint64(count) != b.rows || binary.BigEndian.Uint32(sum) != want {
		return errors.New("its checksum or its number of rows is another")
	}
	return nil
}

func newBackupReader(in io.Reader) *backupReader {
	r, ok := in.(*bufio.Reader)
	if !ok {
		r = bufio.NewReader(in)
	}
	return &backupReader{r: r, sum: crc32.New(castagnoli)}
}

// change makes the store stand elsewhere, durably.
func (s *Store) change(next standing) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.db.NewBatch()
	err := next.save(b, s.standing)
	if err == nil {
		err = commit(b, pebble.Sync)
	}
	if err != nil {
		return s.fail(err)
	}
	s.standing = next
	return nil
}

// load writes the rows of a backup as a generation that does not hold yet.
func (s *Store) load(r *backupReader, generation byte) error {
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }() // one that was not committed holds no more than memory
	if err := dropAll(b, generation); err != nil {
		return s.failNow(err)
	}
	for {
		key, value, err := r.row()
		if err != nil {
			return badBackup(err)
		}
		if key != "" {
			if err := b.Set(append([]byte{generation}, key...), value, nil); err != nil {
				return s.failNow(err)
			}
		}
		if key == "" || b.Len() >= restoreBatch {
			if err := guarded(func() error { return b.Commit(pebble.NoSync) }); err != nil {
				return s.failNow(err)
			}
			b.Reset()
		}
		if key == "" {
			return nil
		}
	}
}

func (s *Store) failNow(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fail(err)
}

func badBackup(err error) error {
	return api.Errorf(api.CodeInvalid, "the backup of the object store's metadata cannot be read: %w", err).
		WithHint("nothing was changed; use another backup")
}
