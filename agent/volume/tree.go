package volume

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudless/cloudless/agent/mirror"
)

// The two folders of a volume: what replicas see, and what is on its way there. Both are of one file
// system, so that a file comes whole, by a rename.
const (
	dataDir = "data"
	newDir  = "new"
)

// settled is how long a file must have been left alone to be taken as whole.
const settled = 2 * time.Second

// tree is the files of a volume. Guests may have made what is in it, links included, so everything goes
// through an os.Root: nothing outside of the volume is read or written.
type tree struct {
	root     *os.Root
	counter  atomic.Uint64
	fileMode os.FileMode
	dirMode  os.FileMode
}

// openTree opens, and makes, the folders of a volume under dir.
func openTree(dir string, writable bool) (*tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	t := &tree{root: root, fileMode: 0o644, dirMode: 0o755}
	if writable { // by whatever user its container has; nobody else can get here
		t.fileMode, t.dirMode = 0o666, 0o777
	}
	err = errors.Join(t.mkdir(dataDir), root.RemoveAll(newDir))
	if err == nil {
		err = root.Mkdir(newDir, 0o700)
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return t, nil
}

// mkdir makes a folder that has its mode whatever the umask is; one that is there stays as it is.
func (t *tree) mkdir(dir string) error {
	err := t.root.Mkdir(dir, t.dirMode)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return t.root.Chmod(dir, t.dirMode)
}

func (t *tree) mkdirs(dir string) error {
	for i, c := range dir {
		if c == '/' {
			if err := t.mkdir(dir[:i]); err != nil {
				return err
			}
		}
	}
	return t.mkdir(dir)
}

// scan finds the regular files. Of one that is not what the base knows it reads the bytes.
func (t *tree) scan(ctx context.Context, base map[string]mirror.Base, now time.Time) (map[string]mirror.File, error) {
	files := map[string]mirror.File{}
	err := fs.WalkDir(t.root.FS(), dataDir, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && errors.Is(err, fs.ErrNotExist) && name != dataDir:
			return nil // it went meanwhile
		case err != nil:
			return err
		case !entry.Type().IsRegular():
			return nil
		}
		key := strings.TrimPrefix(name, dataDir+"/")
		if mirror.Fault(key) != "" {
			return nil
		}
		file, err := t.file(name, base[key], now)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case len(files) >= maxNames:
			return fmt.Errorf("it has more than %d files", maxNames)
		}
		files[key] = file
		return nil
	})
	return files, err
}

func (t *tree) file(name string, was mirror.Base, now time.Time) (f mirror.File, err error) {
	if f.Stamp, err = t.stamp(name); err != nil {
		return f, err
	}
	if f.Stamp == was.Stamp {
		f.ETag = was.ETag
		return f, nil
	}
	age := now.UnixNano() - f.Stamp.Changed
	if f.Busy = age >= 0 && age < int64(settled); f.Busy { // after a clock was set back nothing waits for it
		f.ETag = "busy" // no MD5: it is read when it is whole
		return f, nil
	}
	f.ETag, err = t.sum(name)
	return f, err
}

// stamp is a regular file's.
func (t *tree) stamp(name string) (mirror.Stamp, error) {
	info, err := t.root.Lstat(name)
	if err != nil {
		return mirror.Stamp{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() {
		return mirror.Stamp{}, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
	}
	return mirror.Stamp{Inode: st.Ino, Size: st.Size, Changed: st.Ctim.Nano()}, nil
}

func (t *tree) sum(name string) (string, error) {
	f, err := t.openFile(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := md5.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// openFile opens a regular file to be read. Whatever took its place meanwhile does not make us wait.
func (t *tree) openFile(name string) (*os.File, error) {
	f, err := t.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// put makes a file of r's bytes, under its name once it is whole, if still says so then; else the stamp is
// empty.
func (t *tree) put(key string, r io.Reader, still func() (bool, error)) (mirror.Stamp, error) {
	staged, name := path.Join(newDir, fmt.Sprint(t.counter.Add(1))), path.Join(dataDir, key)
	err := t.stage(staged, r)
	if err == nil {
		err = t.mkdirs(path.Dir(name))
	}
	same := false
	if err == nil {
		same, err = still()
	}
	if same {
		err = t.root.Rename(staged, name)
	}
	if !same || err != nil {
		_ = t.root.Remove(staged) // or the next opening does
		return mirror.Stamp{}, err
	}
	return t.stamp(name)
}

func (t *tree) stage(name string, r io.Reader) error {
	f, err := t.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, t.fileMode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Chmod(t.fileMode), f.Close())
}

// remove takes a file away, and the folders that are empty by that.
func (t *tree) remove(key string) error {
	name := path.Join(dataDir, key)
	if err := t.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for dir := path.Dir(name); dir != dataDir; dir = path.Dir(dir) {
		if t.root.Remove(dir) != nil { // it has other files
			break
		}
	}
	return nil
}

func (t *tree) rename(from, to string) error {
	return t.root.Rename(path.Join(dataDir, from), path.Join(dataDir, to))
}

// sync makes everything durable that was written so far.
func (t *tree) sync() error {
	f, err := t.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}

func (t *tree) close() error { return t.root.Close() }
