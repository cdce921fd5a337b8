package bubble

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
)

// A file here is an object of one chunk of its own.
const (
	files     = 120
	fileBytes = 20 << 10
)

// fill puts files of so many bytes, which no two have a chunk in common.
func (w *world) fill(files, size int) map[string][sha256.Size]byte {
	w.t.Helper()
	rng := rand.NewChaCha8([32]byte{1})
	sums := map[string][sha256.Size]byte{}
	for i := range files {
		content := make([]byte, size)
		_, _ = rng.Read(content)
		key := fmt.Sprint("file-", i)
		ctx, cancel := context.WithTimeout(w.t.Context(), putTime)
		_, err := w.mustLead().PutObject(ctx, admin, api.ObjectPut{Bucket: "assets", Key: key, Size: int64(size)}, bytes.NewReader(content))
		cancel()
		w.check(err)
		sums[key] = sha256.Sum256(content)
	}
	return sums
}

// readAll reads all files, and compares them.
func (w *world) readAll(sums map[string][sha256.Size]byte) {
	w.t.Helper()
	for key, want := range sums {
		_, content, err := w.mustLead().read(key)
		w.check(err)
		if sha256.Sum256([]byte(content)) != want {
			w.t.Fatalf("%s has other bytes", key)
		}
	}
}

// upkeep is how far the leader says it is.
func (w *world) upkeep() (u api.StorageUpkeep) {
	if l := w.leader(); l != nil {
		if r, err := l.StorageReport(w.t.Context()); err == nil {
			return r.Upkeep
		}
	}
	return u
}

// whole tells whether the leader has looked at all chunks since a time and found nothing to do.
func (w *world) whole(since time.Time) bool {
	u := w.upkeep()
	return u.LookedAt.After(since) && !u.Looking && u.Chunks == files && u.Short+u.Misplaced+u.Lost+u.Waiting == 0
}

// stored is how many chunks nodes say in their heartbeats that they have, by name.
func (w *world) stored() map[string]int64 {
	out := map[string]int64{}
	if l := w.leader(); l != nil {
		if r, err := l.StorageReport(w.t.Context()); err == nil {
			for _, n := range r.Nodes {
				out[n.Name] = n.Stats.Chunks
			}
		}
	}
	return out
}

func total(stored map[string]int64, without ...string) (n int64) {
	for name, chunks := range stored {
		if !slices.Contains(without, name) {
			n += chunks
		}
	}
	return n
}

// keepers raises a cluster with files in it, each in three copies.
func keepers(t *testing.T, nodes int, f func(w *world, sums map[string][sha256.Size]byte)) {
	small(t, 3, nodes, func(w *world) {
		w.makeBucket()
		sums := w.fill(files, fileBytes)
		w.eventually("three copies of each", soon, func() bool { return total(w.stored()) == 3*files })
		f(w, sums)
	})
}

// What a node had that is lost is copied to the others, which tell of it; when it comes back, it lets go
// of what is too much.
func TestALostNodesChunksAreCopied(t *testing.T) {
	keepers(t, 4, func(w *world, sums map[string][sha256.Size]byte) {
		lost := w.nodes[1]
		w.powerOff(lost)
		w.eventually("three copies of each on the others", time.Minute, func() bool { return total(w.stored(), lost.name) == 3*files })
		w.eventually("the leader to say so", soon, func() bool { return len(w.events(api.EventStoreRepaired)) == 1 })
		if n := len(w.events(api.EventStoreShort)); n != 1 {
			t.Errorf("it was told %d times that chunks are short", n)
		}
		w.readAll(sums)
		w.start(lost)
		w.eventually("what is too much to go", time.Minute, func() bool { return total(w.stored()) == 3*files && w.stored()[lost.name] > files/2 })
		w.eventually("nothing to do", soon, func() bool { return w.whole(w.began) })
		w.readAll(sums)
	})
}

// A node that drains is safe to remove when the others have all that it had, not before. One that joins
// gets its share.
func TestANodeIsReplaced(t *testing.T) {
	keepers(t, 4, func(w *world, sums map[string][sha256.Size]byte) {
		old := w.nodes[2]
		_, err := w.mustLead().DrainNode(w.t.Context(), admin, old.id, api.DrainRequest{})
		w.check(err)
		w.eventually("it to be safe to remove", time.Minute, func() bool {
			n, err := w.mustLead().Node(w.t.Context(), old.name)
			return err == nil && n.Status.Upkeep != nil && n.Status.Upkeep.SafeToRemove
		})
		w.eventually("its chunks to be on the others alone", soon, func() bool { s := w.stored(); return s[old.name] == 0 && total(s) == 3*files })
		if n := len(w.events(api.EventStoreDrained)); n != 1 {
			t.Errorf("it was told %d times that the node is drained", n)
		}
		w.check(w.mustLead().RemoveNode(w.t.Context(), admin, old.id))
		w.kill(old)
		w.readAll(sums)
		next := &node{machine: w.machine("n5")}
		w.nodes = append(w.nodes, next)
		w.start(next)
		w.eventually("the new node to have its share", time.Minute, func() bool { s := w.stored(); return s[next.name] > files/2 && total(s) == 3*files })
		w.readAll(sums)
	})
}

// While a node is cut off, another one drains and a third joins; the leader is replaced in the middle of
// it. When all is healed each chunk has its copies, and none was lost.
func TestMembersChangeDuringAPartition(t *testing.T) {
	keepers(t, 5, func(w *world, sums map[string][sha256.Size]byte) {
		away, old := w.nodes[0], w.nodes[1]
		w.isolate(away.host)
		_, err := w.mustLead().DrainNode(w.t.Context(), admin, old.id, api.DrainRequest{})
		w.check(err)
		next := &node{machine: w.machine("n6")}
		w.nodes = append(w.nodes, next)
		w.start(next)
		w.pass(5 * time.Second)
		w.crash(w.mustLead())
		w.eventually("another leader", soon, func() bool { return w.leader() != nil })
		w.pass(time.Minute)
		w.readAll(sums)
		w.heal()
		healed := time.Now()
		w.eventually("every chunk to be where it belongs", 5*time.Minute, func() bool {
			s := w.stored()
			return w.whole(healed) && s[old.name] == 0 && s[away.name] > 0 && s[next.name] > 0 && total(s) == 3*files
		})
		w.readAll(sums)
	})
}
