package wasm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudless/cloudless/api"
)

// cache keeps compiled modules on disk. What lies in it is run as native code, so it is for the owner
// alone, each file is checked by its SHA-256 whenever it is read, and what is damaged, or somebody
// else's, goes.
//
//	DIGEST-ENGINE/        an entry: one module, compiled by one version of the engine for one kind of CPU
//	  description         what is known of the module, and the sums of the other two
//	  module.wasm         the rewritten module
//	  wazero-…/HEX        its code, under the names that wazero looks for
//	  tried               with what it was instantiated well (see trials): a hint, without a sum
//	work-…/               one process's: what is being compiled or loaded by it, or on its way out
//	lock                  held while a process opens the cache
//
// An entry comes and goes by one rename, so it is whole or not there; several processes may share a
// cache. Nothing is synced: what a power cut leaves of an entry is found out by its sums, and made anew.
// The lock of a work folder ends with its process, and the next one to open the cache removes it.
type cache struct {
	dir  string
	kind string // the ENGINE of entries that this process can use
	work string
	lock *os.File // of work
}

const (
	moduleFile      = "module.wasm"
	descriptionFile = "description"
	triedFile       = "tried"
	lockFile        = "lock"
	workPrefix      = "work-"
	loadFolder      = "load" // in work: wazero's view of what is being loaded

	maxDescriptionBytes = 16 << 20
)

var errDamaged = errors.New("the compiled module is damaged")

// openCache makes the folder, sweeps what dead processes left, and takes a work folder.
func openCache(dir string) (*cache, error) {
	if err := ownerOnly(dir); err != nil {
		return nil, err
	}
	opening, err := lock(filepath.Join(dir, lockFile), unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer opening.Close()
	if err := sweep(dir); err != nil {
		return nil, err
	}
	c := &cache{dir: dir}
	if c.work, err = os.MkdirTemp(dir, workPrefix); err != nil {
		return nil, err
	}
	c.lock, err = lock(filepath.Join(c.work, lockFile), unix.LOCK_EX|unix.LOCK_NB)
	return c, err
}

// close gives up the work folder.
func (c *cache) close() error {
	return errors.Join(os.RemoveAll(c.work), c.lock.Close())
}

// lock opens and locks a file; the lock ends with the file's closing, or the process.
func lock(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "lock", Path: path, Err: err}, f.Close())
	}
	return f, nil
}

// sweep removes the work folders of processes that are gone.
func sweep(dir string) error {
	left, err := fs.Glob(os.DirFS(dir), workPrefix+"*")
	if err != nil {
		return err
	}
	for _, name := range left {
		work := filepath.Join(dir, name)
		held, err := lock(filepath.Join(work, lockFile), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EWOULDBLOCK):
			continue
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		}
		if err := os.RemoveAll(work); err != nil {
			return err
		}
		if held != nil {
			held.Close()
		}
	}
	return nil
}

// entry is the folder of a module.
func (c *cache) entry(digest string) string {
	return filepath.Join(c.dir, strings.TrimPrefix(digest, "sha256:")+"-"+c.kind)
}

// describe reads what is known of a module: fs.ErrNotExist if nothing, errDamaged if it cannot be
// trusted. It reads one small file.
func (c *cache) describe(digest string) (*description, error) {
	dir := c.entry(digest)
	if err := ownFolder(dir); err != nil {
		return nil, err
	}
	text, err := readOwn(filepath.Join(dir, descriptionFile), maxDescriptionBytes)
	if err != nil {
		return nil, err
	}
	return decodeDescription(text, digest)
}

// module reads a module's rewritten bytes, checked.
func (c *cache) module(digest string, d *description) ([]byte, error) {
	code, err := readOwn(filepath.Join(c.entry(digest), moduleFile), d.Module.Bytes)
	if err != nil {
		return nil, err
	}
	if int64(len(code)) != d.Module.Bytes || sumOf(code) != d.Module.Sum {
		return nil, fmt.Errorf("%w: %s is not what was written", errDamaged, moduleFile)
	}
	return code, nil
}

// expose puts a module's code, checked, where wazero looks for it, until conceal is called. It is a link
// in this process's own folder: nobody else's trimming takes it away between the check and the use.
func (c *cache) expose(digest string, d *description) (conceal func(), err error) {
	if d.Code.Path == "" {
		return func() {}, nil
	}
	kept, view := filepath.Join(c.entry(digest), d.Code.Path), filepath.Join(c.work, loadFolder, d.Code.Path)
	if info, err := os.Lstat(kept); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: its code is no file", errDamaged)
	}
	if err := os.Link(kept, view); err != nil {
		return nil, fmt.Errorf("show a module's code to the engine: %w", err)
	}
	conceal = func() { _ = os.Remove(view) }
	if err := d.Code.check(view); err != nil {
		conceal()
		return nil, err
	}
	return conceal, nil
}

// check compares a file with what was written.
func (s fileSum) check(path string) error {
	f, err := openOwn(path)
	if err != nil {
		return err
	}
	defer f.Close()
	bytes, sum, err := sumOfFile(f)
	if err == nil && (bytes != s.Bytes || sum != s.Sum) {
		err = fmt.Errorf("%w: %s is not what was written", errDamaged, filepath.Base(s.Path))
	}
	return err
}

// scratch makes a folder for a compiling child. Whoever asked removes it, unless it becomes an entry.
func (c *cache) scratch() (string, error) { return os.MkdirTemp(c.work, "compile-") }

// publish makes a child's folder the entry of a module. If another process was quicker, its entry stays.
func (c *cache) publish(scratch, digest string) error {
	err := os.Rename(scratch, c.entry(digest))
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
		return nil
	}
	return err
}

// remove takes an entry away: out of the others' sight first, then in pieces.
func (c *cache) remove(name string) error {
	away, err := os.MkdirTemp(c.work, "gone-")
	if err != nil {
		return err
	}
	err = os.Rename(filepath.Join(c.dir, name), filepath.Join(away, "entry"))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(away))
}

// tried reads what keepTried kept; a file that is not that is as good as none.
func (c *cache) tried(digest string) [][sha256.Size]byte {
	text, err := readOwn(filepath.Join(c.entry(digest), triedFile), maxTrials*sha256.Size)
	if err != nil || len(text)%sha256.Size != 0 {
		return nil
	}
	var keys [][sha256.Size]byte
	for key := range slices.Chunk(text, sha256.Size) {
		keys = append(keys, [sha256.Size]byte(key))
	}
	return keys
}

// keepTried replaces what is kept. It may fail: then it is all tried once more.
func (c *cache) keepTried(digest string, keys [][sha256.Size]byte) {
	var text []byte
	for _, key := range keys {
		text = append(text, key[:]...)
	}
	tmp, err := os.CreateTemp(c.work, triedFile)
	if err != nil {
		return
	}
	_, err = tmp.Write(text)
	if errors.Join(err, tmp.Close()) == nil {
		err = os.Rename(tmp.Name(), filepath.Join(c.entry(digest), triedFile))
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
}

// touch notes that a module was used just now. It is a hint for trim.
func (c *cache) touch(digest string) {
	now := time.Now()
	_ = os.Chtimes(c.entry(digest), now, now)
}

// ownerOnly makes dir, for its owner only, and refuses another's: its owner could open it again.
func ownerOnly(dir string) error {
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chmod(dir, 0o700)); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err == nil && !ours(info) {
		return api.Errorf(api.CodeInvalid, "the folder %s belongs to another user, who could put code there", dir).
			WithHint("remove it, or change its owner to the one that runs this")
	}
	return err
}

// ownFolder refuses a folder that others can write to.
func ownFolder(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() || !ours(info) {
		return fmt.Errorf("%w: %s is not a folder of this user alone", errDamaged, filepath.Base(path))
	}
	return nil
}

// openOwn opens a file for reading and refuses one that others can write to, or that is elsewhere.
func openOwn(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, missing(err)
	}
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || !ours(info)) {
		err = fmt.Errorf("%w: %s is not a file of this user alone", errDamaged, filepath.Base(path))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ours tells whether only this user can have written a file.
func ours(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid() && info.Mode().Perm()&0o022 == 0
}

// missing is the error of a file that cannot be opened in an entry that is there.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) {
		return fmt.Errorf("%w: %v", errDamaged, err) //nolint:errorlint // that a part is gone must not be taken for no entry
	}
	return err
}

// readOwn reads a file of at most so many bytes.
func readOwn(path string, most int64) ([]byte, error) {
	f, err := openOwn(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > most {
		return nil, fmt.Errorf("%w: %s is longer than what was written", errDamaged, filepath.Base(path))
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return data, nil
}
