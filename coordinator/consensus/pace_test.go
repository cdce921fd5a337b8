package consensus

import (
	"strings"
	"testing"
	"testing/synctest"
)

func TestASnapshotIsDueWhenTheLogIsAsLarge(t *testing.T) {
	for _, c := range []struct {
		entries     uint64
		grown, size int64
		want        bool
	}{
		{snapshotThreshold, 0, 0, true},
		{snapshotThreshold - 1, 1 << 30, 0, false},
		{snapshotThreshold, 99, 100, false},
		{snapshotThreshold, 100, 100, true},
	} {
		if got := snapshotDue(c.entries, c.grown, c.size); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// A state that is large is not written anew for a log that is small, however many entries that has.
func TestSnapshotsKeepPaceWithTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		a := c.start("a")
		must(t, a.Bootstrap())
		a = c.leader()
		look := func() uint64 {
			t.Helper()
			must(t, a.snapshotIfDue(t.Context()))
			index, _ := a.snapshots.last()
			return index
		}
		fill := func() {
			for range snapshotThreshold {
				propose(t, a, "x")
			}
		}
		if look() != 0 {
			t.Error("a snapshot of nearly nothing")
		}
		fill()
		first := look()
		if first < snapshotThreshold {
			t.Fatalf("the snapshot is of index %d", first)
		}
		fill()
		if again := look(); again != first {
			t.Errorf("another snapshot, of index %d: the log is smaller than the first", again)
		}
		c.stop("a")
		a = c.start("a")
		a = c.leader()
		must(t, a.Barrier(t.Context()))
		_, size := a.snapshots.last()
		if grown := a.store.grown.Load(); grown < snapshotThreshold || size == 0 {
			t.Errorf("after a start the log is of %d bytes, the snapshot of %d", grown, size)
		}
		propose(t, a, strings.Repeat("y", int(size)))
		if again := look(); again <= first {
			t.Error("no snapshot, though the log is larger than the last one")
		}
		if grown := a.store.grown.Load(); grown != 0 {
			t.Errorf("the log has grown by %d bytes since a snapshot of now", grown)
		}
	})
}
