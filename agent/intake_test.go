package agent

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/agent/ledger"
	"github.com/cloudless/cloudless/agent/supervise"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/fake"
)

var started = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// bench is the part of an agent that takes assignments in, without its connections.
type bench struct {
	*Agent
	t *testing.T
}

// begin starts it on what the folder holds, at a moment.
func begin(t *testing.T, dir string, driver *fake.Driver, now time.Time) *bench {
	t.Helper()
	a := &Agent{log: zerolog.New(zerolog.NewTestWriter(t))}
	t.Cleanup(func() { _ = driver.Clean(context.Background(), nil) }) // ends what runs on; of the fake, it cannot fail
	var err error
	if a.ledger, err = ledger.Open(filepath.Join(dir, "ledger"), nil); err != nil {
		t.Fatal(err)
	}
	a.reports, a.events = newReporter(a), newEventSender(a)
	a.sup = supervise.New(supervise.Config{
		NodeID: "n-1", Cluster: "c-1", Drivers: map[api.Variant]sandbox.Driver{api.VariantContainer: driver}, Ledger: a.ledger,
		LogDir: filepath.Join(dir, "logs"), OnStatus: a.reports.add, OnEvent: a.events.add, Log: a.log,
	})
	kept, err := a.ledger.Set()
	if err != nil {
		t.Fatal(err)
	}
	records, err := a.ledger.Replicas()
	if err != nil {
		t.Fatal(err)
	}
	a.intake = newIntake(a, kept, now)
	a.sup.Resume(t.Context(), records)
	return &bench{a, t}
}

// end is a stop of the agent: its containers run on.
func (b *bench) end() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := b.sup.Stop(ctx, supervise.StopRestart); err != nil {
		b.t.Error(err)
	}
	if err := b.ledger.Close(); err != nil {
		b.t.Error(err)
	}
}

// take hands a set in and looks at it at a moment.
func (b *bench) take(set api.AssignmentSet, now time.Time) (next time.Time) {
	b.intake.offer(&set)
	return b.intake.step(now)
}

func (b *bench) is(id string, want api.ReplicaState) func() bool {
	return func() bool { return b.sup.Local()[id].State == want }
}

func oneReplica(epoch, generation uint64) api.AssignmentSet {
	ref := api.Ref{Namespace: "default", Name: "web"}
	return api.AssignmentSet{
		NodeID: "n-1", Epoch: epoch, Generation: generation, Reported: true,
		Assignments: []api.Assignment{{ReplicaID: "r-1", Workload: ref, UID: "w-1", Version: 1, Variant: api.VariantContainer, Desired: api.DesiredRun}},
		Specs:       []api.AssignedSpec{{Workload: ref, UID: "w-1", Version: 1, Spec: api.WorkloadSpec{Container: &api.ContainerSpec{Image: "web:1"}}}},
	}
}

// Coordinators that lost their state found a new epoch and know of no replica. The ten minutes in which
// that stops nothing go on over a restart of the agent, and are over when they are over.
func TestAnEmptySetOfANewEpochStopsNothingOverARestart(t *testing.T) {
	dir, driver := t.TempDir(), fake.New(fake.Script{Adoptable: true})
	b := begin(t, dir, driver, started)
	b.take(oneReplica(1, 5), started)
	eventually(t, "the replica to run", b.is("r-1", api.ReplicaRunning))
	empty := api.AssignmentSet{NodeID: "n-1", Epoch: 2, Generation: 1, Reported: true}
	due := started.Add(time.Hour).Add(10 * time.Minute)
	if next := b.take(empty, started.Add(time.Hour)); !next.Equal(due) {
		t.Errorf("looks again at %v, want %v", next, due)
	}
	b.end()

	back := started.Add(time.Hour).Add(9 * time.Minute)
	b = begin(t, dir, driver, back)
	defer b.end()
	eventually(t, "the replica to be adopted", b.is("r-1", api.ReplicaRunning))
	empty.Generation = 2
	if next := b.take(empty, back); !next.Equal(due) {
		t.Errorf("after the restart looks again at %v, want %v", next, due)
	}
	if !b.is("r-1", api.ReplicaRunning)() {
		t.Errorf("the replica is %s", b.sup.Local()["r-1"].State)
	}
	b.intake.step(due)
	eventually(t, "the replica to stop", b.is("r-1", api.ReplicaStopped))
}

// A clock that was ahead must not make the ten minutes years.
func TestAnEpochSeenInTheFutureCountsAsSeenNow(t *testing.T) {
	kept := &ledger.Set{AssignmentSet: oneReplica(2, 1), EpochSince: started.AddDate(1, 0, 0)}
	if in := newIntake(nil, kept, started); !in.since.Equal(started) {
		t.Errorf("seen %v", in.since)
	}
}

// What is to come is prepared, told in the inventory once it is here, and forgotten when it is no
// longer to come; a revision changes with the list and with nothing else.
func TestWhatIsToComeIsPreparedAndTold(t *testing.T) {
	var images []string
	release := make(chan struct{})
	driver := fake.New(fake.Script{Prepare: func(_ context.Context, s sandbox.Spec) error {
		if s.Container.Image == "web:2" {
			images = append(images, s.Container.Image)
			<-release
		}
		return nil
	}})
	b := begin(t, t.TempDir(), driver, started)
	defer b.end()
	digest := "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	b.stock = newStock(&shelf{held: []chunkstore.Info{{Digest: digest}}}, b.sup.Warm, noBuckets)
	set := oneReplica(1, 5)
	next := set.Specs[0]
	next.Version, next.Spec.Container = 2, &api.ContainerSpec{Image: "web:2"}
	set.Prepare = []api.AssignedSpec{next}
	b.take(set, started)
	eventually(t, "the replica to run", b.is("r-1", api.ReplicaRunning))

	first := b.stock.look(started)
	if !slices.Equal(first.Artifacts, []string{digest}) || len(first.Prepared) != 0 || first.Revision == 0 {
		t.Errorf("while it is fetched: %+v", first)
	}
	close(release)
	eventually(t, "the version to be warm", func() bool { return len(b.sup.Warm()) == 1 })
	if len(images) != 1 {
		t.Errorf("prepared %v", images)
	}
	if soon := b.stock.look(started.Add(stockInterval / 2)); soon != first {
		t.Error("the store was looked through twice in a second")
	}
	second := b.stock.look(started.Add(stockInterval))
	if !slices.Equal(second.Prepared, []string{"w-1/2"}) || second.Revision <= first.Revision {
		t.Errorf("when it is here: %+v after %+v", second, first)
	}
	if same := b.stock.look(started.Add(2 * stockInterval)); same.Revision != second.Revision {
		t.Errorf("nothing changed but the revision: %+v", same)
	}
	set.Generation, set.Prepare = 6, nil
	b.take(set, started)
	if third := b.stock.look(started.Add(3 * stockInterval)); len(third.Prepared) != 0 || third.Revision <= second.Revision {
		t.Errorf("no longer to come: %+v", third)
	}
}
