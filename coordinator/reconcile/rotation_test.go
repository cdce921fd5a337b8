package reconcile

import (
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
)

func TestARotationWaitsForWhoCanStillTakeItUp(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	soon, late := began.Add(time.Minute), began.Add(2*time.Hour)
	ca := func(p api.RotationPhase) api.Rotation {
		return api.Rotation{Kind: api.RotateCA, Phase: p, StartedAt: began, Since: began, Deadline: api.Duration(time.Hour)}
	}
	key := func(p api.RotationPhase) api.Rotation {
		r := ca(p)
		r.Kind = api.RotateGossip
		return r
	}
	overlap := ca(api.PhaseUse)
	overlap.Overlap = api.Duration(24 * time.Hour)
	all := RotationSignals{Holds: true}
	for _, c := range []struct {
		name   string
		r      api.Rotation
		s      RotationSignals
		now    time.Time
		next   api.RotationPhase
		forced bool
	}{
		{"everybody trusts the new CA", ca(api.PhaseTrust), all, soon, api.PhaseUse, false},
		{"a node in touch does not trust it yet", ca(api.PhaseTrust), RotationSignals{Holds: true, Behind: 1}, soon, "", false},
		{"a node that is away does not trust it yet", ca(api.PhaseTrust), RotationSignals{Holds: true, Absent: 1}, soon, "", false},
		{"it stays away past the deadline", ca(api.PhaseTrust), RotationSignals{Holds: true, Absent: 1}, late, api.PhaseUse, true},
		{"the leader has no key yet", ca(api.PhaseTrust), RotationSignals{}, soon, "", false},
		{"nobody has the key any more", ca(api.PhaseTrust), RotationSignals{}, late, api.PhaseCanceled, false},
		{"every certificate is renewed", ca(api.PhaseUse), all, soon, api.PhaseRetire, false},
		{"clients still have time to take the new CA up", overlap, all, late, "", false},
		{"the overlap is over", overlap, all, began.Add(24 * time.Hour), api.PhaseRetire, false},
		{"the old CA is dropped by all in touch", ca(api.PhaseRetire), RotationSignals{Holds: true, Absent: 3}, soon, api.PhaseDone, false},
		{"one in touch still trusts it", ca(api.PhaseRetire), RotationSignals{Holds: true, Behind: 1}, soon, "", false},
		{"it is over", ca(api.PhaseDone), all, late, "", false},
		{"a gossip key does not wait for who is away", key(api.PhaseTrust), RotationSignals{Holds: true, Absent: 2}, soon, api.PhaseUse, false},
		{"but for who is in touch", key(api.PhaseUse), RotationSignals{Holds: true, Behind: 1}, soon, "", false},
	} {
		next, forced, ok := NextPhase(c.r, c.s, c.now)
		if !ok {
			next, forced = "", false
		}
		if next != c.next || forced != c.forced {
			t.Errorf("%s: %q forced %v, want %q forced %v", c.name, next, forced, c.next, c.forced)
		}
	}
}
