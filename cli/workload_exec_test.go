package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/cloudless/cloudless/api"
)

// execTime is how long a test waits for a message; a machine under load may take its time.
const execTime = time.Minute

// remote is the command's end of an exec session, played by a test.
type remote struct {
	t    *testing.T
	conn *websocket.Conn
	tty  string
}

// next reads one message of the wanted kind.
func (r *remote) next(kind byte) []byte {
	ctx, cancel := context.WithTimeout(context.Background(), execTime)
	defer cancel()
	_, m, err := r.conn.Read(ctx)
	if err != nil || len(m) == 0 || m[0] != kind {
		r.t.Errorf("got message %q and error %v, want one of kind %d", m, err, kind)
		return nil
	}
	return m[1:]
}

func (r *remote) exit(code int) {
	data, _ := json.Marshal(api.ExecExitStatus{Code: code})
	if err := r.conn.Write(context.Background(), websocket.MessageBinary, append([]byte{api.ExecExit}, data...)); err != nil {
		r.t.Error(err)
	}
}

// execSession answers exec of default/web with play.
func execSession(t *testing.T, play func(r *remote)) *session {
	s := newSession(t)
	s.api.exec = func(w http.ResponseWriter, q *http.Request) {
		conn, err := websocket.Accept(w, q, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.CloseNow()
		play(&remote{t, conn, q.URL.Query().Get("tty")})
	}
	return s
}

func TestExecPassesSignalsOn(t *testing.T) {
	s := execSession(t, func(r *remote) {
		r.next(api.ExecStdin) // the session is up
		r.next(api.ExecEOF)
		for _, sig := range []struct {
			number syscall.Signal
			name   string
		}{{syscall.SIGHUP, "HUP"}, {syscall.SIGINT, "INT"}, {syscall.SIGUSR1, "USR1"}} {
			if err := syscall.Kill(os.Getpid(), sig.number); err != nil {
				r.t.Error(err)
			}
			if got := string(r.next(api.ExecSignal)); got != fmt.Sprintf(`{"signal":%q}`, sig.name) {
				r.t.Errorf("%s arrived as %s", sig.name, got)
			}
		}
		r.exit(42)
	})
	s.stdin = "hello"
	s.want(42, "", "", "exec", "-i", "web", "--", "sleep", "60")
}

// A command that ignores signals does not hold its user for ever: the third interrupt ends the session.
func TestExecEndsWhenItsUserIsOutOfPatience(t *testing.T) {
	s := execSession(t, func(r *remote) {
		r.next(api.ExecStdin)
		r.next(api.ExecEOF)
		for range impatience {
			_ = syscall.Kill(os.Getpid(), syscall.SIGINT)
			r.next(api.ExecSignal)
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGINT)
		ctx, cancel := context.WithTimeout(context.Background(), execTime)
		defer cancel()
		if _, m, err := r.conn.Read(ctx); err == nil || ctx.Err() != nil {
			r.t.Errorf("the session goes on: %q, %v", m, err)
		}
	})
	s.stdin = "hello"
	s.want(130, "", "", "exec", "-i", "web", "--", "sleep", "60")
}

// On a terminal, keys go over as they are, the size goes along and follows the window, and the
// terminal is as it was afterwards.
func TestExecOnATerminal(t *testing.T) {
	master, terminal := openPTY(t)
	setSize(t, master, 24, 80)
	before, err := term.GetState(int(terminal.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	s := execSession(t, func(r *remote) {
		if r.tty != "true" {
			r.t.Error("the command gets no terminal")
		}
		if got := string(r.next(api.ExecResize)); got != `{"cols":80,"rows":24}` {
			r.t.Errorf("first size is %s", got)
		}
		setSize(r.t, master, 50, 132)
		if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil { // as the kernel does for the terminal's own group
			r.t.Error(err)
		}
		if got := string(r.next(api.ExecResize)); got != `{"cols":132,"rows":50}` {
			r.t.Errorf("second size is %s", got)
		}
		if _, err := master.Write([]byte("ls\r\x03\x10\x11")); err != nil { // Ctrl-C, Ctrl-P and Ctrl-Q are keys like others
			r.t.Error(err)
		}
		var keys []byte
		for len(keys) < 6 && !r.t.Failed() {
			keys = append(keys, r.next(api.ExecStdin)...)
		}
		if string(keys) != "ls\r\x03\x10\x11" {
			r.t.Errorf("keys arrived as %q", keys)
		}
		r.exit(0)
	})
	var errs bytes.Buffer
	e := &Env{In: terminal, Out: terminal, Err: &errs, Getenv: func(k string) string { return s.env[k] }, Now: time.Now}
	if code := e.Main([]string{"exec", "-it", "web", "--", "sh"}); code != 0 {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
	after, err := term.GetState(int(terminal.Fd()))
	if err != nil || *after != *before {
		t.Errorf("the terminal is left in another state (%v)", err)
	}
}

// Without -i no key goes to the command: the terminal must go on to make signals of them.
func TestExecWithoutInputLeavesTheTerminalAsItIs(t *testing.T) {
	_, terminal := openPTY(t)
	before, err := term.GetState(int(terminal.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	s := execSession(t, func(r *remote) {
		r.next(api.ExecResize) // the session is up
		if now, err := term.GetState(int(terminal.Fd())); err != nil || *now != *before {
			r.t.Errorf("Ctrl-C would go nowhere (%v)", err)
		}
		r.exit(0)
	})
	var errs bytes.Buffer
	e := &Env{In: terminal, Out: terminal, Err: &errs, Getenv: func(k string) string { return s.env[k] }, Now: time.Now}
	if code := e.Main([]string{"exec", "-t", "web", "--", "sleep", "60"}); code != 0 {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
}

// openPTY gives the two ends of a new pseudo-terminal.
func openPTY(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return master, terminal
}

func setSize(t *testing.T, f *os.File, rows, cols uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}); err != nil {
		t.Error(err)
	}
}
