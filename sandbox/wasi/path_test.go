package wasi

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestInterestingPaths(t *testing.T) {
	g := newGuest(t, Config{})
	g.must("path_create_directory", rootFD, "dir")
	g.must("path_create_directory", rootFD, "dir/nested/")
	g.create("dir/nested/file", "")
	good := []string{
		"dir/.//nested/../../dir/nested/../nested///./file", "dir/nested/", "dir/nested///", "dir/nested/.", "dir/nested/..", ".", "./", "dir/..",
	}
	for _, path := range good {
		if _, e := g.tryOpen(rootFD, 0, path, 0, 0, 0, 0); e != success {
			t.Errorf("path_open %q: errno %d", path, e)
		}
	}
	bad := map[string]errno{
		"/dir/nested/file": ePerm, "/": ePerm, "..": ePerm, "../": ePerm, "dir/../..": ePerm, "dir/nested/../../../x/dir/nested/file": ePerm,
		"dir/nested/file\x00": eInval, "\x00": eInval, "\xff": eIlseq, "": eNoent,
		"dir/nested/file/": eNotdir, "dir/nested/file///": eNotdir, "dir/nested/file/.": eNotdir, "dir/nested/file/..": eNotdir,
		"none": eNoent, "none/": eNoent, "none/file": eNoent, "dir/nested/file/x": eNotdir,
		strings.Repeat("n", 256): eNametoolong, strings.Repeat("d/", maxPathBytes/2) + "x": eNametoolong,
	}
	for path, want := range bad {
		if _, e := g.tryOpen(rootFD, 0, path, 0, 0, 0, 0); e != want {
			t.Errorf("path_open %.40q: errno %d, want %d", path, e, want)
		}
	}
}

func TestOpenFlags(t *testing.T) {
	g := newGuest(t, Config{})
	g.create("file", "text")
	g.must("path_create_directory", rootFD, "dir")
	g.must("path_symlink", "file", rootFD, "link")
	g.must("path_symlink", "dir", rootFD, "dirlink")
	g.must("path_symlink", "none", rootFD, "dangling")
	g.must("path_symlink", "loop", rootFD, "loop")
	for _, c := range []struct {
		want   errno
		lookup uint32
		path   string
		flags  uint32
		base   rights
	}{
		{eExist, 0, "file", openCreate | openExclusive, 0},
		{eExist, 0, "dangling", openCreate | openExclusive, 0},
		{eExist, lookupFollow, "dangling", openCreate | openExclusive, 0},
		{eNoent, 0, "none", 0, 0},
		{eNoent, lookupFollow, "dangling", 0, 0},
		{eLoop, 0, "link", 0, 0},
		{eLoop, 0, "dangling", 0, 0},
		{eLoop, 0, "dangling", openCreate, 0},
		{eLoop, 0, "loop", 0, 0},
		{eLoop, lookupFollow, "loop", 0, 0},
		{eNotdir, 0, "dirlink", openDirectory, 0},
		{eNotdir, 0, "file", openDirectory, 0},
		{eNotdir, lookupFollow, "link", openDirectory, 0},
		{eNotdir, lookupFollow, "link/", 0, 0},
		{eIsdir, 0, "dir", openDirectory, rightRead | rightWrite},
		{eIsdir, 0, "dir", 0, rightWrite},
		{eIsdir, 0, "dir", openTruncate, 0},
		{eIsdir, 0, "new/", openCreate, 0},
		{eInval, 0, "new", openCreate | openDirectory, 0},
		{eInval, 0, "file", openAll + 1, 0},
		{eInval, 2, "file", 0, 0},
		{success, 0, "dirlink/", 0, 0},
		{success, lookupFollow, "dirlink", openDirectory, 0},
		{success, lookupFollow, "link", 0, rightRead},
		{success, 0, "dir", openDirectory, rightRead},
		{success, 0, "dir", 0, rightRead | rightSeek},
		{success, lookupFollow, "dangling", openCreate, rightWrite},
		{success, 0, "none", openCreate | openExclusive, rightRead},
	} {
		if c.path == "none" && c.flags != 0 {
			g.must("path_unlink_file", rootFD, "none") // made through dangling
		}
		g.openFails(c.want, c.lookup, c.path, c.flags, c.base)
	}
	if _, e := g.tryOpen(rootFD, 0, "file", 0, 0, 0, allFlags+1); e != eInval {
		t.Errorf("unknown modes give errno %d", e)
	}
}

func TestOpenAsksForRights(t *testing.T) {
	g := newGuest(t, Config{})
	g.create("file", "text")
	dir := g.open(rootFD, ".", openDirectory, directoryRights, 0)
	if got := g.fdstat(dir).base; got.has(rightSeek) || got.has(rightRead) {
		t.Errorf("a directory has the rights %#x", got)
	}
	inheriting := allRights &^ rightWrite
	g.must("fd_fdstat_set_rights", dir, directoryRights, inheriting)
	if _, e := g.tryOpen(dir, 0, "file", 0, rightWrite, 0, 0); e != eNotcapable {
		t.Errorf("a right that the directory does not pass on: errno %d", e)
	}
	if _, e := g.tryOpen(dir, 0, "file", 0, rightRead, rightWrite, 0); e != eNotcapable {
		t.Errorf("a right that the directory does not pass on, to be passed on: errno %d", e)
	}
	truncate := directoryRights &^ rightPathSetSize
	g.must("fd_fdstat_set_rights", dir, truncate, inheriting)
	if _, e := g.tryOpen(dir, 0, "file", openTruncate, 0, 0, 0); e != ePerm {
		t.Errorf("truncated without the right: errno %d", e)
	}
	create := truncate &^ rightCreateFile
	g.must("fd_fdstat_set_rights", dir, create, inheriting)
	if _, e := g.tryOpen(dir, 0, "new", openCreate, 0, 0, 0); e != eNotcapable {
		t.Errorf("created without the right: errno %d", e)
	}
	if _, e := g.tryOpen(dir, 0, "new", openCreate|openTruncate, 0, 0, 0); e != eNotcapable {
		t.Errorf("created and truncated without either right: errno %d", e)
	}
	g.fails(eNotcapable, "fd_fdstat_set_rights", dir, directoryRights, inheriting)
	g.fails(eNotcapable, "fd_fdstat_set_rights", dir, create, allRights)
	g.must("fd_fdstat_set_rights", dir, 0, 0)
	if _, e := g.tryOpen(dir, 0, "file", 0, 0, 0, 0); e != eNotcapable {
		t.Errorf("opened without the right: errno %d", e)
	}
	g.fails(eNotcapable, "path_create_directory", dir, "d")
	g.fails(eNotcapable, "path_unlink_file", dir, "file")
}

func TestTruncatingNeedsNoRightToWrite(t *testing.T) {
	g := newGuest(t, Config{})
	g.create("file", "text")
	fd := g.open(rootFD, "file", openTruncate, 0, 0)
	if size := g.pathStat("file", 0).size; size != 0 {
		t.Errorf("the file has %d bytes", size)
	}
	if _, e := g.write(fd, "x"); e != eBadf {
		t.Errorf("written without the right: errno %d", e)
	}
}

func TestReadAndWriteNeedTheirRights(t *testing.T) {
	g := newGuest(t, Config{})
	g.create("file", "text")
	reader := g.open(rootFD, "file", 0, rightRead, 0)
	g.wantRead(reader, 9, "text")
	if _, e := g.write(reader, "x"); e != eBadf {
		t.Errorf("written: errno %d", e)
	}
	writer := g.open(rootFD, "file", 0, rightWrite, 0)
	if _, e := g.read(writer, 1); e != eBadf {
		t.Errorf("read: errno %d", e)
	}
	both := g.open(rootFD, "file", 0, fileRights, 0)
	g.must("fd_fdstat_set_rights", both, rightSeek, 0)
	if _, e := g.read(both, 1); e != eBadf {
		t.Errorf("read after the right was given up: errno %d", e)
	}
	g.fails(eNotcapable, "fd_sync", both)
	g.fails(eNotcapable, "fd_datasync", both)
	g.fails(eNotcapable, "fd_filestat_get", both, g.alloc(filestatBytes))
	g.fails(eNotcapable, "fd_filestat_set_size", both, 1)
	g.fails(eNotcapable, "fd_allocate", both, 0, 1)
	g.fails(eNotcapable, "fd_advise", both, 0, 1, 0)
	g.fails(eNotcapable, "fd_fdstat_set_flags", both, 0)
	g.fails(eNotcapable, "fd_filestat_set_times", both, 0, 0, 0)
	g.must("fd_tell", both, g.alloc(8)) // the right to seek holds it
}

func TestDirectoriesAreNoFiles(t *testing.T) {
	g := newGuest(t, Config{})
	result := g.alloc(8)
	vector, count := g.vector(g.alloc(8), 8)
	g.fails(eIsdir, "fd_read", rootFD, vector, count, result)
	g.fails(eIsdir, "fd_pread", rootFD, vector, count, 0, result)
	g.fails(eBadf, "fd_write", rootFD, vector, count, result)
	g.fails(eBadf, "fd_pwrite", rootFD, vector, count, 0, result)
	for whence := range 3 {
		g.fails(eBadf, "fd_seek", rootFD, 0, whence, result)
	}
	g.fails(eBadf, "fd_tell", rootFD, result)
	g.fails(eBadf, "fd_allocate", rootFD, 0, 0)
	g.fails(eBadf, "fd_filestat_set_size", rootFD, 0)
	g.fails(eBadf, "fd_advise", rootFD, 0, 0, 0)
	g.must("fd_sync", rootFD)
	g.must("fd_datasync", rootFD)
	if kind := g.stat(rootFD).kind; kind != typeDirectory {
		t.Errorf("the mount is of kind %d", kind)
	}
}

func TestFilesAreNoDirectories(t *testing.T) {
	g := newGuest(t, Config{})
	g.create("file", "")
	fd := g.open(rootFD, "file", 0, fileRights, 0)
	result := g.alloc(64)
	if _, e := g.tryOpen(fd, 0, "foo", openCreate, 0, 0, 0); e != eNotdir {
		t.Errorf("path_open below a file: errno %d", e)
	}
	g.fails(eNotdir, "path_create_directory", fd, "d")
	g.fails(eNotdir, "path_filestat_get", fd, 0, "d", result)
	g.fails(eNotdir, "path_filestat_set_times", fd, 0, "d", 0, 0, 0)
	g.fails(eNotdir, "path_link", fd, 0, "d", rootFD, "e")
	g.fails(eNotdir, "path_link", rootFD, 0, "file", fd, "e")
	g.fails(eNotdir, "path_readlink", fd, "d", result, 8, result)
	g.fails(eNotdir, "path_remove_directory", fd, "d")
	g.fails(eNotdir, "path_rename", fd, "d", rootFD, "e")
	g.fails(eNotdir, "path_rename", rootFD, "file", fd, "e")
	g.fails(eNotdir, "path_symlink", "t", fd, "d")
	g.fails(eNotdir, "path_unlink_file", fd, "d")
	g.fails(eNotdir, "fd_readdir", fd, result, 8, 0, result)
}

func TestUnlinkAndRemoveDirectory(t *testing.T) {
	g := newGuest(t, Config{})
	g.must("path_create_directory", rootFD, "dir")
	g.fails(eExist, "path_create_directory", rootFD, "dir")
	g.fails(eExist, "path_create_directory", rootFD, "dir/")
	g.fails(eNoent, "path_create_directory", rootFD, "none/dir")
	g.create("dir/file", "")
	g.must("path_symlink", "dir", rootFD, "link")
	for path, want := range map[string]errno{"dir": eIsdir, "dir/": eIsdir, "dir/file/": eNotdir, "none": eNoent, "none/": eNoent, ".": eIsdir, "dir/..": eIsdir, "link/": eNotdir} {
		g.fails(want, "path_unlink_file", rootFD, path)
	}
	for path, want := range map[string]errno{"dir": eNotempty, "dir/": eNotempty, "dir/file": eNotdir, "dir/file/": eNotdir, "none": eNoent, ".": eInval, "dir/.": eInval, "dir/..": eInval, "link": eNotdir} {
		g.fails(want, "path_remove_directory", rootFD, path)
	}
	g.must("path_unlink_file", rootFD, "dir/file")
	g.must("path_unlink_file", rootFD, "link")
	g.must("path_remove_directory", rootFD, "dir/")
	g.fails(eNoent, "path_remove_directory", rootFD, "dir")
}

func TestRename(t *testing.T) {
	g := newGuest(t, Config{})
	g.must("path_create_directory", rootFD, "source")
	for _, names := range [][2]string{{"source/", "target"}, {"target", "source/"}, {"source/", "target/"}, {"target", "source"}} {
		g.must("path_rename", rootFD, names[0], rootFD, names[1])
	}
	g.must("path_create_directory", rootFD, "target")
	g.must("path_rename", rootFD, "source", rootFD, "target") // over an empty one
	g.openFails(eNoent, 0, "source", openDirectory, 0)
	g.must("path_create_directory", rootFD, "source")
	g.create("target/file", "in it")
	g.fails(eNotempty, "path_rename", rootFD, "source", rootFD, "target")
	g.fails(eNotdir, "path_rename", rootFD, "source", rootFD, "target/file")
	g.create("a", "a")
	g.fails(eIsdir, "path_rename", rootFD, "a", rootFD, "source")
	g.fails(eNotdir, "path_rename", rootFD, "a/", rootFD, "b")
	g.fails(eNotdir, "path_rename", rootFD, "a", rootFD, "b/")
	g.fails(eNoent, "path_rename", rootFD, "none", rootFD, "b")
	g.fails(10, "path_rename", rootFD, ".", rootFD, "b") // busy
	g.create("b", "b")
	g.must("path_rename", rootFD, "a", rootFD, "b")
	g.openFails(eNoent, 0, "a", 0, 0)
	g.wantRead(g.open(rootFD, "b", 0, rightRead, 0), 9, "a")

	sub := g.open(rootFD, "target", openDirectory, directoryRights, 0)
	g.must("path_rename", sub, "file", rootFD, "file")
	g.must("path_rename", rootFD, "b", sub, "b")
	g.wantRead(g.open(sub, "b", 0, rightRead, 0), 9, "a")
	g.wantRead(g.open(rootFD, "file", 0, rightRead, 0), 9, "in it")
}

func TestLink(t *testing.T) {
	g := newGuest(t, Config{})
	g.create("file", "text")
	g.must("path_link", rootFD, 0, "file", rootFD, "link")
	a, b := g.pathStat("file", 0), g.pathStat("link", 0)
	if a != b || a.links != 2 {
		t.Errorf("file and link differ: %+v, %+v", a, b)
	}
	g.must("path_unlink_file", rootFD, "link")
	g.must("path_create_directory", rootFD, "sub")
	sub := g.open(rootFD, "sub", openDirectory, directoryRights, 0)
	g.must("path_link", rootFD, 0, "file", sub, "link")
	g.wantRead(g.open(sub, "link", 0, rightRead, 0), 9, "text")

	g.create("there", "")
	for _, c := range []struct {
		want     errno
		from, to string
		lookup   int
	}{
		{eExist, "file", "there", 0}, {eExist, "file", "file", 0}, {eExist, "file", "sub", 0}, {eExist, "file", "sub/", 0},
		{eNotdir, "file", "there/", 0}, {eNoent, "file", "new/", 0}, {eNotdir, "file/", "new", 0}, {ePerm, "sub", "new", 0}, {ePerm, ".", "new", 0},
		{eNoent, "none", "new", 0}, {eInval, "file", "new", lookupFollow}, {eInval, "file", "new", 2},
	} {
		g.fails(c.want, "path_link", rootFD, c.lookup, c.from, rootFD, c.to)
	}

	for _, target := range []string{"target", "symlink"} { // dangling, and a loop
		g.must("path_symlink", target, rootFD, "symlink")
		g.must("path_link", rootFD, 0, "symlink", rootFD, "hard")
		if kind := g.pathStat("hard", 0).kind; kind != typeSymlink {
			t.Errorf("a link to a symbolic link is of kind %d", kind)
		}
		g.fails(eExist, "path_link", rootFD, 0, "file", rootFD, "symlink")
		g.must("path_unlink_file", rootFD, "symlink")
		g.must("path_unlink_file", rootFD, "hard")
	}
}

func TestSymlinks(t *testing.T) {
	g := newGuest(t, Config{})
	g.must("path_create_directory", rootFD, "dir")
	g.create("file", "text")
	for path, want := range map[string]errno{"new/": eNoent, "dir": eExist, "dir/": eExist, "file": eExist, "file/": eNotdir, "none/new": eNoent} {
		g.fails(want, "path_symlink", "source", rootFD, path)
	}
	for _, target := range []string{"/", "/etc/passwd", "..", "../x", "dir/../../x", "./.."} {
		g.fails(ePerm, "path_symlink", target, rootFD, "new")
	}
	g.fails(ePerm, "path_symlink", "../../x", rootFD, "dir/new")
	g.fails(eNoent, "path_symlink", "", rootFD, "new")
	g.must("path_symlink", "../file", rootFD, "dir/new")

	buf, used := g.alloc(16), g.alloc(4)
	for n, want := range map[int]string{16: "../file", 7: "../file", 4: "../f", 0: ""} {
		g.must("path_readlink", rootFD, "dir/new", buf, n, used)
		if got := string(g.ram[buf : buf+g.u32(used)]); got != want {
			t.Errorf("readlink to %d bytes gives %q, want %q", n, got, want)
		}
	}
	g.fails(eInval, "path_readlink", rootFD, "file", buf, 16, used)
	g.fails(eNoent, "path_readlink", rootFD, "none", buf, 16, used)

	if kind := g.pathStat("dir/new", 0).kind; kind != typeSymlink {
		t.Errorf("not followed it is of kind %d", kind)
	}
	if st := g.pathStat("dir/new", lookupFollow); st != g.pathStat("file", 0) {
		t.Errorf("followed it is %+v", st)
	}
	g.fails(eInval, "path_filestat_get", rootFD, 2, "file", g.alloc(filestatBytes))
	g.fails(eNoent, "path_filestat_get", rootFD, 0, "none", g.alloc(filestatBytes))
}

func TestSetTimes(t *testing.T) {
	g := newGuest(t, Config{})
	g.create("file", "text")
	g.must("path_symlink", "file", rootFD, "link")
	before, link := g.pathStat("file", 0), g.pathStat("link", 0)

	g.must("path_filestat_set_times", rootFD, 0, "link", 0, link.mtime-200, timesMtim)
	if got := g.pathStat("link", 0); got.mtime != link.mtime-200 || got.atime != link.atime {
		t.Errorf("the link's times are %+v", got)
	}
	if got := g.pathStat("file", 0); got != before {
		t.Errorf("its target's changed as well: %+v", got)
	}
	g.must("path_filestat_set_times", rootFD, lookupFollow, "link", 77, before.mtime-100, timesMtim)
	if got := g.pathStat("file", 0); got.mtime != before.mtime-100 || got.atime != before.atime {
		t.Errorf("followed, the target's times are %+v", got)
	}
	fd := g.open(rootFD, "file", 0, rightSetTimes|rightFilestatGet, 0)
	g.must("fd_filestat_set_times", fd, 1_000_000_007, 2_000_000_009, timesAtim|timesMtim)
	if got := g.stat(fd); got.atime != 1_000_000_007 || got.mtime != 2_000_000_009 {
		t.Errorf("set by descriptor the times are %+v", got)
	}
	g.must("fd_filestat_set_times", fd, 5, 5, timesMtimNow)
	if got := g.stat(fd); got.atime != 1_000_000_007 || got.mtime < before.mtime {
		t.Errorf("set to now the times are %+v", got)
	}
	g.must("path_filestat_set_times", rootFD, lookupFollow, "file", 0, 0, 0)
	g.must("fd_filestat_set_times", rootFD, 5, 5, timesAtim|timesMtim)

	for _, flags := range []int{timesAtim | timesAtimNow, timesMtim | timesMtimNow, timesAll + 1} {
		g.fails(eInval, "fd_filestat_set_times", fd, 1, 1, flags)
		g.fails(eInval, "path_filestat_set_times", rootFD, 0, "file", 1, 1, flags)
	}
	g.fails(eInval, "fd_filestat_set_times", fd, uint64(1)<<63, 1, timesAtim)
	g.fails(eNotdir, "path_filestat_set_times", rootFD, 0, "file/", 1, 1, timesMtim)
	g.fails(eNoent, "path_filestat_set_times", rootFD, 0, "none", 1, 1, timesMtim)
	g.fails(eInval, "path_filestat_set_times", rootFD, 2, "file", 1, 1, timesMtim)
	g.fails(eInval, "fd_filestat_set_times", 1, 1, 1, timesMtim)
}

func TestAReadOnlyMountStaysAsItIs(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	v := openVolume(t, dir, VolumeLimits{})
	other := openVolume(t, t.TempDir(), VolumeLimits{})
	g := newGuest(t, Config{Mounts: []Mount{{Guest: "/", Volume: v, ReadOnly: true}, {Guest: "/rw", Volume: other}, {Guest: "/same", Volume: v}}})
	const writableFD, sameFD = rootFD + 1, rootFD + 2
	g.openFails(eRofs, 0, "file", 0, rightWrite)
	g.openFails(eRofs, 0, "file", openTruncate, 0)
	g.openFails(eRofs, 0, "new", openCreate, 0)
	g.openFails(success, 0, "file", openCreate, rightRead)
	fd := g.open(rootFD, "file", 0, fileRights&^rightWrite, 0)
	g.wantRead(fd, 9, "text")
	for _, right := range []rights{rightWrite, rightSetSize, rightAllocate} {
		if g.fdstat(fd).base.has(right) {
			t.Errorf("the file has the right %#x", right)
		}
	}
	g.fails(eRofs, "fd_filestat_set_times", fd, 1, 1, timesMtim)
	g.fails(eRofs, "fd_filestat_set_times", rootFD, 1, 1, timesMtim)
	g.fails(eRofs, "path_filestat_set_times", rootFD, 0, "file", 1, 1, timesMtim)
	g.fails(eRofs, "path_create_directory", rootFD, "d")
	g.fails(eRofs, "path_symlink", "t", rootFD, "s")
	g.fails(eRofs, "path_unlink_file", rootFD, "file")
	g.fails(eRofs, "path_remove_directory", rootFD, "file")
	g.fails(eRofs, "path_rename", rootFD, "file", rootFD, "other")
	g.fails(eRofs, "path_rename", rootFD, "file", writableFD, "other")
	g.fails(eRofs, "path_link", rootFD, 0, "file", rootFD, "other")
	g.fails(eRofs, "path_link", rootFD, 0, "file", sameFD, "other")
	g.fails(eXdev, "path_link", sameFD, 0, "file", writableFD, "other")
	g.fails(eXdev, "path_rename", sameFD, "file", writableFD, "other")
}
