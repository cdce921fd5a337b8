package agent

import (
	"bytes"
	"context"
	"encoding"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/run"
)

// Bounds of asking for the object store's metadata.
const (
	metaTimeout    = 12 * time.Second // a coordinator gives up on an election before
	maxMetaAnswer  = 32 << 20         // a page of the largest keys with the largest metadata
	maxMetaWaiting = 1024             // callers whose changes wait for the request before them
	maxBatchCmds   = 256              // of several callers in one request; a single one may ask for more
	maxBatchBytes  = 1 << 20
)

// metadata is what the coordinators know of objects, as gateway.Meta. One request with changes is under
// way at a time: what is asked for meanwhile goes with the next, all of it at once, so that many small
// writes cost few round trips.
type metadata struct {
	// ask sends a request to the first coordinator that answers it, see sessions.ask.
	ask   func(ctx context.Context, path string, in, out any, repeat bool) error
	group *run.Group

	mu      sync.Mutex
	waiting []*metaChange
	sending bool
}

// metaChange is what one caller wants changed.
type metaChange struct {
	cmds    []meta.Command
	bytes   int
	results *meta.Results
	err     error
	done    chan struct{} // closed when one of the two above is set
}

func newMetadata(ask func(ctx context.Context, path string, in, out any, repeat bool) error) *metadata {
	return &metadata{ask: ask, group: run.New(context.Background())}
}

// Apply implements gateway.Meta.
func (m *metadata) Apply(ctx context.Context, cmds ...meta.Command) (*meta.Results, error) {
	c := &metaChange{cmds: cmds, bytes: weight(cmds), done: make(chan struct{})}
	if err := m.add(c); err != nil {
		return nil, err
	}
	select {
	case <-c.done:
		return c.results, c.err
	case <-ctx.Done():
		return nil, api.Errorf(api.CodeTimeout, "the coordinators have not answered in time: %w", ctx.Err()).WithHint("the change may still be made; look before you repeat it")
	}
}

// weight is about how large commands are on the wire.
func weight(cmds []meta.Command) int {
	n := 0
	for _, c := range cmds {
		n += 512
		if c.Put != nil {
			n += len(c.Put.Inline) + len(c.Put.Manifest)
		}
		if c.PutPart != nil {
			n += len(c.PutPart.Manifest)
		}
	}
	return n
}

func (m *metadata) add(c *metaChange) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.group.Context().Err() != nil || len(m.waiting) >= maxMetaWaiting {
		return notSent("%d changes of this node wait for the coordinators already, or it ends", len(m.waiting))
	}
	m.waiting = append(m.waiting, c)
	if !m.sending {
		m.sending = true
		m.group.Go("metadata", m.send)
	}
	return nil
}

// send sends what waits, a batch at a time, until nothing does.
func (m *metadata) send(ctx context.Context) error {
	for batch := m.take(); len(batch) > 0; batch = m.take() {
		var cmds []meta.Command
		for _, c := range batch {
			cmds = append(cmds, c.cmds...)
		}
		var all meta.Results
		err := m.ask(ctx, api.PathMetaApply, meta.Commands{Commands: cmds}, &all, false)
		if err == nil && len(all.Results) != len(cmds) {
			err = api.Errorf(api.CodeInternal, "%d changes gave %d results", len(cmds), len(all.Results))
		}
		for _, c := range batch {
			if c.err = err; err == nil {
				c.results = &meta.Results{Index: all.Index, Results: all.Results[:len(c.cmds)]}
				all.Results = all.Results[len(c.cmds):]
			}
			close(c.done)
		}
	}
	return nil
}

// take removes the next batch from what waits. When there is none, nobody sends any more.
func (m *metadata) take() []*metaChange {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, cmds, size := 0, 0, 0
	for _, c := range m.waiting {
		cmds, size = cmds+len(c.cmds), size+c.bytes
		if n > 0 && (cmds > maxBatchCmds || size > maxBatchBytes) {
			break
		}
		n++
	}
	batch := m.waiting[:n:n]
	m.waiting = append([]*metaChange(nil), m.waiting[n:]...)
	m.sending = n > 0
	return batch
}

// Read implements gateway.Meta. Whatever fails on one coordinator is asked of the next.
func (m *metadata) Read(ctx context.Context, q meta.Query) (*meta.Answer, error) {
	var a meta.Answer
	err := m.ask(ctx, api.PathMetaRead, q, &a, true)
	if err != nil {
		return nil, err
	}
	return &a, nil
}

func (m *metadata) close() error { return m.group.Close() }

// notSent is an error of which it is certain that nothing has come.
func notSent(format string, args ...any) error {
	e := api.Errorf(api.CodeUnavailable, format, args...).WithHint("try again; 'cloudless status' shows the coordinators")
	e.Err = meta.ErrNotSent
	return e
}

// ask sends a request to the coordinators in turn, the leader first, until one answers. A refusal is an
// answer. After another error the next one is asked if nothing was sent, or if the request may be repeated.
func (ss *sessions) ask(ctx context.Context, path string, in, out any, repeat bool) error {
	body, err := pack(in)
	if err != nil {
		return err
	}
	order := ss.inOrder()
	return inTurn(ctx, len(order), repeat, func(i int) error { return order[i].askOnce(ctx, path, body, out) })
}

// inTurn asks n coordinators as sessions.ask says.
func inTurn(ctx context.Context, n int, repeat bool, ask func(i int) error) error {
	reached, last := false, error(nil)
	for i := range n {
		last = ask(i)
		reached = reached || !link.IsDial(last)
		if last == nil || isAnswer(last) || reached && !repeat || ctx.Err() != nil {
			return last
		}
	}
	switch {
	case last == nil:
		return notSent("this node knows no coordinator yet")
	case reached:
		return last
	}
	return notSent("no coordinator can be reached: %v", last)
}

// isAnswer tells whether an error is what a coordinator said, and not that it could not be asked, or
// cannot tell.
func isAnswer(err error) bool {
	switch api.CodeOf(err) {
	case api.CodeInternal, api.CodeUnavailable, api.CodeTimeout:
		return false
	}
	return true
}

func (s *session) askOnce(ctx context.Context, path string, body []byte, out any) error {
	ctx, cancel := context.WithTimeout(ctx, metaTimeout)
	defer cancel()
	resp, err := s.do(ctx, http.MethodPost, path, bytes.NewReader(body))
	if err != nil {
		return unknown(s.member.Name, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxMetaAnswer))
	if err == nil {
		err = unpack(text, out)
	}
	if err != nil {
		return unknown(s.member.Name, err)
	}
	return nil
}

// pack gives what is sent as the bytes that it says, or else as JSON; unpack is the way back.
func pack(v any) ([]byte, error) {
	if m, ok := v.(encoding.BinaryMarshaler); ok {
		return m.MarshalBinary()
	}
	return json.Marshal(v)
}

func unpack(b []byte, v any) error {
	if m, ok := v.(encoding.BinaryUnmarshaler); ok {
		return m.UnmarshalBinary(b)
	}
	return json.Unmarshal(b, v)
}

// unknown makes an error of the connection one that says what it means; what a coordinator said stays.
func unknown(coordinator string, err error) error {
	var said *api.Error
	if errors.As(err, &said) {
		return err
	}
	return api.Errorf(api.CodeUnavailable, "coordinator %s did not answer: %w", coordinator, err).WithHint("a change may or may not have been made; look before you repeat it")
}
