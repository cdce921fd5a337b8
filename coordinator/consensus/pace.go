package consensus

import (
	"context"

	"github.com/cloudless/cloudless/internal/run"
)

// keepSnapshots makes a snapshot when it is due, so that the log can be cut. The library would make one
// every so many entries, however large the state is: with a million objects it would write 200 MB for 20 MB
// of log, on cards that wear out. It ends with the node.
func (n *Node) keepSnapshots(ctx context.Context) error {
	for run.Sleep(ctx, snapshotInterval) == nil {
		if err := n.snapshotIfDue(ctx); err != nil {
			n.cfg.Log.Warn().Err(err).Msg("no snapshot was made; the log stays longer")
		}
	}
	return nil
}

func (n *Node) snapshotIfDue(ctx context.Context) error {
	grown := n.store.grown.Load()
	index, size := n.snapshots.last()
	if !snapshotDue(n.raft.LastIndex()-index, grown, size) {
		return nil
	}
	if err := n.Snapshot(ctx); err != nil {
		return err
	}
	n.store.grown.Add(-grown)
	return nil
}

// snapshotDue tells whether a snapshot is worth it: there are enough entries since the last one, and they
// take as much room as that did. So log and snapshots together take a few times the state at most, and what
// is written for snapshots is no more than what was written to the log.
func snapshotDue(entries uint64, grown, size int64) bool {
	return entries >= snapshotThreshold && grown >= size
}
