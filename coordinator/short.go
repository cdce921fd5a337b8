package coordinator

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
)

// maxShort bounds the chunks that wait for a repair out of turn. More are left to the repair that goes
// over all chunks, which needs no hint.
const maxShort = 10_000

// shortQueue holds chunks that have fewer copies than they should, each once, in the order in which they
// came. It never blocks: what finds it full is dropped.
type shortQueue struct {
	mu     sync.Mutex
	queued map[string]bool
	order  []string
	some   chan struct{} // holds one: there is something to take
}

func newShortQueue() *shortQueue {
	return &shortQueue{queued: map[string]bool{}, some: make(chan struct{}, 1)}
}

func (q *shortQueue) add(digests ...string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, d := range digests {
		if len(q.order) < maxShort && !q.queued[d] {
			q.queued[d] = true
			q.order = append(q.order, d)
		}
	}
	if len(q.order) > 0 {
		select {
		case q.some <- struct{}{}:
		default:
		}
	}
}

// take removes the oldest, at most limit.
func (q *shortQueue) take(limit int) []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(limit, len(q.order))
	out := append([]string(nil), q.order[:n]...)
	q.order = append(q.order[:0], q.order[n:]...)
	for _, d := range out {
		delete(q.queued, d)
	}
	if len(q.order) > 0 {
		select {
		case q.some <- struct{}{}:
		default:
		}
	}
	return out
}

// shortPause is between two tries to tell the leader of chunks.
const shortPause = time.Second

// keepShort hands to the leader what this coordinator has heard of chunks, while another one leads; the
// leader's repairs take it from there. It ends with the coordinator.
func (s *Server) keepShort(ctx context.Context) error {
	for run.Sleep(ctx, shortPause) == nil {
		leader, here, err := s.whoLeads()
		if err != nil || here {
			continue
		}
		if chunks := s.short.take(api.MaxStoreShort); len(chunks) > 0 && s.tellShort(ctx, leader, chunks) != nil {
			s.short.add(chunks...)
		}
	}
	return nil
}

func (s *Server) tellShort(ctx context.Context, leader string, chunks []string) error {
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	body, err := json.Marshal(api.StoreShort{Chunks: chunks})
	if err != nil {
		return err
	}
	return s.peerCall(ctx, leader, http.MethodPost, api.PathPeerShort, jsonBody(body), nil)
}

func (s *Server) handlePeerShort(w http.ResponseWriter, r *http.Request) {
	var req api.StoreShort
	if !readJSON(w, r, &req) {
		return
	}
	answer(w, struct{}{}, s.leaderOnly(func() error {
		s.short.add(req.Chunks...)
		return nil
	}))
}
