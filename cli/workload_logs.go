package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

// replicaPoll is how often a followed workload is asked for replicas that came anew.
const replicaPoll = time.Second

func logsCommand(e *Env) *cobra.Command {
	var o api.LogOptions
	var since string
	var all bool
	cmd := &cobra.Command{
		Use: "logs NAME", Aliases: []string{"log"}, Short: "Print what a workload writes", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeWorkloads(),
		Long: "Print what a workload writes. A module's lines have the time at which they came. A container's are as it wrote them: --timestamps\n" +
			"adds no time to them, and --since leaves out only those that begin with an older time (RFC 3339).",
		Example: "  cloudless workload logs hi --follow --tail 20\n  cloudless workload logs hi --previous\n  cloudless workload logs hi --all-instances --since 10m",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			var err error
			if o.Since, err = e.moment(since); err != nil {
				return err
			}
			o.Follow = o.Follow && !o.Previous // a run that has ended writes no more
			return e.onWorkload(ctx, c, args[0], false, func(ref api.Ref) error {
				if all {
					return e.logsOfAll(ctx, c, ref, o)
				}
				return e.logsOf(ctx, c, ref, o)
			})
		}),
	}
	f := cmd.Flags()
	f.BoolVarP(&o.Follow, "follow", "f", false, "go on as lines are written")
	f.IntVar(&o.Tail, "tail", -1, "last lines only (default: all)")
	f.BoolVarP(&o.Previous, "previous", "p", false, "of the run before the last restart")
	f.StringVar(&since, "since", "", "since a time (RFC 3339) or for a duration (10m)")
	f.BoolVarP(&o.Timestamps, "timestamps", "t", false, "begin each line with its time")
	f.StringVar(&o.Replica, "replica", "", "of this replica only")
	f.BoolVar(&all, "all-instances", false, "of every replica, each line beginning with its id")
	return cmd
}

// moment reads a time, or a duration before now.
func (e *Env) moment(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return e.Now().Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, usageError("%q is neither a duration such as 10m nor a time such as 2026-01-31T12:00:00Z", text)
	}
	return t, nil
}

// logsOf copies one stream; a followed one that breaks off while the workload lives on is opened again.
func (e *Env) logsOf(ctx context.Context, c *client.Client, ref api.Ref, o api.LogOptions) error {
	for {
		r, err := c.Logs(ctx, ref, o)
		if err != nil {
			return err
		}
		_, err = io.Copy(e.Out, r)
		r.Close()
		if ctx.Err() != nil {
			return nil // an interrupt is how following ends
		}
		if !o.Follow || o.Replica != "" || err != nil && !broken(err) {
			return brokeOff(err)
		}
		w, err := c.Workload(ctx, ref, 0, 0)
		if err != nil || over(w) {
			return ignoreMissing(err)
		}
		o = resumed(o, e.Now(), w.Spec.Container == nil)
		if pause(ctx, replicaPoll) != nil {
			return nil
		}
	}
}

// broken tells whether it was the stream that broke, and not a write of its lines, nor a refusal.
func broken(err error) bool {
	var local *fs.PathError
	var told *api.Error
	return !errors.As(err, &local) && !errors.As(err, &told)
}

// brokeOff says of a log that it did not come whole.
func brokeOff(err error) error {
	if err != nil && broken(err) {
		return api.Errorf(api.CodeUnavailable, "the log broke off: %w", err).WithHint("the same command reads it anew")
	}
	return err
}

// resumed is how a log that broke off goes on. A container's lines have no times to go by: only what comes
// from now on is sure not to be there yet.
func resumed(o api.LogOptions, now time.Time, timed bool) api.LogOptions {
	if timed {
		o.Since, o.Tail = now, -1
	} else {
		o.Tail = 0
	}
	return o
}

func over(w api.Workload) bool {
	p := status(w).Phase
	return p == api.PhaseComplete || p == api.PhaseFailed || p == api.PhaseDeleting
}

// ignoreMissing: a workload that was deleted has no more to say.
func ignoreMissing(err error) error {
	if client.IsNotFound(err) {
		return nil
	}
	return err
}

// lastWords is how long what replicas have written last may be on its way when their workload is gone.
const lastWords = 2 * time.Second

// logsOfAll copies the streams of all replicas at once, line by line; followed, it takes in replicas
// that come later.
func (e *Env) logsOfAll(ctx context.Context, c *client.Client, ref api.Ref, o api.LogOptions) error {
	out := &lines{w: e.Out, e: e}
	var streams sync.WaitGroup
	defer streams.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	seen := map[string]bool{}
	for {
		w, err := c.Workload(ctx, ref, 0, 0)
		if err != nil {
			defer time.AfterFunc(lastWords, cancel).Stop()
			streams.Wait()
			return ignoreMissing(err)
		}
		for _, r := range status(w).Replicas {
			if seen[r.ID] {
				continue
			}
			seen[r.ID] = true
			own := o
			own.Replica = r.ID
			streams.Go(func() { out.follow(ctx, c, ref, own, r.Variant == api.VariantWasm) })
		}
		if !o.Follow {
			streams.Wait()
			return out.failure()
		}
		if pause(ctx, replicaPoll) != nil {
			return nil
		}
	}
}

// lines joins several logs, whole lines each, marked with the replica that they are of.
type lines struct {
	mu  sync.Mutex
	w   io.Writer
	e   *Env
	n   int
	err error
}

// follow copies a replica's log; a followed one that breaks off is opened again.
func (l *lines) follow(ctx context.Context, c *client.Client, ref api.Ref, o api.LogOptions, timed bool) {
	prefix := l.prefix(o.Replica)
	for {
		err := l.copy(ctx, c, ref, o, prefix)
		switch {
		case err == nil, ctx.Err() != nil:
			return
		case !o.Follow || !broken(err):
			l.fail(brokeOff(err))
			return
		}
		if o = resumed(o, l.e.Now(), timed); pause(ctx, replicaPoll) != nil {
			return
		}
	}
}

func (l *lines) copy(ctx context.Context, c *client.Client, ref api.Ref, o api.LogOptions, prefix string) error {
	r, err := c.Logs(ctx, ref, o)
	if err != nil {
		return err
	}
	defer r.Close()
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 4*api.MaxLogLineBytes)
	for scanner.Scan() {
		l.mu.Lock()
		_, err := fmt.Fprintf(l.w, "%s%s\n", prefix, scanner.Bytes())
		l.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return scanner.Err()
}

// prefix takes the colours in turn.
func (l *lines) prefix(replica string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	return l.e.paint(fmt.Sprint(31+l.n%6), replica) + " "
}

func (l *lines) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = errors.Join(l.err, err)
}

func (l *lines) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
