package ledger

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
)

func open(t *testing.T, dir string, fs vfs.FS) *Ledger {
	t.Helper()
	l, err := Open(dir, fs)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func record(id string, restarts int) Record {
	code := 3
	return Record{
		ReplicaID:  id,
		Assignment: api.Assignment{ReplicaID: id, Workload: api.Ref{Namespace: "default", Name: "hello"}, Version: 2, Variant: api.VariantWasm, Desired: api.DesiredRun},
		Spec:       api.WorkloadSpec{Env: map[string]string{"A": "b"}},
		Restarts:   restarts,
		State:      api.ReplicaBackoff,
		ExitCode:   &code,
		Reason:     "exited with code 3",
	}
}

func fill(t *testing.T, l *Ledger) (*Set, []Record, []api.Member) {
	t.Helper()
	set := &Set{EpochSince: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	set.AssignmentSet = api.AssignmentSet{NodeID: "n-1", Epoch: 3, Generation: 9, Assignments: []api.Assignment{record("r-1", 0).Assignment}}
	records := []Record{record("r-1", 1), record("r-2", 5)}
	members := []api.Member{{ID: "c-1", NodeAddr: "10.0.0.1:7701"}}
	must(t, l.SaveSet(*set))
	must(t, l.SaveMembers(members))
	must(t, l.SaveReplica(record("r-0", 0)))
	must(t, l.SaveReplica(record("r-1", 0)))
	for _, r := range records {
		must(t, l.SaveReplica(r))
	}
	must(t, l.DeleteReplica("r-0"))
	must(t, l.DeleteReplica("never known"))
	return set, records, members
}

func compare(t *testing.T, l *Ledger, set *Set, records []Record, members []api.Member) {
	t.Helper()
	gotSet, err := l.Set()
	must(t, err)
	gotRecords, err := l.Replicas()
	must(t, err)
	gotMembers, err := l.Members()
	must(t, err)
	if diff := cmp.Diff(set, gotSet) + cmp.Diff(records, gotRecords) + cmp.Diff(members, gotMembers); diff != "" {
		t.Error(diff)
	}
}

func TestEmptyLedger(t *testing.T) {
	l := open(t, "ledger", vfs.NewMem())
	compare(t, l, nil, nil, nil)
	must(t, l.Close())
}

func TestEverythingSurvivesARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger")
	l := open(t, dir, nil)
	set, records, members := fill(t, l)
	compare(t, l, set, records, members)
	must(t, l.Close())
	l = open(t, dir, vfs.Default)
	compare(t, l, set, records, members)
	must(t, l.Close())
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder mode %v, %v", info.Mode(), err)
	}
}

// Whatever a call acknowledged is there after the power was cut.
func TestAcknowledgedWritesSurviveAPowerCut(t *testing.T) {
	disk := vfs.NewCrashableMem()
	l := open(t, "ledger", disk)
	set, records, members := fill(t, l)
	after := disk.CrashClone(vfs.CrashCloneCfg{})
	must(t, l.Close())
	l = open(t, "ledger", after)
	compare(t, l, set, records, members)
	must(t, l.Close())
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, vfs.Default)
	defer l.Close()
	_, err := Open(dir, vfs.Default)
	if api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), dir) {
		t.Errorf("second Open: %v", err)
	}
}

func TestLockOfAnotherProcessIsConflict(t *testing.T) {
	disk := vfs.NewMem() // its lock fails as the kernel's does
	l := open(t, "ledger", disk)
	defer l.Close()
	if _, err := Open("ledger", disk); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("second Open: %v", err)
	}
}

func TestUnusableFolderIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	_, err := Open(filepath.Join(file, "ledger"), vfs.Default)
	if err == nil || !strings.Contains(err.Error(), "rights") {
		t.Errorf("Open below a file: %v", err)
	}
}

// A damaged ledger is told by name with its remedy; what was cut off the end of its log costs at
// most what was cut.
func TestDamage(t *testing.T) {
	for _, c := range []struct {
		name, pattern string
		damage        func(b []byte) []byte
		opens         bool
	}{
		{"log cut at its end", "*.log", func(b []byte) []byte { return b[:len(b)-7] }, true},
		{"manifest overwritten", "MANIFEST-*", func(b []byte) []byte { return []byte(strings.Repeat("x", len(b))) }, false},
		{"manifest emptied", "MANIFEST-*", func([]byte) []byte { return nil }, false},
		{"value is no record", "", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			l := open(t, dir, vfs.Default)
			must(t, l.SaveReplica(record("r-1", 0)))
			must(t, l.SaveReplica(record("r-2", 0)))
			if c.pattern == "" {
				must(t, l.db.Set([]byte(replicaPrefix+"r-3"), []byte("{"), pebble.Sync))
			}
			if c.pattern == "" {
				must(t, l.Close())
			} else {
				dir = damageCopy(t, dir, c.pattern, c.damage)
				must(t, l.Close())
			}
			l, err := Open(dir, vfs.Default)
			if c.opens {
				must(t, err)
				compare(t, l, nil, []Record{record("r-1", 0)}, nil)
				must(t, l.Close())
				return
			}
			if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "move the folder away") {
				t.Errorf("Open: %v", err)
			}
		})
	}
}

// damageCopy copies a live ledger, as a power cut would leave it, with the files of one kind changed.
func damageCopy(t *testing.T, dir, pattern string, damage func([]byte) []byte) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	must(t, os.CopyFS(to, os.DirFS(dir)))
	files, err := filepath.Glob(filepath.Join(to, pattern))
	must(t, err)
	if len(files) == 0 {
		t.Fatalf("no %s in the ledger", pattern)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		must(t, err)
		must(t, os.WriteFile(f, b, 0o600))
		must(t, os.WriteFile(f, damage(b), 0o600))
	}
	return to
}

// A full disk is an error that names the remedy, now and later; it never ends the process.
func TestFullDisk(t *testing.T) {
	var full atomic.Bool
	disk := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpFileClose {
			return syscall.ENOSPC
		}
		return nil
	}))
	l := open(t, "ledger", disk)
	must(t, l.SaveReplica(record("r-1", 0)))
	full.Store(true)
	for range 2 {
		if err := l.SaveReplica(record("r-2", 0)); api.CodeOf(err) != api.CodeNoRoom {
			t.Fatalf("write to a full disk: %v", err)
		}
	}
	full.Store(false)
	_ = l.Close() // Pebble tells its stuck log once more
	l = open(t, "ledger", disk)
	got, err := l.Replicas()
	must(t, err)
	if len(got) == 0 || got[0].ReplicaID != "r-1" {
		t.Errorf("after the disk had room again: %v", got)
	}
	must(t, l.Close())
}
