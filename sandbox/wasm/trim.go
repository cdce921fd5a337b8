package wasm

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// maxCacheBytes bounds the compiled modules on disk. What goes is compiled again when it is needed
// again.
const maxCacheBytes = 1 << 30

// cached is one compiled module on disk.
type cached struct {
	name   string // of its folder
	digest string
	used   time.Time
	bytes  int64
}

// surplus is what to remove so that the rest is within limit, the longest unused first; what is to be
// kept counts and stays.
func surplus(all []cached, limit int64, keep func(cached) bool) []cached {
	var total int64
	for _, c := range all {
		total += c.bytes
	}
	slices.SortFunc(all, func(a, b cached) int { return a.used.Compare(b.used) })
	var gone []cached
	for _, c := range all {
		if total <= limit {
			break
		}
		if !keep(c) {
			gone = append(gone, c)
			total -= c.bytes
		}
	}
	return gone
}

// Trim implements sandbox.Trimmer.
func (d *Driver) Trim(_ context.Context, keep map[string]bool) error {
	e := d.engine
	e.forgetOthers(keep)
	all, err := e.cache.list()
	if err != nil {
		return err
	}
	usable := func(c cached) bool { return c.name == filepath.Base(e.cache.entry(c.digest)) }
	needed := func(c cached) bool { return usable(c) && (keep[c.digest] || e.busy(c.digest)) }
	for _, c := range surplus(all, maxCacheBytes, needed) {
		if usable(c) {
			e.forget(c.digest)
		}
		if err := e.cache.remove(c.name); err != nil {
			return err
		}
	}
	return nil
}

// list finds all entries, those of other versions and kinds of CPU among them.
func (c *cache) list() (all []cached, err error) {
	folders, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, err
	}
	for _, folder := range folders {
		digest, _, ok := strings.Cut(folder.Name(), "-")
		if !ok || !folder.IsDir() || strings.HasPrefix(folder.Name(), workPrefix) {
			continue
		}
		found := cached{name: folder.Name(), digest: "sha256:" + digest}
		if found.used, found.bytes, err = weigh(filepath.Join(c.dir, folder.Name())); err == nil {
			all = append(all, found)
		} else if !errors.Is(err, fs.ErrNotExist) { // another process has removed it
			return nil, err
		}
	}
	return all, nil
}

// weigh adds up the files of an entry, and tells when it was touched last.
func weigh(dir string) (used time.Time, bytes int64, err error) {
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if path == dir {
			used = info.ModTime()
		}
		bytes += info.Size()
		return nil
	})
	return used, bytes, err
}
