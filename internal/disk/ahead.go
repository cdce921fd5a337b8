package disk

import (
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// StartWriting asks the kernel to begin to write a part of a file, so that a later sync finds less to do. It
// promises nothing and waits for nothing: what fails is left to the sync, which is told of it.
func StartWriting(f vfs.File, offset, n int64) {
	if fd := f.Fd(); fd != vfs.InvalidFd {
		_ = unix.SyncFileRange(int(fd), offset, n, unix.SYNC_FILE_RANGE_WRITE)
	}
}
