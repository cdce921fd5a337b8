package coordinator

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
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
