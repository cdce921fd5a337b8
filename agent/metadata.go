package agent

import (
	"bytes"
	"context"
	"encoding"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/run"
)

// Bounds of asking for the object store's metadata.
const (
	metaTimeout   = 12 * time.Second // a coordinator gives up on an election before
	maxMetaAnswer = 32 << 20         // a page of the largest keys with the largest metadata
	partWeight    = 128              // bytes of the number, ETag and checksum by which a part is named
)

// metadata is what the coordinators know of objects, as gateway.Meta. Changes gather, and reads of single rows
// beside them, so that many small writes or reads cost few round trips.
type metadata struct {
	lines   askFunc[byte]   // see sessions.askLine
	post    askFunc[string] // see sessions.ask
	group   *run.Group
	changes gather[[]meta.Command, *meta.Results]
	reads   gather[meta.Query, *meta.Answer]
}

// askFunc sends what is asked to the first coordinator that answers it.
type askFunc[W any] func(ctx context.Context, what W, in, out any, repeat bool) error

func newMetadata(lines askFunc[byte], post askFunc[string]) *metadata {
	m := &metadata{lines: lines, post: post, group: run.New(context.Background())}
	m.changes = gather[[]meta.Command, *meta.Results]{name: "metadata changes", group: m.group, weigh: weighChange, send: m.sendChanges}
	m.reads = gather[meta.Query, *meta.Answer]{name: "metadata reads", group: m.group, weigh: weighRead, send: m.sendReads}
	return m
}

// Apply implements gateway.Meta.
func (m *metadata) Apply(ctx context.Context, cmds ...meta.Command) (*meta.Results, error) {
	return m.changes.ask(ctx, cmds)
}

func weighChange(cmds []meta.Command) (parts, weight int) {
	for _, c := range cmds {
		weight += 512
		if c.Put != nil {
			weight += len(c.Put.Inline) + len(c.Put.Manifest)
		}
		if c.PutPart != nil {
			weight += len(c.PutPart.Manifest)
		}
		if c.CompleteUpload != nil {
			weight += partWeight * len(c.CompleteUpload.Parts)
		}
	}
	return len(cmds), weight
}

func (m *metadata) sendChanges(ctx context.Context, batch [][]meta.Command) ([]*meta.Results, error) {
	cmds := slices.Concat(batch...)
	var all meta.Results
	err := m.lines(ctx, api.LineMetaApply, meta.Commands{Commands: cmds}, &all, false)
	if err == nil && len(all.Results) != len(cmds) {
		err = api.Errorf(api.CodeInternal, "%d changes gave %d results", len(cmds), len(all.Results))
	}
	if err != nil {
		return nil, err
	}
	out := make([]*meta.Results, len(batch))
	for i, cmds := range batch {
		out[i] = &meta.Results{Index: all.Index, Results: all.Results[:len(cmds)]}
		all.Results = all.Results[len(cmds):]
	}
	return out, nil
}

// Read implements gateway.Meta. What asks for one row goes with other such reads. A query that got no answer
// among them, for the answers were long or the coordinator does not know, is asked by itself, of one
// coordinator after the other.
func (m *metadata) Read(ctx context.Context, q meta.Query) (*meta.Answer, error) {
	if q.Object == nil && q.Bucket == "" && q.Upload == nil {
		return m.readAlone(ctx, q)
	}
	a, err := m.reads.ask(ctx, q)
	switch {
	case err != nil:
		return nil, err
	case a == nil || a.Err != nil && !isAnswer(a.Err):
		return m.readAlone(ctx, q)
	case a.Err != nil:
		return nil, a.Err
	}
	return a, nil
}

func (m *metadata) readAlone(ctx context.Context, q meta.Query) (*meta.Answer, error) {
	var all meta.Answers
	if err := m.post(ctx, api.PathMetaRead, meta.Queries{Queries: []meta.Query{q}}, &all, true); err != nil {
		return nil, err
	}
	if len(all.Answers) != 1 {
		return nil, api.Errorf(api.CodeInternal, "one query gave %d answers", len(all.Answers))
	}
	return all.Answers[0], nil
}

func weighRead(meta.Query) (parts, weight int) { return 1, 0 } // its names are short

// sendReads gives nil for queries that were not answered.
func (m *metadata) sendReads(ctx context.Context, batch []meta.Query) ([]*meta.Answer, error) {
	var all meta.Answers
	if err := m.lines(ctx, api.LineMetaRead, meta.Queries{Queries: batch}, &all, true); err != nil {
		return nil, err
	}
	out := make([]*meta.Answer, len(batch))
	copy(out, all.Answers)
	return out, nil
}

func (m *metadata) close() error { return m.group.Close() }

// ask sends a request to the coordinators in turn, the leader first, until one answers. A refusal is an
// answer. After another error the next one is asked if nothing was sent, or if the request may be repeated.
func (ss *sessions) ask(ctx context.Context, path string, in, out any, repeat bool) error {
	return ss.askEach(ctx, in, out, repeat, func(ctx context.Context, s *session, body []byte) ([]byte, error) { return s.post(ctx, path, body) })
}

// askLine is ask on the lines that are kept for what many callers ask.
func (ss *sessions) askLine(ctx context.Context, kind byte, in, out any, repeat bool) error {
	return ss.askEach(ctx, in, out, repeat, func(ctx context.Context, s *session, body []byte) ([]byte, error) { return s.askLine(ctx, kind, body) })
}

func (ss *sessions) askEach(ctx context.Context, in, out any, repeat bool, once func(ctx context.Context, s *session, body []byte) ([]byte, error)) error {
	body, err := pack(in)
	if err != nil {
		return err
	}
	order := ss.inOrder()
	return inTurn(ctx, len(order), repeat, func(i int) error {
		ctx, cancel := context.WithTimeout(ctx, metaTimeout)
		defer cancel()
		text, err := once(ctx, order[i], body)
		if err == nil {
			err = unpack(text, out)
		}
		if err != nil {
			return unknown(order[i].member.Name, err)
		}
		return nil
	})
}

// inTurn asks n coordinators as sessions.ask says.
func inTurn(ctx context.Context, n int, repeat bool, ask func(i int) error) error {
	reached, last := false, error(nil)
	for i := range n {
		last = ask(i)
		reached = reached || !link.IsUnsent(last)
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

func (s *session) post(ctx context.Context, path string, body []byte) ([]byte, error) {
	resp, err := s.do(ctx, http.MethodPost, path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(io.LimitReader(resp.Body, maxMetaAnswer))
}

func (s *session) askLine(ctx context.Context, kind byte, body []byte) ([]byte, error) {
	if len(body) > api.MaxMetaBytes {
		return nil, api.Errorf(api.CodeTooLarge, "a request of %d bytes, at most %d are allowed", len(body), api.MaxMetaBytes)
	}
	outcome, text, err := s.lines[kind].Ask(ctx, kind, body)
	if err != nil || outcome == api.LineAnswer {
		return text, err
	}
	var refused api.ErrorBody
	if err := json.Unmarshal(text, &refused); err != nil || refused.Error == nil {
		return nil, api.Errorf(api.CodeUnavailable, "coordinator %s gave an answer of kind %d", s.member.Name, outcome)
	}
	return nil, refused.Error
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
