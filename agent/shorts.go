package agent

import (
	"context"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
)

const (
	// maxShorts is how many chunks may wait to be told. What is beyond that the leader finds by itself,
	// when it compares what nodes hold with what they should.
	maxShorts  = 10_000
	shortPause = 200 * time.Millisecond // so that those of one broken write go together
)

// shorts gathers chunks that want a repair soon, each once, and tells the coordinators. Nobody waits
// for it.
type shorts struct {
	send func(context.Context, api.StoreShort) error

	mu      sync.Mutex
	waiting map[string]struct{}
	poke    chan struct{}
}

func newShorts(send func(context.Context, api.StoreShort) error) *shorts {
	return &shorts{send: send, waiting: map[string]struct{}{}, poke: make(chan struct{}, 1)}
}

func (s *shorts) add(digests ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range digests {
		if len(s.waiting) < maxShorts {
			s.waiting[d] = struct{}{}
		}
	}
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// take removes a message's worth of what waits.
func (s *shorts) take() (digests []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := range s.waiting { // in any order: none is before another
		if len(digests) == api.MaxStoreShort {
			break
		}
		digests = append(digests, d)
		delete(s.waiting, d)
	}
	return digests
}

// run tells what there is, again what was not taken; it ends with ctx.
func (s *shorts) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.poke:
		}
		pause := shortPause
		for run.Sleep(ctx, pause) == nil {
			digests := s.take()
			if len(digests) == 0 {
				break
			}
			if s.send(ctx, api.StoreShort{Chunks: digests}) == nil {
				pause = shortPause
				continue
			}
			s.add(digests...)
			pause = redialMax
		}
	}
}
