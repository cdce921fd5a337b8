package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudless/cloudless/test/process"
)

const (
	roundLength   = 1200 * time.Millisecond // of one server
	warmUp        = 300 * time.Millisecond
	connections   = 16
	idleTime      = 5 * time.Second
	answerTimeout = 20 * time.Second // for an answer

)

// rounds are the measurements over loopback: in each round every server is asked for a while.
type rounds struct {
	costs   map[string]sample // CPU of the server for a request, nanoseconds
	rates   map[string]sample // requests a second
	idle    map[string]sample // share of a processor
	missing map[string]error  // servers that could not be had
}

// roundsOf measures, once for all rows.
func (l *lab) roundsOf(ctx context.Context) (*rounds, error) {
	if l.rounds != nil {
		return l.rounds, nil
	}
	r := &rounds{map[string]sample{}, map[string]sample{}, map[string]sample{}, map[string]error{}}
	servers := map[string]*server{}
	defer func() {
		for _, s := range servers {
			_ = s.End(syscall.SIGTERM)
		}
	}()
	for _, name := range []string{"native", "c", "as", "as-pooled", "rust", "go", "listener", peerJS, peerReused, peerIsolated} {
		s, err := l.startServer(ctx, name)
		if err == nil {
			_, err = s.load(ctx, warmUp)
			servers[name] = s
		}
		if err != nil {
			r.missing[name] = err
		}
	}
	for range l.sandboxRuns() {
		for name, s := range servers {
			if err := r.ask(ctx, name, s); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if s := servers["listener"]; s != nil {
		if err := r.leaveAlone(ctx, "listener", s); err != nil {
			return nil, err
		}
	}
	if err := r.askStock(ctx, l); err != nil {
		return nil, fmt.Errorf("%s: %w", stock, err)
	}
	l.rounds = r
	return r, nil
}

// server is a process that serves HTTP.
type server struct {
	*process.Process
	address string
}

func (l *lab) startServer(ctx context.Context, name string) (*server, error) {
	if _, ours := served[name]; !ours && name != "native" && name != stock {
		return l.startPeer(ctx, name)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := process.Start(ctx, process.Config{Binary: self, Args: []string{serveArg, name}})
	if err != nil {
		return nil, err
	}
	return &server{p, p.Get("http")}, nil
}

// ask measures one server in one round.
func (r *rounds) ask(ctx context.Context, name string, s *server) error {
	before, err := s.used()
	if err != nil {
		return err
	}
	began := time.Now()
	n, err := s.load(ctx, roundLength)
	took := time.Since(began)
	after, used := s.used()
	if err := errors.Join(err, used); err != nil {
		return err
	}
	r.costs[name] = append(r.costs[name], float64(after-before)/float64(n))
	r.rates[name] = append(r.rates[name], float64(n)/took.Seconds())
	return nil
}

// leaveAlone measures what a server uses that nobody asks.
func (r *rounds) leaveAlone(ctx context.Context, name string, s *server) error {
	before, err := s.used()
	if err != nil {
		return err
	}
	if err := rest(ctx, idleTime); err != nil {
		return err
	}
	after, err := s.used()
	r.idle[name] = append(r.idle[name], float64(after-before)/float64(idleTime))
	return err
}

// used is the processor time of the server so far, which the kernel keeps as a clock of each process: see
// clock_getcpuclockid(3).
func (s *server) used() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^s.Pid()<<3|unix.CLOCK_PROCESS_CPUTIME_ID), &t); err != nil {
		return 0, fmt.Errorf("the clock of process %d: %w: %s", s.Pid(), err, s.Log())
	}
	return time.Duration(t.Nano()), nil
}

// load has all connections ask without pause for d and counts the good answers.
func (s *server) load(ctx context.Context, d time.Duration) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, d+answerTimeout)
	defer cancel()
	var n atomic.Int64
	until := time.Now().Add(d)
	err := together(connections, func(int) error { return askUntil(ctx, s.address, until, &n) })
	return n.Load(), err
}

func askUntil(ctx context.Context, address string, until time.Time, n *atomic.Int64) error {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(until.Add(answerTimeout)); err != nil {
		return err
	}
	get := []byte("GET / HTTP/1.1\r\nHost: hello.localhost\r\nUser-Agent: bench\r\n\r\n")
	in := bufio.NewReader(c)
	for time.Now().Before(until) {
		if _, err := c.Write(get); err != nil {
			return err
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return err
		}
		if res.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), "hello") {
			return fmt.Errorf("answer %s: %.80q", res.Status, body)
		}
		n.Add(1)
	}
	return nil
}

// measured is a row of the rounds.
func measured(of func(*rounds) sample, needs ...string) func(context.Context, *lab) result {
	return func(ctx context.Context, l *lab) result {
		r, err := l.roundsOf(ctx)
		if err != nil {
			return result{err: err}
		}
		for _, name := range needs {
			if err := r.missing[name]; errors.Is(err, errNoPeer) {
				return result{skipped: err.Error()}
			} else if err != nil {
				return result{err: fmt.Errorf("%s: %w", name, err)}
			}
		}
		return result{runs: of(r)}
	}
}

func cost(name string) func(context.Context, *lab) result {
	return measured(func(r *rounds) sample { return r.costs[name] }, name)
}

func rate(name string) func(context.Context, *lab) result {
	return measured(func(r *rounds) sample { return r.rates[name] }, name)
}

func idleServer(name string) func(context.Context, *lab) result {
	return measured(func(r *rounds) sample { return r.idle[name] }, name)
}

// against is the requests a second of one server for each of another's.
func against(one, other string) func(context.Context, *lab) result {
	return measured(func(r *rounds) sample { return ratios(r.rates[one], r.rates[other]) }, one, other)
}

// share is the CPU of one server for a request, of another's: how many requests for each CPU second
// the other answers, of the one.
func share(one, other string) func(context.Context, *lab) result {
	return measured(func(r *rounds) sample { return ratios(r.costs[one], r.costs[other]) }, one, other)
}

func ratios(of, to sample) (s sample) {
	for i := range of {
		s = append(s, of[i]/to[i])
	}
	return s
}
