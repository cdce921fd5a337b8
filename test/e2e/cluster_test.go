// Package e2e drives real processes of the built binary over loopback, as a user would: it deploys,
// kills, restarts, and looks from outside.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is built once for all tests.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "cloudless-e2e-*")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "cloudless")
	cmd := exec.Command("go", "build", "-o", binary, "../../cli/cloudless")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// process is one running role.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	ready map[string]any
	log   *tail
	done  chan struct{}
}

// tail keeps the last lines of a log, for failures.
type tail struct {
	mu    sync.Mutex
	lines []string
}

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, strings.Split(strings.TrimRight(string(p), "\n"), "\n")...)
	if len(l.lines) > 60 {
		l.lines = l.lines[len(l.lines)-60:]
	}
	return len(p), nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

const startTimeout = 60 * time.Second

// start runs a role and waits for its ready line.
func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(binary, args...), log: &tail{}, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make(chan string, 1)
	go func() {
		in := bufio.NewScanner(out)
		if in.Scan() {
			line <- in.Text()
		}
		close(line)
		_, _ = io.Copy(io.Discard, out)
		_ = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() { p.stop() })
	select {
	case text, ok := <-line:
		if !ok {
			t.Fatalf("%v ended before it was ready:\n%s", args, p.log)
		}
		if err := json.Unmarshal([]byte(text), &p.ready); err != nil {
			t.Fatalf("ready line %q: %v", text, err)
		}
	case <-time.After(startTimeout):
		t.Fatalf("%v was not ready within %s:\n%s", args, startTimeout, p.log)
	}
	return p
}

func (p *process) get(key string) string {
	s, _ := p.ready[key].(string)
	return s
}

// stop ends the process politely, and by force after 30 s.
func (p *process) stop() { p.signal(syscall.SIGTERM) }

// kill ends it at once, as a power cut would.
func (p *process) kill() { p.signal(syscall.SIGKILL) }

func (p *process) signal(sig syscall.Signal) {
	select {
	case <-p.done:
		return
	default:
	}
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
		p.t.Errorf("process %d did not end on %v within 30 s:\n%s", p.cmd.Process.Pid, sig, p.log)
	}
}

// cli runs the command line against a cluster.
type cli struct {
	t   *testing.T
	env []string
}

// run gives standard output, standard error and the exit code.
func (c cli) run(args ...string) (stdout, stderr string, code int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), c.env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		c.t.Fatalf("%v: %v", args, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must is run for commands that succeed.
func (c cli) must(args ...string) string {
	c.t.Helper()
	out, errs, code := c.run(args...)
	if code != 0 {
		c.t.Fatalf("cloudless %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// eventually polls until f is true: the only way to wait for another process.
func eventually(t *testing.T, within time.Duration, what string, f func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		if time.Since(began) > within {
			t.Fatalf("not within %s: %s", within, what)
		}
		<-tick.C
	}
	return time.Since(began)
}

var httpClient = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// fetch asks an ingress for a host.
func fetch(ingress, host, path string) (int, string) {
	req, err := http.NewRequest(http.MethodGet, ingress+path, nil)
	if err != nil {
		return 0, err.Error()
	}
	req.Host = host
	resp, err := httpClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// shortDir is a temporary folder with a short path: sockets below it are limited to 108 bytes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cl-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
