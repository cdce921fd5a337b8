package coordinator

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/cloudless/cloudless/api"
)

func TestTurnsAreTakenOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all turns
		end, err := all.take(t.Context(), "key")
		if err != nil {
			t.Fatal(err)
		}
		order := make(chan int, 3)
		for n := range 2 {
			go func() {
				end, err := all.take(t.Context(), "key")
				if err != nil {
					t.Error(err)
					return
				}
				order <- n
				end()
			}()
		}
		other, err := all.take(t.Context(), "other key")
		if err != nil {
			t.Fatal(err)
		}
		other()
		impatient, give := context.WithCancel(t.Context())
		give()
		if _, err := all.take(impatient, "key"); api.CodeOf(err) != api.CodeConflict {
			t.Errorf("who does not wait is told %v", err)
		}
		synctest.Wait()
		if len(order) > 0 {
			t.Error("two have the same turn")
		}
		end()
		synctest.Wait()
		if len(order) != 2 || len(all.taken) > 0 {
			t.Errorf("%d of 2 have had their turn, %d are still kept", len(order), len(all.taken))
		}
	})
}
