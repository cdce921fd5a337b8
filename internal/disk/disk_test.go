package disk

import (
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestAMarkerNeverOutlivesWhatItNames: however many of the unsynced names a power cut takes.
func TestAMarkerNeverOutlivesWhatItNames(t *testing.T) {
	for seed := range uint64(200) {
		mem := vfs.NewCrashableMem()
		fs := Ordered(mem)
		for _, name := range []string{"MANIFEST-1", "marker.manifest.1.MANIFEST-1"} {
			f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
		after := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(seed, seed))})
		names, err := after.List("")
		if err != nil {
			t.Fatal(err)
		}
		left := strings.Join(names, " ")
		if strings.Contains(left, "marker") && !strings.Contains(left, "MANIFEST-1 ") && !strings.HasPrefix(left, "MANIFEST-1") {
			t.Fatalf("seed %d: %s", seed, left)
		}
	}
}

// TestStartingToWriteChangesNothing: neither of a file on a disk nor of one that has no descriptor.
func TestStartingToWriteChangesNothing(t *testing.T) {
	for name, fs := range map[string]vfs.FS{"disk": vfs.Default, "memory": vfs.NewMem()} {
		path := fs.PathJoin(t.TempDir(), "f")
		if err := fs.MkdirAll(fs.PathDir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte("text")); err != nil {
			t.Fatal(err)
		}
		StartWriting(f, 0, 4)
		StartWriting(f, 2, 1<<20) // behind the end too
		if err := errors.Join(f.SyncData(), f.Close()); err != nil {
			t.Fatal(name, err)
		}
		StartWriting(f, 0, 4) // of a closed file
		if f, err = fs.Open(path); err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(f)
		if err = errors.Join(err, f.Close()); err != nil || string(text) != "text" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}
