package disk

import (
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
