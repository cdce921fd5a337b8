package coordinator

import (
	"fmt"
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
