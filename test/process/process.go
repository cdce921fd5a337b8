// Package process runs roles of the built binary, for tests and measurements: it starts one and waits
// for its ready line, sends it signals, keeps the end of its log, and takes it down with its caller.
package process

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startTimeout = 60 * time.Second // from the start to the ready line
	stopTimeout  = 30 * time.Second // from a signal to the end
	logKept      = 80               // lines of a process's log, for errors
)

// Config says what to run. Enter, if any, is called on the thread that starts the process, which
// inherits the namespaces that it entered.
type Config struct {
	Binary string
	Args   []string
	Env    []string // beside the caller's own
	Enter  func() error
}

// Process is one running role.
type Process struct {
	cfg   Config
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

// Start runs a role and waits for its ready line.
func Start(ctx context.Context, cfg Config) (*Process, error) {
	p, line, err := launch(cfg)
	if err != nil {
		return nil, err
	}
	return p, p.awaitReady(ctx, line)
}

// Launch runs any program, which says nothing when it is ready.
func Launch(cfg Config) (*Process, error) {
	p, _, err := launch(cfg)
	return p, err
}

// launch starts a process; its first line on standard output will be on the channel.
func launch(cfg Config) (*Process, <-chan string, error) {
	p := &Process{cfg: cfg, cmd: exec.Command(cfg.Binary, cfg.Args...), log: &tail{}, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), cfg.Env...)
	p.cmd.Stderr = p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // ends with us, whatever ends us
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	line := make(chan string, 1)
	started := make(chan error, 1)
	go p.own(out, started, line)
	return p, line, <-started
}

// own starts the process and waits for it on one thread: the kernel sends the death signal when the
// thread that started a process ends. It ends with the process, and the thread with it.
func (p *Process) own(out io.Reader, started chan<- error, line chan<- string) {
	runtime.LockOSThread()
	if err := p.begin(); err != nil {
		started <- err
		return
	}
	started <- nil
	in := bufio.NewScanner(out)
	if in.Scan() {
		line <- in.Text()
	}
	close(line)
	_, _ = io.Copy(io.Discard, out)
	_ = p.cmd.Wait()
	close(p.done)
}

func (p *Process) begin() error {
	if p.cfg.Enter != nil {
		if err := p.cfg.Enter(); err != nil {
			return err
		}
	}
	return p.cmd.Start()
}

func (p *Process) awaitReady(ctx context.Context, line <-chan string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	select {
	case text, ok := <-line:
		if !ok {
			<-p.done
			return fmt.Errorf("%s ended before it was ready:\n%s", p.cfg.Args[0], p.log)
		}
		if err := json.Unmarshal([]byte(text), &p.ready); err != nil {
			return errors.Join(fmt.Errorf("%s: ready line %q: %w", p.cfg.Args[0], text, err), p.End(syscall.SIGKILL))
		}
		return nil
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("%s was not ready: %w\n%s", p.cfg.Args[0], ctx.Err(), p.log), p.End(syscall.SIGKILL))
	}
}

// Get is a text of the ready line.
func (p *Process) Get(key string) string {
	s, _ := p.ready[key].(string)
	return s
}

// Args are what it was started with, to start it again.
func (p *Process) Args() []string { return p.cfg.Args }

// Pid is its id in the process namespace that it was started from.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process is gone.
func (p *Process) Done() <-chan struct{} { return p.done }

// Log is the end of what it wrote to standard error.
func (p *Process) Log() string { return p.log.String() }

// Signal sends one without waiting.
func (p *Process) Signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }

// Freeze stops it, and returns when it stands still: a thread that a busy machine does not run at once is
// told later, and until then the others go on.
func (p *Process) Freeze(ctx context.Context) error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		still, err := p.still()
		if still || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-p.done:
			return fmt.Errorf("%s (pid %d) ended instead of standing still", p.cfg.Args[0], p.Pid())
		case <-ctx.Done():
			return fmt.Errorf("%s (pid %d) is stopped and goes on: %w", p.cfg.Args[0], p.Pid(), ctx.Err())
		}
	}
}

// still tells whether all its threads are stopped.
func (p *Process) still() (bool, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.Pid()))
	if err != nil {
		return false, err
	}
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has ended
		}
		if err != nil {
			return false, err
		}
		// the state comes after the name, which may hold anything
		if name := bytes.LastIndexByte(text, ')'); !bytes.HasPrefix(text[name+1:], []byte(" T ")) {
			return false, nil
		}
	}
	return len(threads) > 0, nil
}

// End sends a signal and waits until the process is gone; after stopTimeout it is killed, which is
// an error.
func (p *Process) End(sig syscall.Signal) error {
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
		return fmt.Errorf("%s (pid %d) did not end on %v within %s:\n%s", p.cfg.Args[0], p.cmd.Process.Pid, sig, stopTimeout, p.log)
	}
}

// Memory reads resident and anonymous memory from the kernel, in bytes.
func (p *Process) Memory() (resident, anonymous float64, err error) {
	if resident, err = p.status("VmRSS"); err == nil {
		anonymous, err = p.status("RssAnon")
	}
	return resident, anonymous, err
}

// MostMemory is the most memory that was ever resident, in bytes.
func (p *Process) MostMemory() (float64, error) { return p.status("VmHWM") }

// status reads a size from the kernel, in bytes.
func (p *Process) status(name string) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		var kib float64
		if n, _ := fmt.Sscanf(line, name+": %f kB", &kib); n == 1 {
			return kib * 1024, nil
		}
	}
	return 0, fmt.Errorf("the kernel tells no %s", name)
}
