package wasm

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/cloudless/cloudless/api"
)

// compiler has modules compiled, each in a child process of its own: a module may be made to keep a
// compiler busy for hours, or to fill the machine's memory. What that does to the child ends the child.
type compiler struct {
	program string
	limits  limits
	slots   chan struct{} // one for each child that may run
	waiting atomic.Int32
	ways    []uintptr    // to leave a child without a network, as flags of clone
	way     atomic.Int32 // index of the first of them that this machine allows
	log     zerolog.Logger
}

const (
	// maxWaiting bounds those who wait for a child to end before theirs may start.
	maxWaiting = 256
	// ownProgram is this program, also when its file has been replaced by a newer version, whose code
	// would not be ours.
	ownProgram = "/proc/self/exe"

	maxReplyBytes = 64 << 10 // of a child's verdict, and of its last words
)

func newCompiler(log zerolog.Logger) *compiler {
	return &compiler{program: ownProgram, limits: defaultLimits(), ways: waysOffline[:], slots: make(chan struct{}, max(1, runtime.NumCPU()/2)), log: log}
}

// compile has a child compile the module in the file at path into the folder dir.
//
// It spoils the thread that it runs on, so it is to be called on a goroutine that ends soon after.
func (c *compiler) compile(ctx context.Context, path, digest, dir string) error {
	if err := c.enter(ctx); err != nil {
		return err
	}
	defer func() { <-c.slots }()
	module, err := openModule(path)
	if err != nil {
		return err
	}
	defer module.Close()
	text, err := json.Marshal(order{Dir: dir, Digest: digest, Limits: c.limits})
	if err != nil {
		return err
	}
	wall, cancel := context.WithTimeoutCause(ctx, c.limits.Wall, errWall)
	defer cancel()
	child, err := c.start(wall, module, string(text))
	if err != nil {
		return err
	}
	began := time.Now()
	ended := child.Wait()
	c.log.Debug().Str("module", digest).Dur("took", time.Since(began)).Dur("cpu", cpuTime(child.ProcessState)).Msg("the compiler of a wasm module has ended")
	if cause := context.Cause(wall); cause != nil && ended != nil {
		return c.cut(cause)
	}
	return c.judge(child, ended)
}

var errWall = errors.New("compiling took too long")

// enter waits for the right to start a child.
func (c *compiler) enter(ctx context.Context) error {
	select {
	case c.slots <- struct{}{}:
		return nil
	default:
	}
	defer c.waiting.Add(-1)
	if c.waiting.Add(1) > maxWaiting {
		return api.Errorf(api.CodeUnavailable, "%d modules wait to be compiled on this node already", maxWaiting).WithHint("it is tried again; fewer new modules at a time go quicker")
	}
	select {
	case c.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// waysOffline are the ways to leave a child without a network, the best first: a network namespace by
// root's right, by that of a user namespace, none. A child that has a network still has nothing to use
// it with: it is this program, and compiles.
var waysOffline = [...]uintptr{syscall.CLONE_NEWNET, syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, 0}

// start starts a child in the strictest way that this machine allows.
func (c *compiler) start(ctx context.Context, module *os.File, text string) (*exec.Cmd, error) {
	if err := errors.Join(markThread(), closeOnExec()); err != nil {
		return nil, fmt.Errorf("lower the rights of a compiling child: %w", err)
	}
	for {
		way := c.way.Load()
		child := c.command(ctx, module, text, c.ways[way])
		err := child.Start()
		if err == nil {
			return child, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if int(way) == len(c.ways)-1 || !forbidden(err) {
			return nil, api.Errorf(api.CodeUnavailable, "start the compiler: %w", err)
		}
		if c.way.CompareAndSwap(way, way+1) && c.ways[way+1] == 0 {
			c.log.Warn().Err(err).Msg("wasm modules are compiled without a network namespace: this machine does not allow one")
		}
	}
}

// forbidden tells of a kernel that makes no namespace for us: by its rules, its build or its bounds.
func forbidden(err error) bool {
	for _, no := range []error{unix.EPERM, unix.EACCES, unix.EINVAL, unix.ENOSYS, unix.ENOSPC, unix.EUSERS} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// markThread prepares the thread, and with it all that is started from it: no program gains rights
// by being executed. This cannot be undone, so the thread is left to end with its goroutine. That also
// keeps it as long as its child, which would be killed with it.
func markThread() error {
	runtime.LockOSThread()
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

// closeOnExec marks the descriptors that Go did not open, or they would be a child's as well: those that
// whoever started this process left open, or a library.
func closeOnExec() error {
	open, err := os.ReadDir("/proc/self/fd")
	for _, entry := range open {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return err
}

// command is a child: no environment, no descriptors but three, a session and group of its own; killed
// with ctx, and with this process.
func (c *compiler) command(ctx context.Context, module *os.File, text string, namespaces uintptr) *exec.Cmd {
	child := exec.CommandContext(ctx, c.program, compileArg, text)
	child.Env = []string{}
	child.Stdin, child.Stdout, child.Stderr = module, &excerpt{}, &excerpt{}
	child.WaitDelay = time.Second
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL, Cloneflags: namespaces}
	if namespaces&syscall.CLONE_NEWUSER != 0 {
		child.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		child.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
	}
	return child
}

// excerpt keeps the beginning of what a child writes.
type excerpt struct{ bytes.Buffer }

func (e *excerpt) Write(p []byte) (int, error) {
	_, _ = e.Buffer.Write(p[:min(len(p), maxReplyBytes-e.Len())])
	return len(p), nil
}

// cut is the error of a child that was killed because ctx ended.
func (c *compiler) cut(cause error) error {
	if cause != errWall {
		return cause
	}
	return api.Errorf(api.CodeUnavailable, "the module was not compiled after %s", c.limits.Wall).
		WithHint("the node is too busy, or the module is made to be slow to compile; it is tried again")
}

// judge tells what became of a child that has ended.
func (c *compiler) judge(child *exec.Cmd, ended error) error {
	if ended != nil {
		return c.death(child, ended)
	}
	var v verdict
	if err := json.Unmarshal(child.Stdout.(*excerpt).Bytes(), &v); err != nil {
		return api.Errorf(api.CodeInternal, "the compiler's verdict cannot be read: %w", err)
	}
	if v.Error != nil {
		return v.Error
	}
	return nil
}

// death tells why a child died, and whether another would.
func (c *compiler) death(child *exec.Cmd, ended error) error {
	var exit *exec.ExitError
	if !errors.As(ended, &exit) {
		return api.Errorf(api.CodeInternal, "run the compiler: %w", ended)
	}
	status, _ := exit.Sys().(syscall.WaitStatus)
	words := child.Stderr.(*excerpt).String()
	const hint = "split its largest functions, or build it with another compiler or less optimization"
	switch {
	case exit.ExitCode() == exitCPU:
		return invalid("the module takes more than %s of CPU time to compile, the most that it may", c.limits.CPU).WithHint(hint)
	case outOfMemory(words):
		return invalid("the module takes more than %s of memory to compile, the most that it may", api.Bytes(c.limits.Memory)).WithHint(hint)
	case status.Signaled():
		return api.Errorf(api.CodeUnavailable, "the compiler was killed (%v)", status.Signal()).
			WithHint("the machine may be out of memory; it is tried again")
	}
	line, _, _ := strings.Cut(strings.TrimSpace(words), "\n")
	return api.Errorf(api.CodeInternal, "the compiler failed (%v): %s", exit, cmp.Or(line, "it said nothing"))
}

// outOfMemory finds in a Go program's last words that it was refused memory.
func outOfMemory(words string) bool {
	for _, s := range []string{"out of memory", "cannot allocate memory", "cannot map pages", "failed to create new OS thread", "too many address space collisions"} {
		if strings.Contains(words, s) {
			return true
		}
	}
	return false
}

func cpuTime(s *os.ProcessState) time.Duration {
	if s == nil {
		return 0
	}
	return s.UserTime() + s.SystemTime()
}
