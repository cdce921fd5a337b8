package agent

import (
	"io"
	"testing"
	"time"

	"github.com/cloudless/cloudless/agent/supervise"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/telemetry"
	"github.com/cloudless/cloudless/sandbox/fake"
)

// What is counted by workload goes with its last replica here: a node sees ever new names.
func TestTheMetricsForgetWorkloadsThatAreGone(t *testing.T) {
	b := begin(t, t.TempDir(), fake.New(fake.Script{}), started)
	defer b.end()
	var err error
	if b.cfg.Tel, err = telemetry.New(telemetry.Config{LogWriter: io.Discard}); err != nil {
		t.Fatal(err)
	}
	w := api.Ref{Namespace: "default", Name: "gone"}
	counted := func() (families int) {
		all, err := b.cfg.Tel.Registry().Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range all {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if l.GetValue() == w.Name {
						families++
					}
				}
			}
		}
		return families
	}
	b.observeRestart(w)
	b.observeFailedProbe(w, supervise.Readiness)
	b.observeFailedProbe(w, supervise.Liveness)
	b.observeInstances(map[api.Ref]int{w: 1})
	b.cfg.Tel.Metrics.WasmFuel.Add(1, w.Namespace, w.Name)
	if n := counted(); n != 8 { // those whose name does not end in _total are there twice
		t.Errorf("%d series name the workload, want 8", n)
	}
	b.measure(t.Context(), &measurement{here: map[api.Ref]bool{w: true}}, started)
	if n := counted(); n != 0 {
		t.Errorf("%d series name a workload that is gone", n)
	}
}

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
