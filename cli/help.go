package cli

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// helpText is what --help prints: what most people look for, the examples, comes before the lists.
// cobra would have it as a template; executing one makes the binary a fifth larger (docs/RATIONALE.md).
func helpText(cmd *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", description(cmd))
	section := func(title, text string) {
		if text != "" {
			fmt.Fprintf(&b, "\n%s:\n%s\n", title, strings.TrimRight(text, " \n"))
		}
	}
	section("Examples", cmd.Example)
	if !cmd.Runnable() && !cmd.HasSubCommands() {
		return b.String() // a topic
	}
	section("Usage", "  "+usageLine(cmd))
	if len(cmd.Aliases) > 0 {
		section("Aliases", "  "+cmd.NameAndAliases())
	}
	section("Commands", commandList(cmd))
	section("Flags", cmd.LocalFlags().FlagUsages())
	section("Flags of every command", cmd.InheritedFlags().FlagUsages())
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\n'%s COMMAND --help' tells about one command, 'cloudless help topics' lists pages about all of them.\n", cmd.CommandPath())
	}
	return b.String()
}

func description(cmd *cobra.Command) string { return cmp.Or(cmd.Long, cmd.Short) }

func usageLine(cmd *cobra.Command) string {
	if cmd.HasAvailableSubCommands() {
		return cmd.CommandPath() + " COMMAND"
	}
	return cmd.UseLine()
}

func commandList(cmd *cobra.Command) string {
	var b strings.Builder
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() || sub.Name() == "help" {
			fmt.Fprintf(&b, "  %-*s %s\n", sub.NamePadding(), sub.Name(), sub.Short)
		}
	}
	return b.String()
}

// helpCommand shows the help of a command or a topic; a word that is neither is wrong use.
func helpCommand(e *Env, root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND|TOPIC]", Short: "Show help about a command or a topic",
		Example: "  cloudless help workload run\n  cloudless help topics",
		ValidArgsFunction: func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			cmd, _, err := root.Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []string
			for _, sub := range cmd.Commands() {
				if !sub.Hidden && strings.HasPrefix(sub.Name(), word) {
					names = append(names, sub.Name())
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 && args[0] == "topics" {
				return e.listTopics(root)
			}
			cmd, rest, err := root.Find(args)
			if err != nil {
				return err
			}
			if len(rest) > 0 && cmd.HasSubCommands() {
				return group(cmd, rest)
			}
			return cmd.Help()
		},
	}
}

// topics are pages of help that belong to no command.
func topics() []*cobra.Command {
	return []*cobra.Command{
		{Use: "exit-codes", Short: "Exit codes of all commands", Long: exitCodes, Example: "  cloudless help exit-codes"},
		{Use: "environment", Short: "Environment variables and contexts", Long: environment, Example: "  cloudless help environment"},
		{Use: "output", Short: "Forms of output, and how scripts use them", Long: outputs, Example: "  cloudless help output"},
	}
}

func (e *Env) listTopics(root *cobra.Command) error {
	for _, cmd := range root.Commands() {
		if !cmd.IsAdditionalHelpTopicCommand() {
			continue
		}
		if _, err := fmt.Fprintf(e.Out, "%-14s %s\n", cmd.Name(), cmd.Short); err != nil {
			return err
		}
	}
	return nil
}

const exitCodes = `Exit codes:
  0  done
  1  failed
  2  wrong use
  3  not found
  4  not authorised
  5  conflict: it exists, or it changed meanwhile
  6  timed out
  7  the cluster cannot be reached

plan and diff with --detailed-exitcode: 0 no changes, 1 error, 2 changes.
exec gives the code of the command that ran. After Ctrl-C it is 130, but 0 for --follow, which ends in no other way.`

const environment = `Client settings, the first that is set wins:
  flags        --address --token --ca-cert --client-cert --client-key --context --namespace
  environment  CLOUDLESS_ADDRESS CLOUDLESS_TOKEN CLOUDLESS_CA_CERT CLOUDLESS_CONTEXT
               CLOUDLESS_NAMESPACE CLOUDLESS_OUTPUT
  context      $CLOUDLESS_CONFIG, else ~/.config/cloudless/config.yaml

A token is best given as @FILE or - (standard input). NO_COLOR turns colours off, TRACEPARENT is
passed on. 'cloudless config view --show-origin' tells what is in force.`

const outputs = `Every command prints results on standard output and everything else on standard error.
  -o table   columns, for people (the default)
  -o wide    more columns
  -o json    the API's own objects; errors are {"error":{"code","message","hint"}}
  -o yaml    the same as YAML; a workload printed so can be applied again
  -o name    names only, one a line; -q does that too for lists
  --no-headers leaves out the heads of tables.

On a terminal times are ages and states have colours; elsewhere times are RFC 3339 and nothing is
coloured. Destructive acts ask on a terminal only; --yes answers them.
--watch draws anew on a terminal, and elsewhere appends what changed (with -o json a line each).`

// completionExamples: cobra makes the completion commands itself, without examples and with headings in Markdown.
func completionExamples(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() != "completion" {
			continue
		}
		cmd.Short = "Print a completion script for a shell"
		cmd.Example = "  source <(cloudless completion bash)"
		cmd.Args, cmd.RunE = cobra.ArbitraryArgs, group
		for _, shell := range cmd.Commands() {
			shell.Example = "  cloudless completion " + shell.Name()
			shell.Long = strings.ReplaceAll(shell.Long, "#### ", "")
		}
	}
}
