package coordinator

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

// A term lasts from the news of the lead to the news of its loss, and with the coordinator at the longest.
func TestTermsFollowTheLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		changes, leading := make(chan bool), 0
		ended := make(chan error, 1)
		go func() {
			ended <- terms(ctx, changes, func(ctx context.Context) error {
				leading++
				<-ctx.Done()
				leading--
				return nil
			})
		}()
		for _, leads := range []bool{true, false, true} {
			changes <- leads
			synctest.Wait()
			if (leading == 1) != leads || leading > 1 {
				t.Errorf("%d terms at one time, leading is %t", leading, leads)
			}
		}
		cancel()
		if err := <-ended; err != nil || leading != 0 {
			t.Errorf("ended with %v, %d terms are left", err, leading)
		}
	})
}

// A leader that has failed says so at once. If it kept the lead, nobody would plan until it lost that.

func TestALeaderThatFailsDoesNotKeepTheLead(t *testing.T) {
	broken := errors.New("broken")
	for name, lead := range map[string]func(context.Context) error{
		"error": func(context.Context) error { return broken },
		"panic": func(context.Context) error { panic(broken) },
	} {
		changes := make(chan bool, 1)
		changes <- true
		if err := terms(t.Context(), changes, lead); err == nil || !strings.Contains(err.Error(), "broken") {
			t.Errorf("%s: ended with %v", name, err)
		}
	}
}

// What a coordinator has planned as the leader does not reach the log when another one leads by then: it was
// planned on what the other has not seen.
func TestAPlanIsTheLeadersAlone(t *testing.T) {
	c := newCluster(t, 2)
	planned := state.New()
	w := api.Workload{Metadata: api.Metadata{Namespace: "default", Name: "hi"}}
	w.Spec.Wasm = &api.WasmSpec{Module: "m.wasm", Mode: api.ModeHTTP}
	if res := planned.Apply(1, state.Command{PutWorkload: &state.PutWorkload{Workload: w, UID: "w-1"}}); res.Err != nil {
		t.Fatal(res.Err)
	}
	if _, err := c.servers[c.followers()[0]].reconcileOnce(t.Context(), planned.View()); !errors.Is(err, errNotSent) {
		t.Errorf("a follower's plan: %v", err)
	}
}
