package coordinator

import (
	"context"
	"fmt"
	"testing"

	"github.com/cloudless/cloudless/api"
)

// What gathers comes out in the order in which it came, all of it, however little fits at once; when
// nobody takes it, those beyond the queue wait in front of it as long as they like.
func TestGathering(t *testing.T) {
	g := newGather[int]()
	for i := range gatherQueue {
		if err := g.put(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.put(ended, -1); api.CodeOf(err) != api.CodeTimeout {
		t.Errorf("put into a queue that is full: %v", err)
	}
	var got []int
	for len(got) < gatherQueue {
		room := 3
		batch, ok := g.take(t.Context(), func(int) bool { room--; return room >= 0 })
		if !ok || len(batch) == 0 || len(batch) > 3 {
			t.Fatalf("took %v", batch)
		}
		got = append(got, batch...)
	}
	for i, n := range got {
		if i != n {
			t.Fatalf("%d came as the %dth", n, i)
		}
	}
	if batch, ok := g.take(ended, func(int) bool { return true }); ok {
		t.Errorf("took %v from nothing", fmt.Sprint(batch))
	}
}
