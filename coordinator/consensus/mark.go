package consensus

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"

	"github.com/cloudless/cloudless/internal/disk"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A mark is a small file beside the log that holds the number of the last batch written to it.
// Pebble takes a write-ahead log that ends early, or is garbage from some point on, for one that a
// crash cut off, and would silently go on without what it had acknowledged. The mark is written
// after each batch is on the disk, so it is never ahead of a log that is whole. It is not synced: a
// power cut may take it back, which only makes the check weaker, never wrong.
type mark struct{ file vfs.File }

const (
	markName  = "BATCHES"
	markBytes = 12 // the number and its checksum
)

// openMark opens or makes the mark, and returns the number in it, 0 when there is none.
func openMark(dir string, fs vfs.FS) (*mark, uint64, error) {
	path := fs.PathJoin(dir, markName)
	file, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if errors.Is(err, os.ErrNotExist) {
		if file, err = fs.Create(path, vfs.WriteCategoryUnspecified); err == nil {
			err = errors.Join(file.Close(), disk.SyncDir(fs, dir))
		}
		if err == nil {
			file, err = fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
		}
	}
	if err != nil {
		return nil, 0, err
	}
	var b [markBytes]byte
	if _, err := file.ReadAt(b[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, errors.Join(err, file.Close())
	}
	if crc32.Checksum(b[:8], castagnoli) != binary.BigEndian.Uint32(b[8:]) {
		return &mark{file}, 0, nil // new, or torn by a power cut
	}
	return &mark{file}, binary.BigEndian.Uint64(b[:8]), nil
}

func (m *mark) set(batches uint64) error {
	b := binary.BigEndian.AppendUint64(nil, batches)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	_, err := m.file.WriteAt(b, 0)
	return err
}

func (m *mark) close() error { return m.file.Close() }
