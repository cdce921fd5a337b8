package coordinator

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/coordinator/consensus"
	"github.com/cloudless/cloudless/coordinator/objects"
	"github.com/cloudless/cloudless/coordinator/state"
)

// fsm feeds the log into the two things that are made of it: the state, in memory, and the object
// store's rows, on the disk. An entry belongs to one of them, by its first byte. Raft calls it from one
// goroutine.
type fsm struct {
	s      *Server
	failed error // why no more of the log can be followed
}

// metaResults is what an entry of the object store gave.
type metaResults struct {
	results []meta.Result
	err     error
}

// Apply applies one entry. One that cannot be read, or not be written to the rows, would part this
// member from the others: the coordinator stops, and takes nothing more in until it does.
func (f *fsm) Apply(index uint64, data []byte) any {
	if f.failed != nil {
		return metaResults{err: f.failed}
	}
	result, err := f.apply(index, data)
	if err != nil {
		f.failed = fmt.Errorf("entry %d: %w", index, err)
		f.s.group.Go("log", func(context.Context) error { return f.failed })
		return metaResults{err: f.failed}
	}
	f.s.applied.set(index)
	return result
}

func (f *fsm) apply(index uint64, data []byte) (any, error) {
	if len(data) > 0 && data[0] == objects.EntryFormat {
		if index <= f.s.objects.Applied() { // told again at a start; nobody waits for what it gives
			return metaResults{}, nil
		}
		cmds, err := objects.Decode(data)
		if err != nil {
			return nil, err
		}
		results, err := f.s.objects.Apply(index, cmds)
		return metaResults{results: results}, err
	}
	cmd, err := state.Decode(data)
	if err != nil {
		return nil, err
	}
	return f.s.store.Apply(index, cmd), nil
}

// Snapshot pins both as they are. There is none of a state that is not that of its index.
func (f *fsm) Snapshot() (consensus.Snapshot, error) {
	if f.failed != nil {
		return nil, f.failed
	}
	return &snapshot{index: f.s.applied.get(), state: f.s.store.View(), rows: f.s.objects.View(), sync: f.s.objects.Sync}, nil
}

// A snapshot is the magic; the index of the last command in it, in 8 bytes; a dump of the object
// store's rows; the state. One of a version that had no object store is the state alone.
const snapshotMagic = "CLS1"

type snapshot struct {
	index uint64
	state state.View
	rows  *objects.View
	sync  func() error
}

// Write implements consensus.Snapshot. When it returns, the rows are on this disk too: the log that told
// them may be cut.
func (s *snapshot) Write(w io.Writer) error {
	head := binary.BigEndian.AppendUint64([]byte(snapshotMagic), s.index)
	if _, err := w.Write(head); err != nil {
		return err
	}
	if err := s.rows.Dump(w); err != nil {
		return err
	}
	if err := s.state.Write(w); err != nil {
		return err
	}
	return s.sync()
}

// Release implements consensus.Snapshot.
func (s *snapshot) Release() { _ = s.rows.Close() } // a view that was read to its end has nothing to tell

// Restore replaces both. The rows stay if they are as new as the snapshot's: they outlive a restart, and
// what they have of the log beyond it they pass over when it is told again.
func (f *fsm) Restore(r io.ReadCloser) error {
	in := bufio.NewReader(r)
	err := f.restore(in)
	return errors.Join(err, r.Close())
}

func (f *fsm) restore(in *bufio.Reader) error {
	head, err := in.Peek(len(snapshotMagic) + 8)
	if err != nil || !bytes.HasPrefix(head, []byte(snapshotMagic)) {
		if err := f.s.store.Restore(in); err != nil {
			return err
		}
		f.s.applied.set(f.s.store.View().Index())
		return nil
	}
	index := binary.BigEndian.Uint64(head[len(snapshotMagic):])
	if _, err := in.Discard(len(head)); err != nil {
		return err
	}
	if err := f.s.objects.CatchUp(in); err != nil {
		return err
	}
	if err := f.s.store.Restore(in); err != nil {
		return err
	}
	f.s.applied.set(index)
	return nil
}

// notApplied is the refusal of a result that is not the kind that was asked for.
func notApplied(value any) error {
	if r, ok := value.(metaResults); ok && r.err != nil {
		return api.Errorf(api.CodeInternal, "this coordinator cannot follow the log any more: %w", r.err).
			WithHint("it stops; the change is in the log, and will be there when it or another coordinator answers")
	}
	return api.Errorf(api.CodeInternal, "the log answered with %T", value)
}
