package oci

import (
	"context"
	"io"
	"strings"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// drainLimit is how long the output of a command that has ended may still flow: a child that it left
// behind could hold it open for ever.
const drainLimit = 2 * time.Second

// Exec runs a command in the container with the rights of its main process.
func (h *handle) Exec(ctx context.Context, req sandbox.ExecRequest) (int, error) {
	if len(req.Command) == 0 {
		return 0, api.Errorf(api.CodeInvalid, "exec names no command")
	}
	if h.ended() {
		return 0, api.Errorf(api.CodeNotFound, "replica %s does not run", h.spec.ID)
	}
	ctx = h.d.scope(ctx)
	spec, err := h.execSpec(ctx, req)
	if err != nil {
		return 0, err
	}
	streams := newExecStreams(req)
	id := api.NewID("exec")
	p, err := h.task.Exec(ctx, id, spec, streams.creator(h.d.execDir()))
	if err != nil {
		return 0, execError(req, err)
	}
	defer h.endExec(ctx, p)
	ended, err := p.Wait(ctx)
	if err != nil {
		return 0, execError(req, err)
	}
	if err := p.Start(ctx); err != nil {
		return 0, execError(req, err)
	}
	return h.serveExec(ctx, p, ended, req, streams)
}

// execSpec is the main process with another command line.
func (h *handle) execSpec(ctx context.Context, req sandbox.ExecRequest) (*specs.Process, error) {
	whole, err := h.task.Spec(ctx)
	if err != nil {
		return nil, execError(req, err)
	}
	spec := whole.Process
	spec.Args, spec.CommandLine, spec.Terminal = req.Command, "", req.TTY
	if req.TTY {
		spec.Env = append(spec.Env, "TERM=xterm")
	}
	return spec, nil
}

// serveExec passes on sizes, signals and the end of input until the command ends.
func (h *handle) serveExec(ctx context.Context, p containerd.Process, ended <-chan containerd.ExitStatus, req sandbox.ExecRequest, streams *execStreams) (int, error) {
	inputEnded, sizes, signals := streams.inputEnded(), req.Resize, req.Signals
	for {
		select {
		case <-inputEnded:
			inputEnded = nil
			_ = p.CloseIO(ctx, containerd.WithStdinCloser) // fails only when the command has ended
		case size, ok := <-sizes:
			if !ok {
				sizes = nil
			} else if size.Cols > 0 && size.Rows > 0 {
				_ = p.Resize(ctx, uint32(size.Cols), uint32(size.Rows)) // fails only when the command has ended
			}
		case name, ok := <-signals:
			if !ok {
				signals = nil
			} else if sig := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(name), "SIG")); sig != 0 {
				_ = p.Kill(ctx, sig) // fails only when the command has ended
			}
		case status := <-ended:
			if err := status.Error(); err != nil {
				return 0, execError(req, err)
			}
			drain(p)
			return int(status.ExitCode()), nil
		case <-ctx.Done():
			return 0, execError(req, ctx.Err())
		}
	}
}

// drain lets the rest of the output through.
func drain(p containerd.Process) {
	flowed := make(chan struct{})
	go func() { // ends at the latest when endExec closes the streams
		defer close(flowed)
		p.IO().Wait()
	}()
	select {
	case <-flowed:
	case <-time.After(drainLimit):
	}
}

// endExec kills the command if it still runs, and deletes it.
func (h *handle) endExec(ctx context.Context, p containerd.Process) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushLimit)
	defer cancel()
	status, err := p.Status(ctx)
	if err == nil && status.Status == containerd.Running {
		if err := p.Kill(ctx, unix.SIGKILL); err == nil {
			awaitProcess(ctx, p)
		}
	}
	closeIO(p)
	if _, err := p.Delete(ctx); err != nil && !errdefs.IsNotFound(err) {
		h.d.log.Warn().Err(err).Str("container", h.id).Msg("an ended command is not deleted")
	}
}

// closeIO cuts streams that a command's children may hold open, as Delete waits for them.
func closeIO(p containerd.Process) {
	if streams := p.IO(); streams != nil {
		streams.Cancel()
		streams.Close()
	}
}

func awaitProcess(ctx context.Context, p containerd.Process) {
	ended, err := p.Wait(ctx)
	if err != nil {
		return
	}
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

func execError(req sandbox.ExecRequest, err error) error {
	switch {
	case missingProgram(err):
		return api.Errorf(api.CodeInvalid, "%q is not in the image or cannot be executed: %w", req.Command[0], err)
	case errdefs.IsNotFound(err), errdefs.IsFailedPrecondition(err):
		return api.Errorf(api.CodeNotFound, "the replica does not run: %w", err)
	case strings.Contains(err.Error(), context.DeadlineExceeded.Error()): // an older daemon gives it as an unknown error
		return api.Errorf(api.CodeTimeout, "exec took too long: %w", err)
	}
	return classify(err, api.CodeInternal, "exec failed: %w", err)
}

// missingProgram reads the runtime's text, which is all that it gives.
func missingProgram(err error) bool {
	text := err.Error()
	return strings.Contains(text, "exec: ") && (strings.Contains(text, "not found") ||
		strings.Contains(text, "no such file or directory") || strings.Contains(text, "permission denied") ||
		strings.Contains(text, "exec format error"))
}

// execStreams are a command's ends in the shape that containerd's copying wants.
type execStreams struct {
	tty            bool
	stdin          *notedReader
	stdout, stderr io.Writer
}

// newExecStreams guards both outputs with one lock, as a caller may give one writer for both, and
// hides their other methods: io.Copy would call ReadFrom from two goroutines.
func newExecStreams(req sandbox.ExecRequest) *execStreams {
	s := &execStreams{tty: req.TTY}
	if req.Stdin != nil {
		s.stdin = &notedReader{r: req.Stdin, ended: make(chan struct{})}
	}
	lock := new(sync.Mutex)
	s.stdout = lockedWriter{lock, orDiscard(req.Stdout)}
	s.stderr = lockedWriter{lock, orDiscard(req.Stderr)}
	return s
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

func (s *execStreams) creator(dir string) cio.Creator {
	opts := []cio.Opt{cio.WithFIFODir(dir)}
	stderr := s.stderr
	if s.tty {
		opts, stderr = append(opts, cio.WithTerminal), nil
	}
	var stdin io.Reader
	if s.stdin != nil {
		stdin = s.stdin
	}
	return cio.NewCreator(append(opts, cio.WithStreams(stdin, s.stdout, stderr))...)
}

// inputEnded is closed when the input has been read to its end; nil without input.
func (s *execStreams) inputEnded() <-chan struct{} {
	if s.stdin == nil {
		return nil
	}
	return s.stdin.ended
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// notedReader tells when its reader has ended and all that it gave has been passed on.
type notedReader struct {
	r     io.Reader
	err   error // held back until the last bytes were taken
	once  sync.Once
	ended chan struct{}
}

func (n *notedReader) Read(p []byte) (count int, err error) {
	if n.err == nil {
		count, n.err = n.r.Read(p)
	}
	if count > 0 || n.err == nil {
		return count, nil
	}
	n.once.Do(func() { close(n.ended) })
	return 0, n.err
}
