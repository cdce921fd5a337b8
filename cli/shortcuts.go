package cli

import "github.com/spf13/cobra"

// shortcuts are the commands that people type most, without their noun.
func shortcuts(e *Env) []*cobra.Command {
	short := []*cobra.Command{applyCommand(e), planCommand(e, "diff"), planCommand(e, "plan"), getCommand(e), logsCommand(e), execCommand(e), runCommand(e), explainShort(e)}
	for _, cmd := range short {
		if cmd.Long == "" {
			cmd.Long = cmd.Short + " (short for 'cloudless workload " + cmd.Name() + "')."
		}
	}
	return short
}

// explainShort is 'explain NAME' and 'explain placement NAME', which are the same.
func explainShort(e *Env) *cobra.Command {
	cmd, placement := explainCommand(e, "explain"), explainCommand(e, "placement")
	cmd.Example = "  cloudless explain hi\n  cloudless explain placement hi -o json"
	placement.Example = "  cloudless explain placement hi"
	cmd.AddCommand(placement)
	return cmd
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
