package wasi

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	ramBytes  = 256 << 10
	heapStart = 1 << 10
	outside   = ramBytes // the first address that is not the guest's

	// The first mount's descriptor, without a listener.
	rootFD = firstPreopen
)

// ram is a guest's memory.
type ram []byte

func (r ram) Read(offset, n uint32) ([]byte, bool) {
	if uint64(offset)+uint64(n) > uint64(len(r)) {
		return nil, false
	}
	return r[offset : offset+n : offset+n], true
}

// guest plays the guest's side of a World.
type guest struct {
	t    *testing.T
	w    *World
	ram  ram
	heap uint32
	dir  string // the first mount, on the host
}

var byName = func() map[string]Function {
	all := map[string]Function{}
	for _, f := range Functions() {
		all[f.Name] = f
	}
	return all
}()

// newGuest makes a guest with one writable mount, /, unless the config has others.
func newGuest(t *testing.T, c Config) *guest {
	t.Helper()
	g := &guest{t: t, ram: make(ram, ramBytes), heap: heapStart}
	if c.Mounts == nil && c.Listener == nil {
		g.dir = t.TempDir()
		c.Mounts = []Mount{{Guest: "/", Volume: openVolume(t, g.dir, VolumeLimits{})}}
	}
	w, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	g.w = w
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("close the world: %v", err)
		}
	})
	return g
}

func openVolume(t *testing.T, dir string, limits VolumeLimits) *Volume {
	t.Helper()
	v, err := OpenVolume(dir, limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if len(v.nodes) > 0 || v.open != 0 {
			t.Errorf("%d files of the volume are still open, and %d descriptors count", len(v.nodes), v.open)
		}
		_ = v.Close()
	})
	return v
}

// call calls a function as an engine does: what does not belong to an i32 is dirt. A string stands for
// two parameters, its address and length.
func (g *guest) call(name string, params ...any) errno {
	g.t.Helper()
	const dirt = 0xdeadbeef << 32
	f, ok := byName[name]
	if !ok {
		g.t.Fatalf("there is no function %s", name)
	}
	stack := make([]uint64, 0, 16)
	for _, p := range params {
		switch p := p.(type) {
		case string:
			stack = append(stack, uint64(g.put([]byte(p)))|dirt, uint64(len(p))|dirt)
		case int:
			stack = append(stack, uint64(p))
		case uint32:
			stack = append(stack, uint64(p))
		case int64:
			stack = append(stack, uint64(p))
		case uint64:
			stack = append(stack, p)
		case rights:
			stack = append(stack, uint64(p))
		default:
			g.t.Fatalf("%s: a parameter of type %T", name, p)
		}
	}
	if len(stack) != len(f.Params) {
		g.t.Fatalf("%s takes %d parameters, not %d", name, len(f.Params), len(stack))
	}
	for i, t := range f.Params {
		if t == I32 {
			stack[i] = uint64(uint32(stack[i])) | dirt
		}
	}
	if len(stack) == 0 {
		stack = append(stack, dirt)
	}
	f.Call(g.w, g.ram, stack)
	return errno(stack[0])
}

// must calls a function that is to succeed.
func (g *guest) must(name string, params ...any) {
	g.t.Helper()
	g.fails(success, name, params...)
}

// fails calls a function that is to answer with want.
func (g *guest) fails(want errno, name string, params ...any) {
	g.t.Helper()
	if got := g.call(name, params...); got != want {
		g.t.Fatalf("%s%v gives errno %d, want %d", name, params, got, want)
	}
}

func (g *guest) alloc(n int) uint32 {
	g.t.Helper()
	at := (g.heap + 7) &^ 7
	if int(at)+n > len(g.ram) {
		g.t.Fatal("the test's guest is out of memory")
	}
	g.heap = at + uint32(n)
	return at
}

func (g *guest) put(p []byte) uint32 {
	at := g.alloc(len(p))
	copy(g.ram[at:], p)
	return at
}

func (g *guest) u16(at uint32) uint16 { return binary.LittleEndian.Uint16(g.ram[at:]) }
func (g *guest) u32(at uint32) uint32 { return binary.LittleEndian.Uint32(g.ram[at:]) }
func (g *guest) u64(at uint32) uint64 { return binary.LittleEndian.Uint64(g.ram[at:]) }

// vector describes buffers, given by address and length, as iovecs.
func (g *guest) vector(pairs ...uint32) (ptr uint32, count int) {
	ptr = g.alloc(4 * len(pairs))
	for i, v := range pairs {
		binary.LittleEndian.PutUint32(g.ram[ptr+4*uint32(i):], v)
	}
	return ptr, len(pairs) / 2
}

// open opens a file and returns its descriptor.
func (g *guest) open(dir uint32, path string, flags uint32, base rights, modes fdflags) uint32 {
	g.t.Helper()
	fd, e := g.tryOpen(dir, 0, path, flags, base, allRights, modes)
	if e != success {
		g.t.Fatalf("path_open %q with flags %#x: errno %d", path, flags, e)
	}
	return fd
}

func (g *guest) tryOpen(dir, lookup uint32, path string, flags uint32, base, inheriting rights, modes fdflags) (uint32, errno) {
	g.t.Helper()
	result := g.alloc(4)
	e := g.call("path_open", dir, lookup, path, flags, base, inheriting, int(modes), result)
	return g.u32(result), e
}

// openFails opens a file that cannot be opened so.
func (g *guest) openFails(want errno, lookup uint32, path string, flags uint32, base rights) {
	g.t.Helper()
	if fd, e := g.tryOpen(rootFD, lookup, path, flags, base, 0, 0); e != want {
		g.t.Fatalf("path_open %q with lookup %d, flags %#x gives errno %d (descriptor %d), want %d", path, lookup, flags, e, fd, want)
	}
}

// create makes a file with a content.
func (g *guest) create(path, content string) {
	g.t.Helper()
	fd := g.open(rootFD, path, openCreate|openTruncate, rightWrite, 0)
	if n, e := g.write(fd, content); e != success || n != len(content) {
		g.t.Fatalf("write %q: %d bytes, errno %d", path, n, e)
	}
	g.must("fd_close", fd)
}

func (g *guest) write(fd uint32, content string) (int, errno) {
	g.t.Helper()
	result := g.alloc(4)
	vector, count := g.vector(g.put([]byte(content)), uint32(len(content)))
	e := g.call("fd_write", fd, vector, count, result)
	return int(g.u32(result)), e
}

func (g *guest) read(fd uint32, n int) (string, errno) {
	g.t.Helper()
	result, buf := g.alloc(4), g.alloc(n)
	vector, count := g.vector(buf, uint32(n))
	e := g.call("fd_read", fd, vector, count, result)
	if e != success {
		return "", e
	}
	return string(g.ram[buf : buf+g.u32(result)]), e
}

func (g *guest) wantRead(fd uint32, n int, want string) {
	g.t.Helper()
	if got, e := g.read(fd, n); e != success || got != want {
		g.t.Fatalf("fd_read gives %q, errno %d, want %q", got, e, want)
	}
}

// stat is a filestat.
type stat struct {
	dev, ino            uint64
	kind                filetype
	links, size         uint64
	atime, mtime, ctime uint64
}

func (g *guest) stat(fd uint32) stat {
	g.t.Helper()
	at := g.alloc(filestatBytes)
	g.must("fd_filestat_get", fd, at)
	return g.statAt(at)
}

func (g *guest) pathStat(path string, lookup int) stat {
	g.t.Helper()
	at := g.alloc(filestatBytes)
	g.must("path_filestat_get", rootFD, lookup, path, at)
	return g.statAt(at)
}

func (g *guest) statAt(at uint32) stat {
	return stat{g.u64(at), g.u64(at + 8), filetype(g.ram[at+16]), g.u64(at + 24), g.u64(at + 32), g.u64(at + 40), g.u64(at + 48), g.u64(at + 56)}
}

// fdstat is what fd_fdstat_get gives.
type fdstat struct {
	kind             filetype
	flags            fdflags
	base, inheriting rights
}

func (g *guest) fdstat(fd uint32) fdstat {
	g.t.Helper()
	at := g.alloc(fdstatBytes)
	g.must("fd_fdstat_get", fd, at)
	return fdstat{filetype(g.ram[at]), fdflags(g.u16(at + 2)), rights(g.u64(at + 8)), rights(g.u64(at + 16))}
}

func (g *guest) tell(fd uint32) int {
	g.t.Helper()
	at := g.alloc(8)
	g.must("fd_tell", fd, at)
	return int(g.u64(at))
}

func (g *guest) seek(fd uint32, offset, whence int) int {
	g.t.Helper()
	at := g.alloc(8)
	g.must("fd_seek", fd, offset, whence, at)
	return int(g.u64(at))
}

// onHost makes a file on the host's side of the mount.
func (g *guest) onHost(path, content string) {
	g.t.Helper()
	path = filepath.Join(g.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		g.t.Fatal(err)
	}
}
