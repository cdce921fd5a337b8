package coordinator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

// gapEvent says that events are missing, and why.
func gapEvent(message, resource string) api.Event {
	return api.Event{Time: time.Now().UTC(), Type: api.EventGap, Severity: api.SeverityWarning, Resource: resource, Message: message}
}

// takeNodeEvents keeps what a node told, and how many events of a type its limit has dropped.
func (s *Server) takeNodeEvents(name string, batch api.NodeEvents) {
	for _, e := range batch.Events {
		e.Node = name
		s.events.add(e)
	}
	for _, typ := range sortedKeys(batch.Dropped) {
		n := batch.Dropped[typ]
		gap := gapEvent(fmt.Sprintf("%d events of type %s were dropped: there were too many", n, typ), "node/"+name)
		gap.Node, gap.Fields = name, map[string]string{"type": typ, "dropped": strconv.Itoa(n)}
		s.events.add(gap)
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
	e := s.events.add(api.Event{Time: time.Now().UTC(), Type: typ, Severity: sev, Resource: resource, Message: message, Node: s.cfg.Name})
	s.log.Warn().Str("type", e.Type).Str("resource", e.Resource).Msg(e.Message)
}

// Events lists state changes and what nodes and coordinators saw, in the order of time; the newest
// ones when limited, and then the cursor leads to those before them. To one who asks for what comes
// after an index, of which some is no longer kept, it says so first, whatever else was asked for.
func (s *Server) Events(_ context.Context, q api.EventQuery) (api.List[api.Event], error) {
	v := s.store.View()
	index, _ := v.Mark(state.MarkEvents)
	items := s.events.match(q)
	kept := q
	if q.Limit > 0 {
		kept.Limit++ // to know whether there are more
	}
	for _, e := range v.Events(kept) {
		items = append(items, *e)
	}
	slices.SortStableFunc(items, func(a, b api.Event) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.LogKey(), b.LogKey()))
	})
	older := ""
	if q.Limit > 0 && len(items) > q.Limit {
		items = items[len(items)-q.Limit:]
		older = items[0].Place()
	}
	if dropped := v.EventsDropped(); q.After > 0 && dropped > q.After {
		gap := gapEvent(fmt.Sprintf("events after index %d up to %d are no longer kept", q.After, dropped), "cluster")
		gap.ID, gap.Fields = fmt.Sprintf("gap.%d", dropped), map[string]string{"after": strconv.FormatUint(q.After, 10), "droppedTo": strconv.FormatUint(dropped, 10)}
		items = slices.Insert(items, 0, gap)
	}
	if items == nil {
		items = []api.Event{}
	}
	return api.List[api.Event]{Items: items, Index: index, Cursor: older}, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
