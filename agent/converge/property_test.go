package converge

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cloudless/cloudless/api"
)

var states = []api.ReplicaState{
	api.ReplicaStarting, api.ReplicaRunning, api.ReplicaBackoff, api.ReplicaStopping,
	api.ReplicaStopped, api.ReplicaComplete, api.ReplicaFailed,
}

// situation draws anything that may come together; few ids, so that things meet.
func situation(t *rapid.T) (Local, *api.AssignmentSet, time.Time) {
	now := time.Unix(1e9, 0)
	id := rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("r-%d", rapid.IntRange(1, 5).Draw(t, "n")) })
	small := rapid.Uint64Range(0, 3)
	l := Local{Epoch: small.Draw(t, "epoch"), Generation: small.Draw(t, "generation"), Replicas: map[string]Replica{}, Prepared: map[string]bool{}}
	if rapid.Bool().Draw(t, "epoch is new") {
		l.EpochSince = now.Add(-time.Duration(rapid.IntRange(0, 20).Draw(t, "minutes")) * time.Minute)
	}
	for _, id := range rapid.SliceOfDistinct(id, rapid.ID).Draw(t, "local") {
		l.Replicas[id] = Replica{Assignment: api.Assignment{ReplicaID: id}, State: rapid.SampledFrom(states).Draw(t, "state")}
	}
	set := &api.AssignmentSet{Epoch: small.Draw(t, "set epoch"), Generation: small.Draw(t, "set generation"), Reported: rapid.Bool().Draw(t, "reported")}
	for _, id := range rapid.SliceOfDistinct(id, rapid.ID).Draw(t, "named") {
		set.Assignments = append(set.Assignments, api.Assignment{
			ReplicaID: id, UID: "w", Version: small.Draw(t, "version"), Variant: api.VariantWasm,
			Desired: rapid.SampledFrom([]api.Desired{api.DesiredRun, api.DesiredStop}).Draw(t, "desired"),
		})
	}
	for v := range uint64(3) {
		spec := api.AssignedSpec{UID: "w", Version: v, Spec: api.WorkloadSpec{Wasm: &api.WasmSpec{}}}
		set.Specs = append(set.Specs, spec)
		if rapid.Bool().Draw(t, "prepare") {
			set.Prepare = append(set.Prepare, spec)
		}
	}
	return l, set, now
}

func find(set *api.AssignmentSet, id string) (api.Assignment, bool) {
	i := slices.IndexFunc(set.Assignments, func(a api.Assignment) bool { return a.ReplicaID == id })
	if i < 0 {
		return api.Assignment{}, false
	}
	return set.Assignments[i], true
}

// What the newest accepted set says to run is never stopped or forgotten, and never started twice.
func TestWhatIsToRunIsNeverStopped(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		local, set, now := situation(t)
		actions, _ := Step(local, Input{set}, now)
		for _, a := range actions {
			named, ok := find(set, a.ReplicaID)
			_, here := local.Replicas[a.ReplicaID]
			if ok && named.Desired == api.DesiredRun && (here || a.Kind == Stop || a.Kind == Forget) {
				t.Fatalf("%s %s although it is to run", a.Kind, a.ReplicaID)
			}
		}
	})
}

// A set that is older than the accepted one does nothing.
func TestOlderSetsDoNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		local, set, now := situation(t)
		actions, out := Step(local, Input{set}, now)
		older := api.Older(set.Epoch, set.Generation, local.Epoch, local.Generation)
		if out.Accepted == older || older && len(actions) > 0 || older == (out.Reason == "") {
			t.Fatalf("older %v: %+v, %v", older, out, actions)
		}
	})
}

// A replica that the set does not name ends only when the node's report was decided on, and not by
// an empty set in the first ten minutes of an epoch.
func TestAbsenceStopsOnlyWhenTrusted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		local, set, now := situation(t)
		actions, _ := Step(local, Input{set}, now)
		fresh := set.Epoch != local.Epoch && local.Epoch != 0 || now.Sub(local.EpochSince) < EmptyGrace
		for _, a := range actions {
			if _, ok := find(set, a.ReplicaID); ok || a.Kind != Stop && a.Kind != Forget {
				continue
			}
			if !set.Reported || len(set.Assignments) == 0 && fresh {
				t.Fatalf("%s %s: %s", a.Kind, a.ReplicaID, a.Reason)
			}
		}
	})
}

// Doing what Step says settles: at most stop, then forget, then nothing. Then exactly what is to run
// and was not over already runs, and every explicit stop is answered.
func TestStepSettles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		local, set, now := situation(t)
		before := local
		for range 2 {
			actions, out := Step(local, Input{set}, now)
			if !out.Accepted {
				return
			}
			local = perform(accept(local, set, now), actions)
			for id, r := range local.Replicas { // what was stopping has stopped
				if r.State == api.ReplicaStopping {
					r.State = api.ReplicaStopped
					local.Replicas[id] = r
				}
			}
		}
		if actions, _ := Step(local, Input{set}, now); len(actions) > 0 {
			t.Fatalf("not settled: %+v", actions)
		}
		for _, a := range set.Assignments {
			r, here := local.Replicas[a.ReplicaID]
			_, had := before.Replicas[a.ReplicaID]
			switch {
			case !here:
				t.Fatalf("%s is not taken up", a.ReplicaID)
			case a.Desired == api.DesiredStop && r.State != api.ReplicaStopped:
				t.Fatalf("%s is %s, told to stop", a.ReplicaID, r.State)
			case a.Desired == api.DesiredRun && !had && r.State != api.ReplicaRunning && a.Version < 3:
				t.Fatalf("%s is %s, told to run", a.ReplicaID, r.State)
			}
		}
	})
}

// The same question has the same answer, in the same order, and changes nothing that it was asked with.
func TestStepIsPure(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		local, set, now := situation(t)
		copied := perform(local, nil)
		first, out := Step(local, Input{set}, now)
		for range 3 {
			again, o := Step(local, Input{set}, now)
			if diff := cmp.Diff(first, again) + cmp.Diff(out, o) + cmp.Diff(copied, local); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

// When only time can change the answer, Step says when to ask again, and then it is another.
func TestNextCheckIsWorthIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		local, set, now := situation(t)
		_, out := Step(local, Input{set}, now)
		if !out.Accepted || out.NextCheck.IsZero() {
			return
		}
		if !out.NextCheck.After(now) {
			t.Fatalf("next check %v is not after %v", out.NextCheck, now)
		}
		_, later := Step(accept(local, set, now), Input{set}, out.NextCheck)
		if !later.NextCheck.IsZero() {
			t.Fatalf("asked again at %v and still waiting for %v", out.NextCheck, later.NextCheck)
		}
	})
}
