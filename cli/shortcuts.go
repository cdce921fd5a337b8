package cli

import "github.com/spf13/cobra"

// shortcuts are the commands that people type most, without their noun.
func shortcuts(e *Env) []*cobra.Command {
	short := []*cobra.Command{applyCommand(e), planCommand(e, "diff"), planCommand(e, "plan"), getCommand(e), logsCommand(e), execCommand(e), runCommand(e)}
	for _, cmd := range short {
		if cmd.Long == "" {
			cmd.Long = cmd.Short + " (short for 'cloudless workload " + cmd.Name() + "')."
		}
	}
	return short
}

// getCommand lists workloads, or shows the one that is named.
func getCommand(e *Env) *cobra.Command {
	list := workloadList(e)
	one := workloadGet(e, "get")
	list.Use, list.Aliases, list.Short = "get [NAME]", nil, "List workloads, or show one"
	list.Example = "  cloudless get\n  cloudless get hi -o yaml"
	list.Args, list.ValidArgsFunction = cobra.MaximumNArgs(1), one.ValidArgsFunction
	all := list.RunE
	list.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return all(cmd, args)
		}
		if watch, err := cmd.Flags().GetBool("watch"); err == nil && watch {
			if err := one.Flags().Set("watch", "true"); err != nil {
				return err
			}
		}
		one.SetContext(cmd.Context())
		return one.RunE(one, args)
	}
	return list
}

// topics are pages of help that belong to no command.
func topics() []*cobra.Command {
	return []*cobra.Command{
		{Use: "exit-codes", Short: "Exit codes of all commands", Long: exitCodes, Example: "  cloudless help exit-codes"},
		{Use: "environment", Short: "Environment variables and contexts", Long: environment, Example: "  cloudless help environment"},
	}
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
exec gives the code of the command that ran. After Ctrl-C it is 130.`

const environment = `Client settings, the first that is set wins:
  flags        --address --token --ca-cert --client-cert --client-key --context --namespace
  environment  CLOUDLESS_ADDRESS CLOUDLESS_TOKEN CLOUDLESS_CA_CERT CLOUDLESS_CONTEXT
               CLOUDLESS_NAMESPACE CLOUDLESS_OUTPUT
  context      $CLOUDLESS_CONFIG, else ~/.config/cloudless/config.yaml

A token is best given as @FILE or - (standard input). NO_COLOR turns colours off, TRACEPARENT is
passed on. 'cloudless config view --show-origin' tells what is in force.`
