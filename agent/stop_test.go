package agent

import (
	"os"
	"strings"
	"testing"
	"time"
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
