package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
)

// quietLimit is how long a stream of events may say nothing, not even a comment, before it is taken
// for dead and opened anew; resuming loses nothing.
const quietLimit = 90 * time.Second

func eventQuery(q api.EventQuery) url.Values {
	v := url.Values{}
	for key, value := range map[string]string{"type": q.Type, "severity": string(q.Severity), "resource": q.Resource, "cursor": q.Before} {
		if value != "" {
			v.Set(key, value)
		}
	}
	for key, t := range map[string]time.Time{"since": q.Since, "until": q.Until} {
		if !t.IsZero() {
			v.Set(key, t.UTC().Format(time.RFC3339Nano))
		}
	}
	setUint(v, "after", q.After)
	setUint(v, "limit", uint64(max(q.Limit, 0)))
	return v
}

// Events lists what happened, oldest first.
func (c *Client) Events(ctx context.Context, q api.EventQuery) (out api.List[api.Event], err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/events", eventQuery(q), nil, &out, nil)
}

// FollowEvents calls each for every event, first those kept, then as they happen. When the stream
// breaks it goes on, from the last event seen, at whichever address answers. It ends with ctx, with
// an error of each, or with an error that trying again would not mend, such as that of the first stream.
func (c *Client) FollowEvents(ctx context.Context, q api.EventQuery, each func(api.Event) error) error {
	s := &eventStream{query: eventQuery(q), each: each}
	s.query.Set("follow", "true")
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		s.heard = false
		err := c.followOnce(ctx, s)
		code := api.CodeOf(err)
		switch {
		case s.refused != nil:
			return s.refused
		case ctx.Err() != nil, err != nil && (!s.begun || code != api.CodeUnavailable && code != api.CodeInternal):
			return err
		case s.heard:
			pause = firstPause
		}
		if err := sleep(ctx, pause/2+rand.N(pause)); err != nil {
			return err
		}
	}
}

// eventStream is what outlives one connection.
type eventStream struct {
	query   url.Values
	each    func(api.Event) error
	begun   bool   // some address has answered
	heard   bool   // an event has come by the present connection
	last    string // id of the last event that can be gone on from: not a node's own
	refused error  // what each returned
}

func (c *Client) followOnce(ctx context.Context, s *eventStream) error {
	header := http.Header{"Accept": {"text/event-stream"}}
	if s.last != "" {
		header.Set("Last-Event-ID", s.last)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := c.do(ctx, &request{method: http.MethodGet, path: "/v1/events", query: s.query, header: header, stream: true})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	s.begun = true
	quiet := time.AfterFunc(quietLimit, cancel)
	defer quiet.Stop()
	err = s.read(resp.Body, func() { quiet.Reset(quietLimit) })
	if errors.Is(err, context.Canceled) && s.refused == nil {
		return nil // quiet for too long; FollowEvents looks at its own context
	}
	return err
}

// read takes server-sent events until the stream ends; a broken stream is no error, it is resumed.
func (s *eventStream) read(r io.Reader, alive func()) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	id, data := s.last, ""
	for lines.Scan() {
		alive()
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			id = value
		case "data":
			data += value
		case "":
			if lines.Text() == "" && data != "" {
				s.heard, s.last = true, id
				if err := s.deliver(data); err != nil {
					return err
				}
				data = ""
			}
		}
	}
	return nil
}

func (s *eventStream) deliver(data string) error {
	var e api.Event
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		return api.Errorf(api.CodeUnavailable, "an event cannot be read: %w", err)
	}
	s.refused = s.each(e)
	return s.refused
}
