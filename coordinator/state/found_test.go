package state

import (
	"testing"
	"time"
)

// Only an epoch that follows another one is noted as such: a cluster that was just founded has nothing
// that could be older than what its nodes hold.
func TestAnEpochThatFollowsAnotherIsNoted(t *testing.T) {
	s := New()
	founded, renewed := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	s.Apply(1, Command{At: founded, Found: &Found{ClusterID: "c", Epoch: 1}})
	if m := s.View().Meta(); !m.RenewedAt.IsZero() || !m.FoundedAt.Equal(founded) {
		t.Errorf("%+v", m)
	}
	s.Apply(2, Command{At: renewed, Found: &Found{ClusterID: "c", Epoch: 2}})
	if m := s.View().Meta(); !m.RenewedAt.Equal(renewed) {
		t.Errorf("%+v", m)
	}
}
