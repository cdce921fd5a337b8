package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

// Times of --wait. Once all replicas are ready, nodes get routeGrace to take up the routes.
const (
	routeGrace  = 2 * time.Second
	routePoll   = 20 * time.Millisecond
	firstWait   = time.Second
	defaultWait = 5 * time.Minute
	tellEvery   = 10 * time.Second // at most, where no terminal shows what is waited for
)

// waitFlags are --wait[=ready|routed] and --timeout.
type waitFlags struct {
	until   string
	timeout time.Duration
}

func (w *waitFlags) add(cmd *cobra.Command, until string) {
	cmd.Flags().StringVar(&w.until, "wait", "", "return only when done: "+until+" (ready: do not wait for the routes; a job is done when it has completed)")
	cmd.Flags().Lookup("wait").NoOptDefVal = "true"
	cmd.PreRunE = func(*cobra.Command, []string) error { return w.check() } // before anything is done
	w.addTimeout(cmd)
}

func (w *waitFlags) addTimeout(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&w.timeout, "timeout", defaultWait, "how long to wait at most")
}

func (w *waitFlags) set() bool { return w.until != "" && w.until != "false" }

func (w *waitFlags) check() error {
	switch w.until {
	case "", "true", "false", "ready", "routed":
		return nil
	}
	return usageError("--wait %q is not ready or routed", w.until)
}

// waitReady returns when the current version's replicas are ready and every connected ready node has
// taken up the routes to them, or a little later with a warning that names the slow nodes. after is the
// index of the write that is waited for.
func (e *Env) waitReady(ctx context.Context, c *client.Client, w api.Workload, after uint64, f *waitFlags) (api.Workload, error) {
	ref := w.Ref()
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	p := e.progress()
	defer p.clear()
	var s api.Settled
	err := e.settle(ctx, c, ref, after, p, &s, func() (bool, error) {
		switch {
		case s.Workload == nil:
			return false, gone(ref, after)
		case s.Workload.Status != nil && s.Workload.Status.Phase == api.PhaseFailed && !s.Ready:
			return false, api.Errorf(api.CodeInternal, "workload %s failed: %s", ref, why(*s.Workload)).WithHint("see 'cloudless workload logs %s'", ref)
		}
		return s.Ready, nil
	})
	if s.Workload != nil {
		w = *s.Workload
	}
	if err != nil {
		return w, e.waitEnded(err, ref, f.timeout, "ready", why(w))
	}
	if f.until == "ready" {
		return w, nil
	}
	return w, e.waitRouted(ctx, c, ref, &s, f.timeout)
}

// waitGone returns when the workload is gone and no connected ingress routes to it.
func (e *Env) waitGone(ctx context.Context, c *client.Client, ref api.Ref, after uint64, f *waitFlags) error {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	p := e.progress()
	defer p.clear()
	var s api.Settled
	err := e.settle(ctx, c, ref, after, p, &s, func() (bool, error) { return s.Workload == nil, nil })
	if client.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return e.waitEnded(err, ref, f.timeout, "gone", "it is still in the cluster")
	}
	return e.waitRouted(ctx, c, ref, &s, f.timeout)
}

// settle asks until done, each time waiting for a change of the cluster's state. The first answer
// waits a little for the state of index after, so that a follower that lags is not believed; a write
// that changed nothing may never show there.
func (e *Env) settle(ctx context.Context, c *client.Client, ref api.Ref, after uint64, p *progress, s *api.Settled, done func() (bool, error)) error {
	wait := firstWait
	for index := max(after, 1) - 1; ; wait = tellEvery {
		asked := time.Now()
		next, err := c.Settled(ctx, ref, index, wait)
		if err != nil {
			return err
		}
		*s = next
		if ok, err := done(); ok || err != nil {
			return err
		}
		p.show(s.Workload)
		if next.Index <= index && time.Since(asked) < routePoll {
			if err := pause(ctx, routePoll); err != nil {
				return err
			}
		}
		index = max(next.Index, 1)
	}
}

// waitRouted gives the nodes a moment to acknowledge; each answer comes when all have, or the state has changed.
func (e *Env) waitRouted(ctx context.Context, c *client.Client, ref api.Ref, s *api.Settled, timeout time.Duration) error {
	until := time.Now().Add(routeGrace)
	for !s.Routed {
		left := time.Until(until)
		if left <= 0 {
			e.warn("these nodes have not taken up the routes yet: %s", strings.Join(s.Slow, ", "))
			return nil
		}
		next, err := c.Settled(ctx, ref, max(s.Index, 1), left)
		if err == nil && !next.Routed { // something else has changed
			err = pause(ctx, routePoll)
		}
		if ctx.Err() != nil {
			return e.waitEnded(ctx.Err(), ref, timeout, "reachable everywhere", "the routes are on their way")
		}
		if client.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		*s = next
	}
	return nil
}

// gone is the error of waiting for a workload that is not there. One that was just written has been
// deleted since.
func gone(ref api.Ref, after uint64) error {
	if after == 0 {
		return api.Errorf(api.CodeNotFound, "there is no workload %s", ref).WithHint("see 'cloudless workload list -A'")
	}
	return api.Errorf(api.CodeNotFound, "workload %s was deleted meanwhile", ref)
}

// waitEnded says that waiting is over before the workload was as wanted, and that the work goes on.
func (e *Env) waitEnded(err error, ref api.Ref, timeout time.Duration, wanted, state string) error {
	if code := api.CodeOf(err); code == api.CodeTimeout || errors.Is(err, context.DeadlineExceeded) {
		return api.Errorf(api.CodeTimeout, "workload %s is not %s after %s: %s", ref, wanted, timeout, state).
			WithHint("the work goes on; follow it with 'cloudless workload wait %s' or 'cloudless workload explain %s'", ref, ref)
	}
	if errors.Is(err, context.Canceled) {
		e.say("no longer waiting; the work goes on: follow it with 'cloudless workload wait %s'", ref)
	}
	return err
}

// why sums up what a workload still lacks.
func why(w api.Workload) string {
	st := status(w)
	text := fmt.Sprintf("%d of %d replicas ready", st.Ready, st.Desired)
	if st.Message != "" {
		return text + ", " + st.Message
	}
	for _, r := range st.Replicas {
		if !r.Ready && r.Reason != "" {
			return fmt.Sprintf("%s, %s on %s is %s: %s", text, r.ID, r.Node, r.State, r.Reason)
		}
	}
	return text
}

// progress shows on a terminal how far things are, on one line that is drawn over.
type progress struct {
	e      *Env
	drawn  bool
	told   string    // the last line of waiting that was told where no terminal is
	toldAt time.Time // or when the wait began
}

func (e *Env) progress() *progress { return &progress{e: e, toldAt: e.Now()} }

func (p *progress) show(w *api.Workload) {
	if w != nil {
		p.waiting(why(*w))
	}
}

// waiting shows what is waited for. Where no terminal is, a wait that takes long tells it by a line, and again
// when it has changed.
func (p *progress) waiting(what string) {
	p.line("waiting: %s", what)
	if isTerminal(p.e.Err) || p.e.shows("json", "yaml") || what == p.told || p.e.Now().Sub(p.toldAt) < tellEvery {
		return
	}
	p.told, p.toldAt = what, p.e.Now()
	p.e.say("waiting: %s", what)
}

func (p *progress) line(format string, args ...any) {
	fd, tty := terminal(p.e.Err)
	if !tty || p.e.flags.quiet {
		return
	}
	text := strings.Map(printable, fmt.Sprintf(format, args...))
	if cols, _, err := term.GetSize(fd); err == nil && cols > 0 {
		text = fit(text, cols) // what goes on in a second line could not be drawn over
	}
	fmt.Fprint(p.e.Err, "\r\x1b[K"+text)
	p.drawn = true
}

func (p *progress) clear() {
	if p.drawn {
		fmt.Fprint(p.e.Err, "\r\x1b[K")
		p.drawn = false
	}
}

func waitCommand(e *Env) *cobra.Command {
	f := waitFlags{until: "true"}
	var condition string
	cmd := &cobra.Command{
		Use: "wait NAME", Short: "Wait until a workload is ready, a job has completed, or either is gone", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeWorkloads(),
		Example: "  cloudless workload wait hi --timeout 30s\n  cloudless workload wait hi --for deleted",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			ref, err := e.ref(args[0])
			if err != nil {
				return err
			}
			switch condition {
			case "deleted":
				return e.waitGone(ctx, c, ref, 0, &f)
			case "ready", "routed":
				f.until = condition
			default:
				return usageError("--for %q is not ready, routed or deleted", condition)
			}
			w, err := e.waitReady(ctx, c, api.Workload{Metadata: api.Metadata{Namespace: ref.Namespace, Name: ref.Name}}, 0, &f)
			return orElse(err, func() error { return e.outcome(w, "ready") })
		}),
	}
	cmd.Flags().StringVar(&condition, "for", "routed", "what to wait for: ready, routed (ready and reachable everywhere) or deleted")
	f.addTimeout(cmd)
	return cmd
}
