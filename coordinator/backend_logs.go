package coordinator

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
	"github.com/cloudless/cloudless/internal/run"
)

// Logs streams the log lines of a workload's replicas. With several replicas each line begins with
// its replica's id in brackets. Following, it picks up replicas that come later.
func (s *Server) Logs(ctx context.Context, ns, name string, opt api.LogOptions) (io.ReadCloser, error) {
	reps, err := s.choose(ns, name, opt.Replica)
	if api.CodeOf(err) == api.CodeNotFound && strings.HasPrefix(opt.Replica, name+"-") {
		return nil, s.goneLog(ctx, name, opt.Replica, err)
	}
	if err != nil {
		return nil, err
	}
	if opt.Replica != "" || len(reps) == 1 && !opt.Follow {
		return s.logOf(ctx, reps[0], opt)
	}
	pr, pw := io.Pipe()
	ctx, cancel := context.WithCancel(ctx)
	l := &logMerge{s: s, opt: opt, prefix: len(reps) > 1, out: pw, seen: map[string]bool{}}
	g := run.New(ctx)
	g.Go("logs", func(ctx context.Context) error {
		l.all(ctx, ns, name, reps)
		return pw.Close()
	})
	return &mergedLogs{PipeReader: pr, cancel: cancel, group: g}, nil
}

// logOf is one replica's log as its node sends it, so that what keeps it from us can be told as an error.
func (s *Server) logOf(ctx context.Context, r *api.Replica, opt api.LogOptions) (io.ReadCloser, error) {
	resp, err := s.nodeDo(ctx, r.NodeID, http.MethodGet, api.PathReplicaLogs+r.ID, logQuery(opt), nil)
	switch {
	case err == nil:
		return resp.Body, nil
	case api.CodeOf(err) == api.CodeNotFound && r.State == api.ReplicaPlaced: // its node has not heard of it yet
		return io.NopCloser(strings.NewReader("")), nil
	}
	return nil, s.noLog(r, err)
}

// noLog says where a log is that its node did not give, why not, and what to do.
func (s *Server) noLog(r *api.Replica, err error) error {
	const instead = "'cloudless workload logs %s' shows the replicas that run now"
	n, ok := s.store.View().Node(r.NodeID)
	switch {
	case !ok:
		return api.Errorf(api.CodeNotFound, "the log of replica %s was on node %s, which was removed from the cluster, and went with it", r.ID, r.NodeID).
			WithHint(instead, r.Workload.Name)
	case api.CodeOf(err) != api.CodeUnavailable: // it answered
		return &api.Error{Code: api.CodeOf(err), Message: fmt.Sprintf("node %s does not give this log: %s", n.Name, api.AsError(err).Message), Hint: api.AsError(err).Hint, Err: err}
	case n.Liveness == api.NodeLost:
		return api.Errorf(api.CodeUnavailable, "the log of replica %s is on node %s, which is lost since %s: %s", r.ID, n.Name, n.ChangedAt.Format(time.RFC3339), n.Reason).
			WithHint("start the agent of %s again to read it; "+instead, n.Name, r.Workload.Name)
	}
	return api.Errorf(api.CodeUnavailable, "the log of replica %s is on node %s, which cannot be reached now: %w", r.ID, n.Name, err).
		WithHint("'cloudless node describe %s' tells how it fares; try again when it is ready", n.Name)
}

// goneLog says of a replica that has no row any more what was told of it last, which names its node.
// The node has removed the log with the replica.
func (s *Server) goneLog(ctx context.Context, name, id string, otherwise error) error {
	told, err := s.Events(ctx, api.EventQuery{Resource: "replica/" + id, Limit: 1})
	if err != nil || len(told.Items) == 0 {
		return otherwise
	}
	last := told.Items[0]
	return api.Errorf(api.CodeNotFound, "replica %s is gone, and its node has removed its log with it; the last that was told of it, at %s: %s", id, last.Time.Format(time.RFC3339), last.Message).
		WithHint("'cloudless event list --resource replica/%s' tells how it ended, 'cloudless workload logs %s' shows what runs now", id, name)
}

type mergedLogs struct {
	*io.PipeReader
	cancel context.CancelFunc
	group  *run.Group
}

// Close ends the streams and waits for them.
func (m *mergedLogs) Close() error {
	m.cancel()
	return errors.Join(m.PipeReader.Close(), m.group.Wait())
}

// logMerge copies the lines of several replicas into one stream.
type logMerge struct {
	s      *Server
	opt    api.LogOptions
	prefix bool
	mu     sync.Mutex
	out    *io.PipeWriter
	seen   map[string]bool
}

// all copies the logs of the replicas; following, it looks for new ones whenever replicas change.
func (l *logMerge) all(ctx context.Context, ns, name string, reps []*api.Replica) {
	g := run.New(ctx)
	defer func() { _ = g.Wait() }() // members return nil
	for {
		_, changed := l.s.store.View().Mark(state.MarkReplicas)
		for _, r := range reps {
			if !l.seen[r.ID] {
				l.seen[r.ID] = true
				g.Go("log of "+r.ID, func(ctx context.Context) error { l.one(ctx, r); return nil })
			}
		}
		if !l.opt.Follow {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		var err error
		if reps, err = l.s.choose(ns, name, l.opt.Replica); err != nil {
			return
		}
		l.mu.Lock()
		l.prefix = l.prefix || len(l.seen) > 1
		l.mu.Unlock()
	}
}

func logQuery(opt api.LogOptions) url.Values {
	q := url.Values{"tail": {strconv.Itoa(opt.Tail)}, "follow": {strconv.FormatBool(opt.Follow)}, "previous": {strconv.FormatBool(opt.Previous)}, "timestamps": {strconv.FormatBool(opt.Timestamps)}}
	if !opt.Since.IsZero() {
		q.Set("since", opt.Since.Format(time.RFC3339Nano))
	}
	return q
}

func (l *logMerge) one(ctx context.Context, r *api.Replica) {
	log, err := l.s.logOf(ctx, r, l.opt)
	if err != nil {
		if api.CodeOf(err) != api.CodeNotFound && ctx.Err() == nil {
			l.line(r.ID, []byte("(no log: "+api.AsError(err).Message+")\n"))
		}
		return
	}
	defer log.Close()
	in := bufio.NewReaderSize(log, api.MaxLogLineBytes)
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 && !l.line(r.ID, line) {
			return
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

func (l *logMerge) line(id string, line []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.prefix {
		line = append([]byte("["+id+"] "), line...)
	}
	_, err := l.out.Write(line)
	return err == nil
}
