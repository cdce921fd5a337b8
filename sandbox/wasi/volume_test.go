package wasi

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// limited is a guest with one volume with limits.
func limited(t *testing.T, limits VolumeLimits) (*guest, *Volume) {
	t.Helper()
	dir := t.TempDir()
	v := openVolume(t, dir, limits)
	g := newGuest(t, Config{Mounts: []Mount{{"/", v, false}}})
	g.dir = dir
	return g, v
}

// wantUsed checks the volume's counts, and that a count from the beginning comes to the same.
func wantUsed(t *testing.T, v *Volume, want VolumeLimits) {
	t.Helper()
	if got := v.Used(); got != want {
		t.Errorf("the volume counts %+v, want %+v", got, want)
	}
}

func TestBytesOfAVolumeAreLimited(t *testing.T) {
	g, v := limited(t, VolumeLimits{Bytes: 10})
	fd := g.open(rootFD, "file", openCreate, fileRights, 0)
	for _, c := range []struct {
		write string
		want  int
		errno errno
	}{{"1234567", 7, success}, {"890", 3, success}, {"x", 0, eDquot}} {
		if n, e := g.write(fd, c.write); n != c.want && e == success || e != c.errno {
			t.Errorf("write %q: %d, errno %d", c.write, n, e)
		}
	}
	wantUsed(t, v, VolumeLimits{10, 1})
	g.seek(fd, 5, 0)
	if n, e := g.write(fd, "overwritten"); n != 5 || e != success {
		t.Errorf("write over the limit: %d, errno %d", n, e) // as much as fits
	}
	g.must("fd_filestat_set_size", fd, 4)
	wantUsed(t, v, VolumeLimits{4, 1})
	g.fails(eDquot, "fd_filestat_set_size", fd, 11)
	g.must("fd_filestat_set_size", fd, 10)
	g.must("fd_filestat_set_size", fd, 4)
	g.fails(eDquot, "fd_allocate", fd, 0, 11)
	g.must("fd_allocate", fd, 0, 10)
	g.must("fd_filestat_set_size", fd, 4)
	n := g.alloc(4)
	vector, count := g.vector(g.put([]byte("ab")), 2)
	g.fails(eDquot, "fd_pwrite", fd, vector, count, 10, n) // the hole before it counts
	g.fails(eDquot, "fd_pwrite", fd, vector, count, uint64(1)<<40, n)
	g.must("fd_pwrite", fd, vector, count, 9, n)
	if g.u32(n) != 1 {
		t.Errorf("pwrite across the limit wrote %d bytes", g.u32(n))
	}
	wantUsed(t, v, VolumeLimits{10, 1})
	other := g.open(rootFD, "other", openCreate, fileRights, flagAppend)
	if _, e := g.write(other, "x"); e != eDquot {
		t.Errorf("another file: errno %d", e)
	}
	g.must("fd_close", g.open(rootFD, "file", openTruncate, 0, 0))
	if n, e := g.write(other, strings.Repeat("x", 11)); n != 10 || e != success {
		t.Errorf("after truncation: %d, errno %d", n, e)
	}
	wantUsed(t, v, VolumeLimits{10, 2})
}

// All guests of a volume share what may be open in it, and it comes back with what they close.
func TestWhatIsOpenInAVolumeIsLimited(t *testing.T) {
	v := openVolume(t, t.TempDir(), VolumeLimits{})
	guests := make([]*guest, 2)
	for i := range guests {
		guests[i] = newGuest(t, Config{Mounts: []Mount{{"/", v, false}}, Descriptors: 2 * maxOpen})
	}
	a, b := guests[0], guests[1]
	a.create("file", "")
	a.must("path_create_directory", rootFD, "folder")
	var last uint32
	for range maxOpen / 4 {
		for _, g := range guests {
			g.open(rootFD, "folder", openDirectory, directoryRights, 0)
			last = g.open(rootFD, "file", 0, fileRights, 0)
		}
	}
	a.openFails(eNfile, 0, "file", 0, fileRights)
	a.openFails(eNfile, 0, "new", openCreate, fileRights)
	b.must("fd_close", last)
	a.openFails(eNoent, 0, "missing", 0, fileRights) // what fails takes no place
	a.openFails(eNotdir, 0, "file", openDirectory, directoryRights)
	a.open(rootFD, "file", 0, fileRights, 0)
	b.openFails(eNfile, 0, "file", 0, fileRights)
	if err := a.w.Close(); err != nil {
		t.Fatal(err)
	}
	for range maxOpen / 2 {
		b.open(rootFD, "file", 0, fileRights, 0)
	}
}

func TestBytesComeBackWithTheLastNameAndDescriptor(t *testing.T) {
	g, v := limited(t, VolumeLimits{Bytes: 10})
	g.create("a", "12345")
	g.must("path_link", rootFD, 0, "a", rootFD, "b")
	g.must("path_unlink_file", rootFD, "a")
	wantUsed(t, v, VolumeLimits{5, 1}) // b is left
	fd := g.open(rootFD, "b", 0, fileRights, 0)
	second := g.open(rootFD, "b", 0, fileRights, 0)
	g.must("path_unlink_file", rootFD, "b")
	wantUsed(t, v, VolumeLimits{5, 0}) // it is open
	if _, e := g.write(fd, "1234567890"); e != success {
		t.Errorf("write to a file without a name: errno %d", e)
	}
	wantUsed(t, v, VolumeLimits{10, 0})
	g.must("fd_close", fd)
	wantUsed(t, v, VolumeLimits{10, 0})
	g.must("fd_close", second)
	wantUsed(t, v, VolumeLimits{})

	g.create("a", "12345")
	g.create("b", "123")
	g.must("path_rename", rootFD, "a", rootFD, "b")
	wantUsed(t, v, VolumeLimits{5, 1})
	g.must("path_link", rootFD, 0, "b", rootFD, "c")
	g.must("path_rename", rootFD, "b", rootFD, "c") // one file: both names stay
	wantUsed(t, v, VolumeLimits{5, 2})
	g.must("path_unlink_file", rootFD, "b")
	g.create("d", "")
	fd = g.open(rootFD, "c", 0, fileRights, 0)
	g.must("path_rename", rootFD, "d", rootFD, "c") // over an open one
	wantUsed(t, v, VolumeLimits{5, 1})
	g.must("fd_close", fd)
	wantUsed(t, v, VolumeLimits{0, 1})
}

func TestNamesOfAVolumeAreLimited(t *testing.T) {
	const limit = 4
	g, v := limited(t, VolumeLimits{Names: limit})
	g.create("file", "")
	g.must("path_create_directory", rootFD, "dir")
	g.must("path_symlink", "file", rootFD, "link")
	g.must("path_link", rootFD, 0, "file", rootFD, "hard")
	wantUsed(t, v, VolumeLimits{0, limit})
	g.fails(eDquot, "path_create_directory", rootFD, "more")
	g.fails(eDquot, "path_symlink", "file", rootFD, "more")
	g.fails(eDquot, "path_link", rootFD, 0, "file", rootFD, "more")
	g.openFails(eDquot, 0, "more", openCreate, 0)
	g.openFails(eDquot, 0, "more", openCreate|openExclusive, 0)
	g.openFails(success, 0, "file", openCreate, rightRead) // it is there
	for name, remove := range map[string]string{"link": "path_unlink_file", "dir": "path_remove_directory"} {
		g.must(remove, rootFD, name)
		g.must("path_create_directory", rootFD, "more")
		g.fails(eDquot, "path_create_directory", rootFD, "yet more")
		g.must("path_remove_directory", rootFD, "more")
		g.create(name, "")
	}
	for range 3 { // what fails takes nothing
		g.must("path_unlink_file", rootFD, "hard")
		g.fails(eExist, "path_create_directory", rootFD, "dir")
		g.fails(eNoent, "path_create_directory", rootFD, "no/dir")
		g.openFails(eExist, 0, "file", openCreate|openExclusive, 0)
		g.must("path_link", rootFD, 0, "file", rootFD, "hard")
		wantUsed(t, v, VolumeLimits{0, limit})
	}
	g.must("path_rename", rootFD, "link", rootFD, "renamed")
	wantUsed(t, v, VolumeLimits{0, limit})
}

func TestAVolumeIsMeasuredWhenItIsOpened(t *testing.T) {
	dir := t.TempDir()
	for i, size := range []int{3, 4, 5} {
		name := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "2"), filepath.Join(dir, "sub", "hard")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(dir, "sub", "out")); err != nil {
		t.Fatal(err)
	}
	v := openVolume(t, dir, VolumeLimits{Bytes: 1, Names: 1})
	wantUsed(t, v, VolumeLimits{12, 6})
	g := newGuest(t, Config{Mounts: []Mount{{"/", v, false}}})
	g.openFails(eDquot, 0, "new", openCreate, 0) // it is over its limits, and can be emptied
	fd := g.open(rootFD, "0", 0, fileRights, 0)
	if n, e := g.write(fd, "abcd"); n != 3 || e != success {
		t.Errorf("overwriting: %d, errno %d", n, e)
	}
	g.must("path_unlink_file", rootFD, "1")
	wantUsed(t, v, VolumeLimits{8, 5})
	if _, err := OpenVolume(filepath.Join(dir, "none"), VolumeLimits{}); err == nil {
		t.Error("a folder that is not there is opened")
	}
}

func TestInstancesShareAVolumesLimits(t *testing.T) {
	v := openVolume(t, t.TempDir(), VolumeLimits{Bytes: 10})
	a := newGuest(t, Config{Mounts: []Mount{{"/", v, false}}})
	b := newGuest(t, Config{Mounts: []Mount{{"/", v, false}}})
	fa := a.open(rootFD, "log", openCreate, fileRights, flagAppend)
	fb := b.open(rootFD, "log", openCreate, fileRights, flagAppend)
	for range 2 {
		a.write(fa, "aa")
		b.write(fb, "bb")
	}
	a.seek(fa, 0, 0)
	a.wantRead(fa, 99, "aabbaabb")
	if n, e := b.write(fb, "bbb"); n != 2 || e != success {
		t.Errorf("across the limit: %d, errno %d", n, e)
	}
	if _, e := a.write(fa, "a"); e != eDquot {
		t.Errorf("over the limit: errno %d", e)
	}
}
