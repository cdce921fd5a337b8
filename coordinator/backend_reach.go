package coordinator

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
	"github.com/cloudless/cloudless/internal/run"
)

// nodeTimeout bounds what a node may take to begin an answer.
const nodeTimeout = 10 * time.Second

// nodeDo makes one request to an agent's node port, directly or through its tunnel.
func (s *Server) nodeDo(ctx context.Context, nodeID, method, path string, q url.Values, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+nodeID+path+"?"+q.Encode(), body)
	if err != nil {
		return nil, err
	}
	resp, err := s.clients.node.Do(req)
	if err != nil {
		return nil, &api.Error{Code: api.CodeUnavailable, Message: "node " + nodeID + " cannot be reached: " + err.Error(), Hint: "see 'cloudless node get " + nodeID + "'", Err: err}
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return resp, nil
}

// choose lists the replicas that a request about a workload means: the named one, or all of them.
func (s *Server) choose(ns, name, replica string) ([]*api.Replica, error) {
	v := s.store.View()
	ref := api.Ref{Namespace: ns, Name: name}
	if _, err := s.find(v, ns, name); err != nil {
		return nil, err
	}
	var out []*api.Replica
	for _, r := range v.ReplicasOf(ref) {
		if replica == "" || r.ID == replica {
			out = append(out, r)
		}
	}
	if len(out) == 0 && replica != "" {
		return nil, api.Errorf(api.CodeNotFound, "workload %s has no replica %s", ref, replica).WithHint("see 'cloudless workload get %s'", name)
	}
	return out, nil
}

// Logs streams the log lines of a workload's replicas. With several replicas each line begins with
// its replica's id in brackets. Following, it picks up replicas that come later.
func (s *Server) Logs(ctx context.Context, ns, name string, opt api.LogOptions) (io.ReadCloser, error) {
	reps, err := s.choose(ns, name, opt.Replica)
	if err != nil {
		return nil, err
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

func (l *logMerge) query() url.Values {
	q := url.Values{"tail": {strconv.Itoa(l.opt.Tail)}, "follow": {strconv.FormatBool(l.opt.Follow)}, "previous": {strconv.FormatBool(l.opt.Previous)}, "timestamps": {strconv.FormatBool(l.opt.Timestamps)}}
	if !l.opt.Since.IsZero() {
		q.Set("since", l.opt.Since.Format(time.RFC3339Nano))
	}
	return q
}

func (l *logMerge) one(ctx context.Context, r *api.Replica) {
	resp, err := l.s.nodeDo(ctx, r.NodeID, http.MethodGet, api.PathReplicaLogs+r.ID, l.query(), nil)
	if err != nil {
		if api.CodeOf(err) != api.CodeNotFound && ctx.Err() == nil {
			l.line(r.ID, []byte("(no log: "+api.AsError(err).Message+")\n"))
		}
		return
	}
	defer resp.Body.Close()
	in := bufio.NewReaderSize(resp.Body, api.MaxLogLineBytes)
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

// ExecSession is one command running in a container, as messages in both directions.
type ExecSession struct {
	in     *io.PipeWriter
	out    io.ReadCloser
	cancel context.CancelFunc
}

// Exec starts a command in a replica; with none named, in the first that runs in a container.
func (s *Server) Exec(ctx context.Context, _ api.Caller, ns, name, replica string, command []string, tty, stdin bool) (*ExecSession, error) {
	if len(command) == 0 {
		return nil, api.Errorf(api.CodeInvalid, "cmd: no command is given")
	}
	reps, err := s.choose(ns, name, replica)
	if err != nil {
		return nil, err
	}
	r, err := execTarget(reps)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	pr, pw := io.Pipe()
	q := url.Values{"cmd": command, "tty": {strconv.FormatBool(tty)}, "stdin": {strconv.FormatBool(stdin)}}
	resp, err := s.nodeDo(ctx, r.NodeID, http.MethodPost, api.PathReplicaExec+r.ID, q, pr)
	if err != nil {
		cancel()
		return nil, errors.Join(err, pw.Close())
	}
	return &ExecSession{in: pw, out: resp.Body, cancel: cancel}, nil
}

func execTarget(reps []*api.Replica) (*api.Replica, error) {
	for _, r := range reps {
		if r.State == api.ReplicaRunning && r.Variant == api.VariantContainer {
			return r, nil
		}
	}
	for _, r := range reps {
		if r.State == api.ReplicaRunning {
			return nil, api.Errorf(api.CodeInvalid, "replica %s is a wasm module: it has no processes, so nothing can be executed beside it", r.ID).WithHint("deploy a container variant to use exec")
		}
	}
	return nil, api.Errorf(api.CodeConflict, "no replica is running").WithHint("see 'cloudless workload describe'")
}

// Read gives the next message; io.EOF after the last.
func (e *ExecSession) Read(context.Context) ([]byte, error) { return api.ReadFrame(e.out) }

// Write sends a message.
func (e *ExecSession) Write(_ context.Context, msg []byte) error { return api.WriteFrame(e.in, msg) }

// Close ends the session; the command is killed if it still runs.
func (e *ExecSession) Close() error {
	e.cancel()
	return errors.Join(e.in.Close(), e.out.Close())
}
