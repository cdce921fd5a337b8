package coordinator

import (
	"testing"

	"github.com/cloudless/cloudless/api"
)

// The deadline of a drain is a time after its beginning, or there is none.
func TestTheDeadlineOfADrain(t *testing.T) {
	t.Parallel()
	s := openServer(t)
	id, _ := enrolled(t, s, "one")
	for _, deadline := range []api.Duration{0, 1} {
		n, err := s.DrainNode(t.Context(), admin, id, api.DrainRequest{Deadline: deadline})
		if err != nil || n.Drain == nil || n.Drain.Deadline.IsZero() != (deadline == 0) || deadline > 0 && n.Drain.Deadline.Sub(n.Drain.Started) != deadline.D() {
			t.Errorf("%d: %+v, %v", deadline, n.Drain, err)
		}
	}
	if _, err := s.DrainNode(t.Context(), admin, id, api.DrainRequest{Deadline: -1}); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("a deadline before the beginning: %v", err)
	}
}
