package agent

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
)

// systemd kills what has not stopped in time: the unit has to give a drain all that it may take.
func TestTheUnitWaitsForADrain(t *testing.T) {
	data, err := os.ReadFile("../deploy/systemd/cloudless-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), "TimeoutStopSec=")
		if !ok {
			continue
		}
		d, err := time.ParseDuration(strings.Replace(text, "min", "m", 1))
		if err != nil || d < drainTimeout+stopTimeout {
			t.Errorf("TimeoutStopSec=%s (%v), a stop may take %s", text, err, drainTimeout+stopTimeout)
		}
		return
	}
	t.Error("the unit has no TimeoutStopSec")
}

// A table that came just before a planned stop is what the next start routes by.
func TestTheNewestTableIsKeptAtAStop(t *testing.T) {
	c := newSite(t).coordinator("s-1", "127.0.0.1:0")
	cfg := c.config("one", wasmDriver(hello))
	a := c.open(cfg)
	a.takeEndpoints(&api.EndpointTable{Epoch: 9, Index: 7})
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	c.stop() // what the next start knows is not from here
	b := c.open(cfg)
	if epoch, index := b.table.have(); epoch != 9 || index != 7 {
		t.Errorf("the next start routes by table %d of epoch %d, want 7 of 9", index, epoch)
	}
}
