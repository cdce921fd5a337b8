package wasi

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// prison is a guest whose mount lies beside what it must not reach: a file with a secret, an empty
// directory and a directory with a file.
type prison struct {
	*guest
	outside string
}

const secret = "the host's own"

func newPrison(t *testing.T) *prison {
	t.Helper()
	base := t.TempDir()
	p := &prison{outside: filepath.Join(base, "outside")}
	inside := filepath.Join(base, "inside")
	for _, dir := range []string{inside, p.outside, filepath.Join(p.outside, "empty"), filepath.Join(p.outside, "full")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"secret", "full/secret"} {
		if err := os.WriteFile(filepath.Join(p.outside, file), []byte(secret), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	v := openVolume(t, inside, VolumeLimits{})
	p.guest = newGuest(t, Config{Mounts: []Mount{{"/", v, false}}})
	p.dir = inside
	before := tree(t, p.outside)
	t.Cleanup(func() {
		if after := tree(t, p.outside); after != before {
			t.Errorf("outside of the mount there is now\n%s\nbefore it was\n%s", after, before)
		}
	})
	return p
}

// tree is all that is below dir: kinds, contents, links and the files' times.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %v links %d", path, info.Mode(), info.Sys().(*syscall.Stat_t).Nlink)
		if !d.IsDir() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %v %q", info.ModTime(), content)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// attack tries everything that a path can be used for, and reports what worked.
func (p *prison) attack(path string) {
	p.t.Helper()
	heap := p.heap
	at := p.alloc(filestatBytes)
	worked := func(what string, e errno) {
		if e == success {
			p.t.Errorf("%s of %q worked", what, path)
		}
	}
	for lookup := range uint32(2) {
		for _, flags := range []uint32{0, openCreate, openDirectory, openCreate | openExclusive, openTruncate} {
			for _, base := range []rights{0, rightRead, rightWrite} {
				_, e := p.tryOpen(rootFD, lookup, path, flags, base, 0, 0)
				worked("path_open", e)
			}
		}
		worked("path_filestat_get", p.call("path_filestat_get", rootFD, lookup, path, at))
		worked("path_filestat_set_times", p.call("path_filestat_set_times", rootFD, lookup, path, 1, 1, timesAtim|timesMtim))
		worked("path_link from", p.call("path_link", rootFD, lookup, path, rootFD, "stolen"))
	}
	worked("path_create_directory", p.call("path_create_directory", rootFD, path))
	worked("path_link to", p.call("path_link", rootFD, 0, "mine", rootFD, path))
	worked("path_readlink", p.call("path_readlink", rootFD, path, at, filestatBytes, at))
	worked("path_remove_directory", p.call("path_remove_directory", rootFD, path))
	worked("path_rename from", p.call("path_rename", rootFD, path, rootFD, "stolen"))
	worked("path_rename to", p.call("path_rename", rootFD, "mine", rootFD, path))
	worked("path_symlink", p.call("path_symlink", "mine", rootFD, path))
	worked("path_unlink_file", p.call("path_unlink_file", rootFD, path))
	p.heap = heap
}

func TestNoPathLeavesTheMount(t *testing.T) {
	p := newPrison(t)
	p.create("mine", "mine")
	p.must("path_create_directory", rootFD, "dir")
	for _, path := range []string{
		"../outside/secret", "../outside/empty", "..", "../", "../inside/mine", "dir/../../outside/secret", "./../outside/secret",
		"dir/./../.././outside/full/secret", p.outside, p.outside + "/secret", "//" + p.outside + "/secret", "/", "/mine", "dir/../../outside/new",
	} {
		p.attack(path)
	}
}

func TestLinksOfTheHostAreNotFollowedOut(t *testing.T) {
	p := newPrison(t)
	p.create("mine", "mine")
	p.must("path_create_directory", rootFD, "dir")
	for name, target := range map[string]string{
		"absolute": p.outside, "relative": "../outside", "chain": "chain2", "chain2": "dir/chain3", "dir/chain3": "../../outside",
		"root": "/", "proc": "/proc/self/root" + p.outside, "above": "..", "back": "../inside",
	} {
		if err := os.Symlink(target, filepath.Join(p.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range []string{"absolute", "relative", "chain", "root" + p.outside, "proc", "above/outside"} {
		for _, path := range []string{"secret", "empty", "full/secret", "empty/new", ".", "empty/", "full/.."} {
			p.attack(link + "/" + path)
		}
	}
	p.attack("back/mine") // it would lead back, through what is above
	for _, link := range []string{"absolute", "relative", "chain", "proc"} {
		if _, e := p.tryOpen(rootFD, lookupFollow, link, 0, 0, 0, 0); e == success {
			t.Errorf("the link %q was followed out", link)
		}
		p.fails(eNotdir, "path_remove_directory", rootFD, link)
	}
	for _, path := range []string{"absolute", "relative"} { // the links themselves are the guest's
		p.must("path_link", rootFD, 0, path, rootFD, path+" 2")
		p.must("path_rename", rootFD, path+" 2", rootFD, path+" 3")
		p.must("path_filestat_set_times", rootFD, 0, path, 1, 1, timesMtim)
		p.must("path_unlink_file", rootFD, path)
	}
}

func TestALinkThatIsMovedUpDoesNotLeadOut(t *testing.T) {
	p := newPrison(t)
	p.must("path_create_directory", rootFD, "a")
	p.must("path_create_directory", rootFD, "a/b")
	p.must("path_create_directory", rootFD, "outside") // so that the link is good where it is made
	p.create("outside/secret", "the guest's own")
	p.must("path_symlink", "../../outside/secret", rootFD, "a/b/link")
	p.wantRead(p.follow("a/b/link"), 99, "the guest's own")
	p.must("path_rename", rootFD, "a/b/link", rootFD, "a/link")
	p.openFails(ePerm, lookupFollow, "a/link", 0, rightRead)
	p.must("path_rename", rootFD, "a/link", rootFD, "a/b/link")
	p.must("path_rename", rootFD, "a/b", rootFD, "b") // and with the directory it lies in
	p.openFails(ePerm, lookupFollow, "b/link", 0, rightRead)

	sub, e := p.tryOpen(rootFD, 0, "b", openDirectory, directoryRights, allRights, 0)
	if e != success {
		t.Fatal(e)
	}
	p.must("path_rename", rootFD, "b", rootFD, "a/b") // an open directory is its own root, wherever it goes
	for _, path := range []string{"..", "../..", "../a", "link"} {
		if _, e := p.tryOpen(sub, lookupFollow, path, 0, 0, 0, 0); e != ePerm {
			t.Errorf("%q from an open directory: errno %d", path, e)
		}
	}
}

func (p *prison) follow(path string) uint32 {
	p.t.Helper()
	fd, e := p.tryOpen(rootFD, lookupFollow, path, 0, rightRead, 0, 0)
	if e != success {
		p.t.Fatalf("open %q: errno %d", path, e)
	}
	return fd
}

// While the guest uses a directory, the host swaps it with a link that leads out, again and again.
func TestADirectoryThatIsSwappedForALinkDoesNotLeadOut(t *testing.T) {
	p := newPrison(t)
	p.onHost("dir/secret", "the guest's own")
	if err := os.Symlink("../outside/full", filepath.Join(p.dir, "link")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var swapper sync.WaitGroup
	swapper.Go(func() {
		a, b := filepath.Join(p.dir, "dir"), filepath.Join(p.dir, "link")
		for ctx.Err() == nil {
			if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
				t.Errorf("swap: %v", err)
				return
			}
		}
	})
	const rounds = 1000
	reached := 0
	for range rounds {
		heap := p.heap
		if fd, e := p.tryOpen(rootFD, lookupFollow, "dir/secret", 0, rightRead, 0, 0); e == success {
			reached++
			p.wantRead(fd, 99, "the guest's own")
			p.must("fd_close", fd)
		}
		if fd, e := p.tryOpen(rootFD, lookupFollow, "dir", openDirectory, directoryRights, allRights, 0); e == success {
			if got, e := p.tryOpen(fd, 0, "secret", 0, rightRead, 0, 0); e == success {
				p.wantRead(got, 99, "the guest's own")
				p.must("fd_close", got)
			}
			p.must("fd_close", fd)
		}
		p.call("path_create_directory", rootFD, "dir/new")
		p.call("path_link", rootFD, 0, "dir/secret", rootFD, "dir/hard")
		p.call("path_symlink", "secret", rootFD, "dir/soft")
		p.call("path_filestat_set_times", rootFD, lookupFollow, "dir/secret", 1, 1, timesMtim)
		p.call("path_filestat_set_times", rootFD, 0, "dir/secret", 1, 1, timesMtim)
		p.call("path_rename", rootFD, "dir/hard", rootFD, "dir/moved")
		p.call("path_unlink_file", rootFD, "dir/moved")
		p.call("path_unlink_file", rootFD, "dir/soft")
		p.call("path_remove_directory", rootFD, "dir/new")
		p.heap = heap
	}
	cancel()
	swapper.Wait()
	if reached == 0 {
		t.Error("the directory was never there: the test has shown nothing")
	}
}

func TestAMountShowsFilesDirectoriesAndLinksOnly(t *testing.T) {
	g := newGuest(t, Config{})
	fifo := filepath.Join(g.dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, base := range []rights{rightRead, rightRead | rightWrite} { // and does not wait for the other end
		g.openFails(eNotsup, 0, "fifo", 0, base)
		g.openFails(eNotsup, lookupFollow, "fifo", 0, base)
	}
	g.openFails(60, 0, "fifo", 0, rightWrite) // ENXIO: nobody reads
	g.openFails(eNotdir, 0, "fifo", openDirectory, 0)
	g.openFails(eNotdir, 0, "fifo/", 0, 0)
	if kind := g.pathStat("fifo", 0).kind; kind != typeUnknown {
		t.Errorf("it is of kind %d", kind)
	}
	g.must("path_unlink_file", rootFD, "fifo")
}
