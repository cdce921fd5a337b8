package chunkstore

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cloudless/cloudless/api"
)

// faulty is a file system with the faults of real ones: it has a size, and tells each write before it
// happens to whoever wants to cut the power then.
type faulty struct {
	vfs.FS
	before  func()       // called before each write, sync and change of a folder; may be nil
	written atomic.Int64 // bytes

	mu    sync.Mutex
	size  int64 // 0: endless
	sizes map[string]int64
	fails func(name string, sync bool) error // refuses a write; may be nil
}

func newFaulty(fs vfs.FS) *faulty { return &faulty{FS: fs, sizes: map[string]int64{}} }

func (d *faulty) event() {
	if d.before != nil {
		d.before()
	}
}

func (d *faulty) used() (n int64) {
	for _, size := range d.sizes {
		n += size
	}
	return n
}

// take makes a file at least end bytes long, if there is room.
func (d *faulty) take(name string, end int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fails != nil {
		if err := d.fails(name, false); err != nil {
			return err
		}
	}
	if more := end - d.sizes[name]; more > 0 {
		if d.size > 0 && d.used()+more > d.size {
			return syscall.ENOSPC
		}
		d.sizes[name] = end
	}
	return nil
}

// setSize gives the disk a size; less than what is on it is a disk that others have filled.
func (d *faulty) setSize(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.size = n
}

// fill leaves n bytes free.
func (d *faulty) fill(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.size = d.used() + n
}

func (d *faulty) failWrites(f func(name string, sync bool) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails = f
}

func (d *faulty) GetDiskUsage(string) (vfs.DiskUsage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.size == 0 {
		return vfs.DiskUsage{}, vfs.ErrUnsupported
	}
	return vfs.DiskUsage{AvailBytes: uint64(max(0, d.size-d.used())), TotalBytes: uint64(d.size)}, nil
}

func (d *faulty) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	d.event()
	if err := d.take(name, 1); err != nil {
		return nil, err
	}
	f, err := d.FS.Create(name, c)
	d.forget(name)
	return &diskFile{File: f, disk: d, name: name}, err
}

func (d *faulty) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	d.event()
	if err := d.take(name, 1); err != nil {
		return nil, err
	}
	f, err := d.FS.OpenReadWrite(name, c, o...)
	return &diskFile{File: f, disk: d, name: name}, err
}

func (d *faulty) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	d.event()
	f, err := d.FS.ReuseForWrite(old, name, c)
	d.rename(old, name)
	return &diskFile{File: f, disk: d, name: name}, err
}

func (d *faulty) Rename(old, name string) error {
	d.event()
	d.rename(old, name)
	return d.FS.Rename(old, name)
}

func (d *faulty) rename(old, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sizes[name] = d.sizes[old]
	delete(d.sizes, old)
}

func (d *faulty) forget(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.sizes, name)
}

func (d *faulty) Remove(name string) error {
	d.event()
	d.forget(name)
	return d.FS.Remove(name)
}

func (d *faulty) RemoveAll(name string) error {
	d.event()
	d.mu.Lock()
	for f := range d.sizes {
		if strings.HasPrefix(f, name) {
			delete(d.sizes, f)
		}
	}
	d.mu.Unlock()
	return d.FS.RemoveAll(name)
}

func (d *faulty) Unwrap() vfs.FS { return d.FS }

type diskFile struct {
	vfs.File
	disk *faulty
	name string
	at   int64
}

func (f *diskFile) Write(p []byte) (int, error) {
	f.disk.event()
	if err := f.disk.take(f.name, f.at+int64(len(p))); err != nil {
		return 0, err
	}
	f.at += int64(len(p))
	f.disk.written.Add(int64(len(p)))
	return f.File.Write(bytes.Clone(p)) // Pebble's own tests let the file system scribble on p
}

func (f *diskFile) WriteAt(p []byte, at int64) (int, error) {
	f.disk.event()
	if err := f.disk.take(f.name, at+int64(len(p))); err != nil {
		return 0, err
	}
	f.disk.written.Add(int64(len(p)))
	return f.File.WriteAt(p, at)
}

func (f *diskFile) Preallocate(at, n int64) error {
	if err := f.disk.take(f.name, at+n); err != nil {
		return err
	}
	return f.File.Preallocate(at, n)
}

func (f *diskFile) Sync() error {
	if err := f.synced(); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *diskFile) SyncData() error {
	if err := f.synced(); err != nil {
		return err
	}
	return f.File.SyncData()
}

func (f *diskFile) synced() error {
	f.disk.event()
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.fails == nil {
		return nil
	}
	return f.disk.fails(f.name, true)
}

// small options let a few chunks fill a segment.
var small = Options{Small: true, SegmentBytes: 1 << 20, ReserveBytes: 1 << 20}

func openChunks(t testing.TB, fs vfs.FS, o Options) *Chunks {
	t.Helper()
	c, err := Open(fs, "chunks", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// reopen closes a store and opens it again.
func reopen(t testing.TB, c *Chunks) *Chunks {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return openChunks(t, c.fs, c.options)
}

// noise is n bytes that do not compress, the same for the same seed.
func noise(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24), 1})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

// text is n bytes that compress well.
func text(seed uint64, n int) []byte {
	line := noise(seed, 32)
	return bytes.Repeat(append(line, "a line that comes again and again\n"...), n/66+1)[:n]
}

func chunkOf(data []byte) Chunk { return Chunk{Digest: DigestOf(data), Data: data} }

func putChunks(t testing.TB, c *Chunks, owner string, data ...[]byte) []string {
	t.Helper()
	var chunks []Chunk
	var digests []string
	for _, d := range data {
		chunks = append(chunks, chunkOf(d))
		digests = append(digests, DigestOf(d))
	}
	if err := c.Put(t.Context(), PutOptions{Owner: owner}, chunks...); err != nil {
		t.Fatal(err)
	}
	return digests
}

func mustGet(t testing.TB, c *Chunks, data []byte) {
	t.Helper()
	got, err := c.Get(DigestOf(data), nil)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("Get gave %d bytes in place of %d: %v", len(got), len(data), err)
	}
}

func isMissing(err error) bool { return api.CodeOf(err) == api.CodeNotFound }

func mustBe(t testing.TB, err error, code api.Code, cause error) {
	t.Helper()
	if api.CodeOf(err) != code || cause != nil && !errors.Is(err, cause) {
		t.Errorf("%v, want code %s and cause %v", err, code, cause)
	}
}
