package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startTimeout = 60 * time.Second
	stopTimeout  = 30 * time.Second
	logKept      = 40 // lines of a process's log, for errors
)

// process is one running role.
type process struct {
	args  []string // to start it again
	cmd   *exec.Cmd
	ready map[string]any
	log   *tail
	done  chan struct{} // closed when it was waited for
}

// tail keeps the last lines that a process logged.
type tail struct {
	mu    sync.Mutex
	lines []string
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, strings.Split(strings.TrimRight(string(p), "\n"), "\n")...)
	t.lines = t.lines[max(0, len(t.lines)-logKept):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}

// start runs a role and waits for its ready line.
func start(ctx context.Context, binary string, args ...string) (*process, error) {
	p := &process{args: args, cmd: exec.Command(binary, args...), log: &tail{}, done: make(chan struct{})}
	p.cmd.Stderr = p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // ends with us, whatever ends us
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	line := make(chan string, 1)
	started := make(chan error, 1)
	go p.own(out, started, line)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, p.awaitReady(ctx, line)
}

// own starts the process and waits for it on one thread: the kernel sends the death signal when the
// thread that started a process ends. It ends with the process.
func (p *process) own(out io.Reader, started chan<- error, line chan<- string) {
	runtime.LockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	in := bufio.NewScanner(out)
	if in.Scan() {
		line <- in.Text()
	}
	close(line)
	_, _ = io.Copy(io.Discard, out)
	_ = p.cmd.Wait()
	close(p.done)
}

func (p *process) awaitReady(ctx context.Context, line <-chan string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	select {
	case text, ok := <-line:
		if !ok {
			<-p.done
			return fmt.Errorf("%s ended before it was ready:\n%s", p.args[0], p.log)
		}
		if err := json.Unmarshal([]byte(text), &p.ready); err != nil {
			p.end(syscall.SIGKILL)
			return fmt.Errorf("%s: ready line %q: %w", p.args[0], text, err)
		}
		return nil
	case <-ctx.Done():
		p.end(syscall.SIGKILL)
		return fmt.Errorf("%s was not ready: %w\n%s", p.args[0], ctx.Err(), p.log)
	}
}

// get is a text of the ready line.
func (p *process) get(key string) string {
	s, _ := p.ready[key].(string)
	return s
}

// end sends a signal and waits until the process is gone; after stopTimeout it is killed.
func (p *process) end(sig syscall.Signal) error {
	select {
	case <-p.done:
		return nil
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGCONT) // a frozen one hears nothing else but SIGKILL
	_ = p.cmd.Process.Signal(sig)
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%s (pid %d) did not end on %v within %s", p.args[0], p.cmd.Process.Pid, sig, stopTimeout)
	}
}

// signal sends one without waiting.
func (p *process) signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }

// memory reads resident and anonymous memory from the kernel, in bytes.
func (p *process) memory() (resident, anonymous float64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(data)) {
		var kib float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kib); n == 1 {
			resident = kib * 1024
		}
		if n, _ := fmt.Sscanf(line, "RssAnon: %f kB", &kib); n == 1 {
			anonymous = kib * 1024
		}
	}
	if resident == 0 {
		return 0, 0, errors.New("the kernel tells no VmRSS")
	}
	return resident, anonymous, nil
}
