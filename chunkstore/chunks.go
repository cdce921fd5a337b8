package chunkstore

import (
	"context"
	"errors"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"github.com/cloudless/cloudless/api"
)

const (
	indexDirName      = "index"
	segmentDirName    = "segments"
	quarantineDirName = "quarantine"

	// budgetBytes bounds the chunks that are being stored or decompressed at once; the next wait.
	budgetBytes      = 64 << 20
	smallBudgetBytes = 2 * MaxChunkBytes
)

// Options say how a store is kept. The zero value is that of a machine with a gigabyte or more.
type Options struct {
	// Small is the profile of boards with less memory.
	Small bool
	// Cache is Pebble's, when several databases of a process share one.
	Cache *pebble.Cache
	// Capacity is how many bytes may be stored; 0 leaves it to the disk.
	Capacity int64
	// SegmentBytes is where the next segment begins. Zero is 256 MiB.
	SegmentBytes int64
	// ReserveBytes are kept for deletes and compaction on a full disk. Zero is 192 MiB.
	ReserveBytes int64
	// Pace is called before each step of compaction, collection and scrub with the bytes that it will
	// read, and may wait. Nil does not.
	Pace func(ctx context.Context, bytes int64) error
	// OnDamage hears of each chunk that was found damaged, once, so that it can be fetched again.
	OnDamage func(digest string, why error)
	Log      zerolog.Logger
}

func (o Options) withDefaults() Options {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = segmentBytes
	}
	if o.ReserveBytes == 0 {
		o.ReserveBytes = reserveBytes
	}
	if o.Pace == nil {
		o.Pace = func(ctx context.Context, _ int64) error { return ctx.Err() }
	}
	if o.OnDamage == nil {
		o.OnDamage = func(string, error) {}
	}
	return o
}

func (o Options) budget() int64 {
	if o.Small {
		return smallBudgetBytes
	}
	return budgetBytes
}

// Chunks is one node's chunk store, the larger part of the object store that a cluster makes of its
// nodes. It is safe for concurrent use and starts no goroutine of its own.
type Chunks struct {
	dir, segmentDir string
	fs              vfs.FS
	options         Options
	db              *pebble.DB
	fault           *fault
	room            *room
	readers         *readers
	budget          *semaphore.Weighted
	closing         context.CancelFunc

	life   sync.Mutex // guards closed, and that no call begins after it is set
	closed bool
	calls  sync.WaitGroup // those that have begun

	queue      queue
	committing sync.Mutex // held by whoever commits; guards the three below
	writer     *writer
	abandoned  bool // the writer's segment could not be synced

	compacting sync.Mutex // one at a time
	newIndex   bool       // Open has found none
	rebuilt    bool       // because it was damaged

	mu       sync.Mutex // guards what follows; who commits may read it without
	segments map[uint64]segment
	totals   totals
	written  int64 // bytes of all segments
	hits     int64
	savedBad int // files in the quarantine folder
}

// Open opens the store in dir, or makes one there; the folder above must exist. What a crash left
// behind is put right, and an index that is lost or damaged is made again (see recover.go). fs is the
// disk; nil is the machine's own.
func Open(fs vfs.FS, dir string, o Options) (*Chunks, error) {
	if fs == nil {
		fs = vfs.Default
	}
	o = o.withDefaults()
	closing, cancel := context.WithCancel(context.Background())
	c := &Chunks{
		dir: dir, segmentDir: fs.PathJoin(dir, segmentDirName), fs: fs, options: o, closing: cancel,
		room:     &room{fs: fs, dir: dir, capacity: o.Capacity, reserve: o.ReserveBytes, headroom: min(headroomBytes, o.ReserveBytes), closing: closing},
		budget:   semaphore.NewWeighted(o.budget()),
		segments: map[uint64]segment{},
	}
	c.readers = newReaders(fs, c.segmentDir)
	if err := errors.Join(makeDir(fs, dir), makeDir(fs, c.segmentDir), makeDir(fs, fs.PathJoin(dir, quarantineDirName))); err != nil {
		return nil, openError(dir, err)
	}
	c.room.openReserve()
	if !c.room.have(c.room.least()) {
		return nil, openError(dir, syscall.ENOSPC)
	}
	if err := c.openIndex(); err != nil {
		return nil, err
	}
	if err := c.recover(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	c.room.settle()
	return c, nil
}

// enter begins a call, leave ends it: Close waits for those that have begun.
func (c *Chunks) enter() error {
	c.life.Lock()
	defer c.life.Unlock()
	if c.closed {
		return api.Errorf(api.CodeUnavailable, "the chunk store in %s is closed", c.dir).WithHint("the agent is ending; ask another node")
	}
	c.calls.Add(1)
	return nil
}

func (c *Chunks) leave() { c.calls.Done() }

// begin is enter for a call about one chunk.
func (c *Chunks) begin(digest string) (key, error) {
	k, err := parseDigest(digest)
	if err != nil {
		return k, err
	}
	return k, c.enter()
}

// beginAll is enter for a call about several chunks.
func (c *Chunks) beginAll(digests []string) ([]key, error) {
	keys, err := parseDigests(digests)
	if err != nil {
		return nil, err
	}
	return keys, c.enter()
}

// Close waits for the calls that have begun and releases the folder. Nothing needs to be flushed. Who
// has a long pass under way ends its context first.
func (c *Chunks) Close() error {
	c.closing()
	c.life.Lock()
	again := c.closed
	c.closed = true
	c.life.Unlock()
	c.calls.Wait()
	if again {
		return nil
	}
	err := errors.Join(c.writer.close(), c.readers.close())
	if closing := c.db.Close(); c.fault.get() == nil {
		err = errors.Join(err, closing) // else it reports once more what was told already
	}
	return err
}

// used is what counts against the capacity: segments with what is dead in them, and the small chunks.
func (c *Chunks) used() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.written + c.totals.inline
}

// Stats is what a store holds and what became of it. Hits are counted since it was opened.
type Stats struct {
	Chunks      int64 // different chunks
	RawBytes    int64 // of them, as they were put
	StoredBytes int64 // of them, as they are stored, with their heads
	DeadBytes   int64 // in segments, of chunks that are gone
	UsedBytes   int64 // what counts against the capacity
	Segments    int
	Hits        int64 // chunks put that were there already
	Quarantined int64 // chunks that were found damaged and have not been put again
	Full        bool  // there is no room for a chunk of the largest size
	Failed      bool  // a write failed: nothing is accepted until the store is opened again
}

// Stats are the store's at this moment.
func (c *Chunks) Stats() Stats {
	c.mu.Lock()
	s := Stats{
		Chunks: c.totals.chunks, RawBytes: c.totals.raw, StoredBytes: c.totals.stored, Quarantined: c.totals.damaged,
		DeadBytes: c.written + c.totals.inline - c.totals.stored, UsedBytes: c.written + c.totals.inline,
		Segments: len(c.segments), Hits: c.hits,
	}
	c.mu.Unlock()
	s.Full = c.room.admit(headBytes+MaxChunkBytes, s.UsedBytes) != nil
	s.Failed = c.fault.get() != nil
	return s
}

// ChunkInfo is one stored chunk.
type ChunkInfo struct {
	Digest      string
	Bytes       int64 // of the chunk
	StoredBytes int64 // on the disk
	Codec       Codec
}

func (e entry) info(k key) ChunkInfo {
	return ChunkInfo{Digest: k.String(), Bytes: int64(e.raw), StoredBytes: e.bytes(), Codec: e.codec}
}

// MaxPage is the largest page of a listing, and how many chunks a background pass holds at once.
const MaxPage = 1000

// List is a page of what is here in the order of the digests, beginning after the digest named; ""
// is the start. A page that is not full is the last.
func (c *Chunks) List(after string, limit int) ([]ChunkInfo, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.leave()
	if limit <= 0 || limit > MaxPage {
		limit = MaxPage
	}
	out := make([]ChunkInfo, 0, limit)
	err := c.page(chunkKeys, after, limit, func(k key, value []byte) error {
		e, err := decodeEntry(value)
		out = append(out, e.info(k))
		return err
	})
	return out, err
}

// page calls f with up to limit keys of a letter that name one chunk each, beginning behind after.
func (c *Chunks) page(letter byte, from string, limit int, f func(k key, value []byte) error) error {
	bounds := under([]byte{letter})
	if from != "" {
		k, err := parseDigest(from)
		if err != nil {
			return err
		}
		bounds.LowerBound = append(indexKey(letter, k[:]), 0)
	}
	it, err := c.db.NewIter(bounds)
	if err != nil {
		return c.unreadable(err)
	}
	for ok := it.First(); ok && limit > 0 && err == nil; ok = it.Next() {
		err = f(key(it.Key()[1:]), it.Value())
		limit--
	}
	if err = errors.Join(err, it.Close()); err != nil {
		return c.unreadable(err)
	}
	return nil
}
