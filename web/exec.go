package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
)

const (
	execMessageBytes = 1 << 20 // the largest message that a client may send
	pingInterval     = 20 * time.Second
)

// exec joins a WebSocket to a command in a replica. The command starts first, so that what is wrong
// with it is told as an ordinary error.
func (s *server) exec(c *call) error {
	command := c.echo.QueryParams()["cmd"]
	if len(command) == 0 || len(command) > api.MaxArgs {
		return api.Errorf(api.CodeInvalid, "name a command of 1 to %d words, one cmd= for each", api.MaxArgs)
	}
	tty, err := c.flag("tty")
	if err != nil {
		return err
	}
	stdin, err := c.flag("stdin")
	if err != nil {
		return err
	}
	if c.request().Header.Get("Upgrade") == "" {
		return api.Errorf(api.CodeInvalid, "exec is a WebSocket").WithHint("use 'cloudless workload exec'")
	}
	end, err := s.sessions.open(c.key())
	if err != nil {
		return err
	}
	defer end()
	ns, name := c.workload()
	var conn ExecConn
	err = s.audited(c, c.route, func() (err error) {
		conn, err = s.backend.Exec(c.context(), c.caller, ns, name, c.query("replica"), command, tty, stdin)
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	return joinExec(c, conn)
}

func joinExec(c *call, conn ExecConn) error {
	ws, err := websocket.Accept(c.echo.Response(), c.request(), nil) // checks Origin once more
	if err != nil {
		return fmt.Errorf("accept the WebSocket: %w", err)
	}
	c.echo.Response().Committed = true // the connection is no longer HTTP's
	defer ws.CloseNow()
	ws.SetReadLimit(execMessageBytes)
	g := run.New(c.context())
	context.AfterFunc(g.Context(), func() { ws.CloseNow() }) // ends a read that waits for the client
	g.Go("exec input", func(ctx context.Context) error { return execInput(ctx, c.context(), ws, conn) })
	g.Go("exec output", func(ctx context.Context) error { return execOutput(ctx, ws, conn) })
	g.Go("exec ping", func(ctx context.Context) error { return ping(ctx, ws) })
	if err := g.Wait(); !errors.Is(err, io.EOF) {
		c.log.Info().Err(err).Msg("exec session broke")
	}
	return nil
}

var errNotInput = errors.New("not a message of standard input, resize, end of input or signal")

// execInput carries messages to the command until the client leaves or breaks the rules; its error
// ends the session. It reads under the request's context, since ending the session's own would cut
// the connection before the command's last message is out.
func execInput(ctx, request context.Context, ws *websocket.Conn, conn ExecConn) error {
	for {
		kind, m, err := ws.Read(request)
		if err != nil {
			return fmt.Errorf("the client left: %w", err)
		}
		if kind != websocket.MessageBinary || len(m) == 0 || !isInput(m[0]) {
			_ = ws.Close(websocket.StatusPolicyViolation, errNotInput.Error()) // as good as gone
			return errNotInput
		}
		if err := conn.Write(ctx, m); err != nil {
			return fmt.Errorf("write to the command: %w", err)
		}
	}
}

func isInput(kind byte) bool {
	return kind == api.ExecStdin || kind == api.ExecResize || kind == api.ExecEOF || kind == api.ExecSignal
}

// execOutput carries messages to the client until the command's last one; then it says goodbye and
// gives io.EOF.
func execOutput(ctx context.Context, ws *websocket.Conn, conn ExecConn) error {
	for {
		m, err := conn.Read(ctx)
		if errors.Is(err, io.EOF) {
			_ = ws.Close(websocket.StatusNormalClosure, "") // the client may be gone: nobody to tell
		}
		if err != nil {
			return err
		}
		if err := sendMessage(ctx, ws, m); err != nil {
			return err
		}
	}
}

func sendMessage(ctx context.Context, ws *websocket.Conn, m []byte) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return ws.Write(ctx, websocket.MessageBinary, m)
}

// ping finds out when the client is gone without a word.
func ping(ctx context.Context, ws *websocket.Conn) error {
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if err := pingOnce(ctx, ws); err != nil {
				return err
			}
		}
	}
}

func pingOnce(ctx context.Context, ws *websocket.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return ws.Ping(ctx)
}
