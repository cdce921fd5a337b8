package objects

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/disk"
)

// What the store may use of a coordinator's memory, however many objects there are. Pebble takes the
// memtables out of the cache: two or three of them at most times, and memTablesMax before writes wait.
const (
	cacheBytes    = 24 << 20
	memTableBytes = 4 << 20
	memTablesMax  = 4
	openFiles     = 256
	// filterBits, for each key of a table, spare most reads of a table that does not have a key: a put asks
	// for an object and for chunks that are new as a rule.
	filterBits = 10
)

// Store is the rows of one coordinator. Apply and CatchUp are for the one who reads the log; views may
// be taken at any time.
type Store struct {
	dir string
	db  *pebble.DB

	mu sync.RWMutex // views are taken at one moment, between two batches
	standing
	failed error // the first write that failed; after it nothing is changed any more
}

// Open opens or makes the store in a folder, which only one process may have open; a nil fs is the
// machine's own.
func Open(fs vfs.FS, dir string, log zerolog.Logger) (*Store, error) {
	if fs == nil {
		fs = vfs.Default
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return nil, unusable(dir, err)
	}
	o := &pebble.Options{
		FS: disk.Ordered(fs), Logger: logger{log},
		FormatMajorVersion:          pebble.FormatNewest,
		CacheSize:                   cacheBytes,
		MemTableSize:                memTableBytes,
		MemTableStopWritesThreshold: memTablesMax,
		MaxOpenFiles:                openFiles,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 1 },
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(filterBits)
	}
	db, err := pebble.Open(dir, o)
	if err != nil {
		return nil, unusable(dir, err)
	}
	s := &Store{dir: dir, db: db}
	if err := s.find(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

func unusable(dir string, err error) error {
	return api.Errorf(api.CodeInternal, "the object store's metadata in %s cannot be opened: %w", dir, err).
		WithHint("check that no other coordinator uses the folder and that it can be written; if it is damaged, remove this coordinator at the others and join it again with an empty one")
}

// Applied is the index up to which the log was applied.
func (s *Store) Applied() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.applied
}

// Restored is when the rows were last replaced by a backup that came by the log; zero: never.
func (s *Store) Restored() time.Time {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.restored.At
}

// Apply applies an entry of the log. One at or below Applied was applied before: it changes nothing and
// gives no results. Rows and index are written together, and not flushed: the log is flushed, and tells
// again what a power cut takes from here. An error is a fault of this coordinator's disk: it must stop,
// for it cannot follow the log.
func (s *Store) Apply(index uint64, cmds []Command) ([]Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return nil, s.failed
	}
	if index <= s.applied {
		return nil, nil
	}
	b := s.db.NewBatch()
	next := s.standing
	next.applied = index
	results, err := s.fill(b, &next, cmds)
	if err == nil {
		err = next.save(b, s.standing)
	}
	if err != nil {
		return nil, s.fail(errors.Join(err, b.Close()))
	}
	if err := commit(b, pebble.NoSync); err != nil {
		return nil, s.fail(err)
	}
	s.standing = next
	return results, nil
}

// fill puts into a batch what the commands change, each seeing what those before it have changed.
func (s *Store) fill(b *pebble.Batch, next *standing, cmds []Command) ([]Result, error) {
	if len(cmds) == 1 && cmds[0].Restore != nil {
		res, err := s.stage(b, next, cmds[0].At, cmds[0].Restore)
		return []Result{res}, err
	}
	rows := newOverlay(pebbleRows{s.db, s.generation})
	results := make([]Result, len(cmds))
	for i, cmd := range cmds {
		changes, res, err := Decide(rows, next.applied, cmd)
		if err != nil {
			return nil, err
		}
		results[i] = res
		rows.apply(changes)
	}
	for key, value := range rows.changed {
		var err error
		if value == nil {
			err = b.Delete(s.key(key), nil)
		} else {
			err = b.Set(s.key(key), value, nil)
		}
		if err != nil {
			return nil, err
		}
	}
	return results, nil
}

// fail ends all changes; it needs the lock.
func (s *Store) fail(err error) error {
	code, hint := api.CodeInternal, "check the disk and restart the coordinator; nothing acknowledged is lost"
	if vfs.IsNoSpaceError(err) {
		code, hint = api.CodeNoRoom, "free some space and restart the coordinator; nothing acknowledged is lost"
	}
	s.failed = api.Errorf(code, "the object store's metadata in %s cannot be changed: %w", s.dir, err).WithHint("%s", hint)
	return s.failed
}

func commit(b *pebble.Batch, o *pebble.WriteOptions) error {
	return guarded(func() error { return errors.Join(b.Commit(o), b.Close()) })
}

// guarded turns Pebble's ways of giving up into an error: a call of Fatalf, and a panic with which a batch
// ends when the disk has failed under one before it.
func guarded(f func() error) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case fatal:
			err = p.error
		case error:
			err = p
		default:
			err = fmt.Errorf("%v", p)
		}
	}()
	return f()
}

// Sync makes all that was applied durable. After it the log up to Applied may go.
func (s *Store) Sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	if err := guarded(func() error { return s.db.LogData(nil, pebble.Sync) }); err != nil {
		return s.fail(err)
	}
	return nil
}

// Close releases the folder. After a failed write that is left to the end of the process: Pebble gives up
// with its locks held, and would wait for them.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return nil
	}
	return guarded(s.db.Close)
}

// View is the rows of one moment. It is cheap, but holds back room on the disk: close it soon.
type View struct {
	pebbleRows
	snapshot *pebble.Snapshot
	standing standing
}

// View gives the rows as they are now.
func (s *Store) View() *View {
	s.mu.RLock()
	defer s.mu.RUnlock()
	snap := s.db.NewSnapshot()
	return &View{pebbleRows{snap, s.generation}, snap, s.standing}
}

// Index is that of the last entry of the log which the view shows.
func (v *View) Index() uint64 { return v.standing.applied }

// Close releases the view.
func (v *View) Close() error { return v.snapshot.Close() }

// pebbleRows are the rows of a generation.
type pebbleRows struct {
	from       pebble.Reader
	generation byte
}

func (r pebbleRows) Get(key string) ([]byte, error) {
	return read(r.from, append([]byte{r.generation}, key...))
}

// read copies a row; nil is none.
func read(from pebble.Reader, key []byte) ([]byte, error) {
	value, closer, err := from.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, damaged("a row cannot be read: %w", err)
	}
	return append([]byte{}, value...), closer.Close()
}

func (r pebbleRows) Range(from, to string) (Cursor, error) {
	upper := []byte{r.generation + 1}
	if to != "" {
		upper = append([]byte{r.generation}, to...)
	}
	it, err := r.from.NewIter(&pebble.IterOptions{LowerBound: append([]byte{r.generation}, from...), UpperBound: upper})
	if err != nil {
		return nil, damaged("rows cannot be read: %w", err)
	}
	return cursor{it, r.generation}, nil
}

type cursor struct {
	it         *pebble.Iterator
	generation byte
}

func (c cursor) Seek(key string) bool   { return c.it.SeekGE(append([]byte{c.generation}, key...)) }
func (c cursor) Next() bool             { return c.it.Next() }
func (c cursor) Key() string            { return string(c.it.Key()[1:]) }
func (c cursor) Value() ([]byte, error) { return c.it.ValueAndErr() }
func (c cursor) Close() error           { return c.it.Close() }

// logger passes on what Pebble has to say.
type logger struct{ log zerolog.Logger }

// fatal is what Pebble cannot go on after.
type fatal struct{ error }

func (l logger) Infof(format string, args ...any)  { l.log.Debug().Msgf(format, args...) }
func (l logger) Errorf(format string, args ...any) { l.log.Error().Msgf(format, args...) }

// Fatalf must not return, or Pebble would go on as if the write had happened.
func (l logger) Fatalf(format string, args ...any) {
	for i, a := range args {
		if err, ok := a.(error); ok && i == len(args)-1 {
			panic(fatal{err})
		}
	}
	panic(fatal{fmt.Errorf(format, args...)})
}
