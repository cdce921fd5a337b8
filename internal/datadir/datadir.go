// Package datadir keeps a role's files: a folder that only its owner may enter, and files that are
// replaced whole and durably.
package datadir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cloudless/cloudless/api"
)

// minFree is the room that a role needs to take up its state: its stores write before they can be
// read, and wait for ever on a disk that is full.
const minFree = 16 << 20

// Make makes a folder with mode 0700 and proves that it can be written to.
func Make(dir string) error {
	err := os.MkdirAll(dir, 0o700)
	var fs unix.Statfs_t
	if err == nil && unix.Statfs(dir, &fs) == nil && fs.Bavail*uint64(fs.Bsize) < minFree {
		return &api.Error{Code: api.CodeNoRoom, Message: fmt.Sprintf("data folder %s: no space left: %d of at least %d bytes are free", dir, fs.Bavail*uint64(fs.Bsize), minFree), Hint: "free some space on its disk and start again; nothing acknowledged is lost"}
	}
	if err == nil {
		var probe *os.File
		if probe, err = os.CreateTemp(dir, ".writable-*"); err == nil {
			return errors.Join(probe.Close(), os.Remove(probe.Name()), os.Chmod(dir, 0o700))
		}
	}
	return &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf("data folder %s: %v", dir, err), Hint: "name another with --data-dir, or make it writable", Err: err}
}

// Lock takes a folder for this process, so that no second one uses what is in it. The lock ends with
// the process, however that ends.
func Lock(dir string) (release func() error, err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		e := api.Errorf(api.CodeConflict, "the data folder %s is in use by another process: %w", dir, err).
			WithHint("stop that one, or give this one a folder of its own with --data-dir")
		return nil, errors.Join(e, f.Close())
	}
	return f.Close, nil
}

// Damaged is the error of a file that cannot be what was written to it.
func Damaged(path string, err error, remedy string) error {
	return api.Errorf(api.CodeInternal, "%s is damaged: %w", path, err).WithHint("nothing was changed; put it back from a copy of the folder, or %s", remedy)
}

// WriteFile replaces a file at once and durably, readable by its owner alone (0600): after a crash
// it has its old content or its new one, never a part.
func WriteFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(0o600), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(tmp.Name()))
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
