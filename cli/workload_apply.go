package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

// deployment is a workload to write, and the files to upload first.
type deployment struct {
	workload  api.Workload
	artifacts []artifact
}

// deploy uploads, applies in order, then waits for all.
func (e *Env) deploy(ctx context.Context, c *client.Client, ds []deployment, wait *waitFlags, match uint64, dryRun bool) error {
	if dryRun {
		_, err := e.plan(ctx, c, ds)
		return err
	}
	write := func(w api.Workload) (api.WriteResult, error) { return c.ApplyWorkload(ctx, w, match) }
	return e.write(ctx, c, ds, wait, write)
}

func (e *Env) write(ctx context.Context, c *client.Client, ds []deployment, wait *waitFlags, write func(api.Workload) (api.WriteResult, error)) error {
	results := make([]api.WriteResult, len(ds))
	for i, d := range ds {
		for _, a := range d.artifacts {
			if err := e.upload(ctx, c, a); err != nil {
				return err
			}
		}
		var err error
		if results[i], err = write(d.workload); err != nil {
			return about(d.workload, err)
		}
		if wait.set() || e.shows("json", "yaml") {
			continue
		}
		if err := e.outcome(results[i].Workload, results[i].Outcome); err != nil {
			return err
		}
	}
	if !wait.set() {
		return e.objects(results)
	}
	for i := range results {
		w, err := e.waitReady(ctx, c, results[i].Workload, waitFrom(results[i]), wait)
		if err != nil {
			return err
		}
		results[i].Workload = w
		if !e.shows("json", "yaml") {
			if err := e.outcome(w, results[i].Outcome); err != nil {
				return err
			}
		}
	}
	return e.objects(results)
}

// about names the workload that an error is about, unless it does so itself.
func about(w api.Workload, err error) error {
	e := api.AsError(err)
	if strings.Contains(e.Message, w.Ref().String()) {
		return e
	}
	return e.WithOp("workload " + w.Ref().String())
}

// waitFrom is the index at which a write shows; one that changed nothing shows already.
func waitFrom(r api.WriteResult) uint64 {
	if r.Outcome == "unchanged" {
		return 0
	}
	return r.Index
}

// objects prints what was written as the API's objects: one alone, several as a list.
func (e *Env) objects(results []api.WriteResult) error {
	if !e.shows("json", "yaml") {
		return nil
	}
	if len(results) == 1 {
		_, err := e.machine(results[0].Workload)
		return err
	}
	var list api.List[api.Workload]
	for _, r := range results {
		list.Items, list.Index = append(list.Items, r.Workload), r.Index
	}
	_, err := e.machine(list)
	return err
}

func applyCommand(e *Env) *cobra.Command {
	var files []string
	var dryRun bool
	var match uint64
	var wait waitFlags
	cmd := &cobra.Command{
		Use: "apply -f FILE", Short: "Create or update workloads from manifests", Args: cobra.NoArgs,
		Example: "  cloudless workload apply -f hello.yaml --wait\n  cloudless workload apply -f manifests/\n  cloudless workload apply -f https://example.com/hello.yaml\n  generate | cloudless workload apply -f -",
		RunE: e.with(func(ctx context.Context, c *client.Client, _ []string) error {
			ds, err := e.manifests(ctx, files)
			if err != nil {
				return err
			}
			return e.deploy(ctx, c, ds, &wait, match, dryRun)
		}),
	}
	filesFlag(cmd, &files)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would change and where it would run, and change nothing")
	cmd.Flags().Uint64Var(&match, "if-match", 0, "only if the workload's modifyIndex is this")
	wait.add(cmd, "until the workloads are ready and reachable")
	return cmd
}

func createCommand(e *Env) *cobra.Command {
	var files []string
	var wait waitFlags
	cmd := &cobra.Command{
		Use: "create -f FILE", Short: "Create workloads that must not exist yet", Args: cobra.NoArgs,
		Example: "  cloudless workload create -f hello.yaml",
		RunE: e.with(func(ctx context.Context, c *client.Client, _ []string) error {
			ds, err := e.manifests(ctx, files)
			if err != nil {
				return err
			}
			return e.write(ctx, c, ds, &wait, func(w api.Workload) (api.WriteResult, error) { return c.CreateWorkload(ctx, w) })
		}),
	}
	filesFlag(cmd, &files)
	wait.add(cmd, "until the workloads are ready and reachable")
	return cmd
}

func filesFlag(cmd *cobra.Command, files *[]string) {
	cmd.Flags().StringArrayVarP(files, "filename", "f", nil, "manifest file, folder of manifests, URL, or - for standard input; may be repeated")
}

func planCommand(e *Env, use string) *cobra.Command {
	var files []string
	var detailed bool
	cmd := &cobra.Command{
		Use: use + " -f FILE", Short: "Show what apply would change and where it would run", Args: cobra.NoArgs,
		Example: "  cloudless workload plan -f hello.yaml\n  cloudless diff -f hello.yaml --detailed-exitcode",
		RunE: e.with(func(ctx context.Context, c *client.Client, _ []string) error {
			changes := false
			ds, err := e.manifests(ctx, files)
			if err == nil {
				changes, err = e.plan(ctx, c, ds)
			}
			switch {
			case err != nil && detailed:
				e.report(nil, err)
				return exitError(1)
			case changes && detailed:
				return exitError(2)
			}
			return err
		}),
	}
	filesFlag(cmd, &files)
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit 0 for no changes, 1 for an error, 2 for changes")
	return cmd
}

// plan prints what each workload would become, and tells whether anything would change.
func (e *Env) plan(ctx context.Context, c *client.Client, ds []deployment) (changes bool, err error) {
	plans := make([]api.Plan, len(ds))
	for i, d := range ds {
		if plans[i], err = c.Plan(ctx, d.workload); err != nil {
			return false, about(d.workload, err)
		}
		changes = changes || plans[i].Outcome != "unchanged"
	}
	if e.shows("json", "yaml") {
		if len(plans) == 1 {
			_, err = e.machine(plans[0])
		} else {
			_, err = e.machine(api.List[api.Plan]{Items: plans})
		}
		return changes, err
	}
	for i, d := range ds {
		if err := e.printPlan(d.workload, plans[i]); err != nil {
			return changes, err
		}
	}
	return changes, nil
}

func (e *Env) printPlan(w api.Workload, p api.Plan) error {
	if _, err := fmt.Fprintf(e.Out, "workload %s: %s\n", e.workloadName(w), p.Outcome); err != nil {
		return err
	}
	for _, ch := range p.Changes {
		switch {
		case ch.Old == "":
			fmt.Fprintln(e.Out, e.paint(green, "  + "+ch.Field+": "+ch.New))
		case ch.New == "":
			fmt.Fprintln(e.Out, e.paint(red, "  - "+ch.Field+": "+ch.Old))
		default:
			fmt.Fprintln(e.Out, e.paint(yellow, "  ~ "+ch.Field+": "+ch.Old+" -> "+ch.New))
		}
	}
	for _, g := range p.Beyond {
		fmt.Fprintln(e.Out, e.paint(yellow, "  ! asks for "+g.String()))
	}
	for _, note := range p.Notes {
		fmt.Fprintln(e.Out, "  "+note)
	}
	if p.Outcome == "unchanged" {
		return nil
	}
	return e.printExplanation(p.Explanation)
}
