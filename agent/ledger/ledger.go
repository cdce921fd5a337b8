// Package ledger keeps what an agent must still know after its process or its machine restarted: the
// assignments it last accepted, the replicas it has taken up with their restart counts, and the
// coordinators it knows. It decides nothing; see agent/converge for that.
//
// A write has reached the disk when its call returns. Concurrent writes share one flush of the disk,
// so that many replicas may start at once.
package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/disk"
)

// Keys of the one key space.
const (
	keySet        = "set"
	keyMembers    = "members"
	replicaPrefix = "replica/"
	replicaEnd    = "replica0" // the first key after all with replicaPrefix
)

// Record is one replica as its node has taken it up.
type Record struct {
	ReplicaID  string           `json:"replicaId"`
	Assignment api.Assignment   `json:"assignment"`
	Spec       api.WorkloadSpec `json:"spec"`
	Restarts   int              `json:"restarts"`
	State      api.ReplicaState `json:"state"`
	ExitCode   *int             `json:"exitCode,omitempty"`
	Reason     string           `json:"reason,omitempty"`
}

// Ledger is one open folder; safe for concurrent use.
type Ledger struct {
	dir   string
	db    *pebble.DB
	fault *fault
}

// Open opens the ledger in dir, or makes one, and reads it once, so that damage is told now and not
// in the middle of a decision. fs is the disk; nil is the machine's own.
func Open(dir string, fs vfs.FS) (*Ledger, error) {
	if fs == nil {
		fs = vfs.Default
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return nil, openError(dir, err)
	}
	f := &fault{}
	db, err := pebble.Open(dir, options(fs, f))
	if err != nil {
		return nil, openError(dir, err)
	}
	l := &Ledger{dir: dir, db: db, fault: f}
	if err := l.check(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return l, nil
}

// options are sized for a few thousand small records on a small board.
func options(fs vfs.FS, f *fault) *pebble.Options {
	return &pebble.Options{
		FS:                 disk.Ordered(fs),
		FormatMajorVersion: pebble.FormatNewest,
		CacheSize:          1 << 20,
		MemTableSize:       2 << 20,
		MaxOpenFiles:       128,
		DisableTableStats:  true,
		Logger:             f,
	}
}

func (l *Ledger) check() error {
	if _, err := l.Set(); err != nil {
		return err
	}
	if _, err := l.Members(); err != nil {
		return err
	}
	_, err := l.Replicas()
	return err
}

// Set is the assignments that were accepted last. EpochSince is when the node first saw their epoch
// if that came after another one, zero for its very first.
type Set struct {
	api.AssignmentSet
	EpochSince time.Time `json:"epochSince,omitzero"`
}

// SaveSet keeps the set of assignments that was accepted last.
func (l *Ledger) SaveSet(set Set) error { return l.put(keySet, set) }

// Set is the set saved last, nil when there is none.
func (l *Ledger) Set() (*Set, error) {
	var set *Set
	err := l.get(keySet, &set)
	return set, err
}

// SaveMembers keeps the coordinators that the agent knows.
func (l *Ledger) SaveMembers(members []api.Member) error { return l.put(keyMembers, members) }

// Members are the coordinators saved last.
func (l *Ledger) Members() ([]api.Member, error) {
	var members []api.Member
	err := l.get(keyMembers, &members)
	return members, err
}

// SaveReplica keeps a replica's record in place of an earlier one.
func (l *Ledger) SaveReplica(r Record) error { return l.put(replicaPrefix+r.ReplicaID, r) }

// DeleteReplica forgets a replica; one that is not known is no error.
func (l *Ledger) DeleteReplica(id string) error {
	return l.write(func() error { return l.db.Delete([]byte(replicaPrefix+id), pebble.Sync) })
}

// Replicas are all records, in the order of their ids.
func (l *Ledger) Replicas() ([]Record, error) {
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: []byte(replicaPrefix), UpperBound: []byte(replicaEnd)})
	if err != nil {
		return nil, l.damaged(err)
	}
	var records []Record
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var r Record
		if err = json.Unmarshal(it.Value(), &r); err == nil {
			records = append(records, r)
		}
	}
	if err := errors.Join(err, it.Close()); err != nil {
		return nil, l.damaged(err)
	}
	return records, nil
}

// Close releases the folder. Nothing may be called afterwards.
func (l *Ledger) Close() error { return l.db.Close() }

func (l *Ledger) put(key string, value any) error {
	b, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encoding %s for the ledger: %w", key, err)
	}
	return l.write(func() error { return l.db.Set([]byte(key), b, pebble.Sync) })
}

func (l *Ledger) get(key string, into any) error {
	b, closer, err := l.db.Get([]byte(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return l.damaged(err)
	}
	defer closer.Close()
	if err := json.Unmarshal(b, into); err != nil {
		return l.damaged(err)
	}
	return nil
}

// Failed tells that the disk has failed under a write: every later one is refused until the ledger is
// opened anew.
func (l *Ledger) Failed() error {
	if err := l.fault.get(); err != nil {
		return l.writeError(err)
	}
	return nil
}

// write refuses to go on after the disk has failed once: Pebble's commit pipeline is stuck then, and
// only opening the ledger anew tells what has reached the disk.
func (l *Ledger) write(f func() error) error {
	if err := l.Failed(); err != nil {
		return err
	}
	err := f()
	if fatal := l.fault.get(); fatal != nil {
		err = fatal
	}
	if err != nil {
		return l.writeError(err)
	}
	return nil
}

func (l *Ledger) writeError(err error) error {
	code := api.CodeInternal
	if errors.Is(err, syscall.ENOSPC) || strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		code = api.CodeNoRoom
	}
	return api.Errorf(code, "ledger %s cannot be written: %w", l.dir, err).
		WithHint("free space on its disk and start the agent again; what runs goes on meanwhile")
}

func (l *Ledger) damaged(err error) error {
	return api.Errorf(api.CodeInternal, "ledger %s is damaged: %w", l.dir, err).
		WithHint("move the folder away and start the agent again: it then asks the coordinators what to run")
}

// openError tells the three things that go wrong when a ledger is opened, each with its remedy.
func openError(dir string, err error) error {
	switch {
	case errors.Is(err, syscall.EAGAIN), strings.Contains(err.Error(), lockedHere):
		return api.Errorf(api.CodeConflict, "ledger %s is in use by another process: %w", dir, err).
			WithHint("stop the other agent, or give this one a --data-dir of its own")
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENOSPC):
		return api.Errorf(api.CodeInternal, "ledger %s cannot be written: %w", dir, err).
			WithHint("check the rights and the free space of the data folder")
	}
	return (&Ledger{dir: dir}).damaged(err)
}

// lockedHere is Pebble's one lock error without an errno: this process has the folder open already.
const lockedHere = "lock held by current process"

// fault is Pebble's logger. It is silent but for one thing: Pebble reports a failed disk by a fatal
// line, after which a program is to exit. An agent must not exit, because the replicas that it runs
// would end with it, so the fault is kept and every later write is refused.
type fault struct{ err atomic.Pointer[error] }

func (f *fault) get() error {
	if p := f.err.Load(); p != nil {
		return *p
	}
	return nil
}

// Infof implements pebble.Logger.
func (f *fault) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (f *fault) Errorf(string, ...any) {}

// Fatalf implements pebble.Logger.
func (f *fault) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	for _, a := range args {
		if cause, ok := a.(error); ok {
			err = cause // keeps the errno for whoever asks
		}
	}
	f.err.CompareAndSwap(nil, &err)
}
