package coordinator

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// A write that is repeated at another coordinator, right after the first was answered, is not done again.
func TestAKeyIsKnownToEveryCoordinatorAtOnce(t *testing.T) {
	c := newCluster(t, 2)
	leader, follower := c.servers[c.leader()], c.servers[c.followers()[0]]
	for i := range 50 {
		done := 0
		for again, s := range []*Server{leader, follower} {
			_, body, replay, err := s.Idempotent(t.Context(), admin, fmt.Sprint("key-", i), "print", func() (int, []byte, error) {
				done++
				return 200, fmt.Appendf(nil, "%d", done), nil
			})
			if err != nil || string(body) != "1" || replay != (again == 1) {
				t.Fatalf("key %d, try %d: %s, replayed %v, %v", i, again+1, body, replay, err)
			}
		}
	}
}

// A write that is repeated while the first is under way waits for it.
func TestAKeyThatIsUnderWayIsWaitedFor(t *testing.T) {
	c := newCluster(t, 1)
	s := c.servers[c.leader()]
	var done, replays atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			_, body, replay, err := s.Idempotent(t.Context(), admin, "key", "print", func() (int, []byte, error) {
				return 200, fmt.Append(nil, done.Add(1)), s.fresh(t.Context()) // which takes its time
			})
			if err != nil || string(body) != "1" {
				t.Errorf("%s, %v", body, err)
			}
			if replay {
				replays.Add(1)
			}
		})
	}
	if all.Wait(); done.Load() != 1 || replays.Load() != 7 {
		t.Errorf("done %d times, and the answer repeated %d times", done.Load(), replays.Load())
	}
}
