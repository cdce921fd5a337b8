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
func (v *View) Backup(out io.Writer) error {
	sum := crc32.New(castagnoli)
	w := bufio.NewWriter(io.MultiWriter(out, sum))
	head := append([]byte(backupMagic), encodeIndex(v.index)...)
	if _, err := w.Write(head); err != nil {
		return err
	}
	var n uint64
	err := each(v, "", func(key string, value []byte) (bool, error) {
		if key == appliedRow {
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

func writeRow(w *bufio.Writer, key string, value []byte) error {
	b := binary.AppendUvarint(nil, uint64(len(key)))
	b = binary.AppendUvarint(append(b, key...), uint64(len(value)))
	if _, err := w.Write(b); err != nil {
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
	if string(key) <= b.last || !strings.ContainsRune(letters, rune(key[0])) {
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

// Restore replaces all rows by those of a backup, and Applied by its index. The rows that are here are
// given up only when all of the backup has come, is whole and is on the disk: a damaged one changes
// nothing, nor does a power cut before. Views may be taken meanwhile; those taken before still show what
// they showed. Of a *bufio.Reader it reads no further than the backup's end.
func (s *Store) Restore(in io.Reader) error {
	r := newBackupReader(in)
	index, err := r.head()
	if err != nil {
		return badBackup(err)
	}
	return s.replace(r, index)
}

// CatchUp is Restore for a backup of the same log: if the rows are as new, they stay, and the backup is
// only read to its end.
func (s *Store) CatchUp(in io.Reader) error {
	r := newBackupReader(in)
	index, err := r.head()
	if err != nil {
		return badBackup(err)
	}
	if index > s.Applied() {
		return s.replace(r, index)
	}
	for key := "-"; key != "" && err == nil; {
		key, _, err = r.row()
	}
	if err != nil {
		return badBackup(err)
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

func (s *Store) replace(r *backupReader, index uint64) error {
	s.mu.RLock()
	failed, next := s.failed, s.other()
	s.mu.RUnlock()
	if failed != nil {
		return failed
	}
	if err := s.load(r, next); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.db.NewBatch()
	err := errors.Join(
		b.Set(append([]byte{next}, appliedRow...), encodeIndex(index), nil),
		b.Set([]byte(generationKey), []byte{next}, nil),
		b.DeleteRange([]byte{s.generation}, []byte{s.generation + 1}, nil),
	)
	if err == nil {
		err = commit(b, pebble.Sync)
	}
	if err != nil {
		return s.fail(err)
	}
	s.generation, s.applied = next, index
	return nil
}

// load writes the rows of a backup as a generation that does not hold yet.
func (s *Store) load(r *backupReader, generation byte) error {
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }() // one that was not committed holds no more than memory
	if err := b.DeleteRange([]byte{generation}, []byte{generation + 1}, nil); err != nil {
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
