package coordinator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/coordinator/consensus"
	"github.com/cloudless/cloudless/coordinator/state"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/run"
)

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
	var res state.Result
	var index uint64
	err = untilSent(ctx, func() (err error) {
		res, index, err = s.proposeOnce(ctx, data)
		return err
	})
	switch {
	case err != nil:
		return state.Result{}, 0, err
	case res.Err != nil:
		return res, index, res.Err
	}
	return res, index, nil
}

// proposeLeading is propose for what this coordinator has decided as the leader, from what it alone has seen: a
// leader that came after it decides for itself.
func (s *Server) proposeLeading(ctx context.Context, cmd state.Command) (res state.Result, err error) {
	data, err := cmd.Encode()
	if err != nil {
		return res, err
	}
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	err = s.leaderOnly(func() (err error) {
		res, _, err = s.proposeHere(ctx, data)
		return err
	})
	return res, err
}

// untilSent tries again until something has been sent, one way or the other, or ctx ends.
func untilSent(ctx context.Context, try func() error) error {
	for {
		err := try()
		if !errors.Is(err, errNotSent) || run.Sleep(ctx, 50*time.Millisecond) != nil {
			return err
		}
	}
}

// errNotSent marks failures before the command could have entered the log: it is safe to try again.
var errNotSent = meta.ErrNotSent

func notSent(format string, args ...any) error {
	return &api.Error{Code: api.CodeUnavailable, Message: fmt.Sprintf(format, args...), Hint: "the coordinators are electing a leader or have lost their quorum; see 'cloudless status'", Err: errNotSent}
}

func (s *Server) proposeOnce(ctx context.Context, data []byte) (state.Result, uint64, error) {
	leader, here, err := s.whoLeads()
	switch {
	case err != nil:
		return state.Result{}, 0, err
	case here:
		return s.proposeHere(ctx, data)
	}
	return s.forward(ctx, leader, data)
}

// whoLeads gives the leader's id, and tells whether it is this coordinator.
func (s *Server) whoLeads() (id string, here bool, err error) {
	if s.raft.IsLeader() {
		return s.id.ID, true, nil
	}
	if id := s.raft.LeaderID(); id != "" && id != s.id.ID {
		return id, false, nil
	}
	return "", false, notSent("there is no leader")
}

// intoLog brings an entry into the log as the leader. What certainly did not get there is errNotSent.
func (s *Server) intoLog(ctx context.Context, entry []byte) (index uint64, result any, err error) {
	index, result, err = s.raft.Propose(ctx, entry)
	if consensus.NotWritten(err) {
		err = notSent("%s", api.AsError(err).Message)
	}
	return index, result, err
}

func (s *Server) proposeHere(ctx context.Context, data []byte) (state.Result, uint64, error) {
	index, value, err := s.intoLog(ctx, data)
	if err != nil {
		return state.Result{}, 0, err
	}
	res, ok := value.(state.Result)
	if !ok {
		return state.Result{}, 0, notApplied(value)
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

// waitApplied blocks until this coordinator has applied the command at index.
func (s *Server) waitApplied(ctx context.Context, index uint64) error {
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	return s.applied.wait(ctx, index)
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
	case link.IsDial(err): // nothing was sent
		return nil, notSent("coordinator %s cannot be reached: %v", id, err)
	case err != nil:
		return nil, &api.Error{Code: api.CodeUnavailable, Message: "coordinator " + id + " did not answer: " + err.Error(), Hint: "the change may or may not have been made; look before you repeat it", Err: err}
	case resp.StatusCode >= 300:
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return resp, nil
}

// readError turns an error answer of another coordinator or node into the error it carries.
func readError(resp *http.Response) error {
	var body api.ErrorBody
	if err := json.NewDecoder(io.LimitReader(resp.Body, api.MaxBodyBytes)).Decode(&body); err != nil || body.Error == nil {
		return api.Errorf(api.CodeUnavailable, "answered with status %d", resp.StatusCode)
	}
	if body.Error.Code == api.CodeNotLeader {
		return notSent("%s", body.Error.Message)
	}
	return body.Error
}
