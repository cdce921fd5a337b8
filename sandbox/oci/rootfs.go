package oci

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"
)

const (
	maxSymlinks      = 40       // as the kernel's
	maxUserFileBytes = 10 << 20 // of /etc/passwd or /etc/group: an image is a stranger's
)

// rootView reads single files of a container's root before it is mounted: the folders of its layers,
// the topmost first, seen as overlayfs would show them. It mounts nothing, so it can leave nothing.
type rootView []string

// viewOf is the view of a snapshot. It knows the snapshotters that pickSnapshotter picks from.
func viewOf(mounts []mount.Mount) (rootView, error) {
	if len(mounts) != 1 {
		return nil, fmt.Errorf("a root of %d mounts", len(mounts))
	}
	m := mounts[0]
	switch m.Type {
	case "bind", "rbind":
		return rootView{m.Source}, nil
	case "overlay":
		return overlayDirs(m.Options), nil
	}
	return nil, fmt.Errorf("a root of type %q", m.Type)
}

func overlayDirs(options []string) rootView {
	var upper, lower rootView
	for _, o := range options {
		if dir, ok := strings.CutPrefix(o, "upperdir="); ok {
			upper = rootView{dir}
		}
		if dirs, ok := strings.CutPrefix(o, "lowerdir="); ok {
			lower = strings.Split(dirs, ":")
		}
	}
	return append(upper, lower...)
}

// read returns a regular file's content. Symbolic links lead to where they would in the container.
func (v rootView) read(name string) ([]byte, error) {
	file, err := v.find(name)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxUserFileBytes+1))
	if err == nil && len(data) > maxUserFileBytes {
		return nil, fmt.Errorf("/%s is larger than %d bytes", name, maxUserFileBytes)
	}
	return data, err
}

// find follows symbolic links until name is a regular file, and returns where that file is.
func (v rootView) find(name string) (string, error) {
	for range maxSymlinks {
		file, link, err := v.walk(strings.TrimPrefix(path.Clean("/"+name), "/"))
		if err != nil || link == "" {
			return file, err
		}
		name = link
	}
	return "", &fs.PathError{Op: "open", Path: "/" + name, Err: syscall.ELOOP}
}

// walk goes from the root towards name, folder by folder. It ends at a regular file, or at the first
// symbolic link: then link is the path to go on with.
func (v rootView) walk(name string) (file, link string, err error) {
	parts := strings.Split(name, "/")
	for i, at := 0, ""; i < len(parts); i++ {
		folder := at
		at = path.Join(at, parts[i])
		top, info, below, err := v.step(at)
		switch {
		case err != nil:
			return "", "", &fs.PathError{Op: "open", Path: "/" + at, Err: err}
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(top)
			if !path.IsAbs(target) {
				target = path.Join(folder, target)
			}
			return "", path.Join(target, path.Join(parts[i+1:]...)), err
		case info.Mode().IsRegular() && i == len(parts)-1:
			return top, "", nil
		}
		v = below
	}
	return "", "", fmt.Errorf("/%s is not a regular file", name)
}

// step looks at one path whose folders have been walked, in the layers that show them. It returns the
// topmost entry and, if that is a folder, the layers whose contents it merges.
func (v rootView) step(name string) (top string, info fs.FileInfo, below rootView, err error) {
	for _, layer := range v {
		file := filepath.Join(layer, name)
		here, err := os.Lstat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", nil, nil, err
		}
		if isWhiteout(here) || info != nil && !here.IsDir() {
			break // it hides what is below
		}
		if info == nil {
			top, info = file, here
		}
		if !here.IsDir() {
			break
		}
		below = append(below, layer)
		if isOpaque(file) {
			break
		}
	}
	if info == nil {
		err = fs.ErrNotExist
	}
	return top, info, below, err
}

// isWhiteout tells overlayfs's mark for a removed file: a character device 0, 0.
func isWhiteout(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Mode()&fs.ModeCharDevice != 0 && stat.Rdev == 0
}

// isOpaque tells overlayfs's mark for a folder that hides those below.
func isOpaque(dir string) bool {
	var value [1]byte
	n, err := unix.Lgetxattr(dir, "trusted.overlay.opaque", value[:])
	return err == nil && n == 1 && value[0] == 'y'
}
