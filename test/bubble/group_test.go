package bubble

import (
	"crypto/sha256"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
)

// A cold file is an object of one chunk, which is large enough for a group.
const (
	coldFiles     = 12
	coldFileBytes = 100 << 10
	coldChunks    = coldFiles * 6 / 4 // in groups, with their parity
)

// fillCold puts cold files. They are not compressed: zstd shares its encoders, which bubbles cannot.
func (w *world) fillCold() map[string][sha256.Size]byte {
	w.t.Helper()
	_, err := w.mustLead().PutBucket(w.t.Context(), admin, api.Bucket{Name: "assets", Class: api.ClassCold, Compression: api.CompressionNone}, true, 0)
	w.check(err)
	return w.fill(coldFiles, coldFileBytes)
}

// Cold files go into groups. Two nodes are lost at once: the files are read all the same, and what these
// nodes had is made anew on the others. When the files are deleted, parity goes too.
func TestColdFilesOutliveTwoNodesWithOneCopy(t *testing.T) {
	small(t, 1, 6, func(w *world) {
		sums := w.fillCold()
		w.check(w.mustLead().RepairStorage(w.t.Context(), admin))
		w.eventually("one copy of each, and parity", 10*time.Minute, func() bool { return total(w.stored()) == coldChunks })
		w.readAll(sums)
		lost := w.nodes[1:3]
		for _, n := range lost {
			w.powerOff(n)
		}
		w.readAll(sums)
		w.eventually("all of it on the others", 10*time.Minute, func() bool { return total(w.stored(), lost[0].name, lost[1].name) == coldChunks })
		w.eventually("the leader to say so", soon, func() bool { u := w.upkeep(); return u.Short+u.Lost == 0 && u.Copied > 0 })
		w.readAll(sums)
		for _, n := range lost {
			w.start(n)
		}
		w.eventually("what is too much to go", 10*time.Minute, func() bool { return total(w.stored()) == coldChunks })
		for key := range sums {
			w.check(w.mustLead().DeleteObject(w.t.Context(), admin, "assets", key, ""))
		}
		w.check(w.mustLead().CollectStorage(w.t.Context(), admin, false))
		w.pass(11 * time.Minute)
		w.check(w.mustLead().CollectStorage(w.t.Context(), admin, false))
		w.eventually("all to be collected", 2*time.Minute, func() bool { return total(w.stored()) == 0 })
	})
}
