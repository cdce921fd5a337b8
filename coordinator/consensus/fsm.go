package consensus

import (
	"errors"
	"io"

	"github.com/hashicorp/raft"
)

// FSM is what the commands make up. Apply and Snapshot are never called at the same time; Snapshot
// must be quick, its Write may run beside later Applys.
type FSM interface {
	// Apply gets every command once per start, in the order of the log, from the one after the last
	// snapshot. What it returns is Propose's result.
	Apply(index uint64, cmd []byte) any
	Snapshot() (Snapshot, error)
	// Restore replaces all state.
	Restore(io.ReadCloser) error
}

// Snapshot is the state of one moment.
type Snapshot interface {
	Write(io.Writer) error
	Release()
}

type fsmAdapter struct{ fsm FSM }

// Apply implements raft.FSM.
func (a fsmAdapter) Apply(l *raft.Log) any { return a.fsm.Apply(l.Index, l.Data) }

// Snapshot implements raft.FSM.
func (a fsmAdapter) Snapshot() (raft.FSMSnapshot, error) {
	s, err := a.fsm.Snapshot()
	if err != nil {
		return nil, err
	}
	return snapshotAdapter{s}, nil
}

// Restore implements raft.FSM.
func (a fsmAdapter) Restore(r io.ReadCloser) error { return a.fsm.Restore(r) }

type snapshotAdapter struct{ Snapshot }

// Persist implements raft.FSMSnapshot.
func (s snapshotAdapter) Persist(sink raft.SnapshotSink) error {
	if err := s.Write(sink); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}
