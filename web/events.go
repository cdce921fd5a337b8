package web

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
)

const (
	heartbeatInterval = 15 * time.Second // a comment, so that proxies and clients see life
	// Nodes' own events come without a Raft index, so no wait ends for them: a followed stream looks
	// for them this often.
	nodeEventInterval = 2 * time.Second
)

func (s *server) events(c *call) error {
	q, err := eventQueryOf(c)
	if err != nil {
		return err
	}
	follow, err := c.flag("follow")
	if err != nil {
		return err
	}
	if follow {
		return s.followEvents(c, q)
	}
	if err := s.awaitChange(c, TableEvents); err != nil {
		return err
	}
	a, err := listOr(s.backend.Events(c.context(), q))
	if err != nil {
		return err
	}
	body, err := encode(a.body)
	if err != nil {
		return err
	}
	return c.write(a.status, body)
}

func eventQueryOf(c *call) (q api.EventQuery, err error) {
	q.Type, q.Resource, q.Severity = c.query("type"), c.query("resource"), api.Severity(c.query("severity"))
	switch q.Severity {
	case "", api.SeverityInfo, api.SeverityWarning, api.SeverityError:
	default:
		return q, badQuery("severity", string(q.Severity), "info, warning or error")
	}
	if q.Since, err = c.moment("since"); err != nil {
		return q, err
	}
	if q.Until, err = c.moment("until"); err != nil {
		return q, err
	}
	if q.After, err = c.index("after"); err != nil {
		return q, err
	}
	q.Before = c.query("cursor")
	q.Limit, err = c.number("limit", api.DefaultListLimit, 1, api.MaxListLimit)
	return q, err
}

// followEvents is the stream of server-sent events: what there is, then what comes. With
// Last-Event-ID it begins after that event.
func (s *server) followEvents(c *call, q api.EventQuery) error {
	f, newest := &follower{after: q.After}, q.Limit
	q.Limit = 0 // what the first read leaves out must count as seen, so it is read too
	if last := c.request().Header.Get("Last-Event-ID"); last != "" {
		if err := f.resume(last); err != nil {
			return err
		}
		newest = math.MaxInt // everything that was missed
	}
	if err := s.rates.allow(classStream, c.key()); err != nil {
		return err
	}
	end, err := s.sessions.open(c.key())
	if err != nil {
		return err
	}
	defer end()
	out := newStream(c, "text/event-stream")
	for {
		index := s.backend.Index()
		q.After = f.queryAfter()
		l, err := s.backend.Events(c.context(), q)
		if err != nil {
			return out.broke(err)
		}
		fresh := f.fresh(l.Items)
		if err := out.send(eventLines(fresh[max(0, len(fresh)-newest):])); err != nil {
			return out.broke(err)
		}
		newest = math.MaxInt
		if err := s.untilMoreEvents(c.context(), index, out); err != nil {
			return out.broke(err)
		}
	}
}

// untilMoreEvents returns when there may be new events; a silent stream gets a heartbeat.
func (s *server) untilMoreEvents(ctx context.Context, index uint64, out *outStream) error {
	if time.Since(out.last) >= heartbeatInterval {
		if err := out.send([]byte(": alive\n\n")); err != nil {
			return err
		}
	}
	wait, cancel := context.WithTimeout(ctx, nodeEventInterval)
	defer cancel()
	err := s.backend.Wait(wait, TableEvents, index)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// follower knows what a stream has sent, so that each event goes out once: events of one Raft index
// may come in two reads, and nodes' own events (index 0) come in every read as long as their ring
// holds them. Events come to it in the order of time, which differs from that of the log when clocks do.
type follower struct {
	after uint64          // the highest index sent
	sent  map[string]bool // ids of that index that were sent
	node  map[string]bool // ids of nodes' own events in the last read
	last  string          // the id that a resumed stream begins after, until its first read
}

// resume begins after the event with this id: a Raft index, and perhaps more after it.
func (f *follower) resume(id string) error {
	digits := id[:len(id)-len(strings.TrimLeft(id, "0123456789"))]
	index, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return api.Errorf(api.CodeInvalid, "Last-Event-ID: %q is not the id of an event of the cluster", id)
	}
	f.after, f.last = index, id
	return nil
}

// queryAfter is the index to ask past. The last index sent is read again, as there may be more of it.
func (f *follower) queryAfter() uint64 {
	if f.after > 0 && (len(f.sent) > 0 || f.last != "") {
		return f.after - 1
	}
	return f.after
}

// fresh picks the events that were not sent, and takes them as sent.
func (f *follower) fresh(events []api.Event) []api.Event {
	inLogOrder(events)
	if f.last != "" {
		f.sent, f.last = upTo(events, f.after, f.last), ""
	}
	var out []api.Event
	node := map[string]bool{}
	for _, e := range events {
		if f.take(e, node) {
			out = append(out, e)
		}
	}
	f.node = node
	return out
}

func (f *follower) take(e api.Event, node map[string]bool) bool {
	switch {
	case e.Index == 0:
		node[e.ID] = true
		return !f.node[e.ID]
	case e.Index > f.after:
		f.after, f.sent = e.Index, map[string]bool{e.ID: true}
		return true
	case e.Index < f.after || f.sent[e.ID]:
		return false
	}
	if f.sent == nil {
		return false // asked to begin after this index
	}
	f.sent[e.ID] = true
	return true
}

// inLogOrder sorts the events of the log among themselves; nodes' own stay at their places.
func inLogOrder(events []api.Event) {
	var places []int
	var logged []api.Event
	for i, e := range events {
		if e.Index != 0 {
			places, logged = append(places, i), append(logged, e)
		}
	}
	slices.SortFunc(logged, func(a, b api.Event) int { return cmp.Compare(a.LogKey(), b.LogKey()) })
	for i, at := range places {
		events[at] = logged[i]
	}
}

// upTo lists what had been sent of an index: the events before the one called last, and it. When
// there is none of that name, none had: better twice than never.
func upTo(events []api.Event, index uint64, last string) map[string]bool {
	sent := map[string]bool{}
	for _, e := range events {
		if e.Index != index {
			continue
		}
		sent[e.ID] = true
		if e.ID == last {
			return sent
		}
	}
	return map[string]bool{}
}

// eventLines writes events as server-sent ones. Only those with an index carry an id to resume
// from; a node's own have theirs in the data.
func eventLines(events []api.Event) []byte {
	var buf bytes.Buffer
	for _, e := range events {
		data, err := json.Marshal(e)
		if err != nil {
			continue // strings, numbers and times only: cannot fail
		}
		if e.Index != 0 {
			fmt.Fprintf(&buf, "id: %s\n", e.ID)
		}
		fmt.Fprintf(&buf, "data: %s\n\n", data)
	}
	return buf.Bytes()
}

// outStream writes a streamed answer, each piece at once.
type outStream struct {
	c    *call
	rc   *http.ResponseController
	last time.Time // of the last piece
}

// newStream begins a streamed answer.
func newStream(c *call, contentType string) *outStream {
	c.header().Set("Content-Type", contentType)
	c.header().Set("X-Accel-Buffering", "no")
	o := &outStream{c: c, rc: c.controller(), last: time.Now()}
	c.echo.Response().WriteHeader(http.StatusOK)
	_ = o.rc.Flush() // the head goes out before the first piece
	return o
}

func (o *outStream) send(piece []byte) error {
	if len(piece) == 0 {
		return nil
	}
	o.last = time.Now()
	_ = o.rc.SetWriteDeadline(o.last.Add(writeTimeout)) // not supported by a recorder in tests
	defer o.rc.SetWriteDeadline(time.Time{})            // see steadyWriter
	if _, err := o.c.echo.Response().Write(piece); err != nil {
		return err
	}
	return o.rc.Flush()
}

// broke ends a list of events that is followed: quietly when the request is over, for whoever follows
// goes on behind the last one.
func (o *outStream) broke(err error) error {
	if o.c.context().Err() != nil {
		return nil
	}
	return brokeStream(err)
}

// brokeStream ends an answer that has begun, so that what has come is not taken for the whole. It may be the
// server that stops: then the request's context ends although the client is there.
func brokeStream(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errCut, err)
}
