package coordinator

import (
	"context"
	"net/http"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/coordinator/objects"
	"github.com/cloudless/cloudless/internal/run"
)

// Times of a read. A reader waits long enough for a new leader to be elected, and short enough to be told
// that there is none; one round to the leader is given up earlier, for it may be another one by now.
const (
	readTimeout      = 5 * time.Second
	readRoundTimeout = 2 * time.Second
	readPause        = 50 * time.Millisecond // between rounds that failed
)

// readMeta answers a query of the object store's metadata. The answer is as new as every change that was
// acknowledged, by any coordinator, before the call.
func (s *Server) readMeta(ctx context.Context, q meta.Query) (*meta.Answer, error) {
	answers, err := s.readMetas(ctx, q)
	if err != nil {
		return nil, err
	}
	if failed := answers[0].Err; failed != nil {
		return nil, failed
	}
	return answers[0], nil
}

// readMetas is readMeta of several queries, which share the question whether this coordinator is up to date. It
// answers as many of them as meta.Answers says.
func (s *Server) readMetas(ctx context.Context, queries ...meta.Query) ([]*meta.Answer, error) {
	if err := s.fresh(ctx); err != nil {
		return nil, err
	}
	v := s.objects.View()
	answers := answerAll(queries, func(q meta.Query) (*meta.Answer, error) { return objects.Ask(v, q) })
	return answers, v.Close()
}

// answerAll answers queries until the answers are long.
func answerAll(queries []meta.Query, ask func(meta.Query) (*meta.Answer, error)) []*meta.Answer {
	answers := make([]*meta.Answer, 0, len(queries))
	for size := 0; len(answers) < len(queries) && size < meta.MaxAnswersBytes; {
		a, err := ask(queries[len(answers)])
		if err != nil {
			a = &meta.Answer{Err: api.AsError(err)}
		}
		if a.Object != nil {
			size += len(a.Object.Inline) + len(a.Object.Manifest)
		}
		answers = append(answers, a)
	}
	return answers
}

// fresh returns when this coordinator has applied everything that was acknowledged before the call.
// Callers share the question whether it has: those that come while it is asked share the next one.
func (s *Server) fresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for {
		err := s.freshOnce(ctx)
		if err == nil {
			return nil
		}
		if run.Sleep(ctx, readPause) != nil {
			return api.Errorf(api.CodeUnavailable, "nobody confirmed in time that what this coordinator knows is new: %s", api.AsError(err).Message).
				WithHint("it takes a leader and a majority of the coordinators; see 'cloudless status'")
		}
	}
}

func (s *Server) freshOnce(ctx context.Context) error {
	answer := make(chan error, 1)
	if err := s.reads.put(ctx, answer); err != nil {
		return err
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return api.Errorf(api.CodeUnavailable, "the coordinators did not answer")
	case <-s.Done():
		return api.Errorf(api.CodeUnavailable, "this coordinator is stopping")
	}
}

// keepReading asks for all readers that wait, again and again. It ends with the coordinator.
func (s *Server) keepReading(ctx context.Context) error {
	for {
		readers, ok := s.reads.take(ctx, func(chan<- error) bool { return true })
		if !ok {
			return nil
		}
		err := s.freshen(ctx)
		for _, r := range readers {
			r <- err
		}
	}
}

// freshen makes sure, at the leader, of what this coordinator must have applied, and waits for it.
func (s *Server) freshen(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readRoundTimeout)
	defer cancel()
	leader, here, err := s.whoLeads()
	if err != nil {
		return err
	}
	if here {
		return s.raft.ReadBarrier(ctx)
	}
	var at api.PeerReadIndex
	if err := s.peerCall(ctx, leader, http.MethodGet, api.PathPeerReadIndex, nil, &at); err != nil {
		return err
	}
	return s.waitApplied(ctx, at.Index)
}
