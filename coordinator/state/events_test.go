package state

import (
	"strconv"
	"testing"

	"github.com/cloudless/cloudless/api"
)

// Entries that record several events each do not make the state look newer than it is: readers wait
// for what comes after the index that they were given.
func TestTheIndexIsThatOfTheLastEntry(t *testing.T) {
	s := New()
	event := Command{RecordEvent: &api.Event{Type: "node.ready"}}
	s.Apply(1, Command{At: at, Batch: []Command{event, event, event, event, event}})
	if got := s.View().Index(); got != 1 {
		t.Errorf("after entry 1 with five events the index is %d", got)
	}
	if n := len(s.View().Events(api.EventQuery{})); n != 5 {
		t.Errorf("%d events", n)
	}
}

// Events of one entry are listed as they were recorded, the eleventh behind the tenth.
func TestEventsOfOneEntryKeepTheirOrder(t *testing.T) {
	s := New()
	var batch []Command
	for i := range 25 {
		batch = append(batch, Command{RecordEvent: &api.Event{Type: "node.ready", Message: strconv.Itoa(i)}})
	}
	s.Apply(9, Command{At: at, Batch: batch})
	last := ""
	for i, e := range s.View().Events(api.EventQuery{}) {
		if e.Message != strconv.Itoa(i) || e.Place() <= last {
			t.Errorf("event %d is %s (%s), at %s after %s", i, e.Message, e.ID, e.Place(), last)
		}
		last = e.Place()
	}
}
