package wasi

import (
	"fmt"
	"strings"
	"testing"
)

func TestDescriptorsThatAreNotOpen(t *testing.T) {
	g := newGuest(t, Config{})
	for _, fd := range []uint32{4, 255, 256, 1 << 31, 1<<32 - 1} {
		for name, f := range byName {
			if !strings.HasPrefix(name, "fd_") && !strings.HasPrefix(name, "sock_") {
				continue
			}
			params := []any{fd}
			for range f.Params[1:] {
				params = append(params, 0)
			}
			if e := g.call(name, params...); e != eBadf {
				t.Errorf("%s of descriptor %d gives errno %d", name, fd, e)
			}
		}
		g.fails(eBadf, "path_create_directory", fd, "d")
		g.fails(eBadf, "path_rename", rootFD, "d", fd, "d")
	}
}

func TestDescriptorsAreLimited(t *testing.T) {
	const limit = 8
	g := newGuest(t, Config{Descriptors: limit})
	g.create("file", "")
	var last uint32
	for fd := rootFD + 1; fd < limit; fd++ {
		if last = g.open(rootFD, "file", 0, 0, 0); last != uint32(fd) {
			t.Fatalf("got descriptor %d, want %d", last, fd)
		}
	}
	g.openFails(eMfile, 0, "file", 0, 0)
	g.openFails(eMfile, 0, "new", openCreate, 0)
	g.fails(eNoent, "path_filestat_get", rootFD, 0, "new", g.alloc(64)) // nothing was made
	g.must("fd_close", rootFD+2)
	if fd := g.open(rootFD, "file", 0, 0, 0); fd != rootFD+2 {
		t.Errorf("got descriptor %d, want the one that was closed", fd)
	}
	g.openFails(eMfile, 0, "file", 0, 0)
	for range 1000 { // and what is closed is open no more
		g.must("fd_close", last)
		g.heap = heapStart
		last = g.open(rootFD, "file", 0, 0, 0)
	}
	v := openVolume(t, t.TempDir(), VolumeLimits{})
	if w, err := New(Config{Descriptors: 4, Mounts: []Mount{{"/", v, false}}}); err != nil {
		t.Error(err)
	} else {
		_ = w.Close()
	}
	if _, err := New(Config{Descriptors: 4, Mounts: []Mount{{"/", v, false}, {"/b", v, false}}}); err == nil {
		t.Error("a mount too many is taken")
	}
}

func TestRenumber(t *testing.T) {
	g := newGuest(t, Config{})
	from := g.open(rootFD, "a", openCreate, rightRead|rightWrite, flagAppend)
	to := g.open(rootFD, "b", openCreate, rightRead, 0)
	want := g.fdstat(from)
	g.must("fd_renumber", from, to)
	g.fails(eBadf, "fd_close", from)
	if got := g.fdstat(to); got != want {
		t.Errorf("it is %+v now, want %+v", got, want)
	}
	g.fails(eBadf, "fd_renumber", to, from)
	g.fails(eBadf, "fd_renumber", from, to)
	g.must("fd_renumber", to, to)
	g.must("fd_renumber", to, rootFD) // over a mount
	g.fails(eBadf, "fd_prestat_get", rootFD, g.alloc(8))
	for std := range 3 {
		g.must("fd_renumber", std, rootFD)
		g.fails(eBadf, "fd_fdstat_get", std, g.alloc(24))
	}
}

func TestPreopens(t *testing.T) {
	v := openVolume(t, t.TempDir(), VolumeLimits{})
	g := newGuest(t, Config{Mounts: []Mount{{"/", v, false}, {"/long/name", v, true}}})
	at, name := g.alloc(8), g.alloc(16)
	g.must("fd_prestat_get", rootFD+1, at)
	if tag, length := g.ram[at], g.u32(at+4); tag != prestatDirectory || length != 10 {
		t.Errorf("tag %d, length %d", tag, length)
	}
	for _, room := range []int{10, 11} {
		g.must("fd_prestat_dir_name", rootFD+1, name, room)
		if got := string(g.ram[name : name+10]); got != "/long/name" {
			t.Errorf("the name is %q", got)
		}
	}
	g.fails(eNametoolong, "fd_prestat_dir_name", rootFD+1, name, 9)
	g.fails(eNametoolong, "fd_prestat_dir_name", rootFD+1, name, 0)
	for std := range 3 {
		g.fails(eBadf, "fd_prestat_get", std, at)
		g.fails(eBadf, "fd_prestat_dir_name", std, name, 16)
	}
	st := g.fdstat(rootFD)
	if !st.base.has(directoryRights) || !st.inheriting.has(allRights) || st.kind != typeDirectory || st.flags != 0 {
		t.Errorf("a mount is %+v", st)
	}
	if _, e := g.tryOpen(rootFD, 0, ".", openDirectory, st.base, st.inheriting, flagNonblock); e != success {
		t.Errorf("opened with the rights that it has: errno %d", e)
	}
	g.must("fd_close", rootFD)
	g.fails(eBadf, "fd_prestat_get", rootFD, at)
	g.must("fd_prestat_get", rootFD+1, at)
	if fd := g.open(rootFD+1, ".", openDirectory, 0, 0); fd != rootFD {
		t.Errorf("the next descriptor is %d", fd)
	}
	g.fails(eBadf, "fd_prestat_get", rootFD, at) // not from the start
}

func TestStandardStreamsAreNoTerminal(t *testing.T) {
	g := newGuest(t, Config{})
	for fd, want := range []rights{rightRead, rightWrite, rightWrite} {
		st := g.fdstat(uint32(fd))
		if st.kind == typeCharacterDevice || !st.base.has(want|rightPoll) || st.base.has(rightSeek) {
			t.Errorf("descriptor %d is %+v", fd, st)
		}
	}
}

func TestRestorePutsTheTableBack(t *testing.T) {
	g := newGuest(t, Config{})
	if g.w.Restore() {
		t.Error("restored without a mark")
	}
	g.create("file", "0123456789")
	fd := g.open(rootFD, "file", 0, fileRights, 0)
	closed := g.open(rootFD, "file", 0, fileRights, 0)
	moved := g.open(rootFD, "file", 0, fileRights, 0)
	g.seek(fd, 4, 0)
	g.w.Mark()
	before := table(g)
	for range 3 {
		g.seek(fd, 9, 0)
		g.must("fd_fdstat_set_flags", fd, int(flagAppend))
		if g.w.Changed() {
			t.Error("the same are open, and it says that they have changed")
		}
		g.must("fd_fdstat_set_rights", fd, fileRights&^rightSeek, 0)
		g.must("fd_close", closed)
		g.must("fd_close", rootFD)
		g.must("fd_renumber", moved, 1)
		g.must("fd_renumber", 0, 2)
		if !g.w.Changed() {
			t.Error("it does not say that others are open")
		}
		if !g.w.Restore() || g.w.Changed() {
			t.Fatal("not restored")
		}
		if after := table(g); after != before {
			t.Errorf("after:\n%s\nbefore:\n%s", after, before)
		}
		g.wantRead(fd, 2, "45")
		g.open(rootFD, "file", 0, fileRights, 0)
		g.open(rootFD, ".", 0, directoryRights, 0)
		if !g.w.Restore() {
			t.Fatal("not restored")
		}
		if after := table(g); after != before {
			t.Errorf("what was opened since is there:\n%s", after)
		}
	}
	g.must("fd_close", closed)
	g.w.Mark() // without it
	if !g.w.Restore() {
		t.Error("not restored to the second mark")
	}
	g.fails(eBadf, "fd_close", closed)
}

// table is all that a guest sees of its descriptors.
func table(g *guest) string {
	var b strings.Builder
	for fd := range uint32(16) {
		if d, err := g.w.get(fd); err == nil {
			fmt.Fprintf(&b, "%d: %+v at %d, preopen %t %q, %p\n", fd, g.fdstat(fd), d.offset, d.preopen, d.name, d.object)
		}
	}
	return b.String()
}
