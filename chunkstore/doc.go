// Package chunkstore keeps bytes by their digest on one node's disk.
//
// Chunks is the store of the object store: chunks up to 4 MiB, pinned by their owners, deduplicated,
// compressed, in segment files with a Pebble index; docs/STORAGE.md says what it promises. Read
// chunks.go first, then commit.go for how a put becomes durable, recover.go for what Open puts right,
// and room.go for full disks. It takes the disk as a vfs.FS, so that power cuts, torn writes, full
// disks and bits that rot are values in its tests.
//
// Files is a node's cache of whole artifacts (modules and image tarballs), a file per digest. What it stores
// is checked once on its way in and once more before it is first handed out by path: a file that
// rotted is removed and reported as missing, and the caller fetches it again.
package chunkstore
