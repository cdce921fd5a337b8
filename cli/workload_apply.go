package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
	"github.com/cloudless/cloudless/api/manifest"
)

// deployment is a workload to write, and the files to upload first.
type deployment struct {
	workload  api.Workload
	artifacts []artifact
}

// deploy uploads, applies in order, then waits for all.
func (e *Env) deploy(ctx context.Context, c *client.Client, ds []deployment, wait *waitFlags, match uint64, dryRun bool) error {
	if err := wait.check(); err != nil {
		return err
	}
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
			return api.AsError(err).WithOp("workload " + d.workload.Ref().String())
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
			return false, api.AsError(err).WithOp("workload " + d.workload.Ref().String())
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
	if p.Outcome == "unchanged" {
		return nil
	}
	return e.printExplanation(p.Explanation)
}

// manifests reads all documents of all files, resolves the paths in them, and reports everything
// that is wrong in any of them.
func (e *Env) manifests(ctx context.Context, files []string) ([]deployment, error) {
	if len(files) == 0 {
		return nil, usageError("no manifest").WithHint("give -f FILE, or -f - for standard input")
	}
	ns, err := e.namespace()
	if err != nil {
		return nil, err
	}
	var out []deployment
	var wrong manifest.Errors
	for _, file := range files {
		paths, err := expand(file)
		if err != nil {
			return nil, err
		}
		for _, p := range paths {
			ds, errs, err := e.manifestFile(ctx, p, ns)
			if err != nil {
				return nil, err
			}
			out, wrong = append(out, ds...), append(wrong, errs...)
		}
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return out, e.checkNamespaces(out)
}

// checkNamespaces refuses a manifest that names another namespace than the flag, as kubectl does.
func (e *Env) checkNamespaces(ds []deployment) error {
	for _, d := range ds {
		if ns := e.flags.namespace; ns != "" && d.workload.Metadata.Namespace != ns {
			return usageError("workload %s names another namespace than --namespace %s", d.workload.Ref(), ns)
		}
	}
	return nil
}

// expand gives the manifests of a folder in order of their names; a file is itself.
func expand(file string) ([]string, error) {
	if isURL(file) {
		return []string{file}, nil
	}
	info, err := os.Stat(file)
	if file == "-" || err == nil && !info.IsDir() {
		return []string{file}, nil
	}
	if err != nil {
		return nil, api.Errorf(api.CodeNotFound, "there is no file %s", file)
	}
	entries, err := os.ReadDir(file)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "%w", err)
	}
	var out []string
	for _, entry := range entries {
		if ext := filepath.Ext(entry.Name()); !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, ext) {
			out = append(out, filepath.Join(file, entry.Name()))
		}
	}
	if len(out) == 0 {
		return nil, api.Errorf(api.CodeNotFound, "folder %s has no .yaml, .yml or .json file", file)
	}
	return out, nil
}

// readManifest reads a file, standard input or a URL.
func (e *Env) readManifest(ctx context.Context, file string) ([]byte, error) {
	if isURL(file) {
		return e.fetch(ctx, file)
	}
	in := e.In
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, api.Errorf(api.CodeInvalid, "%w", err)
		}
		defer f.Close()
		in = f
	}
	return io.ReadAll(io.LimitReader(in, api.MaxManifestBytes+1)) // what is longer is refused by Parse
}

func (e *Env) manifestFile(ctx context.Context, file, ns string) ([]deployment, manifest.Errors, error) {
	data, err := e.readManifest(ctx, file)
	if err != nil {
		return nil, nil, err
	}
	name, dir := file, filepath.Dir(file)
	options := []manifest.Option{manifest.Namespace(ns)}
	if file == "-" {
		name, dir = "stdin", "."
	}
	if !isURL(file) { // a manifest from elsewhere may not name files of this machine
		options = append(options, manifest.AllowPaths())
	}
	docs, err := manifest.Parse(name, data, options...)
	if err != nil {
		errs, ok := err.(manifest.Errors)
		if !ok {
			return nil, nil, err
		}
		return nil, errs, nil
	}
	var out []deployment
	for _, d := range docs {
		files, err := artifacts(&d.Workload.Spec, dir)
		if err != nil {
			return nil, nil, api.AsError(err).WithOp(fmt.Sprintf("%s:%d", name, d.Line))
		}
		out = append(out, deployment{d.Workload, files})
	}
	return out, nil, nil
}

// artifacts hashes the files that a spec names, relative to the manifest's folder, and puts their
// digests in place.
func artifacts(s *api.WorkloadSpec, dir string) (out []artifact, err error) {
	take := func(field *string, kind string) error {
		p := *field
		if !filepath.IsAbs(p) {
			p = filepath.Join(dir, p)
		}
		a, err := openArtifact(p)
		if err == nil && a.kind != kind {
			err = api.Errorf(api.CodeUnsupMedia, "%s is of kind %s, %s is wanted", p, a.kind, kind)
		}
		*field, out = a.digest, append(out, a)
		return err
	}
	if w := s.Wasm; w != nil && !api.IsDigest(w.Module) {
		err = take(&w.Module, api.ArtifactWasm)
	}
	if ct := s.Container; err == nil && ct != nil && manifest.IsImagePath(ct.Image) {
		err = take(&ct.Image, api.ArtifactOCI)
	}
	return out, err
}
