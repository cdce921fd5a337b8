package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/wasm"
)

func sandboxCommand(e *Env) *cobra.Command {
	return newGroup("sandbox", "Run modules on this machine, without a cluster", "  cloudless sandbox run hello.wasm --dir . -- --verbose", sandboxRun(e))
}

// sandboxOptions are what a module run by hand is given.
type sandboxOptions struct {
	dirs   []string
	env    []string
	memory string
	limit  time.Duration
	stats  bool
}

func sandboxRun(e *Env) *cobra.Command {
	var o sandboxOptions
	cmd := &cobra.Command{
		Use: "run FILE.wasm [-- ARG…]", Short: "Run a module's _start in the sandbox of the agents; its exit code is passed on",
		Long: "Runs a WASI preview 1 module as an agent would run a job: metered, with a bound on its memory, and with\n" +
			"nothing of this machine but what is named here. Standard input, output and error are the module's own.",
		Example: "  cloudless sandbox run hello.wasm\n  cloudless sandbox run test.wasm --dir testdata::/data --env LANG=C -- one two\n  cloudless sandbox run job.wasm --stats --limit 1m",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := os.Stat(args[0]); errors.Is(err, fs.ErrNotExist) {
				return api.Errorf(api.CodeNotFound, "there is no file %s", args[0])
			}
			spec, err := o.spec(args)
			if err != nil {
				return err
			}
			return e.runModule(cmd.Context(), spec, o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.dirs, "dir", nil, "HOST[::GUEST]: a folder that the module sees, for reading and writing; HOST[::GUEST]:ro for reading only")
	f.StringArrayVar(&o.env, "env", nil, "NAME=VALUE, or NAME for its value here")
	f.StringVar(&o.memory, "memory", "", "the most memory that it may have (default 64Mi)")
	f.DurationVar(&o.limit, "limit", 0, "end it after this time, with exit code 6 (default: never)")
	f.BoolVar(&o.stats, "stats", false, "say at the end on standard error what it used")
	return cmd
}

// spec turns the options into what a driver runs.
func (o sandboxOptions) spec(args []string) (sandbox.Spec, error) {
	spec := sandbox.Spec{
		ID: api.NewID("r"), Workload: api.Ref{Namespace: api.DefaultNamespace, Name: filepath.Base(args[0])}, Artifact: args[0],
		Wasm: &api.WasmSpec{Mode: api.ModeJob, Args: args[1:]}, Env: map[string]string{},
	}
	for _, entry := range o.env {
		name, value, given := strings.Cut(entry, "=")
		if !given {
			value = os.Getenv(name)
		}
		spec.Env[name] = value
	}
	for _, dir := range o.dirs {
		m := sandbox.Mount{}
		dir, m.ReadOnly = strings.CutSuffix(dir, ":ro")
		source, target, named := strings.Cut(dir, "::")
		if !named {
			target = source
		}
		m.Source, m.Target = source, target
		spec.Mounts = append(spec.Mounts, m)
	}
	if o.memory != "" {
		var err error
		if spec.Memory, err = api.ParseBytes(o.memory); err != nil {
			return spec, usageError("--memory: %v", err)
		}
	}
	return spec, nil
}

// runModule runs a module with this command's own streams.
func (e *Env) runModule(ctx context.Context, spec sandbox.Spec, o sandboxOptions) error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return fmt.Errorf("find the folder for compiled modules: %w", err)
	}
	d, err := wasm.New(wasm.Config{CacheDir: filepath.Join(cache, "cloudless", "modules"), Log: zerolog.Nop()})
	if err != nil {
		return err
	}
	if o.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.limit, api.Errorf(api.CodeTimeout, "the module still ran after %s", o.limit))
		defer cancel()
	}
	exit, cost, err := d.Run(ctx, spec, wasm.Streams{In: e.In, Out: e.Out, Err: e.Err})
	closed := d.Close()
	if ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), closed)
	}
	if err = errors.Join(err, closed); err != nil {
		return err
	}
	if o.stats {
		fmt.Fprintf(e.Err, "cloudless: %s; fuel %d, CPU %s\n", exit.Reason, cost.Fuel, cost.CPU.Round(time.Microsecond))
	}
	if exit.Code != 0 {
		return exitError(exit.Code)
	}
	return nil
}
