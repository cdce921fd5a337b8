package cli

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cloudless/cloudless/api/manifest"
)

// This file says what is wrong with a command line, and what may have been meant.

// group is the action of a command that only has subcommands.
func group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	e := usageError("unknown command %q for %q", args[0], cmd.CommandPath())
	if far := elsewhere(cmd, args[0]); len(far) > 0 {
		return e.WithHint("did you mean %s?", strings.Join(far[:min(len(far), 3)], " or "))
	}
	var names []string
	for _, sub := range cmd.Commands() {
		names = append(names, sub.Name())
	}
	if near := manifest.Nearest(args[0], names); near != "" {
		return e.WithHint("did you mean %s?", near)
	}
	if begin := cmd.SuggestionsFor(args[0]); len(begin) > 0 {
		return e.WithHint("did you mean %s?", begin[0])
	}
	return e.WithHint("see '%s --help'", cmd.CommandPath())
}

// flagError is the error of a flag that cannot be read: what its value should be, or which flag may
// have been meant.
func flagError(cmd *cobra.Command, err error) error {
	e := usageError("%v", err)
	var bad *pflag.InvalidValueError
	if errors.As(err, &bad) {
		e = usageError("--%s: %q is not %s", bad.GetFlag().Name, bad.GetValue(), wanted(bad.GetFlag().Value.Type()))
	}
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return e.WithHint("see '%s --help'", cmd.CommandPath())
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if near := manifest.Nearest(unknown.GetSpecifiedName(), names); near != "" {
		return e.WithHint("did you mean --%s?", near)
	}
	return e.WithHint("see '%s --help'", cmd.CommandPath())
}

// wanted describes the values of a flag's type.
func wanted(flagType string) string {
	switch flagType {
	case "int", "uint64":
		return "a whole number"
	case "duration":
		return "a duration such as 90s or 10m"
	case "bool":
		return "true or false"
	}
	return "a " + flagType
}

// elsewhere finds the commands of this name below cmd's subcommands: 'cloudless delete' is wrong, and
// 'cloudless workload delete' is probably meant.
func elsewhere(cmd *cobra.Command, name string) (paths []string) {
	for _, sub := range cmd.Commands() {
		for _, verb := range sub.Commands() {
			if verb.Name() == name && verb.IsAvailableCommand() {
				paths = append(paths, "'"+verb.CommandPath()+"'")
			}
		}
		paths = append(paths, elsewhere(sub, name)...)
	}
	return paths
}

// explainArgs makes cobra's errors about the number of arguments tell how the command is used.
func explainArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if check(cmd, args) == nil {
				return nil
			}
			return wrongArgs(cmd, args, check)
		}
	}
	for _, sub := range cmd.Commands() {
		explainArgs(sub)
	}
}

func wrongArgs(cmd *cobra.Command, args []string, check cobra.PositionalArgs) error {
	e := usageError("%s: too few arguments", cmd.CommandPath())
	if len(args) > 0 && check(cmd, append(slices.Clone(args), "one more")) != nil && check(cmd, args[:len(args)-1]) == nil {
		e = usageError("%s: %q is too much", cmd.CommandPath(), args[len(args)-1])
	}
	return e.WithHint("usage: %s", strings.TrimSuffix(cmd.UseLine(), " [flags]"))
}
