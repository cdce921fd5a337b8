package state

import (
	"github.com/cloudless/cloudless/api"
)

// phaseAfter says which phase may follow which.
var phaseAfter = map[api.RotationPhase]api.RotationPhase{
	api.PhaseTrust: api.PhaseUse, api.PhaseUse: api.PhaseRetire, api.PhaseRetire: api.PhaseDone,
}

// Rotation finds the last rotation of a kind.
func (v View) Rotation(kind api.RotationKind) (*api.Rotation, bool) {
	return first[api.Rotation](v, tRotations, "id", string(kind))
}

// Rotations lists the last rotation of each kind.
func (v View) Rotations() []*api.Rotation { return all[api.Rotation](v, tRotations, "id") }

// startRotation begins to replace a key, unless another rotation of its kind is under way.
func (t *tx) startRotation(r api.Rotation) Result {
	if last, ok := t.Rotation(r.Kind); ok {
		if last.Phase != api.PhaseDone {
			return Result{Err: api.Errorf(api.CodeConflict, "a rotation of the %s key is under way (%s)", r.Kind, last.Phase).WithHint("see 'cloudless cluster rotations'")}
		}
		if last.New != r.Old {
			return refuse(api.CodeConflict, "the %s key was replaced meanwhile", r.Kind)
		}
	}
	if r.Old == r.New || r.New == "" {
		return refuse(api.CodeInvalid, "a rotation needs a new key")
	}
	r.Phase, r.StartedAt, r.Since, r.Index = api.PhaseTrust, t.at, t.at, t.index
	t.put(tRotations, &r)
	t.event(api.EventRotation, api.SeverityWarning, "cluster", "rotation of the %s key began: %.12s will replace %.12s", r.Kind, r.New, r.Old)
	return Result{}
}

// advanceRotation goes on to the next phase. From PhaseTrust it may also be given up.
func (t *tx) advanceRotation(a AdvanceRotation) Result {
	r, ok := t.Rotation(a.Kind)
	if !ok || r.New != a.New {
		return refuse(api.CodeConflict, "no such rotation of the %s key is under way", a.Kind)
	}
	next := *r
	next.Since, next.Index = t.at, t.index
	switch {
	case a.Phase == api.PhaseCanceled && r.Phase == api.PhaseTrust:
		next.New, next.NewCert, next.Phase = r.Old, r.OldCert, api.PhaseDone
	case a.Phase == phaseAfter[r.Phase]:
		next.Phase = a.Phase
	default:
		return refuse(api.CodeConflict, "the rotation of the %s key is in phase %s", a.Kind, r.Phase)
	}
	if next.Phase == api.PhaseDone {
		next.Old, next.OldCert = "", ""
	}
	t.put(tRotations, &next)
	sev, how := api.SeverityInfo, ""
	if a.Forced {
		sev, how = api.SeverityWarning, ", without waiting any longer for those that are away"
	}
	t.event(api.EventRotation, sev, "cluster", "rotation of the %s key: %s%s", a.Kind, a.Phase, how)
	return Result{}
}
