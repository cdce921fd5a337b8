package agent

import (
	"testing"
	"time"
)

func TestBusyTimeLeavesOutIdleAndGuests(t *testing.T) {
	stat := "cpu  100 20 30 4000 500 6 7 8 90 10\ncpu0 1 1 1 1\n"
	if got := busyOf(stat); got != 1710*time.Millisecond {
		t.Errorf("busy for %s", got)
	}
	if got := busyOf("nonsense"); got != 0 {
		t.Errorf("busy for %s", got)
	}
}

func TestRateCountsNothingForAClockThatStartsAnew(t *testing.T) {
	for _, tt := range []struct {
		used, over time.Duration
		want       int64
	}{{time.Second, 2 * time.Second, 500}, {3 * time.Second, time.Second, 3000}, {-time.Second, time.Second, 0}, {time.Second, 0, 0}} {
		if got := rate(tt.used, tt.over); int64(got) != tt.want {
			t.Errorf("%s over %s: %d", tt.used, tt.over, got)
		}
	}
}

func TestFuelOfAReplicaThatStartsAnewCountsFromNothing(t *testing.T) {
	for _, tt := range []struct {
		now, before int64
		want        float64
	}{{10, 0, 10}, {10, 10, 0}, {11, 10, 1}, {9, 10, 9}} {
		if got := burnt(tt.now, tt.before); got != tt.want {
			t.Errorf("%d after %d: %g", tt.now, tt.before, got)
		}
	}
}
