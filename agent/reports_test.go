package agent

import (
	"fmt"
	"testing"

	"github.com/cloudless/cloudless/api"
)

// What cannot be sent waits, and of each replica only the newest status is sent then.
func TestStatusesWaitForACoordinator(t *testing.T) {
	c := newSite(t).coordinator("s-1", "127.0.0.1:0")
	refused := 0
	c.refuse = func(path string) error {
		if path == api.PathStatuses {
			refused++
			return api.Errorf(api.CodeUnavailable, "there is no leader")
		}
		return nil
	}
	a := c.open(c.config("one", wasmDriver(hello)))
	for i := range 3 {
		for _, id := range []string{"r-1", "r-2"} {
			a.reports.add(api.ReplicaReport{ReplicaID: id, State: api.ReplicaRunning, Restarts: i})
		}
	}
	c.sees("tries", func() bool { return refused > 2 })
	a.reports.add(api.ReplicaReport{ReplicaID: "r-1", State: api.ReplicaFailed, Restarts: 9})
	c.change(func() { c.refuse = nil })
	c.sees("the newest of both", func() bool { return c.last("r-1").Restarts == 9 && c.last("r-2").Restarts == 2 })
	c.mu.Lock()
	defer c.mu.Unlock()
	count := 0
	for _, batch := range c.reports {
		count += len(batch.Reports)
	}
	if count > 3 { // two, and r-1 again if its batch was on the way
		t.Errorf("%d statuses were sent of two replicas", count)
	}
}

// Thousands of statuses go in bounded batches, each once.
func TestStatusesGoInBatches(t *testing.T) {
	c := newSite(t).coordinator("s-1", "127.0.0.1:0")
	a := c.open(c.config("one", wasmDriver(hello)))
	const replicas = 2*maxBatch + 10
	for i := range replicas {
		a.reports.add(api.ReplicaReport{ReplicaID: fmt.Sprint("r-", i), State: api.ReplicaRunning})
	}
	sum := func() (n int) {
		for _, batch := range c.reports {
			if len(batch.Reports) > maxBatch {
				t.Fatalf("a batch of %d", len(batch.Reports))
			}
			n += len(batch.Reports)
		}
		return n
	}
	c.sees("all of them", func() bool { return sum() >= replicas })
	c.mu.Lock()
	defer c.mu.Unlock()
	if sum() != replicas {
		t.Errorf("%d statuses were sent of %d replicas", sum(), replicas)
	}
}

// Events of one type are limited, others pass, and what is left out is counted.
func TestEventsAreLimitedAndTheGapIsTold(t *testing.T) {
	s := newEventSender(nil)
	for range eventsPerType + 7 {
		s.add(api.Event{Type: "node.trouble"})
	}
	s.add(api.Event{Type: "node.other"})
	if len(s.waiting) != eventsPerType+1 || s.dropped["node.trouble"] != 7 || s.dropped["node.other"] != 0 {
		t.Errorf("%d wait, %v were left out", len(s.waiting), s.dropped)
	}
	for i := range maxEventsAhead {
		s.add(api.Event{Type: fmt.Sprint("type", i)})
	}
	if len(s.waiting) != maxEventsAhead {
		t.Errorf("%d wait, at most %d may", len(s.waiting), maxEventsAhead)
	}
	c := newSite(t).coordinator("s-1", "127.0.0.1:0")
	a := c.open(c.config("one", wasmDriver(hello)))
	for range eventsPerType + 7 {
		a.events.add(api.Event{Type: "node.trouble"})
	}
	c.sees("events and their gap", func() bool {
		n, gap := 0, 0
		for _, batch := range c.events {
			n += len(batch.Events)
			gap += batch.Dropped["node.trouble"]
		}
		return n+gap == eventsPerType+7 && gap > 0
	})
}

// Events that could not be sent are counted as a gap, not lost in silence.
func TestUnsentEventsAreAGap(t *testing.T) {
	c := newSite(t).coordinator("s-1", "127.0.0.1:0")
	refused := 0
	c.refuse = func(path string) error {
		if path == api.PathNodeEvents && refused == 0 {
			refused++
			return api.Errorf(api.CodeUnavailable, "not now")
		}
		return nil
	}
	a := c.open(c.config("one", wasmDriver(hello)))
	a.events.add(api.Event{Type: "node.trouble"})
	c.sees("the gap", func() bool { return len(c.events) > 0 && c.events[0].Dropped["node.trouble"] == 1 })
}
