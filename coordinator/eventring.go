package coordinator

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
)

// Following the events of the other coordinators.
const (
	peerEventsPause = time.Second // between two requests to one
	peerEventsWait  = 30 * time.Second
	maxPeerEvents   = 250 // in one answer, so that the largest of them pass decodeBounded
	ownRing         = ""  // name of this coordinator's own ring
)

// Bounds of what is kept of one event. It may be worded by a node, or by a stranger who asks to enrol.
const (
	maxEventText   = 1 << 10 // bytes of each text, and of all fields together
	maxEventFields = 16
)

// trimmed is e without what is over the bounds.
func trimmed(e api.Event) api.Event {
	for _, text := range []*string{&e.ID, &e.Type, (*string)(&e.Severity), &e.Resource, &e.Message, &e.Node, &e.RequestID, &e.CorrelationID} {
		*text = cutText(*text)
	}
	size := 0
	for k, v := range e.Fields {
		size += len(k) + len(v)
	}
	if len(e.Fields) > maxEventFields || size > maxEventText {
		e.Fields = nil
	}
	return e
}

// cutText is s, or a copy of its beginning that does not keep the rest in memory.
func cutText(s string) string {
	if len(s) <= maxEventText {
		return s
	}
	return strings.Clone(s[:maxEventText])
}

// eventRing is the newest events that one coordinator alone came to know: what it saw, and what nodes
// told it. The run is of its process; the newest event has number last of that run.
type eventRing struct {
	run    string
	last   uint64
	events []api.Event
}

// eventRings keeps this coordinator's own events and copies of the others', which it follows. All are
// bounded; what falls out of a ring before a follower has it is told to the follower as a gap.
type eventRings struct {
	mu      sync.Mutex
	limit   int
	rings   map[string]*eventRing // by coordinator id, the own one by ownRing
	asking  map[string]bool       // coordinators that a request is under way to
	changed chan struct{}
}

func newEventRings(limit int) *eventRings {
	return &eventRings{
		limit: limit, rings: map[string]*eventRing{ownRing: {run: api.NewID("e")}}, asking: map[string]bool{}, changed: make(chan struct{}),
	}
}

// push appends to a ring; r.mu is held.
func (r *eventRings) push(ring *eventRing, events ...api.Event) {
	ring.events = append(ring.events, events...)
	ring.events = slices.Delete(ring.events, 0, max(0, len(ring.events)-r.limit))
	close(r.changed)
	r.changed = make(chan struct{})
}

// add notes an event of this coordinator's own, under an id that no other event has, and returns what it keeps.
func (r *eventRings) add(e api.Event) api.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	own := r.rings[ownRing]
	own.last++
	e = trimmed(e)
	e.Index, e.ID = 0, fmt.Sprintf("%s.%d", own.run, own.last)
	r.push(own, e)
	return e
}

// next is closed when another event comes.
func (r *eventRings) next() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// match returns the events that match, of all rings.
func (r *eventRings) match(q api.EventQuery) []api.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []api.Event
	for _, name := range slices.Sorted(maps.Keys(r.rings)) {
		for _, e := range r.rings[name].events {
			if q.Match(&e) {
				out = append(out, e)
			}
		}
	}
	return out
}

// since is what a follower of the own ring misses that has it up to a number of a run, the oldest first and
// no more than one answer may have; false when it misses nothing. A follower that knows another run, or none,
// begins with what is kept.
func (r *eventRings) since(runID string, after uint64) (api.PeerEvents, bool, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	own := r.rings[ownRing]
	first := own.last - uint64(len(own.events)) + 1
	if runID != own.run || after > own.last {
		after = first - 1
	}
	from := max(after+1, first)
	news := own.events[from-first:]
	news = news[:min(len(news), maxPeerEvents)]
	out := api.PeerEvents{Run: own.run, Last: from + uint64(len(news)) - 1, Skipped: from - after - 1, Events: slices.Clone(news)}
	return out, len(news) > 0, r.changed
}

// take keeps what a coordinator answered. The answer of a request that was overtaken changes nothing.
func (r *eventRings) take(id string, got api.PeerEvents) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ring, ok := r.rings[id]
	if !ok {
		ring = &eventRing{}
		r.rings[id] = ring
	}
	if ring.run == got.Run && got.Last <= ring.last {
		return
	}
	if got.Skipped > 0 {
		gap := gapEvent(fmt.Sprintf("%d events of coordinator %s were dropped before they were read here", got.Skipped, id), "member/"+id)
		gap.ID, gap.Fields = fmt.Sprintf("%s.gap.%d", got.Run, got.Last), map[string]string{"dropped": strconv.FormatUint(got.Skipped, 10)}
		r.push(ring, gap)
	}
	ring.run, ring.last = got.Run, got.Last
	r.push(ring, got.Events...)
}

// have is how far a coordinator's events are known here.
func (r *eventRings) have(id string) (runID string, last uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ring, ok := r.rings[id]; ok {
		return ring.run, ring.last
	}
	return "", 0
}

// begin drops the rings of coordinators that are no longer among ids, and returns those of ids that
// no request is under way to; done ends one.
func (r *eventRings) begin(ids []string) (idle []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.rings, func(name string, _ *eventRing) bool { return name != ownRing && !slices.Contains(ids, name) })
	for _, id := range ids {
		if !r.asking[id] {
			r.asking[id] = true
			idle = append(idle, id)
		}
	}
	return idle
}

func (r *eventRings) done(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.asking, id)
}

// keepPeerEvents follows the events of every other coordinator, so that each of them can be asked for
// all. It ends with the coordinator.
func (s *Server) keepPeerEvents(ctx context.Context) error {
	for run.Sleep(ctx, peerEventsPause) == nil {
		var others []string
		for _, m := range s.members() {
			if m.ID != s.id.ID {
				others = append(others, m.ID)
			}
		}
		for _, id := range s.events.begin(others) {
			s.group.Go("events of "+id, func(ctx context.Context) error {
				defer s.events.done(id)
				if err := s.pullEvents(ctx, id); err != nil {
					s.log.Debug().Err(err).Str("coordinator", id).Msg("events not read; trying again")
				}
				return nil
			})
		}
	}
	return nil
}

// pullEvents waits for news of one coordinator.
func (s *Server) pullEvents(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, peerEventsWait+proposeTimeout)
	defer cancel()
	runID, last := s.events.have(id)
	q := url.Values{"run": {runID}, "after": {strconv.FormatUint(last, 10)}, "wait": {peerEventsWait.String()}}
	resp, err := s.peerDo(ctx, id, http.MethodGet, api.PathPeerEvents+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return nil
	}
	var got api.PeerEvents
	if err := decodeBounded(resp.Body, &got); err != nil {
		return err
	}
	s.events.take(id, got)
	return nil
}

// handlePeerEvents answers a coordinator that follows this one's events.
func (s *Server) handlePeerEvents(w http.ResponseWriter, r *http.Request) {
	runID, after := r.URL.Query().Get("run"), queryUint(r, "after")
	poll(w, r, func() (any, <-chan struct{}) {
		got, news, changed := s.events.since(runID, after)
		if !news {
			return nil, changed
		}
		return got, changed
	})
}
