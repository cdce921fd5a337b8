package coordinator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
)

// eventRing keeps the newest events that are not in the log: nodes' own, and this coordinator's. It
// is bounded; what falls out is told by a gap event when a reader asks from before it.
type eventRing struct {
	mu      sync.Mutex
	events  []api.Event
	cap     int
	seq     uint64
	changed chan struct{}
}

func newEventRing(capacity int) *eventRing {
	return &eventRing{cap: capacity, changed: make(chan struct{})}
}

func (r *eventRing) add(e api.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	if e.ID == "" {
		e.ID = fmt.Sprintf("own.%d", r.seq)
	}
	if len(r.events) == r.cap {
		r.events = slices.Delete(r.events, 0, 1)
	}
	r.events = append(r.events, e)
	close(r.changed)
	r.changed = make(chan struct{})
}

// match returns the events that match, oldest first, and a channel that is closed at the next one.
func (r *eventRing) match(q api.EventQuery) ([]api.Event, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []api.Event
	for _, e := range r.events {
		if q.Match(&e) {
			out = append(out, e)
		}
	}
	return out, r.changed
}

func gapEvent(node, typ string, n int) api.Event {
	return api.Event{
		Time: time.Now().UTC(), Type: api.EventGap, Severity: api.SeverityWarning, Resource: "node/" + node, Node: node,
		Message: fmt.Sprintf("%d events of type %s were dropped: there were too many", n, typ), Fields: map[string]string{"type": typ, "dropped": fmt.Sprint(n)},
	}
}

// ownEvent notes what this coordinator alone has seen; what is not mere information is audited too.
func (s *Server) ownEvent(typ string, sev api.Severity, resource, message string) {
	s.tellEvent(typ, sev, resource, message)
	if sev != api.SeverityInfo {
		s.audit.note(auditLine{Who: s.cfg.Name, What: typ, Object: resource, Outcome: message})
	}
}

// tellEvent is ownEvent for what has its line in the audit log already.
func (s *Server) tellEvent(typ string, sev api.Severity, resource, message string) {
	e := api.Event{Time: time.Now().UTC(), Type: typ, Severity: sev, Resource: resource, Message: message, Node: s.cfg.Name}
	s.nodeRing.add(e)
	s.log.Warn().Str("type", typ).Str("resource", resource).Msg(message)
}

// Events lists state changes and what nodes saw, in the order of time; the newest ones when limited.
func (s *Server) Events(_ context.Context, q api.EventQuery) (api.List[api.Event], error) {
	v := s.store.View()
	index, _ := v.Mark("events")
	own, _ := s.nodeRing.match(q)
	items := own
	for _, e := range v.Events(q) {
		items = append(items, *e)
	}
	slices.SortStableFunc(items, func(a, b api.Event) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Index, b.Index))
	})
	if q.Limit > 0 && len(items) > q.Limit {
		items = items[len(items)-q.Limit:]
	}
	if items == nil {
		items = []api.Event{}
	}
	return api.List[api.Event]{Items: items, Index: index}, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
