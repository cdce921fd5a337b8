package reconcile

import (
	"time"

	"github.com/cloudless/cloudless/api"
)

// RotationSignals is what the leader knows of who has taken up a rotation's phase.
type RotationSignals struct {
	Holds  bool // the leader has the new key
	Behind int  // coordinators and nodes in touch that have not taken it up
	Absent int  // those that are away and have not
}

// NextPhase says whether a rotation may go on, and whether that leaves somebody behind. A CA waits
// for those that are away: without the new one they could not talk to anybody when they come back.
// A gossip key does not: they get it when they come back.
func NextPhase(r api.Rotation, s RotationSignals, now time.Time) (next api.RotationPhase, forced, ok bool) {
	late := now.Sub(r.Since) >= r.Deadline.D()
	waiting := s.Behind
	if r.Kind == api.RotateCA && r.Phase != api.PhaseRetire {
		waiting += s.Absent
	}
	switch {
	case r.Phase == api.PhaseTrust && !s.Holds:
		return api.PhaseCanceled, false, late // nobody uses the new key yet, and it seems to be lost
	case waiting > 0 && !late:
		return "", false, false
	case r.Phase == api.PhaseTrust:
		return api.PhaseUse, waiting > 0, true
	case r.Phase == api.PhaseUse:
		return api.PhaseRetire, waiting > 0, now.Sub(r.StartedAt) >= r.Overlap.D()
	case r.Phase == api.PhaseRetire:
		return api.PhaseDone, waiting > 0, true
	}
	return "", false, false
}
