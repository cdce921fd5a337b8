package agent

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
)

// A disk is full below its limit and has room again at twice that, each change is told once, and what
// is not known is not full.
func TestAFullDiskIsToldAndClearsItself(t *testing.T) {
	const mib = api.Bytes(1 << 20)
	var told []bool
	var now disk
	var broken error
	w := &diskWatch{dir: "/data", look: func() disk { return now }, failed: func() error { return broken }, tell: func(text string) { told = append(told, text != "") }}
	for _, step := range []struct {
		what        string
		total, free api.Bytes
		full        bool
	}{
		{"not known", 0, 0, false},
		{"at the limit", 100_000 * mib, leastRoom, false},
		{"below it", 100_000 * mib, leastRoom - 1, true},
		{"a little more, but not twice", 100_000 * mib, 2*leastRoom - 1, true},
		{"twice the limit", 100_000 * mib, 2 * leastRoom, false},
		{"a small disk at its limit", 100 * mib, 5 * mib, false},
		{"a small disk below it", 100 * mib, 5*mib - 1, true},
		{"a small disk with room", 100 * mib, 10 * mib, false},
	} {
		now = disk{step.total, step.free}
		w.step()
		if (w.full() != "") != step.full {
			t.Errorf("%s: %q", step.what, w.full())
		}
	}
	if diff := cmp.Diff([]bool{true, false, true, false}, told); diff != "" {
		t.Errorf("changes told:\n%s", diff)
	}
	broken = errors.New("the ledger cannot be written")
	now.free = now.total
	w.step()
	if w.full() != broken.Error() {
		t.Errorf("with a ledger that takes nothing any more: %q", w.full())
	}
}

// The coordinators hear of it with the next heartbeat, and people by an event.
func TestHeartbeatsAndEventsTellOfAFullDisk(t *testing.T) {
	c := newSite(t).coordinator("s-1", "127.0.0.1:0")
	a := c.open(c.config("one", wasmDriver(hello)))
	full := "no space left: 1 MiB of 96 MiB are free"
	told := func(typ, severity, text string) func() bool {
		return func() bool {
			for _, batch := range c.events {
				for _, e := range batch.Events {
					if e.Type == typ && e.Resource == "node/one" && string(e.Severity) == severity && strings.Contains(e.Message, text) {
						return true
					}
				}
			}
			return false
		}
	}
	a.tellDisk(full)
	c.sees("the event", told(api.EventDiskFull, "error", full))
	a.tellDisk("")
	c.sees("its end", told(api.EventDiskRoom, "info", "room again"))
	if err := a.Close(); err != nil { // the disk is looked at no more
		t.Fatal(err)
	}
	a.disk.text.Store(&full)
	if hb := a.fillHeartbeat(api.Heartbeat{}, 0, a.started); hb.DiskFull != full {
		t.Errorf("the heartbeat says %q", hb.DiskFull)
	}
}
