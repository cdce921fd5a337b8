package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

func execCommand(e *Env) *cobra.Command {
	var o client.ExecOptions
	cmd := &cobra.Command{
		Use: "exec NAME [-i] [-t] -- CMD [ARG…]", Short: "Run a command in a container", Args: cobra.MinimumNArgs(2), ValidArgsFunction: e.completeWorkloads(),
		Example: "  cloudless workload exec web -- ls /\n  cloudless workload exec web -it -- sh",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			o.Command = args[1:]
			return e.onWorkload(ctx, c, args[0], false, func(ref api.Ref) error {
				code, err := e.exec(ctx, c, ref, o)
				if err == nil && code != 0 {
					return exitError(code)
				}
				return err
			})
		}),
	}
	cmd.Flags().BoolVarP(&o.Stdin, "stdin", "i", false, "pass on standard input")
	cmd.Flags().BoolVarP(&o.TTY, "tty", "t", false, "give the command a terminal")
	cmd.Flags().StringVar(&o.Replica, "replica", "", "in this replica (default: any that is ready)")
	return cmd
}

// exec runs the command to its end and gives its exit code. With a terminal and standard input, keys such
// as Ctrl-C go there as bytes; without, the signals that this process gets are passed on.
func (e *Env) exec(ctx context.Context, c *client.Client, ref api.Ref, o client.ExecOptions) (int, error) {
	fd, tty := terminal(e.In)
	o.TTY = o.TTY && tty
	s, err := c.Exec(ctx, ref, o)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	ctx, stop := passSignals(context.WithoutCancel(ctx), s)
	defer stop()
	if o.TTY && o.Stdin { // keys that do not go there stay those of this terminal: Ctrl-C is a signal
		old, err := term.MakeRaw(fd)
		if err != nil {
			return 0, err
		}
		defer func() { _ = term.Restore(fd, old) }()
	}
	if o.TTY {
		stop := e.sendSizes(ctx, s, fd)
		defer stop()
	}
	if o.Stdin {
		// Ends with the session, or with the process: a read of a terminal cannot be interrupted.
		go func() { _ = s.SendFrom(ctx, e.In) }() // what it cannot send, the session's end tells
	}
	return s.ReceiveTo(ctx, e.Out, e.Err)
}

// passed are the signals that go on to the command, by the names that the API takes.
var passed = map[os.Signal]string{
	syscall.SIGINT: "INT", syscall.SIGTERM: "TERM", syscall.SIGQUIT: "QUIT", syscall.SIGHUP: "HUP", syscall.SIGUSR1: "USR1", syscall.SIGUSR2: "USR2",
}

// impatience is how often INT or TERM is passed on; the next one ends the session, and the command
// with it, for a command that ignores them.
const impatience = 2

// passSignals passes on what this process is told, until stop is called. The context that it gives
// ends when its user is out of patience.
func passSignals(ctx context.Context, s *client.ExecSession) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 8)
	for sig := range passed {
		signal.Notify(signals, sig)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ends := 0; ; {
			select {
			case <-ctx.Done():
				return
			case sig := <-signals:
				if sig == syscall.SIGINT || sig == syscall.SIGTERM {
					ends++
				}
				if ends > impatience || s.Signal(ctx, passed[sig]) != nil {
					cancel()
				}
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel()
		<-done
	}
}

// sendSizes tells the size of the terminal now and whenever it changes, until stop is called.
func (e *Env) sendSizes(ctx context.Context, s *client.ExecSession, fd int) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, syscall.SIGWINCH)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if cols, rows, err := term.GetSize(fd); err == nil && s.Resize(ctx, api.TermSize{Cols: cols, Rows: rows}) != nil {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-changes:
			}
		}
	}()
	return func() {
		signal.Stop(changes)
		cancel()
		<-done
	}
}
