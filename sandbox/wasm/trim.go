package wasm

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// maxCacheBytes bounds the compiled modules on disk. What goes is compiled again when it is needed
// again; what runs is in memory.
const maxCacheBytes = 1 << 30

// cached is one file of compiled code.
type cached struct {
	path  string
	used  time.Time
	bytes int64
}

// surplus is what to remove so that the rest is within limit, the longest unused first.
func surplus(all []cached, limit int64) []string {
	var total int64
	for _, c := range all {
		total += c.bytes
	}
	slices.SortFunc(all, func(a, b cached) int { return a.used.Compare(b.used) })
	var paths []string
	for _, c := range all {
		if total <= limit {
			break
		}
		paths = append(paths, c.path)
		total -= c.bytes
	}
	return paths
}

// Trim implements sandbox.Trimmer. The files are named by wazero, not by the modules' digests, so that
// all of them are alike here.
func (d *Driver) Trim(context.Context, map[string]bool) error {
	all, err := listCache(d.config.CacheDir)
	if err != nil {
		return err
	}
	for _, path := range surplus(all, maxCacheBytes) {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func listCache(dir string) (all []cached, err error) {
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) { // wazero renames a file when it is whole
			return nil
		}
		if err != nil {
			return err
		}
		all = append(all, cached{path: path, used: lastUse(info), bytes: info.Size()})
		return nil
	})
	return all, err
}

// lastUse is the time of the last reading, as far as the file system keeps it (once a day is usual).
func lastUse(info fs.FileInfo) time.Time {
	used := info.ModTime()
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		if read := time.Unix(st.Atim.Unix()); read.After(used) {
			used = read
		}
	}
	return used
}
