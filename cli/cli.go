// Package cli is the command line: it reads flags, environment and context file, calls the API
// through api/client, prints results, and turns errors into exit codes. One file a group of commands.
//
// Env carries what a command may touch (streams, settings, client), so that tests run Main whole
// with their own. Results go to standard output, everything else to standard error.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cloudless/cloudless/api/client"
)

// Env is what a command works with.
type Env struct {
	In     io.Reader
	Out    io.Writer
	Err    io.Writer
	Getenv func(string) string
	Now    func() time.Time

	flags      globalFlags
	outputFlag string // what --output was before CLOUDLESS_OUTPUT came in
	started    bool   // flags and arguments were read: what fails from here on is not wrong use
	client     *client.Client
}

// globalFlags are understood by every command.
type globalFlags struct {
	address, token, caCert, clientCert, clientKey, context, namespace string
	output                                                            string
	noHeaders, quiet, noColor, yes                                    bool
}

// Main runs the command line and gives the exit code (CONTRACT §1).
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	e := &Env{In: stdin, Out: stdout, Err: stderr, Getenv: os.Getenv, Now: time.Now}
	return e.Main(args)
}

// Main runs the command line in this environment. The first interrupt ends the command's context,
// the second ends the process.
func (e *Env) Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	root := newRoot(e)
	if completes(args) {
		e.completeFlags(root)
	}
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if e.client != nil {
		e.client.Close()
	}
	return e.finish(ctx, args, err)
}

func newRoot(e *Env) *cobra.Command {
	showVersion := false
	root := &cobra.Command{
		Use:   "cloudless",
		Short: "Run WebAssembly modules and containers on your own machines",
		Example: `  cloudless dev                                   # a cluster on this machine
  cloudless workload run hello.wasm --name hi --wait
  cloudless workload list
  cloudless status`,
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		Args:                       cobra.ArbitraryArgs,
		RunE:                       func(cmd *cobra.Command, args []string) error { return e.root(cmd, args, showVersion) },
		PersistentPreRunE:          func(*cobra.Command, []string) error { return e.begin() },
	}
	root.SetIn(e.In)
	root.SetOut(e.Out)
	root.SetErr(e.Err)
	root.SetFlagErrorFunc(flagError)
	e.globals(root)
	root.Flags().BoolVar(&showVersion, "version", false, "show the version of this binary, as 'cloudless version --client'")
	root.AddCommand(
		workloadCommand(e), nodeCommand(e), storageCommand(e), networkCommand(e), eventCommand(e), tokenCommand(e), namespaceCommand(e), memberCommand(e), auditCommand(e), clusterCommand(e),
		statusCommand(e), topCommand(e), contextCommand(e), configCommand(e), versionCommand(e), doctorCommand(e), supportCommand(e), schemaCommand(e), initCommand(e), sandboxCommand(e),
	)
	root.AddCommand(shortcuts(e)...)
	root.AddCommand(roleCommands(e)...)
	root.AddCommand(topics()...)
	root.AddCommand(manCommand(e, root))
	root.SetHelpCommand(helpCommand(e, root))
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { fmt.Fprint(cmd.OutOrStdout(), helpText(cmd)) })
	completionExamples(root)
	explainArgs(root)
	return root
}

// root is the action of the command without a subcommand.
func (e *Env) root(cmd *cobra.Command, args []string, showVersion bool) error {
	if showVersion && len(args) == 0 {
		return e.showVersion(cmd.Context(), true)
	}
	return group(cmd, args)
}

func (e *Env) globals(root *cobra.Command) {
	f, g := root.PersistentFlags(), &e.flags
	f.StringVar(&g.address, "address", "", "addresses of the API, several with commas (CLOUDLESS_ADDRESS)")
	f.StringVar(&g.token, "token", "", "token as @FILE, or - for standard input (CLOUDLESS_TOKEN)")
	f.StringVar(&g.caCert, "ca-cert", "", "file with the cluster's CA certificate (CLOUDLESS_CA_CERT)")
	f.StringVar(&g.clientCert, "client-cert", "", "file with a client certificate")
	f.StringVar(&g.clientKey, "client-key", "", "file with the key of --client-cert")
	f.StringVar(&g.context, "context", "", "context to use (CLOUDLESS_CONTEXT)")
	f.StringVarP(&g.namespace, "namespace", "n", "", "namespace (CLOUDLESS_NAMESPACE, default: default)")
	f.StringVarP(&g.output, "output", "o", "", "output: table, wide, json, yaml or name (CLOUDLESS_OUTPUT, default: table)")
	f.BoolVar(&g.noHeaders, "no-headers", false, "leave out the heads of tables")
	f.BoolVarP(&g.quiet, "quiet", "q", false, "print data only")
	f.BoolVar(&g.noColor, "no-color", false, "no colours (NO_COLOR)")
	f.BoolVar(&g.yes, "yes", false, "do not ask before destructive acts")
}

// begin runs before every command, when its flags and arguments have been read.
func (e *Env) begin() error {
	e.started = true
	if e.outputFlag = e.flags.output; e.flags.output == "" {
		e.flags.output = e.Getenv("CLOUDLESS_OUTPUT")
	}
	switch e.flags.output {
	case "", "table", "wide", "json", "yaml", "name":
		return nil
	}
	return usageError("--output %q is not one of table, wide, json, yaml, name", e.flags.output)
}

// newGroup makes a command that only has subcommands.
func newGroup(use, short, example string, subcommands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example, Args: cobra.ArbitraryArgs, RunE: group, SuggestionsMinimumDistance: 2}
	cmd.AddCommand(subcommands...)
	return cmd
}

// terminal tells whether a stream is one, and gives its file descriptor.
func terminal(stream any) (fd int, ok bool) {
	f, isFile := stream.(*os.File)
	if !isFile {
		return 0, false
	}
	return int(f.Fd()), term.IsTerminal(int(f.Fd()))
}

func isTerminal(stream any) bool {
	_, ok := terminal(stream)
	return ok
}

// colour tells whether standard output takes colours.
func (e *Env) colour() bool {
	return isTerminal(e.Out) && !e.flags.noColor && e.Getenv("NO_COLOR") == "" && e.Getenv("TERM") != "dumb"
}

// exitError ends the command line with a code of its own and no message.
type exitError int

func (x exitError) Error() string { return "exit " + strconv.Itoa(int(x)) }

// exitInterrupted is what a shell gives a command that Ctrl-C has ended.
const exitInterrupted = 130

// finish prints an error and gives the exit code.
func (e *Env) finish(ctx context.Context, args []string, err error) int {
	var code exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, syscall.EPIPE):
		return 1 // whoever read our output has gone; silence is what a pipe expects
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return exitInterrupted
	}
	return e.report(args, err)
}
