package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/pki"
	"github.com/cloudless/cloudless/internal/run"
)

const mostAsked, mostAnswered = 100, 200

// exchange is a line in a bubble, with whatever serves the other end of each of its connections.
type exchange struct {
	*testing.T
	line  *Line
	group *run.Group
	dials atomic.Int64
}

func newExchange(t *testing.T, serve func(ctx context.Context, conn net.Conn)) *exchange {
	x := &exchange{T: t, group: run.New(t.Context())}
	x.line = NewLine(x.group.Context(), x.group, mostAnswered, func(context.Context) (net.Conn, error) {
		x.dials.Add(1)
		near, far := net.Pipe()
		x.group.Go("server", func(ctx context.Context) error {
			defer far.Close()
			serve(ctx, far)
			return nil
		})
		return near, nil
	})
	return x
}

// answering serves lines as a member does.
func answering(answer Answer) func(ctx context.Context, conn net.Conn) {
	return func(ctx context.Context, conn net.Conn) {
		_ = serveLine(ctx, conn, pki.Identity{}, mostAsked, answer)
	}
}

func echoed(_ context.Context, _ pki.Identity, kind byte, text []byte) (byte, []byte) {
	return kind + 1, append([]byte("re: "), text...)
}

func (x *exchange) ask(text string) error {
	x.Helper()
	kind, got, err := x.line.Ask(x.Context(), 7, []byte(text))
	if err == nil && (kind != 8 || string(got) != "re: "+text) {
		x.Errorf("%q got %d %q", text, kind, got)
	}
	return err
}

func (x *exchange) end() {
	x.Helper()
	if err := x.group.Close(); err != nil {
		x.Error(err)
	}
}

func TestManyAskOnOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t, answering(echoed))
		var askers sync.WaitGroup
		for i := range 50 {
			askers.Go(func() {
				if err := x.ask(fmt.Sprint("question ", i)); err != nil {
					t.Error(err)
				}
			})
		}
		askers.Wait()
		if n := x.dials.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
		x.end()
	})
}

// Nobody is left waiting, nor given an answer that is another's; and only where nothing can have come of the
// question is it said so.
func TestALineThatEnds(t *testing.T) {
	silent := func(ctx context.Context, _ pki.Identity, _ byte, _ []byte) (byte, []byte) {
		<-ctx.Done()
		return 1, nil
	}
	hangsUp := func(_ context.Context, conn net.Conn) {
		_, _, _ = readMessage(conn, mostAsked)
		_ = writeMessage(conn, Hangup, nil)
	}
	breaksOff := func(_ context.Context, conn net.Conn) {
		_, _, _ = readMessage(conn, mostAsked)
		_, _ = conn.Write([]byte{0, 0, 0, 9, 8, 'r', 'e'})
	}
	for name, tt := range map[string]struct {
		serve  func(ctx context.Context, conn net.Conn)
		end    func(x *exchange, cancel context.CancelFunc) // while the question is under way
		text   string
		unsent bool
	}{
		"it is hung up":            {hangsUp, nil, "x", true},
		"it breaks off":            {breaksOff, nil, "x", false},
		"it is cut":                {answering(silent), func(x *exchange, _ context.CancelFunc) { x.line.Cut() }, "x", false},
		"the asker goes":           {answering(silent), func(_ *exchange, cancel context.CancelFunc) { cancel() }, "x", false},
		"the question is too long": {answering(echoed), nil, strings.Repeat("x", mostAsked+1), true},
		"the answer is too long": {answering(func(context.Context, pki.Identity, byte, []byte) (byte, []byte) {
			return 8, make([]byte, mostAnswered+1)
		}), nil, "x", false},
		"the other end ends after this": {func(_ context.Context, conn net.Conn) { _, _, _ = readMessage(conn, mostAsked) }, nil, "x", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				serve := tt.serve
				x := newExchange(t, func(ctx context.Context, conn net.Conn) { serve(ctx, conn) })
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				failed := make(chan error, 1)
				x.group.Go("asker", func(context.Context) error {
					_, _, err := x.line.Ask(ctx, 7, []byte(tt.text))
					failed <- err
					return nil
				})
				synctest.Wait()
				if tt.end != nil {
					tt.end(x, cancel)
				}
				if err := <-failed; err == nil || IsUnsent(err) != tt.unsent {
					t.Errorf("%v, unsent: %v", err, IsUnsent(err))
				}
				serve = answering(echoed)
				if err := x.ask("once more"); err != nil {
					t.Errorf("on another connection: %v", err)
				}
				x.end()
			})
		})
	}
}

// An answer that nobody has asked for is not taken for the next one's.
func TestAnAnswerTooMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t, func(ctx context.Context, conn net.Conn) {
			kind, text, err := readMessage(conn, mostAsked)
			for range 2 {
				if err == nil {
					k, answer := echoed(ctx, pki.Identity{}, kind, text)
					err = writeMessage(conn, k, answer)
				}
			}
		})
		for _, text := range []string{"one", "two"} {
			if err := x.ask(text); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		if n := x.dials.Load(); n != 2 {
			t.Errorf("%d connections", n)
		}
		x.end()
	})
}

func TestMessagesOnALineAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t, answering(func(_ context.Context, _ pki.Identity, _ byte, text []byte) (byte, []byte) {
			return 1, append(text, text...)
		}))
		_, got, err := x.line.Ask(t.Context(), 7, make([]byte, mostAsked))
		if err != nil || len(got) != mostAnswered {
			t.Errorf("the longest: %d bytes, %v", len(got), err)
		}
		if _, got, err = x.line.Ask(t.Context(), 7, nil); err != nil || len(got) != 0 {
			t.Errorf("the shortest: %d bytes, %v", len(got), err)
		}
		x.end()
	})
}

// A line that nobody uses is hung up, and made again when somebody does.
func TestASilentLineIsHungUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t, answering(echoed))
		for i, pause := range []time.Duration{0, serverIdle - 1, serverIdle + 1} {
			time.Sleep(pause) // of the bubble
			synctest.Wait()
			if err := x.ask("x"); err != nil {
				t.Error(err)
			}
			if got, want := x.dials.Load(), []int64{1, 1, 2}[i]; got != want {
				t.Errorf("after %v there were %d connections, want %d", pause, got, want)
			}
		}
		x.end()
	})
}

// Who asks is known by the certificate; what is asked when the server is about to end is not lost.
func TestLinesOnAPort(t *testing.T) {
	s := newSite(t)
	m := s.mux(s.member(api.RoleServer, "s-1"))
	ln := m.Handle(api.ALPNMeta, api.RoleNode)
	s.run("mux", m.Serve)
	stop := s.run("lines", func(ctx context.Context) error {
		return ServeLines(ctx, ln, mostAsked, func(_ context.Context, from pki.Identity, kind byte, _ []byte) (byte, []byte) {
			return kind, []byte(from.ID)
		}, zerolog.Nop())
	})
	d := &Dialer{Creds: s.member(api.RoleNode, "n-1")}
	group := run.New(s.ctx)
	line := NewLine(group.Context(), group, mostAnswered, func(ctx context.Context) (net.Conn, error) {
		return d.Dial(ctx, m.ln.Addr().String(), api.ALPNMeta, pki.Identity{Role: api.RoleServer})
	})
	for range 3 {
		if kind, who, err := line.Ask(s.ctx, 3, []byte("who am I?")); err != nil || kind != 3 || string(who) != "n-1" {
			t.Errorf("%d %q, %v", kind, who, err)
		}
	}
	stop()
	if _, _, err := line.Ask(s.ctx, 3, []byte("are you there?")); err == nil {
		t.Error("somebody has answered")
	}
	if err := group.Close(); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
