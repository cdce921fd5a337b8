package wasi

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestSeekAndTell(t *testing.T) {
	g := newGuest(t, Config{})
	g.create("file", strings.Repeat("x", 100))
	fd := g.open(rootFD, "file", 0, fileRights, 0)
	for _, c := range []struct{ offset, whence, want int }{
		{0, 1, 0}, {100, 0, 100}, {-50, 1, 50}, {-50, 1, 0}, {-20, 2, 80}, {1000, 0, 1000}, {0, 2, 100}, {7, 1, 107},
	} {
		if got := g.seek(fd, c.offset, c.whence); got != c.want || g.tell(fd) != c.want {
			t.Errorf("seek(%d, %d) gives %d and tell %d, want %d", c.offset, c.whence, got, g.tell(fd), c.want)
		}
	}
	at := g.alloc(8)
	g.seek(fd, 10, 0)
	g.fails(eInval, "fd_seek", fd, -11, 1, at)
	g.fails(eInval, "fd_seek", fd, -1, 0, at)
	g.fails(eInval, "fd_seek", fd, -101, 2, at)
	g.fails(eInval, "fd_seek", fd, int64(math.MaxInt64), 1, at)
	g.fails(eInval, "fd_seek", fd, 0, 3, at)
	g.fails(eFault, "fd_seek", fd, 5, 0, outside)
	if g.tell(fd) != 10 {
		t.Errorf("what failed has moved the position to %d", g.tell(fd))
	}
	g.must("fd_fdstat_set_rights", fd, rightTell, 0)
	g.must("fd_seek", fd, 0, 1, at)
	g.fails(eNotcapable, "fd_seek", fd, 0, 0, at)
	g.must("fd_fdstat_set_rights", fd, 0, 0)
	g.fails(eNotcapable, "fd_tell", fd, at)
	for std := range 3 {
		g.fails(eSpipe, "fd_seek", std, 0, 1, at)
		g.fails(eSpipe, "fd_tell", std, at)
	}
}

func TestPreadAndPwrite(t *testing.T) {
	g := newGuest(t, Config{})
	fd := g.open(rootFD, "file", openCreate, fileRights, 0)
	n := g.alloc(4)
	a, b := g.put([]byte("ab")), g.put([]byte("cdef"))
	vector, count := g.vector(a, 2, 0, 0, b, 4)
	g.must("fd_pwrite", fd, vector, count, 3, n)
	if g.u32(n) != 6 || g.tell(fd) != 0 {
		t.Errorf("pwrite wrote %d bytes and left the position at %d", g.u32(n), g.tell(fd))
	}
	into := g.alloc(16)
	vector, count = g.vector(into, 2, into+2, 14)
	g.must("fd_pread", fd, vector, count, 1, n)
	if got := string(g.ram[into : into+g.u32(n)]); got != "\x00\x00abcdef" || g.tell(fd) != 0 {
		t.Errorf("pread gives %q and leaves the position at %d", got, g.tell(fd))
	}
	g.must("fd_pread", fd, vector, count, 9, n)
	if g.u32(n) != 0 {
		t.Errorf("at the end pread gives %d bytes", g.u32(n))
	}
	g.fails(eInval, "fd_pread", fd, vector, count, uint64(1)<<63, n)
	g.fails(eInval, "fd_pwrite", fd, vector, count, uint64(1)<<63, n)
	g.fails(22, "fd_pwrite", fd, vector, count, int64(math.MaxInt64), n)
	g.fails(eSpipe, "fd_pread", 0, vector, count, 0, n)
	g.fails(eSpipe, "fd_pwrite", 1, vector, count, 0, n)
}

func TestAppending(t *testing.T) {
	g := newGuest(t, Config{})
	fd := g.open(rootFD, "file", openCreate, fileRights, flagAppend)
	for _, text := range []string{"one", "two"} {
		g.seek(fd, 0, 0)
		if n, e := g.write(fd, text); n != 3 || e != success {
			t.Fatalf("write: %d, errno %d", n, e)
		}
	}
	if g.tell(fd) != 6 {
		t.Errorf("the position is %d", g.tell(fd))
	}
	n := g.alloc(4)
	vector, count := g.vector(g.put([]byte("O")), 1)
	g.must("fd_pwrite", fd, vector, count, 0, n)
	if g.tell(fd) != 6 {
		t.Errorf("pwrite has moved the position to %d", g.tell(fd))
	}
	if got := g.fdstat(fd).flags; got != flagAppend {
		t.Errorf("the flags are %#x", got)
	}
	g.must("fd_fdstat_set_flags", fd, 0)
	g.seek(fd, 1, 0)
	if _, e := g.write(fd, "N"); e != success {
		t.Fatal(e)
	}
	g.seek(fd, 0, 0)
	g.wantRead(fd, 99, "ONetwo")
	g.fails(eInval, "fd_fdstat_set_flags", fd, allFlags+1)
}

func TestSynchronousWritesAreFlagsThatStay(t *testing.T) {
	g := newGuest(t, Config{})
	for _, flags := range []fdflags{flagDsync, flagSync, flagRsync | flagSync, flagNonblock} {
		fd := g.open(rootFD, "file", openCreate, fileRights, flags)
		if got := g.fdstat(fd).flags; got != flags {
			t.Errorf("the flags are %#x, want %#x", got, flags)
		}
		if _, e := g.write(fd, "text"); e != success {
			t.Errorf("write with flags %#x: errno %d", flags, e)
		}
		g.must("fd_close", fd)
	}
}

func TestSizes(t *testing.T) {
	g := newGuest(t, Config{})
	fd := g.open(rootFD, "file", openCreate, fileRights, 0)
	size := func(want uint64) {
		t.Helper()
		if got := g.stat(fd).size; got != want {
			t.Errorf("the file has %d bytes, want %d", got, want)
		}
	}
	g.must("fd_filestat_set_size", fd, 100)
	size(100)
	for _, advice := range []int{0, 1, 2, 3, 4, 5} {
		g.must("fd_advise", fd, 10, 50, advice)
	}
	g.fails(eInval, "fd_advise", fd, 10, 50, 6)
	g.fails(eInval, "fd_advise", fd, uint64(math.MaxInt64), 1, 0)
	size(100)
	g.must("fd_allocate", fd, 10, 10)
	size(100)
	g.must("fd_allocate", fd, 90, 20)
	size(110)
	g.fails(eInval, "fd_allocate", fd, 0, 0)
	g.fails(eInval, "fd_allocate", fd, uint64(math.MaxInt64), 1)
	g.must("fd_filestat_set_size", fd, 5)
	size(5)
	g.fails(eInval, "fd_filestat_set_size", fd, uint64(1)<<63)
	g.must("fd_sync", fd)
	g.must("fd_datasync", fd)
	for std := range 3 {
		g.fails(eInval, "fd_sync", std)
		g.fails(eInval, "fd_datasync", std)
		g.fails(eSpipe, "fd_allocate", std, 0, 1)
		g.fails(eSpipe, "fd_advise", std, 0, 1, 0)
	}
}

func TestIdentityOfFiles(t *testing.T) {
	g := newGuest(t, Config{})
	g.create("a", "12345")
	g.create("b", "")
	a, b := g.pathStat("a", 0), g.pathStat("b", 0)
	info, err := os.Stat(g.dir + "/a")
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	want := stat{st.Dev, st.Ino, typeRegular, 1, 5, uint64(st.Atim.Nano()), uint64(st.Mtim.Nano()), uint64(st.Ctim.Nano())}
	if a != want {
		t.Errorf("a is %+v, want %+v", a, want)
	}
	if a.dev != b.dev || a.ino == b.ino {
		t.Errorf("a is %d:%d, b is %d:%d", a.dev, a.ino, b.dev, b.ino)
	}
}

func TestBuffersAreCheckedAndBounded(t *testing.T) {
	g := newGuest(t, Config{})
	fd := g.open(rootFD, "file", openCreate, fileRights, 0)
	n := g.alloc(4)
	ok := g.put([]byte("ok"))
	for name, c := range map[string]struct {
		ptr   uint32
		count uint32
		want  errno
	}{
		"none":                      {0, 0, success},
		"a list outside":            {outside, 1, eFault},
		"a list that ends outside":  {outside - 8, 2, eFault},
		"the last list that fits":   {outside - 8, 1, success},
		"a list at the end of 2^32": {math.MaxUint32 - 3, 1, eFault},
		"as many as may be":         {0, maxBuffers, success},
		"one too many":              {0, maxBuffers + 1, eInval},
		"very many":                 {0, math.MaxUint32, eInval},
	} {
		if e := g.call("fd_write", fd, c.ptr, c.count, n); e != c.want {
			t.Errorf("%s: errno %d, want %d", name, e, c.want)
		}
	}
	size := g.stat(fd).size
	vector, count := g.vector(ok, 2, outside-1, 2)
	g.fails(eFault, "fd_write", fd, vector, count, n)
	if g.stat(fd).size != size {
		t.Error("something was written though a later buffer is outside")
	}
	vector, count = g.vector(ok, 2, outside, 0, math.MaxUint32, 0, ok, 2) // empty ones may lie anywhere
	g.must("fd_write", fd, vector, count, n)
	if g.u32(n) != 4 {
		t.Errorf("wrote %d bytes", g.u32(n))
	}
	g.fails(eFault, "fd_write", fd, vector, count, outside-3)
}

func TestAGuestWithoutMemory(t *testing.T) {
	g := newGuest(t, Config{Args: []string{"x"}})
	for _, f := range []string{"args_sizes_get", "random_get", "fd_fdstat_get"} {
		stack := []uint64{0, 8}
		byName[f].Call(g.w, nil, stack)
		if errno(stack[0]) != eFault {
			t.Errorf("%s gives errno %d", f, stack[0])
		}
	}
}

func TestMoreThanTwoGiBAtOnceIsRefused(t *testing.T) {
	pairs := make([]byte, 0, maxBuffers*8)
	m := memory{hugeMemory{}}
	for range 2 {
		pairs = append(pairs, 0, 0, 0, 0, 0, 0, 0, 0x40) // 1 GiB each
	}
	if err := checkBuffers(m, pairs); err != eInval {
		t.Errorf("2 GiB: %v", err)
	}
	if err := checkBuffers(m, pairs[:8]); err != nil {
		t.Errorf("1 GiB: %v", err)
	}
}

// hugeMemory has whatever is looked at; nobody looks into it.
type hugeMemory struct{}

func (hugeMemory) Read(uint32, uint32) ([]byte, bool) { return nil, true }

func TestWorkIsChargedBeforeItIsDone(t *testing.T) {
	charged, stop := 0, errors.New("out of fuel")
	limit := math.MaxInt
	g := newGuest(t, Config{Charge: func(n int) {
		if charged += n; charged > limit {
			panic(stop)
		}
	}})
	fd := g.open(rootFD, "file", openCreate, fileRights, 0)
	if charged != pathCharge {
		t.Errorf("charged %d for a path", charged)
	}
	charged = 0
	g.write(fd, strings.Repeat("x", 2*chunkBytes))
	if charged != 2*chunkBytes {
		t.Errorf("charged %d for a write of %d bytes", charged, 2*chunkBytes)
	}
	charged, limit = 0, chunkBytes
	g.heap = heapStart
	err := panicOf(func() { g.write(fd, strings.Repeat("x", 2*chunkBytes)) })
	if err != stop || g.stat(fd).size != 3*chunkBytes {
		t.Errorf("out of fuel: %v, the file has %d bytes", err, g.stat(fd).size)
	}
	limit = math.MaxInt
	charged = 0
	g.must("random_get", heapStart, chunkBytes+1)
	if charged != chunkBytes+1 {
		t.Errorf("charged %d for %d random bytes", charged, chunkBytes+1)
	}
}

func panicOf(f func()) (v any) {
	defer func() { v = recover() }()
	f()
	return nil
}

// dirent is what fd_readdir gives.
type dirent struct {
	next, ino uint64
	kind      filetype
	name      string
}

// list reads a directory with a buffer of a size.
func (g *guest) list(fd uint32, size int, cookie uint64) (all []dirent) {
	g.t.Helper()
	buf, used := g.alloc(size), g.alloc(4)
	for {
		before := len(all)
		g.must("fd_readdir", fd, buf, size, cookie, used)
		n := g.u32(used)
		p := g.ram[buf : buf+n]
		for len(p) >= direntBytes {
			at := buf + n - uint32(len(p))
			length := int(g.u32(at + 16))
			if len(p) < direntBytes+length {
				break
			}
			all = append(all, dirent{g.u64(at), g.u64(at + 8), filetype(p[20]), string(p[direntBytes : direntBytes+length])})
			cookie = g.u64(at)
			p = p[direntBytes+length:]
		}
		if int(n) < size {
			return all
		}
		if len(all) == before {
			g.t.Fatalf("a buffer of %d bytes does not hold one name", size)
		}
	}
}

func names(all []dirent) []string {
	out := make([]string, len(all))
	for i, d := range all {
		out[i] = d.name
	}
	slices.Sort(out)
	return out
}

func TestReaddir(t *testing.T) {
	g := newGuest(t, Config{})
	all := g.list(rootFD, 256, 0)
	if got := names(all); !slices.Equal(got, []string{".", ".."}) {
		t.Fatalf("an empty directory holds %q", got)
	}
	for _, d := range all {
		if d.kind != typeDirectory || d.ino != g.stat(rootFD).ino {
			t.Errorf("%+v is not the directory", d)
		}
	}
	g.create("file", "")
	g.must("path_create_directory", rootFD, "dir")
	g.must("path_symlink", "none", rootFD, "link")
	all = g.list(rootFD, 256, 0)
	if got := names(all); !slices.Equal(got, []string{".", "..", "dir", "file", "link"}) {
		t.Fatalf("the directory holds %q", got)
	}
	for i, d := range all[2:] {
		st := g.pathStat(d.name, 0)
		if d.ino != st.ino || d.kind != st.kind {
			t.Errorf("%+v is listed, but it is %+v", d, st)
		}
		if rest := g.list(rootFD, 256, d.next); len(rest) != 2-i {
			t.Errorf("after %q come %d names", d.name, len(rest))
		}
	}
	used := g.alloc(4)
	g.must("fd_readdir", rootFD, heapStart, 0, 0, used)
	if g.u32(used) != 0 {
		t.Errorf("no buffer, but %d bytes", g.u32(used))
	}
	g.must("fd_readdir", rootFD, heapStart, 64, uint64(1)<<63, used)
	if g.u32(used) != 0 {
		t.Errorf("beyond the end there are %d bytes", g.u32(used))
	}
}

func TestReaddirOfManyWithAnyBuffer(t *testing.T) {
	g := newGuest(t, Config{})
	const files = 2*readdirAtOnce + 1
	for i := range files {
		g.onHost(fmt.Sprintf("file.%d", i), "")
	}
	g.onHost("not utf-8 \xff", "")
	for _, size := range []int{256, 33, 4096} {
		all := names(g.list(rootFD, size, 0))
		if len(all) != files+dots || len(slices.Compact(all)) != files+dots {
			t.Errorf("with a buffer of %d bytes there are %d names, want %d", size, len(all), files+dots)
		}
	}
	for i := range files { // and while they go
		g.must("path_unlink_file", rootFD, fmt.Sprintf("file.%d", i))
		g.heap = heapStart
	}
	if got := g.list(rootFD, 256, 0); len(got) != dots {
		t.Errorf("after all are gone %d names are left", len(got))
	}
}
