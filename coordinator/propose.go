package coordinator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/consensus"
	"github.com/cloudless/cloudless/coordinator/state"
	"github.com/cloudless/cloudless/internal/run"
)

// fsm feeds the log into the state.
type fsm struct{ s *Server }

// Apply applies one entry. An entry that cannot be read would part this member from the others, so
// the coordinator stops instead.
func (f fsm) Apply(index uint64, data []byte) any {
	cmd, err := state.Decode(data)
	if err != nil {
		f.s.group.Go("log", func(context.Context) error { return fmt.Errorf("entry %d: %w", index, err) })
		return state.Result{Err: api.Errorf(api.CodeInternal, "log entry %d cannot be read", index)}
	}
	defer f.s.applied.Store(index)
	return f.s.store.Apply(index, cmd)
}

// Snapshot pins the state as it is.
func (f fsm) Snapshot() (consensus.Snapshot, error) { return viewSnapshot{f.s.store.View()}, nil }

// Restore replaces the state.
func (f fsm) Restore(r io.ReadCloser) error { return errors.Join(f.s.store.Restore(r), r.Close()) }

type viewSnapshot struct{ state.View }

func (viewSnapshot) Release() {}

// propose brings a command into the log, through the leader wherever it is, and returns what
// applying it gave. When it returns, this coordinator has applied it too. A refusal by the state is
// returned as the error.
func (s *Server) propose(ctx context.Context, cmd state.Command) (state.Result, uint64, error) {
	if cmd.At.IsZero() {
		cmd.At = time.Now().UTC()
	}
	data, err := cmd.Encode()
	if err != nil {
		return state.Result{}, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	for {
		res, index, err := s.proposeOnce(ctx, data)
		if err == nil {
			if res.Err != nil {
				return res, index, res.Err
			}
			return res, index, nil
		}
		if !errors.Is(err, errNotSent) || run.Sleep(ctx, 50*time.Millisecond) != nil {
			return state.Result{}, 0, err
		}
	}
}

// errNotSent marks failures before the command could have entered the log: it is safe to try again.
var errNotSent = errors.New("not sent")

func notSent(format string, args ...any) error {
	return &api.Error{Code: api.CodeUnavailable, Message: fmt.Sprintf(format, args...), Hint: "the coordinators are electing a leader or have lost their quorum; see 'cloudless status'", Err: errNotSent}
}

func (s *Server) proposeOnce(ctx context.Context, data []byte) (state.Result, uint64, error) {
	if s.raft.IsLeader() {
		return s.proposeHere(ctx, data)
	}
	leader := s.raft.LeaderID()
	if leader == "" || leader == s.id.ID {
		return state.Result{}, 0, notSent("there is no leader")
	}
	return s.forward(ctx, leader, data)
}

func (s *Server) proposeHere(ctx context.Context, data []byte) (state.Result, uint64, error) {
	index, value, err := s.raft.Propose(ctx, data)
	if err != nil {
		return state.Result{}, 0, err
	}
	res, ok := value.(state.Result)
	if !ok {
		return state.Result{}, 0, api.Errorf(api.CodeInternal, "the state answered with %T", value)
	}
	return res, index, nil
}

// forward hands an encoded command to the leader and waits until this coordinator has applied it.
func (s *Server) forward(ctx context.Context, leader string, data []byte) (state.Result, uint64, error) {
	var resp api.ProposeResponse
	if err := s.peerCall(ctx, leader, http.MethodPost, api.PathPropose, bytes.NewReader(data), &resp); err != nil {
		return state.Result{}, 0, err
	}
	var res state.Result
	if err := json.Unmarshal(resp.Value, &res); err != nil {
		return state.Result{}, 0, fmt.Errorf("read the leader's answer: %w", err)
	}
	res.Err = resp.Error
	return res, resp.Index, s.waitApplied(ctx, resp.Index)
}

// waitApplied blocks until this coordinator has applied the log up to index.
func (s *Server) waitApplied(ctx context.Context, index uint64) error {
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	for s.raft.AppliedIndex() < index {
		if err := run.Sleep(ctx, 2*time.Millisecond); err != nil {
			return api.Errorf(api.CodeTimeout, "this coordinator has not caught up with index %d, which the others have", index)
		}
	}
	// Raft counts an entry when it hands it over; the state takes it a moment later. An index that was
	// no command, or came with a snapshot, never shows there, so this wait is short.
	ctx, cancelHandOver := context.WithTimeout(ctx, handOver)
	defer cancelHandOver()
	for s.applied.Load() < index && run.Sleep(ctx, time.Millisecond) == nil {
	}
	return nil
}

// handOver bounds the wait for the state to take what Raft has handed to it.
const handOver = 100 * time.Millisecond

// catchUpTimeout bounds the wait of a reader for what the others know already.
const catchUpTimeout = 2 * time.Second

// catchUp waits until this coordinator has applied what the leader had when it was asked.
func (s *Server) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	if s.raft.IsLeader() {
		return s.waitApplied(ctx, s.raft.LastIndex())
	}
	leader := s.raft.LeaderID()
	if leader == "" || leader == s.id.ID {
		return notSent("there is no leader")
	}
	var info api.PeerInfo
	if err := s.peerCall(ctx, leader, http.MethodGet, api.PathPeerInfo, nil, &info); err != nil {
		return err
	}
	return s.waitApplied(ctx, info.Applied)
}

// peerCall makes one request to another coordinator. A connection that could not be made is errNotSent.
func (s *Server) peerCall(ctx context.Context, id, method, path string, body io.Reader, out any) error {
	resp, err := s.peerDo(ctx, id, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := decodeBounded(resp.Body, out); err != nil {
		return fmt.Errorf("read the answer of coordinator %s: %w", id, err)
	}
	return nil
}

// decodeBounded reads another coordinator's answer, of a bounded size.
func decodeBounded(r io.Reader, out any) error {
	return json.NewDecoder(io.LimitReader(r, 4*api.MaxBodyBytes)).Decode(out)
}

// peerDo makes one request to another coordinator and returns its answer, which is a success.
func (s *Server) peerDo(ctx context.Context, id, method, path string, body io.Reader) (*http.Response, error) {
	if len(s.memberAddrs(id)) == 0 {
		return nil, notSent("no address of coordinator %s is known", id)
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+id+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := s.clients.peer(id).Do(req)
	switch {
	case isDial(err): // nothing was sent
		return nil, notSent("coordinator %s cannot be reached: %v", id, err)
	case err != nil:
		return nil, &api.Error{Code: api.CodeUnavailable, Message: "coordinator " + id + " did not answer: " + err.Error(), Hint: "the change may or may not have been made; look before you repeat it", Err: err}
	case resp.StatusCode >= 300:
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return resp, nil
}

// isDial tells whether a request failed before any of it was sent.
func isDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// readError turns an error answer of another coordinator or node into the error it carries.
func readError(resp *http.Response) error {
	var body api.ErrorBody
	if err := json.NewDecoder(io.LimitReader(resp.Body, api.MaxBodyBytes)).Decode(&body); err != nil || body.Error == nil {
		return api.Errorf(api.CodeUnavailable, "answered with status %d", resp.StatusCode)
	}
	if body.Error.Code == codeNotLeader {
		return notSent("%s", body.Error.Message)
	}
	return body.Error
}

// codeNotLeader is how a coordinator refuses a forwarded command before it enters the log.
const codeNotLeader api.Code = "not_leader"
