// Package disk is what our stores ask of a file system beyond what Pebble does.
package disk

import (
	"errors"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// markerPrefix begins the names of Pebble's markers.
const markerPrefix = "marker."

// Ordered is fs with one promise more: the name of a marker never survives a power cut without the names
// that were made before it. Pebble makes a new manifest, then a marker that names it, and syncs the folder
// once; a file system that keeps no order among names may then have the marker alone, and Pebble does not
// open.
func Ordered(fs vfs.FS) vfs.FS { return ordered{fs} }

type ordered struct{ vfs.FS }

// Create implements vfs.FS.
func (o ordered) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(o.PathBase(name), markerPrefix) {
		if err := SyncDir(o.FS, o.PathDir(name)); err != nil {
			return nil, err
		}
	}
	return o.FS.Create(name, c)
}

// Unwrap implements vfs.FS.
func (o ordered) Unwrap() vfs.FS { return o.FS }

// SyncDir makes the names in a folder durable.
func SyncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
