package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudless/cloudless/api"
)

// ExecOptions says what to run, and how.
type ExecOptions struct {
	Command []string
	TTY     bool
	Stdin   bool
	Replica string // "" is any ready one
}

// execMessage bounds one message in either direction.
const (
	execMessage   = 1 << 20
	execChunk     = 32 << 10
	execHandshake = 30 * time.Second
)

// ExecSession is a command that runs in a replica. One goroutine may send and one may receive.
type ExecSession struct{ conn *websocket.Conn }

// Exec starts a command in a replica. Starting is not repeated once a server has been reached, for
// the command might have run.
func (c *Client) Exec(ctx context.Context, ref api.Ref, o ExecOptions) (*ExecSession, error) {
	v := url.Values{"cmd": o.Command}
	for key, on := range map[string]bool{"tty": o.TTY, "stdin": o.Stdin} {
		if on {
			v.Set(key, "true")
		}
	}
	if o.Replica != "" {
		v.Set("replica", o.Replica)
	}
	r := &request{method: http.MethodGet, path: workloadPath(ref, "/exec"), query: v}
	var a attempts
	start := int(c.good.Load())
	for i := range c.bases {
		base := c.bases[(start+i)%len(c.bases)]
		s, err := c.dialExec(ctx, base, r)
		if err == nil {
			return s, nil
		}
		if code := api.CodeOf(err); code != api.CodeUnavailable {
			return nil, err
		}
		a.failures = append(a.failures, base.Host+": "+reason(err))
	}
	return nil, c.unavailable(&a)
}

func (c *Client) dialExec(ctx context.Context, base *url.URL, r *request) (*ExecSession, error) {
	dial, cancel := context.WithTimeout(ctx, execHandshake)
	defer cancel()
	req, err := r.build(dial, base, c.headers(r))
	if err != nil {
		return nil, err
	}
	conn, resp, err := websocket.Dial(dial, req.URL.String(), &websocket.DialOptions{HTTPClient: c.http, HTTPHeader: req.Header})
	switch {
	case err == nil:
		conn.SetReadLimit(execMessage)
		return &ExecSession{conn}, nil
	case ctx.Err() != nil:
		return nil, ended(ctx, ctx.Err())
	case resp != nil && resp.StatusCode >= 300:
		data, _ := io.ReadAll(io.LimitReader(resp.Body, execMessage))
		resp.Request = req
		return nil, errorFrom(resp, data)
	}
	if fault := lasting(err, base); fault != nil {
		return nil, fault
	}
	return nil, &api.Error{Code: api.CodeUnavailable, Message: reason(err), Err: err}
}

// Send writes one message of a kind (api.ExecStdin and its neighbours).
func (s *ExecSession) Send(ctx context.Context, kind byte, payload []byte) error {
	return s.conn.Write(ctx, websocket.MessageBinary, append([]byte{kind}, payload...))
}

// Resize tells the size of the terminal.
func (s *ExecSession) Resize(ctx context.Context, size api.TermSize) error {
	data, err := json.Marshal(size)
	if err != nil {
		return err
	}
	return s.Send(ctx, api.ExecResize, data)
}

// Signal sends a signal by its name, such as INT.
func (s *ExecSession) Signal(ctx context.Context, name string) error {
	data, err := json.Marshal(map[string]string{"signal": name})
	if err != nil {
		return err
	}
	return s.Send(ctx, api.ExecSignal, data)
}

// SendFrom sends all of r as standard input, then its end.
func (s *ExecSession) SendFrom(ctx context.Context, r io.Reader) error {
	buf := make([]byte, execChunk)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if err := s.Send(ctx, api.ExecStdin, buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return s.Send(ctx, api.ExecEOF, nil)
		}
		if err != nil {
			return err
		}
	}
}

// ReceiveTo writes the command's output until it ends, and gives its exit code.
func (s *ExecSession) ReceiveTo(ctx context.Context, stdout, stderr io.Writer) (int, error) {
	for {
		_, message, err := s.conn.Read(ctx)
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		if err != nil {
			return 0, api.Errorf(api.CodeUnavailable, "the session broke before the command ended: %w", err)
		}
		if len(message) == 0 {
			continue
		}
		switch kind, payload := message[0], message[1:]; kind {
		case api.ExecStdout:
			_, err = stdout.Write(payload)
		case api.ExecStderr:
			_, err = stderr.Write(payload)
		case api.ExecExit:
			return exitStatus(payload)
		}
		if err != nil {
			return 0, err
		}
	}
}

func exitStatus(payload []byte) (int, error) {
	var st api.ExecExitStatus
	if err := json.Unmarshal(payload, &st); err != nil {
		return 0, api.Errorf(api.CodeUnavailable, "the exit status cannot be read: %w", err)
	}
	if st.Error != nil {
		return 0, st.Error
	}
	return st.Code, nil
}

// Close ends the session at once, and the command with it.
func (s *ExecSession) Close() error { return s.conn.CloseNow() }
