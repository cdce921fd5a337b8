package coordinator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

// follow reads once what one coordinator has that another does not know yet.
func follow(from, to *eventRings) {
	runID, last := to.have("s-from")
	if got, news, _ := from.since(runID, last); news {
		to.take("s-from", got)
	}
}

func messages(r *eventRings) []string {
	var out []string
	events := r.match(api.EventQuery{})
	for _, e := range events {
		out = append(out, e.Message)
	}
	return out
}

func said(r *eventRings, from, to int) {
	for i := from; i <= to; i++ {
		r.add(api.Event{Message: fmt.Sprint(i)})
	}
}

func wantMessages(t *testing.T, r *eventRings, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, messages(r)); diff != "" {
		t.Error(diff)
	}
}

// Whoever is asked has the events of all coordinators, each once; what was dropped before it was read
// is told as a gap, and the events of an earlier process stay.
func TestEventsOfOneCoordinatorAreKnownToTheOthers(t *testing.T) {
	a, b := newEventRings(4), newEventRings(4)
	follow(a, b)
	wantMessages(t, b)
	said(a, 1, 2)
	follow(a, b)
	follow(a, b)
	wantMessages(t, b, "1", "2")
	b.add(api.Event{Message: "own"})
	said(a, 3, 3)
	follow(a, b)
	wantMessages(t, b, "own", "1", "2", "3")

	said(a, 4, 9) // the ring holds the last four
	wantMessages(t, a, "6", "7", "8", "9")
	follow(a, b)
	wantMessages(t, b, "own", "6", "7", "8", "9")
	small := newEventRings(10)
	small.rings["s-from"] = &eventRing{run: a.rings[ownRing].run, last: 3}
	follow(a, small)
	wantMessages(t, small, "2 events of coordinator s-from were dropped before they were read here", "6", "7", "8", "9")

	a = newEventRings(4) // another process
	said(a, 10, 10)
	follow(a, b)
	wantMessages(t, b, "own", "7", "8", "9", "10")
	seen := map[string]bool{}
	events := small.match(api.EventQuery{})
	for _, e := range events {
		if seen[e.ID] || e.ID == "" || e.Index != 0 {
			t.Errorf("event %q: id %q, index %d", e.Message, e.ID, e.Index)
		}
		seen[e.ID] = true
	}
}

func TestAnAnswerThatWasOvertakenChangesNothing(t *testing.T) {
	a, b := newEventRings(4), newEventRings(4)
	said(a, 1, 1)
	old, _, _ := a.since("", 0)
	said(a, 2, 2)
	follow(a, b)
	b.take("s-from", old)
	wantMessages(t, b, "1", "2")
}

func TestEventsOfARemovedCoordinatorGo(t *testing.T) {
	a, b := newEventRings(4), newEventRings(4)
	said(a, 1, 1)
	if idle := b.begin([]string{"s-from"}); len(idle) != 1 {
		t.Errorf("to be asked: %v", idle)
	}
	if idle := b.begin([]string{"s-from"}); len(idle) != 0 {
		t.Errorf("asked twice at once: %v", idle)
	}
	follow(a, b)
	b.done("s-from")
	b.begin(nil)
	wantMessages(t, b)
}

// What a node's limit has dropped is told as an event of its own.
func TestANodesGapIsAnEvent(t *testing.T) {
	s := &Server{store: state.New(), events: newEventRings(10)}
	s.takeNodeEvents("n1", api.NodeEvents{Events: []api.Event{{ID: "forged", Index: 7, Type: "node.trouble", Node: "another"}}, Dropped: map[string]int{"replica.log": 12}})
	l, err := s.Events(t.Context(), api.EventQuery{})
	if err != nil || len(l.Items) != 2 {
		t.Fatalf("%v: %v", l.Items, err)
	}
	for _, e := range l.Items {
		if e.Node != "n1" || e.Index != 0 || e.ID == "forged" {
			t.Errorf("taken as %+v", e)
		}
		if e.Type == api.EventGap && (e.Fields["type"] != "replica.log" || e.Fields["dropped"] != "12" || e.Resource != "node/n1") {
			t.Errorf("the gap is %+v", e)
		}
	}
	if gaps, err := s.Events(t.Context(), api.EventQuery{Type: api.EventGap}); err != nil || len(gaps.Items) != 1 {
		t.Errorf("gaps: %v, %v", gaps.Items, err)
	}
}

// Pages lead from the newest events to the oldest, whoever has seen them, and show each once.
func TestEventsComeInPagesNewestFirst(t *testing.T) {
	s := &Server{store: state.New(), events: newEventRings(20)}
	said(s.events, 1, 7)
	for limit := 1; limit <= 8; limit++ {
		var seen []string
		q := api.EventQuery{Limit: limit}
		for range 8 {
			l, err := s.Events(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for i := len(l.Items) - 1; i >= 0; i-- {
				seen = append(seen, l.Items[i].Message)
			}
			if q.Before = l.Cursor; q.Before == "" {
				break
			}
		}
		if want := []string{"7", "6", "5", "4", "3", "2", "1"}; !slices.Equal(seen, want) {
			t.Errorf("pages of %d show %v, want %v", limit, seen, want)
		}
	}
}

// A follower that was away so long that events were dropped meanwhile is told so before anything else;
// one that has missed nothing is told nothing.
func TestAFollowerIsToldThatEventsAreNoLongerKept(t *testing.T) {
	s := &Server{store: state.New(), events: newEventRings(10)}
	const more = 25
	for i := range uint64(api.MaxEvents + more) {
		s.store.Apply(i+1, state.Command{RecordEvent: &api.Event{Type: "node.ready", Resource: "node/n"}})
	}
	for _, tt := range []struct {
		after uint64
		gap   bool
	}{{1, true}, {more - 1, true}, {more, false}, {more + 1, false}, {0, false}} {
		l, err := s.Events(t.Context(), api.EventQuery{After: tt.after, Limit: 5, Type: "node"})
		if err != nil {
			t.Fatal(err)
		}
		if gap := l.Items[0].Type == api.EventGap; gap != tt.gap {
			t.Errorf("after %d: %+v", tt.after, l.Items[0])
		}
		if last := l.Items[len(l.Items)-1]; last.Index != api.MaxEvents+more {
			t.Errorf("after %d the last is %d", tt.after, last.Index)
		}
	}
}

// Whoever words events, a stranger at the door among them, takes no more memory with them than the ring
// may have, and a follower that lags gets the largest of them, answer by answer.
func TestEventsOfStrangersAreBounded(t *testing.T) {
	s := openServer(t)
	huge := strings.Repeat("<", maxEnrolBytes/2)
	attempt := fmt.Appendf(nil, `{"role":"node","name":%q}`, huge)
	for _, body := range [][]byte{attempt, append(bytes.Repeat([]byte(" "), maxEnrolBytes), attempt...)} {
		rec := httptest.NewRecorder()
		s.joinAPI().ServeHTTP(rec, httptest.NewRequest(http.MethodPost, api.PathEnrol, bytes.NewReader(body)))
		if rec.Code != http.StatusBadRequest {
			t.Errorf("an attempt of %d bytes: %d", len(body), rec.Code)
		}
	}
	refused := s.events.match(api.EventQuery{Type: api.EventTokenRefused})
	if len(refused) != 1 || len(refused[0].Message) != maxEventText || len(refused[0].Resource) != maxEventText {
		t.Fatalf("%d events are kept of one attempt within the bounds and one beyond", len(refused))
	}

	largest := refused[0]
	largest.Type, largest.Node, largest.RequestID, largest.CorrelationID = huge, huge, huge, huge
	largest.Severity, largest.Fields = api.Severity(huge), map[string]string{"": huge[:maxEventText]}
	for range api.MaxNodeEvents {
		s.events.add(largest)
	}
	to := newEventRings(api.MaxNodeEvents)
	for i := range api.MaxNodeEvents / maxPeerEvents {
		runID, last := to.have("s-from")
		got, _, _ := s.events.since(runID, last)
		data, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		var read api.PeerEvents
		if err := decodeBounded(bytes.NewReader(data), &read); err != nil || len(read.Events) != maxPeerEvents {
			t.Fatalf("answer %d, of %d bytes and %d events: %v", i, len(data), len(read.Events), err)
		}
		to.take("s-from", read)
	}
	if n := len(messages(to)); n != api.MaxNodeEvents {
		t.Errorf("the follower has %d of %d events", n, api.MaxNodeEvents)
	}
}

func TestAnEventIsKeptAsItIsUpToItsBounds(t *testing.T) {
	fields := func(n, bytes int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[string(rune('a'+i))] = strings.Repeat("x", bytes)
		}
		return m
	}
	for name, c := range map[string]struct {
		in   api.Event
		kept bool
	}{
		"the longest text":         {api.Event{Message: strings.Repeat("x", maxEventText)}, true},
		"a longer one":             {api.Event{Message: strings.Repeat("x", maxEventText+1)}, false},
		"the most fields":          {api.Event{Fields: fields(maxEventFields, maxEventText/maxEventFields-1)}, true},
		"one more":                 {api.Event{Fields: fields(maxEventFields+1, 1)}, false},
		"fields that are too long": {api.Event{Fields: fields(1, maxEventText)}, false},
	} {
		if got := trimmed(c.in); cmp.Equal(got, c.in) != c.kept {
			t.Errorf("%s: %d bytes of text and %d fields are kept", name, len(got.Message), len(got.Fields))
		}
	}
}
