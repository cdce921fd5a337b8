package coordinator

import (
	"bytes"
	"context"
	"net/http"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/coordinator/objects"
)

// applyMeta brings commands of the object store into the log, through the leader wherever it is, and
// returns what each gave. When it returns, this coordinator has applied them too. An error of code
// timeout or unavailable that says that the outcome is unknown means that they may still be applied.
func (s *Server) applyMeta(ctx context.Context, cmds ...meta.Command) (*meta.Results, error) {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	var res *meta.Results
	err := untilSent(ctx, func() (err error) {
		res, err = s.applyMetaOnce(ctx, cmds)
		return err
	})
	return res, err
}

func (s *Server) applyMetaOnce(ctx context.Context, cmds []meta.Command) (*meta.Results, error) {
	leader, here, err := s.whoLeads()
	if err != nil {
		return nil, err
	}
	if here {
		return s.applyMetaHere(ctx, cmds)
	}
	body, err := meta.Commands{Commands: cmds}.MarshalBinary()
	if err != nil {
		return nil, err
	}
	var res meta.Results
	if err := s.peerCall(ctx, leader, http.MethodPost, api.PathPeerMeta, bytes.NewReader(body), &res); err != nil {
		return nil, err
	}
	return &res, s.waitApplied(ctx, res.Index)
}

// metaWrite is the commands of one caller on their way into an entry.
type metaWrite struct {
	cmds   objects.Encoded
	answer chan metaAnswer // holds one
}

type metaAnswer struct {
	index   uint64
	results []meta.Result
	err     error
}

// applyMetaHere is applyMeta on the leader, whose clock is the one that counts.
func (s *Server) applyMetaHere(ctx context.Context, cmds []meta.Command) (*meta.Results, error) {
	now := time.Now().UTC()
	for i := range cmds {
		cmds[i].At = now
	}
	encoded, err := objects.EncodeCommands(cmds)
	if err != nil {
		return nil, err
	}
	w := &metaWrite{cmds: encoded, answer: make(chan metaAnswer, 1)}
	if err := s.writes.put(ctx, w); err != nil {
		return nil, err
	}
	select {
	case a := <-w.answer:
		if a.err != nil {
			return nil, a.err
		}
		s.recordStorage(ctx, cmds, a.results)
		return &meta.Results{Index: a.index, Results: a.results}, nil
	case <-ctx.Done():
		return nil, api.Errorf(api.CodeTimeout, "the change of the object store was not confirmed in time, the outcome is unknown: %w", ctx.Err()).
			WithHint("read the state before trying again")
	case <-s.Done():
		return nil, api.Errorf(api.CodeUnavailable, "this coordinator is stopping, the outcome of the change is unknown").WithHint("read the state before trying again")
	}
}

// entriesInFlight is how many entries are on their way at once: while one is flushed, the next is read and
// the one before is applied. More would only be smaller ones.
const entriesInFlight = 2

// gatherBytes is the length from which an entry gathers no more: its flush has been shared by enough, and
// the newest entries of the log are in memory.
const gatherBytes = 1 << 20

// keepWriting makes entries of what gathers while those before are on their way: one flush of the log
// serves all who wait for it. It ends with the coordinator.
func (s *Server) keepWriting(ctx context.Context) error {
	slots := make(chan struct{}, entriesInFlight)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		var entry objects.Encoded
		batch, ok := s.writes.take(ctx, func(w *metaWrite) bool {
			if entry.Count() > 0 && (entry.Bytes() >= gatherBytes || !entry.Fits(w.cmds)) {
				return false
			}
			entry = entry.With(w.cmds)
			return true
		})
		if !ok {
			return nil
		}
		s.group.Go("metadata entry", func(ctx context.Context) error {
			s.writeEntry(ctx, entry, batch)
			<-slots
			return nil
		})
	}
}

func (s *Server) writeEntry(ctx context.Context, entry objects.Encoded, batch []*metaWrite) {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	index, value, err := s.intoLog(ctx, entry.Entry())
	res, ok := value.(metaResults)
	if err == nil && (!ok || res.err != nil || len(res.results) != entry.Count()) {
		err = notApplied(value)
	}
	for _, w := range batch {
		if err != nil {
			w.answer <- metaAnswer{err: err}
			continue
		}
		n := w.cmds.Count()
		w.answer <- metaAnswer{index: index, results: res.results[:n:n]}
		res.results = res.results[n:]
	}
}
