package state

import (
	"testing"

	"github.com/cloudless/cloudless/api"
)

func TestARotationGoesThroughItsPhasesInOrder(t *testing.T) {
	s := New()
	index := uint64(0)
	try := func(c Command) *api.Error {
		index++
		c.At = at
		return s.Apply(index, c).Err
	}
	begin := func(old, fresh string) *api.Error {
		return try(Command{StartRotation: &api.Rotation{Kind: api.RotateCA, Old: old, New: fresh, OldCert: "PEM " + old, NewCert: "PEM " + fresh}})
	}
	advance := func(fresh string, p api.RotationPhase) *api.Error {
		return try(Command{AdvanceRotation: &AdvanceRotation{Kind: api.RotateCA, New: fresh, Phase: p}})
	}
	must := func(what string, err *api.Error, ok bool) {
		t.Helper()
		if (err == nil) != ok {
			t.Fatalf("%s: %v", what, err)
		}
	}
	must("a rotation to itself", begin("a", "a"), false)
	must("the first", begin("a", "b"), true)
	must("a second at the same time", begin("b", "c"), false)
	must("a skipped phase", advance("b", api.PhaseRetire), false)
	must("another's phase", advance("c", api.PhaseUse), false)
	must("use", advance("b", api.PhaseUse), true)
	must("the same again", advance("b", api.PhaseUse), false)
	must("giving up what is in use", advance("b", api.PhaseCanceled), false)
	must("retire", advance("b", api.PhaseRetire), true)
	must("done", advance("b", api.PhaseDone), true)
	must("beyond the end", advance("b", api.PhaseDone), false)
	if r, _ := s.View().Rotation(api.RotateCA); r.Old != "" || r.OldCert != "" || r.NewCert != "PEM b" || r.Index != index-1 {
		t.Errorf("left is %+v", r)
	}
	must("one from a key that is gone", begin("a", "c"), false)
	must("the next", begin("b", "c"), true)
	must("giving up", advance("c", api.PhaseCanceled), true)
	if r, _ := s.View().Rotation(api.RotateCA); r.Phase != api.PhaseDone || r.New != "b" || r.NewCert != "PEM b" {
		t.Errorf("after giving up the key is %+v", r)
	}
	must("the one after", begin("b", "d"), true)
}
