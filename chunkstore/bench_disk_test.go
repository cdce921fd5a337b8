package chunkstore

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cloudless/cloudless/internal/disk"
)

// What the disk gives at best: append and flush, with no digest, no checksum and no index; and the same into
// room that was set aside, with the disk beginning before the flush.
func BenchmarkRawAppend(b *testing.B) {
	b.Run("ahead/1MiB/group8", func(b *testing.B) {
		w, err := openWriter(vfs.Default, b.TempDir(), 1, 0)
		if err != nil {
			b.Fatal(err)
		}
		defer w.close()
		benchPut(b, 1<<20, 8, func(chunks []Chunk) error {
			if err := w.file.Preallocate(w.end, 8<<20); err != nil {
				return err
			}
			for _, ch := range chunks {
				if _, err := w.file.WriteAt(ch.Data, w.end); err != nil {
					return err
				}
				disk.StartWriting(w.file, w.end, 1<<20)
				w.end += 1 << 20
			}
			return w.file.SyncData()
		})
	})
	for _, group := range []int{1, 8} {
		b.Run(fmt.Sprintf("1MiB/group%d", group), func(b *testing.B) {
			w, err := openWriter(vfs.Default, b.TempDir(), 1, 0)
			if err != nil {
				b.Fatal(err)
			}
			defer w.close()
			benchPut(b, 1<<20, group, func(chunks []Chunk) error {
				for _, ch := range chunks {
					if _, err := w.file.WriteAt(ch.Data, w.end); err != nil {
						return err
					}
					w.end += int64(len(ch.Data))
				}
				return w.file.SyncData()
			})
		})
	}
}

// Pebble alone, with the same options and no segments.
func BenchmarkPebbleAlone(b *testing.B) {
	for _, group := range []int{1, 8} {
		b.Run(fmt.Sprintf("1MiB/group%d", group), func(b *testing.B) {
			d := newFaulty(vfs.Default)
			db, err := pebble.Open(b.TempDir(), indexOptions(d, Options{}, &fault{}))
			if err != nil {
				b.Fatal(err)
			}
			var put int64
			benchPut(b, 1<<20, group, func(chunks []Chunk) error {
				batch := db.NewBatch()
				for _, ch := range chunks {
					if err := batch.Set([]byte(ch.Digest), ch.Data, nil); err != nil {
						return err
					}
					put += int64(len(ch.Data))
				}
				return batch.Commit(pebble.Sync)
			})
			if err := db.Close(); err != nil {
				b.Fatal(err)
			}
			reportAmplification(b, d.written.Load(), put)
		})
	}
}
