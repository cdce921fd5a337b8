package agent

import (
	"slices"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
)

// shelf is a folder of artifacts that counts how often it is read.
type shelf struct {
	held    []chunkstore.Info
	changes uint64
	reads   int
}

func (s *shelf) Changes() uint64 { return s.changes }

func (s *shelf) List() ([]chunkstore.Info, error) {
	s.reads++
	return slices.Clone(s.held), nil
}

func noBuckets() map[string]int64 { return nil }

// The list is bounded, holds what was used last, and does not change by use.
func TestTheInventoryIsBounded(t *testing.T) {
	s := &shelf{}
	for i := range api.MaxInventory + 10 {
		s.held = append(s.held, chunkstore.Info{Digest: string(rune('a'+i%26)) + string(rune('0'+i/26)), Used: started.Add(-time.Duration(i) * time.Second)})
	}
	stock := newStock(s, func() []string { return make([]string, api.MaxInventory+10) }, noBuckets)
	inv := stock.look(started)
	if len(inv.Artifacts) != api.MaxInventory || len(inv.Prepared) != api.MaxInventory {
		t.Fatalf("%d artifacts, %d prepared", len(inv.Artifacts), len(inv.Prepared))
	}
	if slices.Contains(inv.Artifacts, s.held[len(s.held)-1].Digest) || !slices.Contains(inv.Artifacts, s.held[0].Digest) {
		t.Error("those used last are not the ones kept")
	}
	s.held[3].Used, s.changes = started.Add(time.Hour), 1
	if again := stock.look(started.Add(time.Hour)); again != inv {
		t.Error("use changed the list")
	}
}

// Thousands of artifacts cost an idle node nothing: their folder is read when it has changed, and once a
// minute in case someone else has changed it.
func TestAFolderThatIsAsItWasIsNotRead(t *testing.T) {
	s := &shelf{held: []chunkstore.Info{{Digest: "a"}}}
	stock := newStock(s, func() []string { return nil }, noBuckets)
	for _, step := range []struct {
		at      time.Duration
		changes uint64
		reads   int
	}{
		{0, 0, 1},
		{stockInterval, 0, 1},
		{folderInterval - time.Second, 0, 1},
		{folderInterval, 0, 2},
		{folderInterval + stockInterval/2, 1, 2}, // too soon after the last look
		{folderInterval + stockInterval, 1, 3},
		{folderInterval + 2*stockInterval, 1, 3},
	} {
		s.changes = step.changes
		if inv := stock.look(started.Add(step.at)); s.reads != step.reads || !slices.Equal(inv.Artifacts, []string{"a"}) {
			t.Errorf("after %s: read %d times, want %d; %+v", step.at, s.reads, step.reads, inv)
		}
	}
}
