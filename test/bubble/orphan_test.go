package bubble

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
)

const (
	slowBytes = 1200 << 10 // of an object that comes slowly: two chunks
	slowStep  = 100 << 10  // of which come each slowPause, so that an upload takes more than a second
	slowPause = 100 * time.Millisecond
)

// slow is a client that sends what it has bit by bit.
type slow struct{ io.Reader }

func (s slow) Read(p []byte) (int, error) {
	time.Sleep(slowPause)
	return s.Reader.Read(p[:min(len(p), slowStep)])
}

// upload puts an object that comes slowly.
func (c *coord) upload(key string) (*api.Object, error) {
	content := make([]byte, slowBytes)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(key))).Read(content) // never fails
	ctx, cancel := context.WithTimeout(c.w.t.Context(), putTime)
	defer cancel()
	return c.PutObject(ctx, admin, api.ObjectPut{Bucket: "assets", Key: key, Size: slowBytes, IfAbsent: true}, slow{bytes.NewReader(content)})
}

// goAway sends a chunk of an upload in steps, and is not heard of again.
func (c *coord) goAway() {
	w := c.w
	session, err := c.OpenUpload(w.t.Context(), admin, "assets")
	w.check(err)
	chunk := make([]byte, fileBytes)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(chunk)
	sum := sha256.Sum256(chunk)
	w.check(c.PutChunk(w.t.Context(), session.ID, "assets", "sha256:"+hex.EncodeToString(sum[:]), bytes.NewReader(chunk)))
}

// uploadWhile has two clients at each coordinator upload object after object while f runs.
func (w *world) uploadWhile(f func()) *attempts {
	a := &attempts{acked: map[string]*api.Object{}, open: map[string]error{}}
	ctx, stop := context.WithCancel(w.t.Context())
	var all sync.WaitGroup
	for i := range 2 * len(w.coords) {
		server := w.coords[i%len(w.coords)].Server // of the time before any crash
		through := &coord{machine: machine{w: w}, Server: server}
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				key := fmt.Sprintf("%d/%d", i, n)
				o, err := through.upload(key)
				a.note(key, o, err)
				if err != nil {
					time.Sleep(time.Second)
				}
			}
		})
	}
	f()
	stop()
	all.Wait()
	return a
}

// named is how many chunks objects name, when the leader has looked at all of them since; else 0.
func (w *world) named(since time.Time) int64 {
	if u := w.upkeep(); u.LookedAt.After(since) && !u.Looking && u.Short+u.Misplaced+u.Lost+u.Waiting == 0 {
		return u.Chunks
	}
	return 0
}

// Uploads are cut off with an agent that is killed, with the leader, and by a client that goes away. What
// was acknowledged is there; and when the sessions are over and the nodes have collected, they have the
// chunks that objects name, each in its copies, and no others.
func TestNoOrphanOutlivesCollection(t *testing.T) {
	small(t, 3, 3, func(w *world) {
		w.makeBucket()
		dead, old := w.nodes[2], w.mustLead()
		old.goAway()
		a := w.uploadWhile(func() {
			w.pass(2 * time.Second)
			w.kill(dead)
			w.pass(2500 * time.Millisecond)
			w.crash(old)
			w.eventually("another leader", soon, func() bool { return w.leader() != nil })
			w.pass(2 * time.Second)
		})
		w.tell("%d uploads acknowledged, of %d nobody knows", len(a.acked), len(a.open))
		if len(a.acked) < 10 || len(a.open) == 0 || len(a.wrong) > 0 {
			t.Errorf("%d uploads acknowledged, %d cut off; %v", len(a.acked), len(a.open), a.wrong)
		}
		<-old.ended
		w.boot(old)
		w.start(dead)
		var chunks int64
		began := time.Now()
		w.check(w.mustLead().RepairStorage(w.t.Context(), admin))
		w.eventually("three copies of each", time.Minute, func() bool { chunks = w.named(began); return chunks > 0 && total(w.stored()) >= 3*chunks })
		if total(w.stored()) == 3*chunks {
			t.Error("no upload has left a chunk")
		}

		w.pass(api.SessionLifetime + time.Minute)
		w.check(w.mustLead().CollectStorage(w.t.Context(), admin, false))
		w.pass(11 * time.Minute)
		w.check(w.mustLead().CollectStorage(w.t.Context(), admin, false))
		w.eventually("the chunks of objects alone", soon, func() bool { return total(w.stored()) == 3*chunks && w.named(began) == chunks })
		for key := range a.acked {
			if _, content, err := w.mustLead().read(key); err != nil || len(content) != slowBytes {
				t.Errorf("%s: %d bytes of %d, %v", key, len(content), slowBytes, err)
			}
		}
	})
}
