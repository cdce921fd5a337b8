package state

import (
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
