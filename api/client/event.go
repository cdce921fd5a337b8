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
// an error of each, or with an error that trying again would not mend.
func (c *Client) FollowEvents(ctx context.Context, q api.EventQuery, each func(api.Event) error) error {
	s := &eventStream{query: eventQuery(q), each: each}
	s.query.Set("follow", "true")
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		seen := s.last
		err := c.followOnce(ctx, s)
		if s.refused != nil {
			return s.refused
		}
		if code := api.CodeOf(err); ctx.Err() != nil || err != nil && code != api.CodeUnavailable && code != api.CodeInternal {
			return err
		}
		if s.last != seen {
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
	last    string // id of the last event
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
	var id, data string
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
				if err := s.deliver(id, data); err != nil {
					return err
				}
				data = ""
			}
		}
	}
	return nil
}

func (s *eventStream) deliver(id, data string) error {
	var e api.Event
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		return api.Errorf(api.CodeUnavailable, "an event cannot be read: %w", err)
	}
	if id == "" {
		id = e.ID
	}
	s.refused = s.each(e)
	s.last = id
	return s.refused
}
