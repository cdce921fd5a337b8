package consensus

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/cloudless/cloudless/internal/disk"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"
)

// A snapshot is one file, ID.snap: the FSM's bytes, then a footer in JSON, then the footer's length
// and checksum. It gets its name only when all of it is on the disk, so a file with that name is
// whole, unless the disk has lost it since; that is what the checksums are for.
const (
	snapshotSuffix   = ".snap"
	unfinishedSuffix = ".tmp"
	snapshotsKept    = 2
	trailerBytes     = 8       // length and checksum of the footer
	footerBytesMax   = 1 << 20 // a footer holds a few members
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// footer is what follows the FSM's bytes.
type footer struct {
	Meta raft.SnapshotMeta `json:"meta"`
	CRC  uint32            `json:"crc"` // of the FSM's bytes, Castagnoli
}

// snapshots is Raft's snapshot store. It is the library's FileSnapshotStore in purpose, but writes
// through vfs.FS, so that tests can cut the power.
type snapshots struct {
	dir string
	fs  vfs.FS
	log zerolog.Logger

	mu    sync.Mutex // guards the fields below
	index uint64     // of the newest whole snapshot, 0 when there is none
	size  int64      // of it
}

var _ raft.SnapshotStore = (*snapshots)(nil)

func openSnapshots(dir string, fs vfs.FS, log zerolog.Logger) (*snapshots, error) {
	if err := makeFolder(dir, fs); err != nil {
		return nil, unusableFolder(dir, err)
	}
	s := &snapshots{dir: dir, fs: fs, log: log}
	names, err := fs.List(dir)
	if err != nil {
		return nil, unusableFolder(dir, err)
	}
	for _, name := range names { // left by a crash
		if strings.HasSuffix(name, unfinishedSuffix) {
			if err := fs.Remove(s.path(name)); err != nil {
				return nil, unusableFolder(dir, err)
			}
		}
	}
	if err := s.keep(snapshotsKept); err != nil {
		return nil, unusableFolder(dir, err)
	}
	if all, err := s.List(); err == nil && len(all) > 0 {
		s.index, s.size = all[0].Index, all[0].Size
	}
	return s, nil
}

func (s *snapshots) path(name string) string { return s.fs.PathJoin(s.dir, name) }

// last is the index and the size of the newest whole snapshot, 0 when there is none.
func (s *snapshots) last() (index uint64, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index, s.size
}

// List implements raft.SnapshotStore: newest first, damaged ones left out but told of.
func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return nil, err
	}
	var out []*raft.SnapshotMeta
	for _, name := range names {
		id, ok := strings.CutSuffix(name, snapshotSuffix)
		if !ok {
			continue
		}
		f, err := s.check(id)
		if err != nil {
			s.log.Error().Err(err).Str("file", s.path(name)).Msg("a snapshot is damaged and not used")
			continue
		}
		out = append(out, &f.Meta)
	}
	slices.SortFunc(out, func(a, b *raft.SnapshotMeta) int { return strings.Compare(b.ID, a.ID) })
	return out, nil
}

// check reads a snapshot's footer and compares both checksums.
func (s *snapshots) check(id string) (*footer, error) {
	file, err := s.fs.Open(s.path(id + snapshotSuffix))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	f, err := readFooter(file)
	if err != nil {
		return nil, err
	}
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, io.NewSectionReader(file, 0, f.Meta.Size)); err != nil {
		return nil, err
	}
	if sum.Sum32() != f.CRC {
		return nil, errors.New("the checksum of the content is wrong")
	}
	return f, nil
}

func readFooter(file vfs.File) (*footer, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return decodeFooter(file, info.Size())
}

func decodeFooter(r io.ReaderAt, total int64) (*footer, error) {
	var trailer [trailerBytes]byte
	if total < trailerBytes {
		return nil, io.ErrUnexpectedEOF
	}
	if _, err := r.ReadAt(trailer[:], total-trailerBytes); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	size := int64(binary.BigEndian.Uint32(trailer[:4]))
	if size > footerBytesMax || size > total-trailerBytes {
		return nil, errors.New("the footer's length is wrong")
	}
	raw := make([]byte, size)
	if _, err := r.ReadAt(raw, total-trailerBytes-size); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if crc32.Checksum(raw, castagnoli) != binary.BigEndian.Uint32(trailer[4:]) {
		return nil, errors.New("the checksum of the footer is wrong")
	}
	var f footer
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, fmt.Errorf("footer: %w", err)
	}
	if f.Meta.Size != total-trailerBytes-size {
		return nil, errors.New("the size is wrong")
	}
	return &f, nil
}

// Open implements raft.SnapshotStore.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	f, err := s.check(id)
	if err != nil {
		return nil, nil, err
	}
	file, err := s.fs.Open(s.path(id + snapshotSuffix))
	if err != nil {
		return nil, nil, err
	}
	content := bufio.NewReader(io.NewSectionReader(file, 0, f.Meta.Size))
	return &f.Meta, struct {
		io.Reader
		io.Closer
	}{content, file}, nil
}

// Create implements raft.SnapshotStore.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, members raft.Configuration,
	membersIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	if version != raft.SnapshotVersionMax {
		return nil, fmt.Errorf("snapshot version %d is not supported", version)
	}
	// It sorts by age; the random end keeps one made here apart from one sent by the leader.
	id := fmt.Sprintf("%020d-%020d-%s", index, term, rand.Text()[:8])
	file, err := s.fs.Create(s.path(id+unfinishedSuffix), vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, diskError(s.dir, err)
	}
	return &sink{
		store: s, file: file, out: bufio.NewWriter(file),
		footer: footer{Meta: raft.SnapshotMeta{
			Version: version, ID: id, Index: index, Term: term,
			Configuration: members, ConfigurationIndex: membersIndex,
		}},
	}, nil
}

// keep removes all but the newest snapshots.
func (s *snapshots) keep(count int) error {
	all, err := s.List()
	if err != nil {
		return err
	}
	var errs []error
	for i := count; i < len(all); i++ {
		errs = append(errs, s.fs.Remove(s.path(all[i].ID+snapshotSuffix)))
	}
	return errors.Join(errs...)
}

// sink writes one snapshot.
type sink struct {
	store  *snapshots
	file   vfs.File
	out    *bufio.Writer
	footer footer
	ended  bool
}

// ID implements raft.SnapshotSink.
func (s *sink) ID() string { return s.footer.Meta.ID }

// Write implements raft.SnapshotSink. The checksum comes first: vfs.File may change what it writes.
func (s *sink) Write(b []byte) (int, error) {
	s.footer.CRC = crc32.Update(s.footer.CRC, castagnoli, b)
	s.footer.Meta.Size += int64(len(b))
	return s.out.Write(b)
}

// Close implements raft.SnapshotSink: the snapshot counts from here.
func (s *sink) Close() error {
	if s.ended {
		return nil
	}
	if err := s.finish(); err != nil {
		return errors.Join(diskError(s.store.dir, err), s.Cancel())
	}
	s.ended = true
	path := s.store.path(s.ID())
	if err := errors.Join(s.file.Close(), s.store.fs.Rename(path+unfinishedSuffix, path+snapshotSuffix), disk.SyncDir(s.store.fs, s.store.dir)); err != nil {
		return diskError(s.store.dir, err)
	}
	s.store.mu.Lock()
	s.store.index, s.store.size = s.footer.Meta.Index, s.footer.Meta.Size
	s.store.mu.Unlock()
	return s.store.keep(snapshotsKept)
}

func (s *sink) finish() error {
	raw, err := json.Marshal(s.footer)
	if err != nil {
		return err
	}
	trailer := binary.BigEndian.AppendUint32(nil, uint32(len(raw)))
	trailer = binary.BigEndian.AppendUint32(trailer, crc32.Checksum(raw, castagnoli))
	if _, err := s.out.Write(append(raw, trailer...)); err != nil {
		return err
	}
	if err := s.out.Flush(); err != nil {
		return err
	}
	return s.file.Sync()
}

// Cancel implements raft.SnapshotSink.
func (s *sink) Cancel() error {
	if s.ended {
		return nil
	}
	s.ended = true
	return errors.Join(s.file.Close(), s.store.fs.Remove(s.store.path(s.ID()+unfinishedSuffix)))
}
