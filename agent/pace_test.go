package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
)

// desk takes a reporter's reports, each after the time that a coordinator needs.
type desk struct {
	*reporter
	takes time.Duration
	fails int // so many reports first
	came  []arrival
}

type arrival struct {
	at  time.Duration // since the test began
	rep api.StatusReport
}

// withDesk runs f with a reporter under a fake clock.
func withDesk(t *testing.T, f func(d *desk)) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{takes: 3 * time.Millisecond}
		began := time.Now()
		d.reporter = &reporter{
			log: zerolog.Nop(), pending: map[string]api.ReplicaReport{}, poke: make(chan struct{}, 1), epoch: func() uint64 { return 7 },
			all: func() []api.ReplicaReport { return []api.ReplicaReport{{ReplicaID: "all"}} },
			send: func(_ context.Context, rep api.StatusReport) error {
				time.Sleep(d.takes)
				if d.fails--; d.fails >= 0 {
					return errors.New("no coordinator")
				}
				d.came = append(d.came, arrival{time.Since(began), rep})
				return nil
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- d.run(ctx) }()
		f(d)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func (d *desk) tell(id string, state api.ReplicaState) {
	d.add(api.ReplicaReport{ReplicaID: id, State: state, Ready: state == api.ReplicaRunning})
}

// settle lets everything be told.
func settle() {
	time.Sleep(time.Second)
	synctest.Wait()
}

func (d *desk) want(t *testing.T, reports ...string) {
	t.Helper()
	var got []string
	for _, a := range d.came {
		text := a.at.String()
		for _, r := range a.rep.Reports {
			text += fmt.Sprintf(" %s=%s", r.ReplicaID, r.State)
		}
		got = append(got, text)
	}
	if fmt.Sprint(got) != fmt.Sprint(reports) {
		t.Errorf("told %q, want %q", got, reports)
	}
}

func TestQuickStartIsToldOnceAndAtOnce(t *testing.T) {
	withDesk(t, func(d *desk) {
		d.tell("a", api.ReplicaStarting)
		time.Sleep(5 * time.Millisecond)
		d.tell("a", api.ReplicaRunning)
		settle()
		d.want(t, "8ms a=running")
	})
}

func TestSlowStartIsTold(t *testing.T) {
	withDesk(t, func(d *desk) {
		d.tell("a", api.ReplicaStarting)
		time.Sleep(50 * time.Millisecond)
		d.tell("a", api.ReplicaRunning)
		settle()
		d.want(t, "23ms a=starting", "53ms a=running")
	})
}

// Few changes never wait for more than the report before them and a moment.
func TestFewChangesAreToldOneByOne(t *testing.T) {
	withDesk(t, func(d *desk) {
		d.tell("a", api.ReplicaRunning)
		time.Sleep(time.Millisecond)
		d.tell("b", api.ReplicaRunning)
		time.Sleep(6 * time.Millisecond)
		d.tell("a", api.ReplicaStopping)
		settle()
		d.want(t, "3ms a=running", "7ms b=running", "11ms a=stopping")
	})
}

func TestManyChangesAreToldInFewReports(t *testing.T) {
	withDesk(t, func(d *desk) {
		const replicas = 1000
		for i := range replicas { // in 100 ms
			d.tell(fmt.Sprint("r", i), api.ReplicaRunning)
			time.Sleep(100 * time.Microsecond)
		}
		settle()
		told := 0
		for _, a := range d.came {
			told += len(a.rep.Reports)
		}
		if told != replicas || len(d.came) > 10 {
			t.Errorf("%d statuses in %d reports, want %d in at most 10", told, len(d.came), replicas)
		}
	})
}

// What could not be sent is sent later, unless something newer is known of the replica by then.
func TestUnsentStatusIsNotLostAndNotStale(t *testing.T) {
	withDesk(t, func(d *desk) {
		d.fails = 1
		d.tell("a", api.ReplicaRunning)
		d.tell("b", api.ReplicaRunning)
		time.Sleep(10 * time.Millisecond)
		d.tell("a", api.ReplicaStopping)
		settle()
		d.want(t, "206ms a=stopping b=running")
	})
}

// A new epoch is told everything, and until that has arrived nothing else.
func TestNewEpochIsToldEverything(t *testing.T) {
	withDesk(t, func(d *desk) {
		d.fails = 1
		d.reportAll(7)
		settle()
		if len(d.came) != 1 || !d.came[0].rep.Full || d.came[0].rep.Epoch != 7 {
			t.Errorf("told %+v, want one full report of epoch 7", d.came)
		}
	})
}

// A reason may be worded by a registry or a guest. It is no longer than what a report has room for.
func TestALongReasonIsCut(t *testing.T) {
	withDesk(t, func(d *desk) {
		for i, length := range []int{api.MaxReasonBytes - 1, api.MaxReasonBytes, api.MaxReasonBytes + 1, 8 << 20} {
			d.add(api.ReplicaReport{ReplicaID: fmt.Sprint("r", i), State: api.ReplicaFailed, Reason: strings.Repeat("w", length)})
		}
		settle()
		var told []int
		for _, a := range d.came {
			for _, r := range a.rep.Reports {
				told = append(told, len(r.Reason))
			}
		}
		if want := []int{api.MaxReasonBytes - 1, api.MaxReasonBytes, api.MaxReasonBytes, api.MaxReasonBytes}; !slices.Equal(told, want) {
			t.Errorf("told reasons of %d bytes, want %d", told, want)
		}
	})
	for statuses, want := range map[int]int{0: api.MaxReasonBytes, maxBatch: api.MaxReasonBytes, 2048: api.MaxReasonBytes, 2049: 1023, api.MaxReplicas: 209} {
		if got := reasonBytes(statuses); got != want {
			t.Errorf("of %d statuses each may have a reason of %d bytes, want %d", statuses, got, want)
		}
	}
}
