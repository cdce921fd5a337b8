package e2e

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/smithy-go"
)

// uploads are clients that put object after object, as one body and in parts by turns, each through the
// doors of all agents. A put that fails is made again, at the next door.
type uploads struct {
	s     *shelf
	all   sync.WaitGroup
	stop  func()
	ended chan struct{}
	acked atomic.Int64

	mu     sync.Mutex
	mended []error // what puts failed with that went well later
	lost   []error // what they failed with again and again
}

func (s *shelf) startUploads(clients int) *uploads {
	u := &uploads{s: s, ended: make(chan struct{})}
	u.stop = sync.OnceFunc(func() { close(u.ended); u.all.Wait() })
	s.k.t.Cleanup(u.stop)
	for id := range clients {
		u.all.Go(func() { u.client(id) })
	}
	return u
}

// client ends when it is told to.
func (u *uploads) client(id int) {
	for n := 0; ; n++ {
		select {
		case <-u.ended:
			return
		default:
			u.upload(fmt.Sprintf("upload/%d/%d", id, n), id+n)
			u.acked.Add(1)
		}
	}
}

func (u *uploads) upload(key string, n int) {
	put, size := u.s.put, 1<<20+n
	if n%2 == 1 {
		put, size = u.s.putParts, partBytes+n
	}
	var errs []error
	for began := time.Now(); time.Since(began) < patience; n++ {
		err := put(u.s.k.agents[n%len(u.s.k.agents)], key, size)
		if err == nil {
			break
		}
		errs = append(errs, err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, there := u.s.sizes[key]; there {
		u.mended = append(u.mended, errs...)
	} else {
		u.lost = append(u.lost, errs...)
	}
}

// await waits until so many more objects are acknowledged.
func (u *uploads) await(more int64) {
	u.s.k.t.Helper()
	from := u.acked.Load()
	eventually(u.s.k.t, fmt.Sprintf("%d more objects are acknowledged", more), func() bool { return u.acked.Load() >= from+more })
}

// mayRetry tells whether clients make a request again that failed so: no answer came, or one that blames
// the server.
func mayRetry(err error) bool {
	var answer smithy.APIError
	var status interface{ HTTPStatusCode() int }
	return !errors.As(err, &answer) || errors.As(err, &status) && status.HTTPStatusCode() >= 500
}

// Objects are put while an agent is killed, then the leader: what is acknowledged is there, and what is not
// ends with an error that tells clients to try again, which mends it.
func TestUploadsOutliveAnAgentAndTheLeader(t *testing.T) {
	t.Parallel()
	k := newCluster(t, 3, 4, nil)
	s := k.newShelf()
	u := s.startUploads(4)
	u.await(8)
	for _, victim := range []*member{k.agents[3], k.leader()} {
		victim.kill()
		u.await(8)
		victim.start()
		u.await(4)
	}
	u.stop()
	t.Logf("%d objects were acknowledged; errors that were mended: %q", u.acked.Load(), u.mended)
	for _, err := range append(u.mended, u.lost...) {
		if !mayRetry(err) {
			t.Error("clients do not try again after:", err)
		}
	}
	if len(u.lost) > 0 {
		t.Errorf("not mended: %q", u.lost)
	}
	k.whole()
	s.copied(copies, k.agents...)
	s.intact(k.agents[0], k.agents[3])
}
