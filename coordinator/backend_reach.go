package coordinator

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/cloudless/cloudless/api"
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
