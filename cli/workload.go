package cli

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

func workloadCommand(e *Env) *cobra.Command {
	cmd := newGroup("workload", "Run and manage workloads", "  cloudless workload run hello.wasm --name hi --wait\n  cloudless workload list",
		runCommand(e), createCommand(e), applyCommand(e), planCommand(e, "plan"), workloadList(e), workloadGet(e, "get"), workloadDescribe(e),
		workloadDelete(e), workloadScale(e), workloadRestart(e), workloadRollback(e), workloadHistory(e),
		logsCommand(e), execCommand(e), explainCommand(e, "explain"), waitCommand(e), workloadSchema(e))
	cmd.Aliases = []string{"workloads", "w"}
	return cmd
}

// workloadView shows names with their namespace when several are listed.
func (e *Env) workloadView(all bool) view[api.Workload] {
	v := view[api.Workload]{
		name: e.workloadName,
		columns: []column[api.Workload]{
			{"NAME", false, func(w api.Workload) string { return w.Metadata.Name }},
			{"PHASE", false, func(w api.Workload) string { return string(status(w).Phase) }},
			{"READY", false, func(w api.Workload) string { return fmt.Sprintf("%d/%d", status(w).Ready, status(w).Desired) }},
			{"RESTARTS", false, restarts},
			{"VARIANT", false, func(w api.Workload) string { return variants(w.Spec) }},
			{"AGE", false, func(w api.Workload) string { return e.age(created(w)) }},
			{"VERSION", true, func(w api.Workload) string { return strconv.FormatUint(w.Metadata.Version, 10) }},
			{"NODES", true, nodesOf},
			{"LABELS", true, func(w api.Workload) string { return labels(w.Metadata.Labels) }},
			{"MESSAGE", true, func(w api.Workload) string { return status(w).Message }},
		},
	}
	if all {
		ns := column[api.Workload]{"NAMESPACE", false, func(w api.Workload) string { return w.Metadata.Namespace }}
		v.columns = append([]column[api.Workload]{ns}, v.columns...)
	}
	return v
}

// workloadName is how a workload can be named to a further command with the same settings.
func (e *Env) workloadName(w api.Workload) string {
	if ns, err := e.namespace(); err == nil && ns == w.Metadata.Namespace {
		return w.Metadata.Name
	}
	return w.Ref().String()
}

func status(w api.Workload) api.WorkloadStatus {
	if w.Status == nil {
		return api.WorkloadStatus{Phase: api.PhasePending, Desired: w.Spec.Count()}
	}
	return *w.Status
}

func created(w api.Workload) time.Time {
	if w.Metadata.CreatedAt == nil {
		return time.Time{}
	}
	return *w.Metadata.CreatedAt
}

func restarts(w api.Workload) string {
	n := 0
	for _, r := range status(w).Replicas {
		n += r.Restarts
	}
	return strconv.Itoa(n)
}

func variants(s api.WorkloadSpec) string {
	switch {
	case s.Wasm != nil && s.Container != nil:
		return "wasm+container"
	case s.Container != nil:
		return "container"
	}
	return "wasm"
}

// nodesOf lists the nodes that a workload is meant to be on: not one that is lost, whose replica is given up.
func nodesOf(w api.Workload) string {
	out, seen := "", map[string]bool{}
	for _, r := range status(w).Replicas {
		if !seen[r.Node] && !r.Orphan {
			seen[r.Node] = true
			out += "," + r.Node
		}
	}
	return out[min(1, len(out)):]
}

func workloadList(e *Env) *cobra.Command {
	var f listFlags
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List workloads", Args: cobra.NoArgs,
		Example: "  cloudless workload list -l app=web\n  cloudless workload list -A -o wide --sort-by age",
		RunE: e.with(func(ctx context.Context, c *client.Client, _ []string) error {
			q, err := f.query(e, true)
			if err != nil {
				return err
			}
			fetch := func(ctx context.Context, c *client.Client, q api.ListQuery) (api.List[api.Workload], error) {
				return c.Workloads(ctx, q)
			}
			return listing[api.Workload]{&f, e.workloadView(f.all), fetch}.run(ctx, e, c, q)
		}),
	}
	f.addNamespaced(cmd)
	return cmd
}

func workloadGet(e *Env, use string) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use: use + " NAME", Short: "Show a workload", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeWorkloads(),
		Example: "  cloudless workload get hi\n  cloudless workload get hi -o yaml",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			return e.onWorkload(ctx, c, args[0], false, func(ref api.Ref) error {
				w, err := c.Workload(ctx, ref, 0, 0)
				if err != nil || !watch {
					return orElse(err, func() error { return printOne(e, w, e.workloadView(false)) })
				}
				return e.watchWorkload(ctx, c, w)
			})
		}),
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show changes as they come")
	return cmd
}

// orElse goes on when there is no error.
func orElse(err error, next func() error) error {
	if err != nil {
		return err
	}
	return next()
}

func (e *Env) watchWorkload(ctx context.Context, c *client.Client, w api.Workload) error {
	l := listing[api.Workload]{&listFlags{}, e.workloadView(false), nil}
	list := api.List[api.Workload]{Items: []api.Workload{w}, Index: w.Metadata.ModifyIndex}
	return l.follow(ctx, e, list, func(index uint64) (api.List[api.Workload], error) {
		s, err := c.Settled(ctx, w.Ref(), max(index, 1), api.DefaultWait)
		out := api.List[api.Workload]{Index: s.Index}
		if s.Workload != nil {
			out.Items = []api.Workload{*s.Workload}
		}
		return out, err
	})
}

func workloadDelete(e *Env) *cobra.Command {
	var graceful, dryRun bool
	var match uint64
	var wait waitFlags
	cmd := &cobra.Command{
		Use: "delete NAME…", Aliases: []string{"rm"}, Short: "Delete workloads", Args: cobra.MinimumNArgs(1), ValidArgsFunction: e.completeWorkloads(),
		Example: "  cloudless workload delete hi --wait\n  cloudless workload delete hi --graceful",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			for _, arg := range args {
				err := e.onWorkload(ctx, c, arg, true, func(ref api.Ref) error {
					return e.deleteWorkload(ctx, c, ref, graceful, dryRun, match, &wait)
				})
				if err != nil {
					return err
				}
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&graceful, "graceful", false, "let requests in flight end first")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be deleted, and delete nothing")
	cmd.Flags().Uint64Var(&match, "if-match", 0, "only if the workload's modifyIndex is this")
	wait.add(cmd, "until nothing routes to it")
	return cmd
}

func (e *Env) deleteWorkload(ctx context.Context, c *client.Client, ref api.Ref, graceful, dryRun bool, match uint64, wait *waitFlags) error {
	if dryRun || isTerminal(e.In) && !e.flags.yes {
		w, err := c.Workload(ctx, ref, 0, 0)
		if err != nil {
			return err
		}
		what := fmt.Sprintf("workload %s (%d of %d replicas ready)", ref, status(w).Ready, status(w).Desired)
		if dryRun {
			return e.outcome(w, "would be deleted")
		}
		if err := e.confirm("delete " + what); err != nil {
			return err
		}
	}
	if graceful {
		if err := e.empty(ctx, c, ref, match, wait.timeout); err != nil {
			return err
		}
		match = 0 // it was checked, and has moved on
	}
	res, err := c.DeleteWorkload(ctx, ref, match)
	if err != nil {
		return err
	}
	if wait.set() {
		if err := e.waitGone(ctx, c, ref, res.Index, wait); err != nil {
			return err
		}
	}
	res.Workload.Metadata.Namespace, res.Workload.Metadata.Name = ref.Namespace, ref.Name
	return e.outcome(res.Workload, "deleted")
}

// empty scales a workload to nothing and waits, so that its routes go before its replicas and
// requests in flight end.
func (e *Env) empty(ctx context.Context, c *client.Client, ref api.Ref, match uint64, timeout time.Duration) error {
	res, err := c.Scale(ctx, ref, 0, match)
	if err != nil {
		return err
	}
	_, err = e.waitReady(ctx, c, res.Workload, waitFrom(res), &waitFlags{until: "routed", timeout: timeout})
	return err
}

// outcome tells what became of a workload: a line for people, the object for programs.
func (e *Env) outcome(w api.Workload, what string) error {
	if done, err := e.machine(w); done {
		return err
	}
	if e.shows("name") {
		_, err := fmt.Fprintln(e.Out, e.workloadName(w))
		return err
	}
	if e.flags.quiet {
		return nil
	}
	_, err := fmt.Fprintf(e.Out, "workload %s %s\n", e.workloadName(w), what)
	return err
}

func workloadScale(e *Env) *cobra.Command {
	var replicas int
	var match uint64
	var wait waitFlags
	cmd := &cobra.Command{
		Use: "scale NAME --replicas N", Short: "Set the number of replicas", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeWorkloads(),
		Example: "  cloudless workload scale hi --replicas 5 --wait",
	}
	cmd.RunE = e.with(func(ctx context.Context, c *client.Client, args []string) error {
		if !cmd.Flags().Changed("replicas") {
			return usageError("scale needs --replicas N")
		}
		if replicas < 0 || replicas > api.MaxReplicas {
			return usageError("--replicas %d is not between 0 and %d", replicas, api.MaxReplicas)
		}
		return e.onWorkload(ctx, c, args[0], false, func(ref api.Ref) error {
			res, err := c.Scale(ctx, ref, replicas, match)
			return e.written(ctx, c, res, err, &wait)
		})
	})
	cmd.Flags().IntVar(&replicas, "replicas", 0, "how many copies shall run")
	cmd.Flags().Uint64Var(&match, "if-match", 0, "only if the workload's modifyIndex is this")
	wait.add(cmd, "until the replicas are ready")
	return cmd
}

// written waits for a change if asked to, and tells what became of it.
func (e *Env) written(ctx context.Context, c *client.Client, res api.WriteResult, err error, wait *waitFlags) error {
	if err != nil {
		return err
	}
	if wait.set() {
		if res.Workload, err = e.waitReady(ctx, c, res.Workload, waitFrom(res), wait); err != nil {
			return err
		}
	}
	return e.outcome(res.Workload, res.Outcome)
}

func workloadRestart(e *Env) *cobra.Command {
	var wait waitFlags
	cmd := &cobra.Command{
		Use: "restart NAME", Short: "Replace all replicas, one at a time", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeWorkloads(),
		Example: "  cloudless workload restart hi --wait",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			return e.onWorkload(ctx, c, args[0], false, func(ref api.Ref) error {
				res, err := c.Restart(ctx, ref)
				return e.written(ctx, c, res, err, &wait)
			})
		}),
	}
	wait.add(cmd, "until the new replicas are ready")
	return cmd
}

func workloadRollback(e *Env) *cobra.Command {
	var to uint64
	var wait waitFlags
	cmd := &cobra.Command{
		Use: "rollback NAME", Short: "Go back to an earlier version", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeWorkloads(),
		Example: "  cloudless workload rollback hi\n  cloudless workload rollback hi --version 3 --wait",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			return e.onWorkload(ctx, c, args[0], false, func(ref api.Ref) error {
				res, err := c.Rollback(ctx, ref, to)
				return e.written(ctx, c, res, err, &wait)
			})
		}),
	}
	cmd.Flags().Uint64Var(&to, "version", 0, "version to go back to (default: the one before)")
	wait.add(cmd, "until the replicas are ready")
	return cmd
}

func workloadHistory(e *Env) *cobra.Command {
	return &cobra.Command{
		Use: "history NAME", Short: "List the versions of a workload", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeWorkloads(),
		Example: "  cloudless workload history hi",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			return e.onWorkload(ctx, c, args[0], false, func(ref api.Ref) error {
				h, err := c.History(ctx, ref)
				return orElse(err, func() error { return printList(e, h, e.versionView()) })
			})
		}),
	}
}

func (e *Env) versionView() view[api.WorkloadVersion] {
	return view[api.WorkloadVersion]{
		name: func(v api.WorkloadVersion) string { return strconv.FormatUint(v.Version, 10) },
		columns: []column[api.WorkloadVersion]{
			{"VERSION", false, func(v api.WorkloadVersion) string { return strconv.FormatUint(v.Version, 10) }},
			{"CURRENT", false, func(v api.WorkloadVersion) string { return yesNo(v.Current) }},
			{"REPLICAS", false, func(v api.WorkloadVersion) string { return strconv.Itoa(v.Spec.Count()) }},
			{"RUNS", false, func(v api.WorkloadVersion) string { return runs(v.Spec) }},
			{"AGE", false, func(v api.WorkloadVersion) string { return e.age(v.CreatedAt) }},
		},
	}
}

// runs names what a spec runs.
func runs(s api.WorkloadSpec) string {
	switch {
	case s.Wasm != nil && s.Container != nil:
		return s.Wasm.Module + " or " + s.Container.Image
	case s.Wasm != nil:
		return s.Wasm.Module
	case s.Container != nil:
		return s.Container.Image
	}
	return ""
}
