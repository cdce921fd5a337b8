package upkeep

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
)

// stories is how many histories are played.
func stories() uint64 {
	if os.Getenv("CLOUDLESS_TEST_LONG") != "" {
		return 300
	}
	return 25
}

// Whatever happens to the nodes, together and at any moment, no drop leaves a chunk with less than it is
// to have (the world checks each), and when all is quiet every chunk that some node has is exactly where
// it belongs.
func TestStories(t *testing.T) {
	for seed := range stories() {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, 0, func(w *world) {
				w.rng = rand.New(rand.NewPCG(seed, 0))
				for i := range 4 + w.rng.IntN(4) {
					w.join(fmt.Sprint("n", i), fmt.Sprint("z", i%(1+int(seed%4))))
				}
				for range 3 {
					w.store(100, 1+w.rng.IntN(4))
				}
				w.storeCold(100)
				u := w.lead()
				for range 30 {
					w.happen(u)
					time.Sleep(time.Duration(w.rng.IntN(3_000)) * time.Millisecond)
				}
				w.calm(u)
			})
		})
	}
}

// happen is one thing that happens.
func (w *world) happen(u *Upkeep) {
	id := w.members[w.rng.IntN(len(w.members))].ID
	switch w.rng.IntN(10) {
	case 0:
		w.set(id, api.StoreLost)
	case 1, 2:
		w.set(id, api.StoreReady)
	case 3:
		w.set(id, api.StoreDraining)
	case 4:
		w.set(id, api.StoreFull)
	case 5: // a partition that nobody has noticed
		w.down(id, w.rng.IntN(2) == 0)
	case 6:
		if len(w.members) < 9 {
			w.join(fmt.Sprint("j", time.Now().UnixMilli()), "z0")
		}
	case 7:
		u.Hint(w.store(20, 1+w.rng.IntN(3))...)
	case 8:
		w.rot(id)
	case 9:
		w.cut(id, w.members[w.rng.IntN(len(w.members))].ID)
	}
}

// rot takes some chunks from a node that has others, and half of the time it does not know.
func (w *world) rot(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, left := w.nodes[id], 10
	for _, r := range w.refs {
		others := 0
		for _, o := range w.nodes {
			if o != n && o.chunks[r.Name()] {
				others++
			}
		}
		if n.chunks[r.Name()] && others > 0 && left > 0 {
			delete(n.chunks, r.Name())
			n.rotted[r.Name()] = time.Now()
			if left--; left%2 == 0 {
				n.lies[r.Name()] = true
			}
		}
	}
}

func (w *world) cut(a, b string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken[pair{a, b}] = !w.broken[pair{a, b}]
}

// calm puts the nodes right, scrubs them, and waits.
func (w *world) calm(u *Upkeep) {
	w.mu.Lock()
	for i := range w.members {
		w.members[i].State = api.StoreReady
		n := w.nodes[w.members[i].ID]
		n.down = false
		clear(n.lies)
	}
	clear(w.broken)
	w.mu.Unlock()
	time.Sleep(2 * lastRetry) // in which it has all come to rest, whatever failed before
	w.settle(0)
	r := u.Report()
	if r.Lost != 0 || r.Short != 0 || r.Misplaced != 0 || r.Chunks != int64(len(w.refs)) || r.Trouble != "" || len(r.Nodes) != len(w.members) {
		w.t.Errorf("%+v", r)
	}
	held := int64(0)
	for _, n := range r.Nodes {
		held += n.Chunks
		if n.Chunks != int64(len(w.nodes[n.Node].chunks)) {
			w.t.Errorf("%s has %d chunks; the report says %d", n.Node, len(w.nodes[n.Node].chunks), n.Chunks)
		}
	}
	w.t.Logf("%d chunks, %d copies now; %d were made, %d dropped, %d failed", r.Chunks, held, w.copies, w.drops, r.Failed)
}
