package run

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudless/cloudless/api"
)

var errBroken = errors.New("broken")

// untilDone is a goroutine that does what it should: it ends with its context.
func untilDone(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestOneFailureEndsTheWholeGroup(t *testing.T) {
	g := New(t.Context())
	g.Go("waits", untilDone)
	g.Go("fails", func(context.Context) error { return errBroken })
	err := g.Wait()
	if !errors.Is(err, errBroken) || !strings.HasPrefix(err.Error(), "fails: ") {
		t.Errorf("got %v, want the failure with its goroutine's name", err)
	}
	if cause := context.Cause(g.Context()); !errors.Is(cause, errBroken) {
		t.Errorf("the context's cause is %v", cause)
	}
}

func TestThatAMemberEndsOrIsCancelledEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(t.Context())
		g.Go("ends", func(context.Context) error { return nil })
		g.Go("is cancelled", func(context.Context) error { return context.Canceled })
		g.Go("waits", untilDone)
		synctest.Wait()
		if g.Context().Err() != nil {
			t.Error("the group has ended")
		}
		if err := g.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

func TestAPanicIsAnErrorWithNameAndStack(t *testing.T) {
	g := New(t.Context())
	g.Go("careless", func(context.Context) error { panic("no such index") })
	err := g.Wait()
	if err == nil {
		t.Fatal("the panic is lost")
	}
	for _, want := range []string{"careless", "no such index", "run_test.go"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not tell %q: %v", want, err)
		}
	}
}

func TestAGroupEndsWithItsParent(t *testing.T) {
	parent, cancel := context.WithCancel(t.Context())
	g := New(parent)
	g.Go("waits", untilDone)
	cancel()
	if err := g.Wait(); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestSleepIsCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := Sleep(t.Context(), time.Minute); err != nil || time.Since(began) != time.Minute {
			t.Errorf("slept %v: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := Sleep(ctx, time.Minute); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute+time.Second {
			t.Errorf("slept until %v: %v", time.Since(began), err)
		}
	})
}

func TestStepsGoInOrderAndStopAtTheFirstThatFails(t *testing.T) {
	var did []string
	step := func(what string, err error) Step {
		return Step{what, func(context.Context) error {
			did = append(did, what)
			return err
		}}
	}
	undo := func(err error) func() error {
		return func() error {
			did = append(did, "undo")
			return err
		}
	}
	if err := Steps(t.Context(), []Step{step("a", nil), step("b", nil)}, undo(nil)); err != nil || !slices.Equal(did, []string{"a", "b"}) {
		t.Errorf("did %v: %v", did, err)
	}
	did = nil
	errUndo := errors.New("not undone")
	err := Steps(t.Context(), []Step{step("a", nil), step("open b", errBroken), step("c", nil)}, undo(errUndo))
	if !slices.Equal(did, []string{"a", "open b", "undo"}) {
		t.Errorf("did %v", did)
	}
	if !errors.Is(err, errBroken) || !errors.Is(err, errUndo) || !strings.HasPrefix(err.Error(), "cannot open b: ") {
		t.Errorf("got %v", err)
	}
}

func TestAStepsErrorKeepsItsCodeAndHint(t *testing.T) {
	cause := api.Errorf(api.CodeConflict, "the port is taken").WithHint("choose another")
	err := Steps(t.Context(), []Step{{"open the port", func(context.Context) error { return cause }}}, func() error { return nil })
	got := api.AsError(err)
	if got.Code != api.CodeConflict || got.Hint != "choose another" || got.Op != "cannot open the port" {
		t.Errorf("got %+v", got)
	}
	if cause.Op != "" {
		t.Error("the cause itself was changed")
	}
}
