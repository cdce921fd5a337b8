package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudless/cloudless/api"
)

// A container writes to its volume by itself, so what holds it to the size is a file system of that size:
// ext4 in a sparse file, mounted by a loop device; or, for a small volume on a machine without either, the
// machine's memory.
const (
	imageFile     = "image"
	imageOverhead = 8 << 20  // and a sixteenth: what ext4 keeps for itself, so that the size is there to be used
	maxMemory     = 64 << 20 // the largest volume that may lie in memory
	makeTimeout   = 2 * time.Minute
)

// mountFlags are for what strangers write: no devices, no program that runs as another user.
const mountFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOATIME

// mountSized mounts a file system of size bytes at target, from the image in dir, which it makes if there is
// none. What is mounted already stays.
func mountSized(ctx context.Context, dir, target string, size api.Bytes) error {
	mounted, err := isMount(target)
	if mounted || err != nil {
		return err
	}
	image := filepath.Join(dir, imageFile)
	err = makeImage(ctx, image, size)
	if err == nil {
		err = mountImage(image, target)
	}
	if err == nil || size > maxMemory {
		return limited(err, size)
	}
	options := fmt.Sprintf("size=%d,mode=0755", size)
	return limited(errors.Join(os.RemoveAll(image), unix.Mount("tmpfs", target, "tmpfs", mountFlags, options)), size)
}

// limited says what a machine lacks that cannot hold a container to a volume's size.
func limited(err error, size api.Bytes) error {
	if err == nil {
		return nil
	}
	return api.Errorf(api.CodeUnavailable, "this node cannot hold a container to a volume of %s: %w", size, err).
		WithHint("run the agent as root, with loop devices (modprobe loop) and mkfs.ext4 (package e2fsprogs)")
}

// isMount tells whether a file system is mounted at a folder.
func isMount(dir string) (bool, error) {
	var here, above unix.Stat_t
	if err := errors.Join(unix.Lstat(dir, &here), unix.Lstat(filepath.Dir(dir), &above)); err != nil {
		return false, err
	}
	return here.Dev != above.Dev, nil
}

// makeImage makes a file with an empty ext4; the file gets its name when it is whole.
func makeImage(ctx context.Context, image string, size api.Bytes) error {
	if _, err := os.Stat(image); err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, makeTimeout)
	defer cancel()
	part := image + ".part"
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(int64(size+size/16+imageOverhead)), f.Close()); err != nil {
		return err
	}
	path, err := lookTool("mkfs.ext4")
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, path, "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", part).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, bytes.TrimSpace(out))
	}
	return os.Rename(part, image)
}

// lookTool finds a program of the administrator's, whose folders are not in everybody's PATH.
func lookTool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no %s", name)
}

// mountImage mounts an image by a loop device, which goes by itself when nobody uses it any more. One that
// the image has already is used again: two would not know of each other's writes.
func mountImage(image, target string) error {
	device, err := loopOf(image)
	if err != nil {
		return err
	}
	if device != "" {
		return mountLoop(device, target)
	}
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	loop, err := attachLoop(f, image)
	if err != nil {
		return err
	}
	defer loop.Close() // by then it is mounted, or nobody wants it
	return mountLoop(loop.Name(), target)
}

func mountLoop(device, target string) error {
	if err := unix.Mount(device, target, "ext4", mountFlags, ""); err != nil {
		return fmt.Errorf("mount %s: %w", device, err)
	}
	return nil
}

// loopOf finds the loop device that has an image; "" if none has.
func loopOf(image string) (string, error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return "", err
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.TrimSuffix(string(text), "\n") == image {
			return "/dev/" + strings.Split(file, "/")[3], nil
		}
	}
	return "", nil
}

// loopTries bounds how often another takes the loop device that was free.
const loopTries = 32

func attachLoop(f *os.File, name string) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	config := &unix.LoopConfig{Fd: uint32(f.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
	copy(config.Info.File_name[:unix.LO_NAME_SIZE-1], name)
	for range loopTries {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("no free loop device: %w", err)
		}
		loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), config)
		if err == nil {
			return loop, nil
		}
		_ = loop.Close()
		if !errors.Is(err, syscall.EBUSY) {
			return nil, fmt.Errorf("attach %s: %w", loop.Name(), err)
		}
	}
	return nil, fmt.Errorf("each of %d free loop devices was taken by another", loopTries)
}

// unmount takes away what is mounted at a folder, if anything is.
func unmount(target string) error {
	mounted, err := isMount(target)
	switch {
	case errors.Is(err, syscall.ENOENT):
		return nil
	case err != nil || !mounted:
		return err
	}
	if err := unix.Unmount(target, 0); err != nil && !errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("unmount %s: %w", target, err)
	}
	return nil
}
