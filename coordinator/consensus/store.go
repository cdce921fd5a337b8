package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/disk"
)

// Keys: 'l' and the index, big endian, for entries; 's' and the name for what Raft calls stable;
// 'b' alone for the number of batches written so far, which mark.go compares.
const (
	entryPrefix  = 'l'
	stablePrefix = 's'
	batchesKey   = "b"
)

// What one log may use of a small machine's memory.
const (
	storeCacheBytes    = 1 << 20
	storeMemTableBytes = 4 << 20
	storeOpenFiles     = 128
)

// errStableNotFound has the text by which the Raft library knows it.
var errStableNotFound = errors.New("not found")

// store is Raft's log and stable store on Pebble. What it has accepted is on the disk: every batch
// is synced before the call returns. Gaps between entries are kept as they are, for Raft leaves one
// after it has installed a snapshot; so the store is not "monotonic" in Raft's sense.
type store struct {
	dir  string
	log  zerolog.Logger
	lock *pebble.Lock
	db   *pebble.DB
	mark *mark

	mu          sync.Mutex // guards the fields below; held over a write, so that they follow the disk
	first, last uint64     // 0, 0: no entries
	batches     uint64     // written so far, ever
	failed      error      // the first write that failed; after it nothing is accepted any more
	broken      chan error // holds it, for Node.Failed

	grown atomic.Int64 // bytes of entries since the last snapshot; see snapshotDue
}

var (
	_ raft.LogStore    = (*store)(nil)
	_ raft.StableStore = (*store)(nil)
)

// openStore opens or makes the store in dir, which only one process may have open.
func openStore(dir string, fs vfs.FS, log zerolog.Logger) (*store, error) {
	if err := makeFolder(dir, fs); err != nil {
		return nil, unusableFolder(dir, err)
	}
	lock, err := pebble.LockDirectory(dir, fs)
	if err != nil {
		return nil, lockError(dir, err)
	}
	s := &store{dir: dir, log: log, lock: lock, broken: make(chan error, 1)}
	if s.db, err = pebble.Open(dir, storeOptions(fs, lock, log)); err != nil {
		return nil, errors.Join(damagedFolder(dir, err), lock.Close())
	}
	if err := errors.Join(s.findBounds(), s.openMark(fs)); err != nil {
		return nil, errors.Join(damagedFolder(dir, err), s.Close())
	}
	return s, nil
}

// openMark refuses a log that has lost its end.
func (s *store) openMark(fs vfs.FS) error {
	value, closer, err := s.db.Get([]byte(batchesKey))
	if err == nil && len(value) == 8 {
		s.batches = binary.BigEndian.Uint64(value)
	}
	if err == nil {
		err = closer.Close()
	}
	if err != nil && !errors.Is(err, pebble.ErrNotFound) {
		return err
	}
	var marked uint64
	if s.mark, marked, err = openMark(s.dir, fs); err != nil {
		return err
	}
	if s.batches < marked {
		return fmt.Errorf("its end is lost: %d of %d writes are left, up to entry %d", s.batches, marked, s.last)
	}
	return nil
}

// makeFolder makes dir and those above it, and syncs each one's parent: a folder whose name is lost
// in a power cut takes its content with it.
func makeFolder(dir string, fs vfs.FS) error {
	if _, err := fs.Stat(dir); err == nil {
		return nil
	}
	parent := fs.PathDir(dir)
	if parent != dir {
		if err := makeFolder(parent, fs); err != nil {
			return err
		}
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return disk.SyncDir(fs, parent)
}

func storeOptions(fs vfs.FS, lock *pebble.Lock, log zerolog.Logger) *pebble.Options {
	return &pebble.Options{
		FS: disk.Ordered(fs), Lock: lock, Logger: pebbleLogger{log},
		FormatMajorVersion:          pebble.FormatNewest,
		CacheSize:                   storeCacheBytes,
		MemTableSize:                storeMemTableBytes,
		MemTableStopWritesThreshold: 4,
		MaxOpenFiles:                storeOpenFiles,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 1 },
	}
}

func lockError(dir string, err error) error {
	if errors.Is(err, os.ErrPermission) {
		return unusableFolder(dir, err)
	}
	return api.Errorf(api.CodeConflict, "the data folder %s is in use by another process: %w", dir, err).
		WithHint("stop the other coordinator, or give this one a folder of its own with --data-dir")
}

func unusableFolder(dir string, err error) error {
	return api.Errorf(api.CodeInvalid, "the data folder %s cannot be used: %w", dir, err).
		WithHint("make it writable for the user that runs the coordinator, or choose another with --data-dir")
}

func damagedFolder(dir string, err error) error {
	return api.Errorf(api.CodeInternal, "the Raft log in %s is damaged: %w", dir, err).
		WithHint("nothing was changed; put a backup of the folder in its place, or, while a majority of the other coordinators runs, remove this member there, move the folder away and join again with --join")
}

func entryKey(index uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{entryPrefix}, index)
}

// keyAfter is the first key after the entry's.
func keyAfter(index uint64) []byte {
	if index == ^uint64(0) {
		return []byte{entryPrefix + 1}
	}
	return entryKey(index + 1)
}

func stableKey(name []byte) []byte { return append([]byte{stablePrefix}, name...) }

// entries iterates over entries with min <= index <= max.
func (s *store) entries(min, max uint64) (*pebble.Iterator, error) {
	return s.db.NewIter(&pebble.IterOptions{LowerBound: entryKey(min), UpperBound: keyAfter(max)})
}

// findBounds needs the lock, or to be alone.
func (s *store) findBounds() error {
	it, err := s.entries(0, ^uint64(0))
	if err != nil {
		return err
	}
	s.first, s.last = 0, 0
	if it.First() {
		s.first = indexOf(it.Key())
	}
	if it.Last() {
		s.last = indexOf(it.Key())
	}
	return it.Close()
}

func indexOf(key []byte) uint64 { return binary.BigEndian.Uint64(key[1:]) }

// verify reads every entry after the snapshot and refuses a gap: the library panics on either.
func (s *store) verify(snapshot uint64) error {
	if s.last <= snapshot {
		return nil
	}
	it, err := s.entries(snapshot+1, ^uint64(0))
	if err != nil {
		return damagedFolder(s.dir, err)
	}
	want := snapshot + 1
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var l raft.Log
		if got := indexOf(it.Key()); got != want {
			err = fmt.Errorf("entries %d to %d are missing", want, got-1)
		} else if err = decodeEntry(got, it.Value(), &l); err != nil {
			err = fmt.Errorf("entry %d: %w", got, err)
		}
		s.grown.Add(int64(len(l.Data)))
		want++
	}
	if err = errors.Join(err, it.Close()); err != nil {
		return damagedFolder(s.dir, err)
	}
	return nil
}

// FirstIndex implements raft.LogStore.
func (s *store) FirstIndex() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first, nil
}

// LastIndex implements raft.LogStore.
func (s *store) LastIndex() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, nil
}

// GetLog implements raft.LogStore.
func (s *store) GetLog(index uint64, l *raft.Log) error {
	value, closer, err := s.db.Get(entryKey(index))
	if errors.Is(err, pebble.ErrNotFound) {
		return raft.ErrLogNotFound
	}
	if err != nil {
		return damagedFolder(s.dir, err)
	}
	defer closer.Close()
	if err := decodeEntry(index, value, l); err != nil {
		return damagedFolder(s.dir, fmt.Errorf("entry %d: %w", index, err))
	}
	return nil
}

// StoreLog implements raft.LogStore.
func (s *store) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore. Either all are stored or none.
func (s *store) StoreLogs(logs []*raft.Log) error {
	return s.write(func(b *pebble.Batch) error {
		for _, l := range logs {
			if err := b.Set(entryKey(l.Index), encodeEntry(l), nil); err != nil {
				return err
			}
		}
		return nil
	}, func() error {
		for _, l := range logs {
			if s.first == 0 || l.Index < s.first {
				s.first = l.Index
			}
			s.last = max(s.last, l.Index)
			s.grown.Add(int64(len(l.Data)))
		}
		return nil
	})
}

// DeleteRange implements raft.LogStore; both ends are deleted too.
func (s *store) DeleteRange(min, max uint64) error {
	return s.write(func(b *pebble.Batch) error {
		return b.DeleteRange(entryKey(min), keyAfter(max), nil)
	}, s.findBounds)
}

// Set implements raft.StableStore.
func (s *store) Set(key, value []byte) error {
	return s.write(func(b *pebble.Batch) error { return b.Set(stableKey(key), value, nil) }, func() error { return nil })
}

// Get implements raft.StableStore.
func (s *store) Get(key []byte) ([]byte, error) {
	value, closer, err := s.db.Get(stableKey(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, errStableNotFound
	}
	if err != nil {
		return nil, damagedFolder(s.dir, err)
	}
	defer closer.Close()
	return clone(value), nil
}

// SetUint64 implements raft.StableStore.
func (s *store) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 implements raft.StableStore.
func (s *store) GetUint64(key []byte) (uint64, error) {
	value, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, damagedFolder(s.dir, fmt.Errorf("stable value %q has %d bytes", key, len(value)))
	}
	return binary.BigEndian.Uint64(value), nil
}

// write commits what fill puts into a batch, synced, and then updates the bounds with done.
func (s *store) write(fill func(*pebble.Batch) error, done func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	if err := s.commit(fill); err != nil {
		s.failed = diskError(s.dir, err)
		s.broken <- s.failed
		s.log.Error().Err(err).Str("folder", s.dir).Msg("the Raft log cannot be written; this coordinator must be restarted when the disk is well again")
		return s.failed
	}
	return done()
}

// commit turns Pebble's way of giving up, a call of Fatalf, into an error. After it the database is
// in no state to go on with, which is why write refuses everything from then on.
func (s *store) commit(fill func(*pebble.Batch) error) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case error:
			err = p
		default:
			err = fmt.Errorf("%v", p)
		}
	}()
	b := s.db.NewBatch()
	count := binary.BigEndian.AppendUint64(nil, s.batches+1)
	if err := errors.Join(fill(b), b.Set([]byte(batchesKey), count, nil)); err != nil {
		return errors.Join(err, b.Close())
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return err
	}
	s.batches++
	return errors.Join(b.Close(), s.mark.set(s.batches))
}

func diskError(dir string, err error) error {
	if vfs.IsNoSpaceError(err) {
		return api.Errorf(api.CodeNoRoom, "the disk of %s is full: %w", dir, err).WithHint("free some space and restart the coordinator; nothing acknowledged is lost")
	}
	return api.Errorf(api.CodeInternal, "the Raft log in %s cannot be written: %w", dir, err).WithHint("check the disk and restart the coordinator; nothing acknowledged is lost")
}

// Close releases the folder. After a failed write Pebble reports that failure once more, which write
// has told already.
func (s *store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.mark != nil {
		err = s.mark.close()
	}
	if closing := s.db.Close(); s.failed == nil {
		err = errors.Join(err, closing)
	}
	return errors.Join(err, s.lock.Close())
}

// pebbleLogger passes on what Pebble has to say.
type pebbleLogger struct{ log zerolog.Logger }

// Infof implements pebble.Logger.
func (p pebbleLogger) Infof(format string, args ...any) { p.log.Debug().Msgf(format, args...) }

// Errorf implements pebble.Logger.
func (p pebbleLogger) Errorf(format string, args ...any) { p.log.Error().Msgf(format, args...) }

// Fatalf must not return, or Pebble would acknowledge what it could not write. It panics with the
// cause, so that commit can tell a full disk from a broken one.
func (p pebbleLogger) Fatalf(format string, args ...any) {
	for _, a := range args {
		if cause, ok := a.(error); ok {
			panic(fmt.Errorf("%s: %w", strings.TrimSuffix(format, ": %v"), cause))
		}
	}
	panic(fmt.Errorf(format, args...))
}
